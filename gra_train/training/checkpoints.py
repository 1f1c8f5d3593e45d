"""Checkpoints: written aside, marked complete, renamed; which to resume, which to remove; metrics cut back to it.

The trainer writes into `checkpoints/unfinished/checkpoint-<step>`. When every rank has written its part, rank 0 adds
the marker (step, ranks, what was trained on, every file's size and, of small files, content) and renames the folder to
`checkpoints/checkpoint-<step>`. A folder without the marker was cut off; one that differs from its marker is broken.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gra_train.errors import UserError
from gra_train.runs import read_json, write_json

log = logging.getLogger(__name__)
MARKER = "complete.json"
UNFINISHED = "unfinished"
_SMALL = 2**24


def publish(folder: Path, *, step: int, ranks: int, **facts: Any) -> Path:
    """Mark the checkpoint of `step` complete, give it its name. facts: what `latest` compares and `keep` sorts by."""
    written = folder / UNFINISHED / f"checkpoint-{step}"
    files = {str(p.relative_to(written)): _seal(p) for p in sorted(written.rglob("*")) if p.is_file()}
    write_json(written / MARKER, {"step": step, "ranks": ranks, "files": files, **facts})
    final = folder / written.name
    shutil.rmtree(final, ignore_errors=True)
    written.rename(final)
    with suppress(OSError):  # something else is in it, cut off: `clean` removes it
        written.parent.rmdir()
    return final


def complete(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    found = [(read_json(path / MARKER), path) for path in folder.glob("checkpoint-*")]
    return [path for marker, path in sorted((m["step"], p) for m, p in found if m)]


def latest(folder: Path, *, ranks: int, facts: Mapping[str, str]) -> Path | None:
    """The newest checkpoint that is as it was written, if any.

    facts: what must be the same as when it was written ({"data": hash, ...}). Raises UserError where one differs, where
    another number of ranks wrote it (data order and optimiser shards would differ), and where all are broken.
    """
    known = complete(folder)
    broken = ""
    for path in reversed(known):
        marker = read_json(path / MARKER)
        if why := _damage(path, marker):
            broken = f"{path} is broken: {why}."
            log.warning("%s The checkpoint before it is taken.", broken)
            continue
        _same(path, marker, ranks, facts)
        return path
    if broken:
        raise UserError(f"{broken} There is no other: delete {folder} to start this training again.")
    return None


def resume(folder: Path, *, ranks: int, facts: Mapping[str, str]) -> Path | None:
    """The checkpoint to go on from (`latest`); whatever else is not whole is gone. For one rank, on behalf of all."""
    found = latest(folder, ranks=ranks, facts=facts)
    clean(folder, found)
    return found


def clean(folder: Path, resumed: Path | None) -> None:
    """Remove what was cut off while it was written, and broken ones after the one that is resumed."""
    known = complete(folder)
    good = known[: known.index(resumed) + 1] if resumed else []
    for path in [folder / UNFINISHED, *folder.glob("checkpoint-*")]:
        if path not in good:
            shutil.rmtree(path, ignore_errors=True)


def keep(folder: Path, count: int) -> None:
    """Remove all complete checkpoints but the newest `count` and the best (lowest mean training loss before it)."""
    known = complete(folder)
    losses = [((read_json(path / MARKER) or {}).get("loss"), path) for path in known]
    best = min(((loss, path) for loss, path in losses if loss is not None), default=(0.0, None))[1]
    for path in known[:-count]:
        if path != best:
            shutil.rmtree(path, ignore_errors=True)


def check_room(folder: Path, need_bytes: int, *, disk: Callable[[Path], Any] = shutil.disk_usage) -> None:
    """Raises UserError if the disk has no room for another checkpoint: nothing has been touched then."""
    folder.mkdir(parents=True, exist_ok=True)
    free = disk(folder).free
    if free < need_bytes:
        raise UserError(no_room(folder, need_bytes, free))


@contextmanager
def full_disk_explained(folder: Path, need_bytes: int, *, unfinished: Path | None = None) -> Iterator[None]:
    """What a library raises when the disk fills up while it saves becomes a UserError; the unfinished part goes (a
    checkpoint's, unless it is named)."""
    try:
        yield
    except Exception as error:
        free = shutil.disk_usage(folder).free
        if getattr(error, "errno", 0) == errno.ENOSPC or "No space left" in str(error) or free < need_bytes:
            shutil.rmtree(unfinished or folder / UNFINISHED, ignore_errors=True)
            raise UserError(no_room(folder, need_bytes, free)) from error
        raise


def no_room(folder: Path, need_bytes: int, free: int) -> str:
    known = complete(folder)
    kept = f"{known[-1].name} is kept and will be resumed from" if known else "there is no earlier one"
    return (
        f"the disk of {folder} is full: a save needs {need_bytes / 2**20:.0f} MB, {free / 2**20:.0f} MB are free; "
        f"{kept}. Make room (keep_checkpoints says how many are kept) and run again."
    )


def size(checkpoint: Path) -> int:
    """Bytes of a complete checkpoint."""
    return sum(held[0] for held in (read_json(checkpoint / MARKER) or {"files": {}})["files"].values())


def cut_metrics(out: Path, step: int) -> None:
    """Drop the lines of metrics.jsonl and samples.jsonl that belong to steps after `step` (they come again)."""
    for name in ("metrics.jsonl", "samples.jsonl"):
        file = out.parent / name
        if not file.exists():
            continue
        lines = file.read_text().splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and _step(line) <= step]
        if len(kept) != len(lines):
            temporary = file.with_name(f"{name}.tmp")
            temporary.write_text("".join(kept))
            temporary.replace(file)


def _seal(file: Path) -> list[Any]:
    """[bytes, hash of the content, or "" for a large file]."""
    held = file.stat().st_size
    return [held, hashlib.sha256(file.read_bytes()).hexdigest()[:16] if held < _SMALL else ""]


def _damage(path: Path, marker: Mapping[str, Any]) -> str:
    for name, (held, digest) in marker["files"].items():
        file = path / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != held:
            return f"{name} has {file.stat().st_size} bytes, {held} were written"
        if digest and _seal(file)[1] != digest:
            return f"the content of {name} has changed"
    return ""


def _same(path: Path, marker: Mapping[str, Any], ranks: int, facts: Mapping[str, str]) -> None:
    if marker["ranks"] != ranks:
        raise UserError(
            f"{path} was written by {marker['ranks']} rank(s) and cannot be continued by {ranks}: the order of the "
            f"data would change. Continue with resources.ranks={marker['ranks']}, or delete {path.parent} to start "
            "this training again."
        )
    for name, value in facts.items():
        if marker.get(name) != value:
            raise UserError(
                f"the {name} changed since {path} was written (hash {marker.get(name)}, now {value}): what would be "
                f"continued is another training. Put the {name} back, or delete {path.parent} to start again."
            )


def _step(line: str) -> float:
    try:
        row: dict[str, Any] = json.loads(line)
    except json.JSONDecodeError:  # a line that a kill cut short
        return float("inf")
    return row.get("step", -1)
