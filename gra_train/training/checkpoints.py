"""Checkpoints: which are complete, which to resume, which to remove; and metrics cut back to the one that is resumed.

The trainer writes `checkpoints/checkpoint-<step>`; when every rank has written its part, rank 0 adds the marker. A
folder without the marker was cut off while it was written and is never resumed from.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from gra_train.errors import UserError
from gra_train.runs import read_json, write_json

MARKER = "complete.json"


def mark(checkpoint: Path, *, step: int, ranks: int) -> None:
    """Declare a checkpoint complete."""
    write_json(checkpoint / MARKER, {"step": step, "ranks": ranks})


def complete(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    found = [(read_json(path / MARKER), path) for path in folder.glob("checkpoint-*")]
    return [path for marker, path in sorted((m["step"], p) for m, p in found if m)]


def latest(folder: Path, *, ranks: int) -> Path | None:
    """The checkpoint to resume from, if any; what was cut off is removed.

    Raises UserError when it was written by another number of ranks: data order and optimiser shards would differ.
    """
    known = complete(folder)
    for path in folder.glob("checkpoint-*"):
        if path not in known:
            shutil.rmtree(path, ignore_errors=True)
    if not known:
        return None
    before = read_json(known[-1] / MARKER)["ranks"]
    if before != ranks:
        raise UserError(
            f"{known[-1]} was written by {before} rank(s) and cannot be continued by {ranks}: the order of the data "
            f"would change. Continue with resources.ranks={before}, or delete {folder} to start this training again."
        )
    return known[-1]


def keep_last(folder: Path, count: int) -> None:
    """Remove all but the newest `count` complete checkpoints."""
    for path in complete(folder)[:-count]:
        shutil.rmtree(path, ignore_errors=True)


def cut_metrics(out: Path, step: int) -> None:
    """Drop the lines of metrics.jsonl that belong to steps after `step` (they will be written again)."""
    file = out.parent / "metrics.jsonl"
    if not file.exists():
        return
    lines = file.read_text().splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and _step(line) <= step]
    if len(kept) != len(lines):
        temporary = file.with_name("metrics.jsonl.tmp")
        temporary.write_text("".join(kept))
        temporary.replace(file)


def _step(line: str) -> float:
    try:
        row: dict[str, Any] = json.loads(line)
    except json.JSONDecodeError:  # a line that a kill cut short
        return float("inf")
    return row.get("step", -1)
