"""How varied a set of texts is: distinct n-grams, spread of embeddings, mix of domains.

All three depend on how many rows there are, so sets are compared on equally many.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

_WORD = re.compile(r"\w+|[^\w\s]")


def distinct(texts: Sequence[str], n: int) -> float | None:
    """Distinct-n (Li et al. 2016): different n-grams of words over all n-grams. None where no text has n words."""
    grams: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        words = _WORD.findall(text.lower())
        grams.update(zip(*(words[i:] for i in range(n)), strict=False))
    return round(len(grams) / grams.total(), 6) if grams else None


def spread(vectors: Any) -> dict[str, float] | None:
    """Of unit vectors [n, dimensions]: mean cosine distance over all pairs, and mean distance to the nearest other.

    None for fewer than two vectors.
    """
    import numpy as np

    n = len(vectors)
    if n < 2:
        return None
    vectors = np.asarray(vectors, np.float64)
    similar = vectors @ vectors.T
    np.fill_diagonal(similar, -np.inf)
    nearest = similar.max(axis=1)
    np.fill_diagonal(similar, 0.0)
    pairs = similar.sum() / (n * (n - 1))
    return {"mean": round(float(1 - pairs), 6), "nearest": round(float(1 - nearest.mean()), 6)}


def effective_number(counts: Mapping[str, int]) -> float | None:
    """exp of Shannon's entropy: how many equally frequent kinds would be as mixed as these (Hill 1973)."""
    import numpy as np
    from scipy.stats import entropy

    return round(float(np.exp(entropy(list(counts.values())))), 6) if counts else None
