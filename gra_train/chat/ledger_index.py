"""Where each key of the ledger is: sorted arrays of 24 bytes per key, and a dictionary of what is new since.

The arrays are kept in one file beside the segments, so that a ledger of a million rows, or of thousands of segments,
opens without reading them. The file is only a shortcut: it is believed if every segment that it names is there and at
least as long as it was, each record is checked again when it is read, and without it the segments are scanned.
"""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import orjson

NAME = "index"
OFFSET_BITS = 44
"""A place is segment number and offset in one integer: up to a million segments of up to 16 TB."""
_MAGIC = b"gra-train ledger index 2\n"
_HEADER = struct.Struct("<II")  # CRC-32 of all that follows, length of the JSON part


@dataclass(frozen=True)
class Sorted:
    """Keys in order as two uint64 columns [n] (first and last 8 bytes), and their places uint64 [n]."""

    high: Any
    low: Any
    place: Any

    @classmethod
    def empty(cls) -> Sorted:
        return cls(*(np.zeros(0, np.uint64) for _ in range(3)))

    def __len__(self) -> int:
        return len(self.place)

    def find(self, key: bytes) -> int | None:
        if not len(self):
            return None
        high, low = np.uint64(int.from_bytes(key[:8], "big")), int.from_bytes(key[8:], "big")
        at = int(self.high.searchsorted(high))
        while at < len(self) and self.high[at] == high:
            if int(self.low[at]) == low:
                return int(self.place[at])
            at += 1
        return None

    def merged(self, new: Mapping[bytes, int]) -> Sorted:
        """With `new`, whose places win over those here."""
        if not new:
            return self
        columns = np.frombuffer(b"".join(new), ">u8").reshape(-1, 2).astype(np.uint64)
        places = np.fromiter(new.values(), np.uint64, len(new))
        high, low = np.concatenate([columns[:, 0], self.high]), np.concatenate([columns[:, 1], self.low])
        order = np.lexsort((low, high))  # stable: of equal keys the new one comes first
        high, low = high[order], low[order]
        first: Any = np.ones(len(order), bool)
        first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
        return Sorted(high[first], low[first], np.concatenate([places, self.place])[order][first])


def save(folder: Path, keys: Sorted, segments: Sequence[tuple[str, int]]) -> None:
    """Write the index file and rename it into place. segments: (name, bytes indexed), by number. Raises OSError."""
    head = orjson.dumps({"segments": segments, "rows": len(keys)})
    # piece by piece: of a million rows one copy more is 26 MB
    pieces = [head, *(np.ascontiguousarray(column, "<u8").data for column in (keys.high, keys.low, keys.place))]
    crc = reduce(lambda sum, piece: zlib.crc32(piece, sum), pieces, 0)
    temporary = folder / f"{NAME}.{uuid.uuid4().hex[:12]}.tmp"
    try:
        with temporary.open("wb") as file:
            file.write(_MAGIC + _HEADER.pack(crc, len(head)))
            for piece in pieces:
                file.write(piece)
        temporary.replace(folder / NAME)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def load(folder: Path, sizes: Mapping[str, int]) -> tuple[Sorted, list[tuple[str, int]]] | None:
    """Keys and segments as they were saved, or None if there is no file that fits segments of these sizes."""
    try:
        data = (folder / NAME).read_bytes()
        if not data.startswith(_MAGIC):
            return None
        start = len(_MAGIC) + _HEADER.size
        crc, length = _HEADER.unpack_from(data, len(_MAGIC))
        body = memoryview(data)[start:]
        if zlib.crc32(body) != crc:
            return None
        head = orjson.loads(body[:length])
    except (OSError, struct.error, orjson.JSONDecodeError):
        return None
    segments = [(str(name), int(size)) for name, size in head["segments"]]
    if any(sizes.get(name, -1) < size for name, size in segments):
        return None
    columns = np.frombuffer(body[length:], "<u8").reshape(3, head["rows"]).astype(np.uint64)  # a copy: aligned
    return Sorted(*columns), segments
