"""A run: its identity, folder, lock, status and provenance stamp.

A run's identity is its content: the same stage with the same configuration and inputs has the same folder, so running
again resumes or reuses. The lock is a series of files lock.1, lock.2, ...: whoever creates the next number (a hard
link, atomic also on cluster file systems) owns the run, and the number is the fencing token. Results are made in
work-<token>/ and renamed to result/ by the owner of the highest token only, so an owner that slept through its own
takeover can neither write into the new owner's folder nor finish.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gra_train.errors import FencedError, LockedError, UserError

HEARTBEAT_S = 5.0
STALE_S = 60.0
EXIT_STOPPED = 75
"""Exit code of a process that was asked to stop and can be resumed (EX_TEMPFAIL)."""


class Stopped(Exception):
    """The stage saved and stopped because it was asked to; running again resumes it."""


class Reached(Stopped):
    """As Stopped, and all that was asked for now is done."""


def content_hash(value: Any) -> str:
    """16 hex digits over canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


def write_json(path: Path, value: Any) -> None:
    """Write to a temporary name, then rename into place."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    temporary.replace(path)


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return None


@dataclass(frozen=True)
class Run:
    """A run folder. `state` is one of new, running, done, failed, stopped."""

    folder: Path

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def result(self) -> Path:
        return self.folder / "result"

    @property
    def status(self) -> dict[str, Any]:
        return read_json(self.folder / "status.json") or {"state": "new"}

    def is_done(self) -> bool:
        """Complete and untouched. Raises UserError when a finished result was changed since."""
        status = self.status
        if status["state"] != "done" or not self.result.is_dir():
            return False
        for name, (size, digest) in status["manifest"].items():
            file = self.result / name
            if not file.is_file() or file.stat().st_size != size or (digest and _digest(file) != digest):
                raise UserError(
                    f"{file} was changed or removed after run {self.id} had finished. Later stages would learn from "
                    f"something that no record describes: put it back, or delete {self.folder} to make it again."
                )
        return True


def stop_requested(out: Path) -> bool:
    """Has this stage been asked to save and stop? (STOP in the run folder, or the file named by GRA_STOP_FILE.)"""
    everywhere = os.environ.get("GRA_STOP_FILE")
    return (out.parent / "STOP").exists() or bool(everywhere and Path(everywhere).exists())


def log_metrics(out: Path, values: Mapping[str, Any]) -> None:
    """Append one line to the run's metrics.jsonl: the truth that W&B mirrors."""
    with (out.parent / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(dict(values)) + "\n")


def reset_metrics(out: Path) -> None:
    """Forget what earlier attempts logged: for a stage that starts over when it is resumed."""
    (out.parent / "metrics.jsonl").unlink(missing_ok=True)


@dataclass
class Lease:
    """Ownership of a run, kept alive by a heartbeat thread."""

    run: Run
    token: int

    @property
    def out(self) -> Path:
        return self.run.folder / f"work-{self.token}"

    def check(self) -> None:
        """Raises FencedError if somebody else took the run over."""
        if _highest(self.run.folder) != self.token:
            raise FencedError(f"run {self.run.id} was taken over by another process while this one was paused")

    def finish(self, seconds: float) -> None:
        """Publish the result: fencing token checked, renamed into place, then marked as done."""
        manifest = {
            str(p.relative_to(self.out)): (p.stat().st_size, _digest(p) if p.stat().st_size < 2**24 else "")
            for p in sorted(self.out.rglob("*"))
            if p.is_file()
        }
        self.check()
        try:
            self.out.rename(self.run.result)
        except FileNotFoundError:  # taken over between the check and now: the new owner has renamed our folder
            self.check()
            raise
        self.mark("done", seconds=round(seconds, 2), manifest=manifest)
        for leftover in ("STOP", "progress.json"):
            (self.run.folder / leftover).unlink(missing_ok=True)
        shutil.rmtree(self.run.folder / "checkpoints", ignore_errors=True)

    def mark(self, state: str, **more: Any) -> None:
        self.check()
        write_json(self.run.folder / "status.json", {"state": state, "token": self.token, **more})

    def mark_failure(self, state: str, **more: Any) -> None:
        """`mark` as far as the disk allows: it may be the full disk that ended the run. Its next owner sees, without
        the mark too, that this one is gone."""
        with suppress(OSError):
            self.mark(state, **more)


