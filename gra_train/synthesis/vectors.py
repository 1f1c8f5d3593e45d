"""Vectors on disk: what curation compares with grows with the data set, and memory should not."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np

BLOCK = 1024
"""Rows in memory at a time."""


class Vectors(Protocol):
    """n vectors of one size, of which some are taken by their places: an array, or `Stored`."""

    def __getitem__(self, places: list[int], /) -> np.ndarray: ...


class Stored:
    """Vectors [n, dimensions], appended to an unnamed file in `folder` and read back bit for bit.

    100,000 sentence vectors take 150 MB, those of `embed.hashing` 800. One thread may append while another reads what
    it knows to be there. The file is gone with the object.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder, self._file, self._count = folder, -1, 0
        self._dtype: Any = None
        self._width = self._stride = 0

    def __len__(self) -> int:
        return self._count

    def add(self, vectors: np.ndarray) -> range:
        """Append n vectors; their places."""
        import numpy as np

        places = range(self._count, self._count + len(vectors))
        if places:
            self._prepare(vectors)
            data = memoryview(np.ascontiguousarray(vectors)).cast("B")
            written = 0
            while written < len(data):
                written += os.pwrite(self._file, data[written:], places.start * self._stride + written)
            self._count = places.stop
        return places

    def __getitem__(self, places: Sequence[int]) -> np.ndarray:
        """The vectors at n places -> [n, dimensions]."""
        import numpy as np

        rows = np.empty((len(places), self._width), self._dtype)
        for row, place in zip(rows, places, strict=True):
            self._read(row, int(place))
        return rows

    def blocks(self, first: int = 0) -> Iterator[np.ndarray]:
        """The vectors from place `first` on, in their order, BLOCK at a time."""
        import numpy as np

        for start in range(first, self._count, BLOCK):
            block = np.empty((min(BLOCK, self._count - start), self._width), self._dtype)
            self._read(block, start)
            yield block

    def _prepare(self, vectors: np.ndarray) -> None:
        if self._file < 0:
            self._dtype, self._width = vectors.dtype, vectors.shape[1]
            self._stride = self._width * vectors.dtype.itemsize
            file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115
            self._file = file.fileno()
            weakref.finalize(self, file.close)
        assert (vectors.dtype, vectors.shape[1]) == (self._dtype, self._width), "vectors of one encoder"

    def _read(self, into: np.ndarray, place: int) -> None:
        if os.preadv(self._file, [into.data], place * self._stride) != into.nbytes:
            raise OSError(f"{into.nbytes} bytes of vectors cannot be read back")
