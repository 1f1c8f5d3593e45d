"""Vacuum: small, torn and repetitive segments of a ledger become one, and no row is lost however it ends. Where that is
asked for, what servers did not answer is dropped, so that it is asked again.

The new segment is written under a temporary name, synced, read back and renamed; only then are the old ones deleted. A
kill in between leaves some rows twice, which the next vacuum drops.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gra_train.chat import ledger_index, segments
from gra_train.chat.keys import is_failed
from gra_train.chat.ledger import Ledger
from gra_train.chat.segments import KEY, Writer
from gra_train.errors import UserError

SMALL = 64 << 20
"""Bytes: a segment of at least this size stays as it is, unless something in it can be dropped."""


@dataclass
class Vacuumed:
    """merged: segments that became one. superseded, failed: records; broken, before, after: bytes (of all segments)."""

    merged: int = 0
    superseded: int = 0
    failed: int = 0
    broken: int = 0
    before: int = 0
    after: int = 0


@dataclass(frozen=True)
class _Keep:
    """Which records stay. failed: keys whose answer is that there was none, where these go."""

    ledger: Ledger
    failed: frozenset[bytes] = frozenset()

    def __call__(self, body: bytes, path: Path, offset: int) -> bool:
        if self.failed and body[:KEY] in self.failed:  # another process may have got an answer: then that one counts
            return not _is_failed(body)
        return self.ledger.holds(body[:KEY], path, offset)


def _is_failed(body: bytes) -> bool:
    record = segments.record_of(body)
    return record.kind in ("completion", "likelihood") and is_failed(record.value)


def _failed(ledger: Ledger) -> frozenset[bytes]:
    """The keys of calls that are on record as not answered."""
    return frozenset(
        body[:KEY]
        for path in ledger.segments
        for offset, _, body in segments.scan(path)
        if body and not segments.is_end(body) and ledger.holds(body[:KEY], path, offset) and _is_failed(body)
    )


def vacuum(folder: Path, *, small: int = SMALL, dry_run: bool = False, failed: bool = False) -> Vacuumed:
    """Merge what is smaller than `small` or has something to drop: repeated keys, damaged and torn bytes.

    failed: also drop the records of calls that no server answered, so that they are asked again.

    Raises UserError, with nothing changed, while a process writes to the ledger or vacuums it, if a segment cannot be
    read, and if the disk has no room for the new segment.
    """
    with _alone(folder):
        empty = []  # killed before their first line was whole
        for path in sorted(folder.glob("*.seg")):
            version = segments.version(path)
            if version != "foreign" and (reason := segments.writer_of(path)):
                raise UserError(f"ledger {str(folder)!r}: {path.name}: {reason}. Wait until it has ended.")
            if version == "empty":
                empty.append(path)
        if not dry_run:
            for left in (*empty, *folder.glob("*.seg.tmp"), *folder.glob(f"{ledger_index.NAME}.*.tmp")):
                left.unlink()
        with Ledger(folder, rebuild=True) as ledger:
            stays = _Keep(ledger, _failed(ledger) if failed else frozenset())
            done, chosen, keep = _plan(stays, small)
            done.failed = len(stays.failed)
            if dry_run or not chosen:
                return done
            done.after -= keep
            new = _merge(folder, stays, chosen, keep)
        done.after += new.stat().st_size
        for path in chosen:
            path.unlink()
        _sync_folder(folder)
        with Ledger(folder, rebuild=True) as ledger:
            ledger.save_index()
    return done


def _plan(stays: _Keep, small: int) -> tuple[Vacuumed, list[Path], int]:
    """What would be done, the segments to merge, and how many bytes of them stay."""
    done = Vacuumed()
    chosen: list[tuple[Path, int]] = []
    waste = False
    for path in stays.ledger.segments:
        kept = superseded = broken = failed = 0
        end = len(segments.MAGIC)
        for offset, size, body in segments.scan(path):
            end = offset + size
            if body is None:
                broken += size
            elif segments.is_end(body):
                continue
            elif stays(body, path, offset):
                kept += size
            elif body[:KEY] in stays.failed:
                failed += 1
            else:
                superseded += 1
        length = path.stat().st_size
        broken += length - end
        done.before += length
        done.superseded += superseded
        done.broken += broken
        if length < small or superseded or broken or failed:
            chosen.append((path, kept))
            waste = waste or bool(superseded or broken or failed)
    done.after = done.before
    if len(chosen) < 2 and not waste:  # one good small segment: nothing to gain
        return done, [], 0
    done.merged, kept = len(chosen), sum(size for _, size in chosen)
    done.after += kept - sum(path.stat().st_size for path, _ in chosen)
    return done, [path for path, _ in chosen], kept


def _merge(folder: Path, stays: _Keep, chosen: list[Path], keep: int) -> Path:
    """The new segment, in place. It bears the earliest time: what its rows come before, they still come before."""
    if shutil.disk_usage(folder).free < keep + (1 << 16):
        raise UserError(f"ledger {str(folder)!r}: {keep / 1e6:.1f} MB must be free to merge its segments")
    name = f"{chosen[0].name.partition('-')[0]}-{uuid.uuid4().hex[:12]}.seg"
    rows = 0
    try:
        writer = Writer(folder, name, suffix=".tmp")
        try:
            for path in chosen:
                for offset, _, body in segments.scan(path):
                    if body is not None and not segments.is_end(body) and stays(body, path, offset):
                        writer.append(segments.framed(body))
                        rows += 1
        except BaseException:
            writer.close(whole=False)
            raise
        writer.close()
        # What is deleted next must be readable in its new place.
        again = sum(body is not None for _, _, body in segments.scan(writer.path))
        if again != rows + 1 or writer.path.stat().st_size != writer.end:  # END is one more
            raise UserError(f"ledger {str(folder)!r}: the merged segment does not read back; nothing was changed")
    except OSError as error:
        raise UserError(f"ledger {str(folder)!r}: {error.strerror}; nothing was changed") from None
    final = folder / name
    writer.path.replace(final)
    _sync_folder(folder)
    return final


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    file = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"ledger {str(folder)!r} is being vacuumed by another process") from None
        except OSError:  # a file system without locks: two at once only leave rows twice
            pass
        yield
    finally:
        os.close(file)


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
