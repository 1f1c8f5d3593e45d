"""Near-duplicate removal after a round: greedy, best first, against everything in the pool (GRA, section 3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from gra_train.records import Sample
from gra_train.schema import Dedup
from gra_train.synthesis.candidate import Candidate
from gra_train.synthesis.cells import Cells, size_for
from gra_train.synthesis.vectors import BLOCK, Stored, Vectors

if TYPE_CHECKING:
    import numpy as np

EXACT_BELOW = 100_000
"""Below this many vectors comparing with all of them takes half a minute at most, and is exact."""


@dataclass(frozen=True, slots=True)
class Twin:
    """The pool item (its id) that is nearest to a text, and their cosine."""

    id: str
    cosine: float


@dataclass(slots=True)
class Index:
    """Unit vectors with ids; grows, never shrinks. Exact below `exact_below` vectors, from there on by cells.

    Cells only propose neighbours: cosines are computed from the float32 vectors. What they propose is a function of
    the vectors and their order, however they were handed over. The vectors stand in an unnamed file in `folder`.
    """

    exact_below: int = EXACT_BELOW
    folder: Path | None = None
    ids: list[str] = field(default_factory=list)
    _vectors: Stored = field(init=False)
    _cells: Cells | None = None
    _sorted: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._vectors = Stored(self.folder)

    def add(self, ids: Sequence[str], vectors: np.ndarray) -> None:
        """Append n vectors [n, dimensions]."""
        assert len(ids) == len(vectors), "one id for each vector"
        if not len(ids):
            return
        known = len(self.ids)
        self._vectors.add(vectors)
        self.ids += ids
        size = size_for(len(self.ids)) if len(self.ids) >= self.exact_below else 0
        if size and (self._cells is None or size > self._cells.size):
            self._cells = None  # its memory first
            self._cells, known = Cells(self._vectors, size), 0
            self._sorted.clear()
        if self._cells is not None:
            for block in self._vectors.blocks(known):
                self._sort(known, block)
                known += len(block)

    def _sort(self, start: int, vectors: np.ndarray) -> None:
        """Put n vectors into cells, each text once: many equal ones would be all that a search returns."""
        import numpy as np

        assert self._cells is not None
        fresh = []
        for i, row in enumerate(np.rint(vectors * 127).astype(np.int8)):
            seen = hash(row.tobytes())
            if seen not in self._sorted:
                self._sorted.add(seen)
                fresh.append(i)
        self._cells.add(vectors[fresh], np.asarray(fresh, np.int64) + start)

    def nearest(self, vectors: np.ndarray) -> list[Twin | None]:
        """For each of at most BLOCK vectors, the item of largest cosine (the earliest of equals); None if empty.

        By cells: the largest cosine among the items that they propose, which may miss the nearest one.
        """
        if not self.ids:
            return [None] * len(vectors)
        if self._cells is None:
            where, best = self._compare(vectors)
        else:
            where, best = self._propose(self._cells.near(vectors), vectors)
        return [Twin(self.ids[i], float(v)) for i, v in zip(where, best, strict=True)]

    def _compare(self, vectors: np.ndarray) -> tuple[Any, Any]:
        """(place [n], cosine [n]) of the nearest item, by comparing with every item."""
        import numpy as np

        best: Any = np.full(len(vectors), -2.0, np.float32)
        where: Any = np.zeros(len(vectors), np.int64)
        start = 0
        for block in self._vectors.blocks():
            cosines = vectors @ block.T
            column = cosines.argmax(axis=1)
            value = cosines[np.arange(len(vectors)), column]
            better = value > best
            best[better], where[better] = value[better], column[better] + start
            start += len(block)
        return where, best

    def _propose(self, places: np.ndarray, vectors: np.ndarray) -> tuple[Any, Any]:
        """(place [n], cosine [n]) of the nearest of the items at the places [n, k] (-1: none)."""
        import numpy as np

        keys = np.sort(np.maximum(places, 0), axis=1)  # the earliest of equals first; for none, item 0
        items = self._vectors[keys.ravel()]
        cosines = np.einsum("nd,nkd->nk", vectors, items.reshape(*keys.shape, -1))
        column = cosines.argmax(axis=1)
        rows = np.arange(len(vectors))
        return keys[rows, column], cosines[rows, column]


def greedy(
    ids: Sequence[str], vectors: Vectors, pool: Index, *, threshold: float, places: Sequence[int] | None = None
) -> list[Twin | None]:
    """Which of the texts to drop, taken in the given order: for each its twin, or None where it is kept.

    places: where in `vectors` each text's vector is (None: in the same order).

    A text is kept if its largest cosine to anything in the pool, or to a text kept before it, is below `threshold`.
    Equal to the exact greedy result while pool and kept rows are each fewer than `pool.exact_below`; beyond that a row
    may be kept whose twin the cells did not propose. Block by block, so that memory is linear. `pool` is not changed.
    """
    import numpy as np

    kept = Index(pool.exact_below, pool.folder)
    where = list(range(len(ids)) if places is None else places)
    twins: list[Twin | None] = []
    for start in range(0, len(ids), BLOCK):  # memory is BLOCK x BLOCK cosines, never n x n
        block = vectors[where[start : start + BLOCK]]
        outside = [_nearer(a, b) for a, b in zip(pool.nearest(block), kept.nearest(block), strict=True)]
        inside = block @ block.T
        chosen: list[int] = []
        for row, twin in enumerate(outside):
            if chosen:
                column = chosen[int(np.argmax(inside[row, chosen]))]
                twin = _nearer(twin, Twin(ids[start + column], float(inside[row, column])))
            drop = twin is not None and twin.cosine >= threshold
            twins.append(twin if drop else None)
            if not drop:
                chosen.append(row)
        kept.add([ids[start + i] for i in chosen], block[chosen])
    return twins


def _nearer(a: Twin | None, b: Twin | None) -> Twin | None:
    return b if a is None or (b is not None and b.cosine > a.cosine) else a


class Ranked(Protocol):
    """What is sorted by review."""

    @property
    def index(self) -> int: ...
    @property
    def mu(self) -> float | None: ...


R = TypeVar("R", bound=Ranked)


def best_first(candidates: Sequence[R]) -> list[R]:
    """By mu, descending; ties, and candidates without a review, by index."""
    return sorted(candidates, key=lambda c: (-(c.mu or 0.0), c.index))


def text_of(row: Sample | Candidate, dedup: Dedup) -> str:
    """What is embedded of a row."""
    if dedup.text == "both":
        return f"{row.instruction}\n{row.response}"
    return row.instruction if dedup.text == "instruction" else row.response
