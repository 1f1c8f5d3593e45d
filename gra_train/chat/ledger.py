"""The ledger of completions: every answer that was ever paid for, on disk, shared by all runs.

A folder of append-only segments. Each process appends to a segment of its own and reads all (a miss looks for what
the others have written since), so no two writers meet and no lock is needed. A frame is (length, CRC-32, key, JSON
value); the index is rebuilt by scanning when the ledger is opened. An answer is handed to the operating system before
it is used, and synced at most a second later: a killed process loses nothing, a lost machine at most the last second.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
import struct
import threading
import time
import uuid
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from gra_train.chat.protocol import Answer, Completion, Reply, Request, TokenLogProbs
from gra_train.errors import UserError

log = logging.getLogger(__name__)
_HEADER = struct.Struct("<II")
_KEY = 16
_MAGIC = b"gra-train ledger 1\n"
_SYNC_S = 1.0
_LOOK_S = 0.5  # how often, at most, a miss makes us look for what other processes have written since
_LATER = ("schema", "sample", "logprobs")
_OFFSET_BITS = 44  # a location is segment number and offset in one integer: a compact index for millions of rows


def request_key(fingerprint: str, request: Request) -> bytes:
    """16 bytes for everything that determines the answer: the weights and all of the request but its purpose."""
    kind = "complete" if isinstance(request, Completion) else "likelihood"
    fields = {f.name: getattr(request, f.name) for f in dataclasses.fields(request) if f.compare}
    for name in _LATER:  # not there yet when older ledgers were written: left out unless set
        if not fields.get(name, True):
            del fields[name]
    return key_of([kind, fingerprint, fields])


def batch_key(kind: str, keys: Sequence[bytes], *extra: Any) -> bytes:
    """16 bytes for a list of requests in this order: an in-process answer's floats depend on its neighbours."""
    return key_of([kind, [k.hex() for k in keys], *extra])


def key_of(value: Any) -> bytes:
    encoded = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(encoded, digest_size=_KEY).digest()


def encode(answer: Answer) -> list[Any]:
    """An answer as a small JSON array; `decode` is its inverse. -inf is written as null."""
    if isinstance(answer, Reply):
        scores = [encode(answer.logprobs)] if answer.logprobs else []
        return [answer.text, answer.finish, answer.prompt_tokens, answer.completion_tokens, *scores]
    return [list(answer.logprobs), list(answer.tokens)]


def decode(value: list[Any]) -> Answer:
    if len(value) >= 4:
        return Reply(*value[:4], *map(decode, value[4:]))
    return TokenLogProbs(tuple(float("-inf") if v is None else v for v in value[0]), tuple(value[1]))


