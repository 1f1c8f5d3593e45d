"""Cells of vectors: which few of very many are near a given one (an inverted file of faiss)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from gra_train.synthesis.vectors import Stored

if TYPE_CHECKING:
    import numpy as np

SMALLEST = 1024
"""Fewer vectors than this are not worth sorting."""

CELL, PROBES, NEIGHBOURS = 64, 32, 16
"""Vectors in a cell when it is made, cells that a search looks into, candidates that it returns."""

SAMPLE, STEPS = 16, 2
"""Vectors that a centre is learned from, steps of k-means: more finds hardly more copies (benchmarks/dedup.py)."""


class Cells:
    """Unit vectors, as 8-bit integers, in cells around centres that k-means learned from the first `size` of them.

    Its owner makes new ones whenever the vectors have doubled (`size_for`), so that a search costs about the same
    number of comparisons with vectors at any size, and the centres, which every search is compared with, are
    n / 64 to n / 128. One thread: the same vectors in the same order give the same cells.
    """

    def __init__(self, vectors: Stored, size: int) -> None:
        import faiss

        faiss.omp_set_num_threads(1)
        self.size = size
        count = size // CELL
        training = vectors[range(0, size, max(size // (SAMPLE * count), 1))]
        made = faiss.index_factory(training.shape[1], f"IVF{count},SQ8", faiss.METRIC_INNER_PRODUCT)
        self._index = cast(Any, made)  # typed as the base class of all indexes
        self._index.nprobe = PROBES
        learn = self._index.cp  # how k-means learns
        learn.niter, learn.spherical = STEPS, True
        learn.min_points_per_centroid, learn.max_points_per_centroid = 1, SAMPLE
        self._index.train(training)

    def add(self, vectors: np.ndarray, places: np.ndarray) -> None:
        """n vectors [n, dimensions] with their places [n]."""
        self._index.add_with_ids(vectors, places)

    def near(self, vectors: np.ndarray) -> np.ndarray:
        """For n vectors, places of the NEIGHBOURS nearest in the nearest cells -> [n, NEIGHBOURS]; -1: no more."""
        return self._index.search(vectors, NEIGHBOURS)[1]


def size_for(count: int) -> int:
    """Of how many of `count` vectors cells are to be made: the last doubling of SMALLEST; 0 if there are too few."""
    return SMALLEST << (count // SMALLEST).bit_length() - 1 if count >= SMALLEST else 0