@contextmanager
def lease(run: Run, *, wait: bool = True, on_wait: Any = None, work: bool = True) -> Iterator[Lease]:
    """Own a run for as long as the block lasts.

    wait: if another living process owns it, wait for that one; otherwise raise LockedError at once.
    work: there is a work folder to take over from an earlier owner.
    """
    try:
        run.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make the run folder {run.folder}: {error.strerror}. Set runs_dir=... elsewhere."
        ) from None
    token = _acquire(run, wait, on_wait)
    mine = Lease(run, token)
    stop = threading.Event()
    threading.Thread(target=_beat, args=(run.folder / f"lock.{token}", stop), daemon=True).start()
    try:
        if work:
            _adopt(mine)
        yield mine
    finally:
        stop.set()
        if _highest(run.folder) == token:
            owner = read_json(run.folder / f"lock.{token}") or {}
            with suppress(OSError):  # a full disk: the lock is free once this process has ended
                write_json(run.folder / f"lock.{token}", {**owner, "released": True})


def _adopt(mine: Lease) -> None:
    """Give work that an earlier owner left the name of this owner's token (an unfinished publication included)."""
    folder = mine.run.folder
    if mine.run.status["state"] == "done":
        return
    for earlier in sorted(folder.glob("work-*"), key=lambda p: int(p.name.split("-")[1])):
        if earlier != mine.out:
            if mine.out.exists():
                shutil.rmtree(mine.out)
            earlier.rename(mine.out)
    if mine.run.result.is_dir() and mine.run.status["state"] != "done":
        if mine.out.exists():
            shutil.rmtree(mine.out)
        mine.run.result.rename(mine.out)
    mine.out.mkdir(exist_ok=True)
    (folder / "STOP").unlink(missing_ok=True)  # a stale request is not for us
    for old in folder.glob("lock.*"):
        if old.name != f"lock.{mine.token}" and old.suffix[1:].isdigit() and int(old.suffix[1:]) < mine.token:
            old.unlink(missing_ok=True)


def _acquire(run: Run, wait: bool, on_wait: Any) -> int:
    while True:
        token = _highest(run.folder)
        owner = read_json(run.folder / f"lock.{token}") if token else None
        if token and owner is not None and _alive(run.folder / f"lock.{token}", owner):
            if not wait:
                raise LockedError(
                    f"run {run.id} is in the hands of process {owner['pid']} on {owner['host']}. "
                    "Wait for it, stop it, or change a setting: two runs of one identity would overwrite each other."
                )
            if on_wait:
                on_wait(owner)
            time.sleep(1.0)
            continue
        if _create(run.folder, token + 1):
            return token + 1


def _create(folder: Path, token: int) -> bool:
    temporary = folder / f".lock.{os.getpid()}.{threading.get_ident()}"
    owner = {"pid": os.getpid(), "host": socket.gethostname(), "started": _process_start(os.getpid())}
    temporary.write_text(json.dumps(owner))
    try:
        os.link(temporary, folder / f"lock.{token}")
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    return True


def _highest(folder: Path) -> int:
    return max((int(p.suffix[1:]) for p in folder.glob("lock.*") if p.suffix[1:].isdigit()), default=0)


def _alive(lock: Path, owner: dict[str, Any]) -> bool:
    if owner.get("released"):
        return False
    if owner["host"] == socket.gethostname():
        return _process_start(owner["pid"]) == owner["started"]
    try:
        return time.time() - lock.stat().st_mtime < STALE_S
    except FileNotFoundError:
        return False


def _process_start(pid: int) -> str:
    """Boot id and start tick of a process: a reused pid is not the same owner. Empty if there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        if stat[0] == "Z":
            return ""
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + ":" + stat[19]
    except OSError:
        return ""


def _beat(lock: Path, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_S):
        try:
            os.utime(lock)
        except OSError:
            return


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