class Ledger:
    """get(key) -> value or None; put(key, value). Values are JSON. Safe to use from several threads.

    Raises UserError if the folder cannot be used, and from `put` when the disk is full (nothing recorded is harmed).
    """

    def __init__(self, folder: Path) -> None:
        self._folder = Path(folder)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            segments = sorted(self._folder.glob("*.seg"))  # names begin with the time: the first answer to a key stays
        except OSError as error:
            raise UserError(f"ledger folder {str(folder)!r} cannot be used: {error.strerror}") from None
        self._index: dict[bytes, int] = {}
        self._paths: list[Path] = []
        self._read: list[int] = []  # how far each segment is indexed, in bytes
        self._looked = time.monotonic()
        self._files: dict[int, int] = {}
        self._lock = threading.Lock()
        self._own: int | None = None  # the number of our segment, once something was written
        self._end = 0
        self._failure: OSError | None = None
        self._unsynced = False
        self._closing = threading.Event()
        for path in segments:
            self._add(path)

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, key: bytes) -> bool:
        return key in self._index

    def get(self, key: bytes) -> Any | None:
        if key not in self._index and time.monotonic() - self._looked >= _LOOK_S:
            self._look()
        location = self._index.get(key)
        if location is None:
            return None
        number, offset = location >> _OFFSET_BITS, location & ((1 << _OFFSET_BITS) - 1)
        with self._lock:
            if number not in self._files:
                self._files[number] = os.open(self._paths[number], os.O_RDONLY)
            file = self._files[number]
        length, crc = _HEADER.unpack(os.pread(file, _HEADER.size, offset).ljust(_HEADER.size, b"\0"))
        body = os.pread(file, length, offset + _HEADER.size)
        if not body.startswith(key) or zlib.crc32(body) != crc:
            raise UserError(f"ledger segment {self._paths[number].name} has changed on disk; restore it or delete it")
        return orjson.loads(body[_KEY:])

    def put(self, key: bytes, value: Any) -> None:
        """Record a value; it is with the operating system when this returns. A key that is there already stays."""
        body = key + orjson.dumps(value)
        frame = _HEADER.pack(len(body), zlib.crc32(body)) + body
        with self._lock:
            if key in self._index:
                return
            try:
                if self._failure:
                    raise self._failure
                if self._own is None:
                    self._start_segment()
                assert self._own is not None
                _write(self._files[self._own], frame)
            except OSError as error:
                self._cut_back()
                raise UserError(
                    f"ledger {str(self._folder)!r}: {error.strerror}. All records are safe; make room and run again."
                ) from None
            self._index[key] = self._own << _OFFSET_BITS | self._end
            self._end += len(frame)
            self._unsynced = True

    def close(self) -> None:
        """Sync and let go of all files. Idempotent."""
        self._closing.set()
        self._sync()
        with self._lock:
            for file in self._files.values():
                os.close(file)
            self._files.clear()
            self._own = None

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _start_segment(self) -> None:
        path = self._folder / f"{time.time_ns():020d}-{uuid.uuid4().hex[:12]}.seg"
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        self._own = len(self._paths)
        self._paths.append(path)
        self._read.append(0)
        self._files[self._own] = file
        self._end = 0
        _write(file, _MAGIC)
        self._end = len(_MAGIC)
        threading.Thread(target=self._keep_synced, name="ledger-sync", daemon=True).start()

    def _cut_back(self) -> None:
        """Remove a frame that was half written; if that fails too, leave the segment and go on in a new one."""
        if self._own is None:
            return
        try:
            os.ftruncate(self._files[self._own], self._end)
        except OSError:
            self._own = None
        if self._end == 0:  # not even its first line: no segment
            self._own = None

    def _look(self) -> None:
        """Index what other processes have written since we last looked."""
        with self._lock:
            self._looked = time.monotonic()
            known = {path.name for path in self._paths}
            for number in range(len(self._paths)):
                if number != self._own:
                    self._scan(number)
            for path in sorted(self._folder.glob("*.seg")):
                if path.name not in known:
                    self._add(path)

    def _add(self, path: Path) -> None:
        self._paths.append(path)
        self._read.append(0)
        self._scan(len(self._paths) - 1)
        if rest := path.stat().st_size - self._read[-1]:
            log.info("ledger: %d bytes at the end of %s are not whole; ignored", rest, path.name)

    def _scan(self, number: int) -> None:
        """Index a segment up to its end or to the first frame that is not whole (a killed or still writing owner)."""
        path, offset = self._paths[number], self._read[number]
        if path.stat().st_size <= offset:
            return
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read()
        place = 0
        if offset == 0:
            if not data.startswith(_MAGIC):
                if len(data) >= len(_MAGIC):
                    log.warning("ledger: %s is no segment of this version; left alone", path.name)
                    self._read[number] = len(data)
                return
            place = len(_MAGIC)
        while place + _HEADER.size + _KEY <= len(data):
            length, crc = _HEADER.unpack_from(data, place)
            start = place + _HEADER.size
            if length < _KEY or start + length > len(data) or zlib.crc32(data[start : start + length]) != crc:
                break
            self._index.setdefault(data[start : start + _KEY], number << _OFFSET_BITS | (offset + place))
            place = start + length
        self._read[number] = offset + place

    def _keep_synced(self) -> None:
        while not self._closing.wait(_SYNC_S):
            self._sync()

    def _sync(self) -> None:
        with self._lock:
            file = self._files.get(self._own) if self._own is not None and self._unsynced else None
            self._unsynced = False
            file = None if file is None else os.dup(file)  # so that close() may come in between
        if file is not None:
            try:
                os.fsync(file)
            except OSError as error:
                self._failure = error
            finally:
                os.close(file)


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
