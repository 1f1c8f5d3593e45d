"""The ledger of completions: every answer that was ever paid for, on disk, shared by all runs.

A folder of append-only segments. Each process appends to a segment of its own and reads all (a miss looks for what the
others have written since), so no two writers meet. An answer is handed to the operating system before it is used, and
synced at most a second later: a killed process loses nothing, a lost machine at most the last second.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

from gra_train.chat import ledger_index, segments
from gra_train.chat.keys import batch_key, decode, encode, key_in_batch, key_of, read, request_key
from gra_train.chat.ledger_index import OFFSET_BITS, Sorted
from gra_train.chat.protocol import Answer
from gra_train.chat.segments import KEY, Record, Writer
from gra_train.errors import UserError

__all__ = ["Ledger", "batch_key", "decode", "encode", "key_of", "request_key"]

log = logging.getLogger(__name__)
_SYNC_S = 1.0
_LOOK_S = 0.5  # how often, at most, a miss makes us look for what other processes have written since
_LOOK_SHARE = 0.02  # of the time may go into looking: a folder of thousands of segments is looked at less often
_FOLD_ROWS = 100_000  # new keys after which a running writer puts them into the index file
_INDEX_ROWS, _INDEX_SEGMENTS = 5_000, 64  # what opening had to scan, and is worth an index file
_OPEN_FILES = 64
_OFFSET = (1 << OFFSET_BITS) - 1


class Ledger:
    """get(key) -> value or None; put(key, value, ...). Values are JSON. Safe to use from several threads.

    rebuild: read every segment, whatever the index file says. Raises UserError if the folder cannot be used, and from
    `put` when the disk is full (nothing recorded is harmed).
    """

    def __init__(self, folder: Path, *, rebuild: bool = False) -> None:
        self._folder = Path(folder)
        self._lock = threading.RLock()
        self._writer: Writer | None = None
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._failure: OSError | None = None
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._open(believe_index=not rebuild)
        except OSError as error:
            raise UserError(f"ledger folder {str(folder)!r} cannot be used: {error.strerror}") from None

    def _open(self, *, believe_index: bool) -> None:
        """Read the index file, scan what it does not hold, and save it again if that was much."""
        self._sorted, self._folding = Sorted.empty(), dict[bytes, int]()
        self._recent: dict[bytes, int] = {}
        self._earlier: dict[bytes, int] = {}  # keys that another process recorded before us, found too late to use
        self._count = 0
        self._paths: list[Path] = []
        self._read: list[int] = []  # how far each segment is indexed, in bytes
        self._ended: set[int] = set()  # segments that their writers closed
        self._foreign: set[str] = set()
        self._files: dict[int, int] = {}  # open for reading, the one that was used longest ago first
        self._own: int | None = None
        sizes = self._sizes()
        if believe_index and (saved := ledger_index.load(self._folder, sizes)):
            self._sorted, known = saved
            self._count = len(self._sorted)
            self._paths = [self._folder / name for name, _ in known]
            self._read = [size for _, size in known]
        indexed = len(self._paths)
        for number in range(indexed):
            if sizes[self._paths[number].name] > self._read[number]:
                self._scan(number, opening=True)
        for name in sorted(sizes.keys() - {path.name for path in self._paths}):
            self._add(name, opening=True)
        self._look_after(0.0)
        if len(self._recent) >= _INDEX_ROWS or len(self._paths) - indexed >= _INDEX_SEGMENTS:
            self._fold()

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: bytes) -> bool:
        with self._lock:
            return self._find(key) is not None

    def get(self, key: bytes) -> Any | None:
        """The value under `key`, or None. A record that was damaged since it was written counts as missing."""
        record = self.record(key)
        return None if record is None else record.value

    def record(self, key: bytes) -> Record | None:
        """The value under `key` with where it came from, or None."""
        with self._lock:
            place = self._find(key)
            if place is None and time.monotonic() >= self._next_look:
                self._look()
                place = self._find(key)
            if place is None:
                return None
            body = self._body(place, key)
            if body is None:  # damaged, or moved into another segment by `vacuum`: find out what is really there
                log.warning("ledger: %s has changed on disk; reading all segments again", self._path(place).name)
                self._open_again()
                place = self._find(key)
                body = None if place is None else self._body(place, key)
            return None if body is None else segments.record_of(body)

    def answer(self, key: str) -> Answer | None:
        """The answer under a key as tables name it (keys.written), or None. Raises ValueError for other text."""
        record, row = read(key)
        value = self.get(record)
        if value is None:
            return None
        return decode(value, record) if row is None else decode(value[row], key_in_batch(record, row))

    def put(
        self,
        key: bytes,
        value: Any,
        *,
        kind: str = "",
        model: str = "",
        purpose: str | list[str] = "",
        latency_ms: int | None = None,
    ) -> None:
        """Record a value and where it came from (segments.Record); it is with the operating system on return.

        A key that is there already stays.
        """
        try:
            frame = segments.frame_of(key, Record(kind, model, purpose, int(time.time()), latency_ms, value))
        except ValueError as error:
            raise UserError(f"ledger {str(self._folder)!r}: {error}") from None
        with self._lock:
            if self._find(key) is not None:
                return
            try:
                if self._failure:
                    raise self._failure
                if self._writer is None:
                    self._start_segment()
                assert self._writer is not None
                assert self._own is not None
                offset = self._writer.append(frame)
            except OSError as error:
                if self._writer is not None and self._writer.torn:  # leave that segment; go on in a new one
                    self._leave_segment()
                raise UserError(
                    f"ledger {str(self._folder)!r}: {error.strerror}. All records are safe; make room and run again."
                ) from None
            self._recent[key] = self._own << OFFSET_BITS | offset
            self._read[self._own] = self._writer.end
            self._count += 1

    def close(self) -> None:
        """Sync and let go of all files. Idempotent."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            if self._writer is not None:
                try:
                    self._writer.close(whole=self._failure is None)
                except OSError as error:  # what was put is with the operating system all the same
                    log.warning("ledger: %s could not be closed well (%s)", self._writer.path.name, error.strerror)
                self._writer = None
                if len(self._recent) >= _INDEX_ROWS:
                    self._fold()
            self._let_go_of_files()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def segments(self) -> list[Path]:
        """Its files, in the order of time."""
        return sorted(self._paths, key=lambda path: path.name)

    @property
    def foreign(self) -> list[str]:
        """Names of segments that another version wrote; they are left alone."""
        return sorted(self._foreign)

    def holds(self, key: bytes, path: Path, offset: int) -> bool:
        """Whether the record under `key` is the one at that place: others under the same key are never used."""
        with self._lock:
            place = self._find(key)
            return place is not None and self._path(place) == path and place & _OFFSET == offset

    def save_index(self) -> None:
        """Write the index file, whatever it costs."""
        self._fold()

    # Where things are

    def _find(self, key: bytes) -> int | None:
        place = self._recent.get(key)
        if place is None:
            place = self._folding.get(key)
        return self._sorted.find(key) if place is None else place

    def _path(self, place: int) -> Path:
        return self._paths[place >> OFFSET_BITS]

    def _body(self, place: int, key: bytes) -> bytes | None:
        """The body at a place, or None if it is not there, not whole, or another's."""
        number = place >> OFFSET_BITS
        try:
            file = self._files.pop(number, None)
            if file is None:
                file = os.open(self._paths[number], os.O_RDONLY)
            self._files[number] = file
            if len(self._files) > _OPEN_FILES:
                os.close(self._files.pop(next(iter(self._files))))
            body = segments.read_body(file, place & _OFFSET)
        except OSError:
            return None
        return body if body is not None and body.startswith(key) else None

    def _let_go_of_files(self) -> None:
        for file in self._files.values():
            os.close(file)
        self._files.clear()

    # What others wrote

    def _sizes(self) -> dict[str, int]:
        with os.scandir(self._folder) as entries:
            return {e.name: e.stat().st_size for e in entries if e.name.endswith(".seg")}

    def _look(self) -> None:
        """Index what other processes have written since we last looked."""
        began = time.monotonic()
        known = {path.name for path in self._paths} | self._foreign
        try:
            for number, path in enumerate(list(self._paths)):
                if number != self._own and number not in self._ended and path.stat().st_size > self._read[number]:
                    self._scan(number)
            with os.scandir(self._folder) as entries:
                names = sorted(e.name for e in entries if e.name.endswith(".seg") and e.name not in known)
            for name in names:
                self._add(name)
        except FileNotFoundError:  # moved into another segment by `vacuum`
            self._open_again()
        self._look_after(time.monotonic() - began)

    def _look_after(self, took: float) -> None:
        self._next_look = time.monotonic() + max(_LOOK_S, took / _LOOK_SHARE)

    def _open_again(self) -> None:
        """Forget the index and read all segments. Our own goes on."""
        self._let_go_of_files()
        try:
            self._open(believe_index=False)
        except OSError as error:
            raise UserError(f"ledger folder {str(self._folder)!r} cannot be used: {error.strerror}") from None
        if self._writer is not None:
            self._own = self._paths.index(self._writer.path)

    def _add(self, name: str, *, opening: bool = False) -> None:
        version = segments.version(self._folder / name)
        if version == "foreign":
            self._foreign.add(name)
            log.warning("ledger: %s is no segment of this version; left alone", name)
        if version == "ours":
            self._paths.append(self._folder / name)
            self._read.append(0)
            self._scan(len(self._paths) - 1, opening=opening)

    def _scan(self, number: int, *, opening: bool = False) -> None:
        """Index a segment on from where we were, up to a tail that is not whole (a killed or still writing owner)."""
        path, damaged = self._paths[number], 0
        end = self._read[number] or len(segments.MAGIC)
        for offset, size, body in segments.scan(path, end):
            end = offset + size
            if body is None:
                damaged += size
            elif segments.is_end(body):
                self._ended.add(number)
            else:
                self._found(body[:KEY], number << OFFSET_BITS | offset, opening)
        self._read[number] = end
        if damaged:
            log.warning("ledger: %d bytes inside %s are damaged; the rest of it is used", damaged, path.name)
        if opening and (rest := path.stat().st_size - end):
            log.info("ledger: %d bytes at the end of %s are not whole; ignored", rest, path.name)

    def _found(self, key: bytes, place: int, opening: bool) -> None:
        """A key at a place. The first segment's answer is the one that stays; one that we may have used does too."""
        known = self._find(key)
        if known is None:
            self._recent[key] = place
            self._count += 1
        elif self._path(place).name < self._path(known).name:
            (self._recent if opening else self._earlier)[key] = place

    # What we write

    def _start_segment(self) -> None:
        self._writer = Writer(self._folder)
        self._own = len(self._paths)
        self._paths.append(self._writer.path)
        self._read.append(self._writer.end)
        if self._thread is None:
            self._thread = threading.Thread(target=self._keep, name="ledger-sync", daemon=True)
            self._thread.start()

    def _leave_segment(self) -> None:
        writer, self._writer, self._own = self._writer, None, None
        assert writer is not None
        try:
            writer.close()
        except OSError as error:
            self._failure = error

    def _keep(self) -> None:
        while not self._closing.wait(_SYNC_S):
            writer = self._writer
            try:
                if writer is not None:
                    writer.sync()
            except OSError as error:
                if writer is self._writer:
                    self._failure = error
            if len(self._recent) >= _FOLD_ROWS:
                self._fold()

    def _fold(self) -> None:
        """Put the new keys into the sorted arrays, and these into the index file."""
        with self._lock:
            before, new = self._sorted, self._recent
            self._folding, self._recent = new, {}
            covered = [(path.name, size) for path, size in zip(self._paths, self._read, strict=True)]
            earlier = dict(self._earlier)
        after = before.merged(new)  # takes a while: outside the lock
        with self._lock:
            if self._sorted is before:  # else all was read again meanwhile
                self._sorted, self._folding = after, {}
        try:
            ledger_index.save(self._folder, after.merged(earlier), covered)
        except OSError as error:
            log.info("ledger: its index was not written (%s); it is rebuilt when needed", error.strerror)
