"""Segments: the append-only files that the ledger is made of. Frames, reading past damage, the one writer of each.

A segment is a first line and frames. A frame is a mark, the length of its body, a CRC-32, and the body: a 16-byte key
and a JSON array (see `Record`). The mark holds bytes that UTF-8 never has, so nothing that a model writes can pass for
the start of a frame, and reading goes on behind a damaged stretch. A segment that its writer closed ends with `END`;
one without it was torn by a kill, or is still written to.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import time
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

MAGIC = b"gra-train ledger 2\n"
KEY = 16
LARGEST = 1 << 28
"""Bytes of the largest body: a damaged length must not make a reader take in the rest of the disk."""
QUIET_S = 60.0
"""A segment without END that has not changed for so long has no writer, also where locks do not cross machines."""
BEAT_S = 10.0
_MARK = b"\xff\xfeG\xff"
_HEADER = struct.Struct("<4sII")  # mark, length of the body, CRC-32 of the body (started with the length)
_CHUNK = 1 << 22
_NO_KEY = bytes(KEY)


class Record(NamedTuple):
    """What a body says beside its key. kind: completion, likelihood, batch (a list of answers) or plan.

    purpose: "role/prompt"; a batch of several has one for each of its answers. seconds: when it was recorded (Unix
    time). latency_ms: how long the server took, or None.
    """

    kind: str
    model: str
    purpose: str | list[str]
    seconds: int
    latency_ms: int | None
    value: Any


def frame_of(key: bytes, record: Record) -> bytes:
    """The bytes to append. Raises ValueError for a body that is too long."""
    return framed(key + orjson.dumps(tuple(record)))


def record_of(body: bytes) -> Record:
    return Record(*orjson.loads(body[KEY:]))


def framed(body: bytes) -> bytes:
    """A body as it stands in a segment. Raises ValueError if it is too long."""
    if len(body) > LARGEST:
        raise ValueError(f"a record of {len(body)} bytes; at most {LARGEST} can be kept")
    return _HEADER.pack(_MARK, len(body), zlib.crc32(body, len(body))) + body


END = framed(_NO_KEY)


class Piece(NamedTuple):
    """A whole frame, or a damaged stretch (body None). offset, size: bytes."""

    offset: int
    size: int
    body: bytes | None


def scan(path: Path, start: int = 0) -> Iterator[Piece]:
    """Frames and damaged stretches from `start` on (0: behind the first line), up to a tail that is not whole.

    END is a frame like any other (`is_end`). Memory: a chunk and the largest frame.
    """
    with path.open("rb") as file:
        base, place, data, ended = max(start, len(MAGIC)), 0, b"", False
        bad: int | None = None  # where damage began
        file.seek(base)
        while True:
            size = _frame_at(data, place)
            if size > 0:
                if bad is not None:
                    yield Piece(bad, base + place - bad, None)
                    bad = None
                yield Piece(base + place, size, data[place + _HEADER.size : place + size])
                place += size
                continue
            if size < 0 or ended:  # no frame starts here
                bad = base + place if bad is None else bad
                following = data.find(_MARK, place + 1)
                if following >= 0:
                    place = following
                    continue
                if ended:
                    return
                place = max(place + 1, len(data) - len(_MARK) + 1)  # a mark may be cut by the end of the chunk
            chunk = file.read(_CHUNK)
            ended = not chunk
            data, base, place = data[place:] + chunk, base + place, 0


def _frame_at(data: bytes, place: int) -> int:
    """The size of the frame at `place`; 0: more data is needed to say; -1: there is none."""
    if len(data) - place < _HEADER.size:
        return 0
    mark, length, crc = _HEADER.unpack_from(data, place)
    if mark != _MARK or not KEY <= length <= LARGEST:
        return -1
    start, end = place + _HEADER.size, place + _HEADER.size + length
    if end > len(data):
        return 0
    return end - place if zlib.crc32(memoryview(data)[start:end], length) == crc else -1


def is_end(body: bytes) -> bool:
    return body[:KEY] == _NO_KEY


def read_body(file: int, offset: int) -> bytes | None:
    """The body of the frame at `offset` of an open file, or None if it is not whole."""
    data = os.pread(file, 2048, offset)
    if len(data) < _HEADER.size:
        return None
    length = _HEADER.unpack_from(data)[1]
    missing = _HEADER.size + length - len(data)
    if missing > 0 and length <= LARGEST:
        data += os.pread(file, missing, offset + len(data))
    size = _frame_at(data, 0)
    return data[_HEADER.size : size] if size > 0 else None


def version(path: Path) -> str:
    """ "ours", "empty" (not even its first line is whole) or "foreign"."""
    with path.open("rb") as file:
        first = file.read(len(MAGIC))
        marked = file.read(len(_MARK)) == _MARK  # its first line may be damaged
    return "ours" if first == MAGIC or marked else "empty" if MAGIC.startswith(first) else "foreign"


def writer_of(path: Path) -> str:
    """Why a segment may still be written to, or "" if it has no writer any more."""
    with path.open("r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return "a running process is writing to it"
        except OSError:  # a file system without locks
            pass
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - len(END)))
        if file.read() == END:
            return ""
        age = time.time() - os.fstat(file.fileno()).st_mtime
    return f"it was written to {age:.0f} s ago, perhaps by a process on another machine" if age < QUIET_S else ""


class Writer:
    """The one writer of a new segment. Every method may raise OSError; what was appended before is not harmed.

    Holds a lock on the file, and `sync`, called every second, keeps its time of change fresh: `writer_of` reads both.
    One thread appends; another may sync meanwhile.
    """

    def __init__(self, folder: Path, name: str = "", suffix: str = ".seg") -> None:
        # Names begin with the time: the first answer to a key stays.
        self.path = folder / f"{name or f'{time.time_ns():020d}-{uuid.uuid4().hex[:12]}'}{suffix}"
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.end = 0
        self.unsynced = self.torn = False  # torn: half a frame could not be taken back; no more may be appended
        self._beaten = time.monotonic()
        try:
            self.append(MAGIC)
        except OSError:
            os.close(self._file)
            self.path.unlink(missing_ok=True)
            raise

    def append(self, frame: bytes) -> int:
        """Hand a frame to the operating system; returns its offset. A frame written in part is taken back."""
        offset = self.end
        try:
            view = memoryview(frame)
            while view:
                view = view[os.write(self._file, view) :]
        except OSError:
            self.torn = True
            os.ftruncate(self._file, offset)
            self.torn = False
            raise
        self.end += len(frame)
        self.unsynced = True
        return offset

    def sync(self) -> None:
        """To the disk, if there is something new; else a sign of life, now and then."""
        if self.unsynced:
            self.unsynced = False
            os.fsync(self._file)
            self._beaten = time.monotonic()
        elif time.monotonic() - self._beaten > BEAT_S:
            os.utime(self._file)
            self._beaten = time.monotonic()

    def close(self, *, whole: bool = True) -> None:
        """Sync and let go; `whole=False` leaves out END (it is then as after a kill)."""
        try:
            if whole and not self.torn:
                self.append(END)
            self.sync()
        finally:
            os.close(self._file)
