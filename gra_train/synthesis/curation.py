"""Near-duplicate removal after a round: greedy, best first, against everything in the pool (GRA, section 3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gra_train.records import Sample
from gra_train.schema import Dedup
from gra_train.synthesis.candidate import Candidate

if TYPE_CHECKING:
    import numpy as np

BLOCK = 1024
"""Rows compared at a time: memory is BLOCK x BLOCK cosines, never n x n."""


@dataclass(frozen=True, slots=True)
class Twin:
    """The pool item (its id) that is nearest to a text, and their cosine."""

    id: str
    cosine: float


@dataclass(slots=True)
class Index:
    """Unit vectors with ids, in blocks; grows, never shrinks. Comparison is exact."""

    ids: list[str] = field(default_factory=list)
    _blocks: list[np.ndarray] = field(default_factory=list)

    def add(self, ids: Sequence[str], vectors: np.ndarray) -> None:
        """Append n vectors [n, dimensions]; the last block is filled before a new one is begun."""
        import numpy as np

        assert len(ids) == len(vectors), "one id for each vector"
        if not len(ids):
            return
        if self._blocks and len(self._blocks[-1]) < BLOCK:
            vectors = np.concatenate([self._blocks.pop(), vectors])
        self._blocks += [vectors[i : i + BLOCK] for i in range(0, len(vectors), BLOCK)]
        self.ids += ids

    def nearest(self, vectors: np.ndarray) -> list[Twin | None]:
        """For each of at most BLOCK vectors, the item of largest cosine (the earliest of equals); None if empty."""
        import numpy as np

        best: Any = np.full(len(vectors), -2.0, np.float32)
        where: Any = np.zeros(len(vectors), np.int64)
        start = 0
        for block in self._blocks:
            cosines = vectors @ block.T
            column = cosines.argmax(axis=1)
            value = cosines[np.arange(len(vectors)), column]
            better = value > best
            best[better], where[better] = value[better], column[better] + start
            start += len(block)
        return [Twin(self.ids[i], float(v)) if v >= -1.5 else None for i, v in zip(where, best, strict=True)]


def greedy(ids: Sequence[str], vectors: np.ndarray, pool: Index, *, threshold: float) -> list[Twin | None]:
    """Which of the texts to drop, taken in the given order: for each its twin, or None where it is kept.

    A text is kept if its largest cosine to anything in the pool, or to a text kept before it, is below `threshold`.
    Equal to the exact greedy result; block by block, so that memory is linear. `pool` is not changed.
    """
    import numpy as np

    kept = Index()
    twins: list[Twin | None] = []
    for start in range(0, len(ids), BLOCK):
        block = vectors[start : start + BLOCK]
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


def best_first(candidates: Sequence[Candidate]) -> list[Candidate]:
    """By mu, descending; ties, and candidates without a review, by index."""
    return sorted(candidates, key=lambda c: (-(c.mu or 0.0), c.index))


def text_of(row: Sample | Candidate, dedup: Dedup) -> str:
    """What is embedded of a row."""
    if dedup.text == "both":
        return f"{row.instruction}\n{row.response}"
    return row.instruction if dedup.text == "instruction" else row.response
