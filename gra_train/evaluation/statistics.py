"""Intervals: of a share, of a mean over tasks, of a paired difference, and over seeds.

scipy does the arithmetic of single shares and of seeds; resampling draws how often each question counts, which is the
bootstrap of a mean without copying data. Every function is deterministic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

RESAMPLING_SEED = 0
AVERAGE = "average"
"""The name of the mean over tasks, beside the tasks' own."""


class Estimate(NamedTuple):
    """A value with its interval. nan bounds: not measurable (n/a)."""

    value: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 or -1 when the interval lies wholly above or below 0, else 0."""
        return int(self.low > 0) - int(self.high < 0)


def share(successes: int, n: int, confidence: float = 0.95) -> Estimate:
    """A share of n with Wilson's score interval. Raises ValueError for n = 0: a missing score is missing, not 0."""
    from scipy.stats import binomtest

    if n <= 0:
        raise ValueError("no questions, no score")
    bounds = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return Estimate(successes / n, float(bounds.low), float(bounds.high))


def mean_of(parts: Sequence[Estimate]) -> Estimate:
    """The plain mean of independent estimates.

    The interval combines theirs by the method of variance estimates recovery (Zou and Donner 2008): distances from the
    values to the bounds add in squares, low and high apart, so that it is Wilson's own for a single part.
    """
    if not parts:
        raise ValueError("no tasks, no average")
    value = math.fsum(p.value for p in parts) / len(parts)
    below = math.sqrt(math.fsum((p.value - p.low) ** 2 for p in parts)) / len(parts)
    above = math.sqrt(math.fsum((p.high - p.value) ** 2 for p in parts)) / len(parts)
    return Estimate(value, value - below, value + above)


Answers = Mapping[str, Mapping[str, bool]]
"""task -> question_id -> correct."""


def paired_difference(
    ours: Sequence[Answers], theirs: Sequence[Answers], *, resamples: int = 10_000, confidence: float = 0.95
) -> Estimate:
    """Mean over tasks of (ours - theirs) on shared questions, with a percentile bootstrap interval.

    One pair of answer sheets per seed. Questions are resampled within their task; with several seeds, seeds are a
    second level: resampled too, each with the same resampled questions (the seeds answer one test set).
    Few seeds make a bootstrap over them too narrow: deviations of seeds are stretched by sqrt(S / (S - 1)). Resampling
    both levels errs on the wide side (it counts the noise that is neither the seed's nor the question's twice over).
    Raises ValueError when a task has no shared question.
    """
    import numpy as np

    if len(ours) != len(theirs) or not ours:
        raise ValueError(f"{len(ours)} and {len(theirs)} answer sheets cannot be paired")
    seeds = len(ours)
    rng = np.random.default_rng(RESAMPLING_SEED)
    seed_weights = rng.multinomial(seeds, [1 / seeds] * seeds, size=resamples) / seeds
    means, draws = [], np.zeros(resamples)
    tasks = [task for task in ours[0] if all(task in sheet for sheet in (*ours, *theirs))]
    for place, task in enumerate(tasks):
        shared = sorted(set.intersection(*(set(sheet[task]) for sheet in (*ours, *theirs))))
        if not shared:
            raise ValueError(f"no shared question in {task}")
        table = np.array(
            [[float(a[task][q]) - float(b[task][q]) for q in shared] for a, b in zip(ours, theirs, strict=True)]
        )
        means.append(table.mean())
        if seeds > 1:
            centre = table.mean(axis=0)
            table = centre + (table - centre) * math.sqrt(seeds / (seeds - 1))
        draws += _resample(rng, table, seed_weights, place)
    if not tasks:
        raise ValueError("no shared task")
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws / len(tasks), [tail, 1 - tail])
    return Estimate(math.fsum(means) / len(means), float(low), float(high))


MOST_WEIGHTS = 2**23
"""Weights of questions that are kept at a time for each task (32 MiB)."""


def _resample(rng: Any, table: Any, seed_weights: Any, place: int) -> Any:
    """Means of `table` (seeds, questions) under resampled questions and given seed weights (resamples, seeds).

    Questions with the same column are drawn together, by their number: the same distribution, and many times faster
    where columns are few (one seed has three). Several seeds can have as many as questions: then the questions of a
    task are drawn one by one, once for all the pairs of rows that answered them. place: the task's among the others,
    which has draws of its own.
    """
    import numpy as np

    columns, counts = np.unique(table, axis=1, return_counts=True)
    total, resamples = int(counts.sum()), len(seed_weights)
    if len(table) > 1 and total < 8 * len(counts) and total * resamples <= MOST_WEIGHTS:
        return (seed_weights * (_weights(total, resamples, place) @ table.T.astype(np.float32))).sum(axis=1)
    drawn = rng.multinomial(total, counts / total, size=resamples) / total
    return ((seed_weights @ columns) * drawn).sum(axis=1)


@lru_cache(maxsize=8)
def _weights(questions: int, resamples: int, place: int) -> Any:
    """How much each question counts in each resample (resamples, questions): how often it was drawn, over their sum."""
    import numpy as np

    rng = np.random.default_rng([RESAMPLING_SEED, place])
    drawn = rng.integers(questions, size=(resamples, questions)) + np.arange(resamples)[:, None] * questions
    times = np.bincount(drawn.ravel(), minlength=resamples * questions).reshape(resamples, questions)
    return times.astype(np.float32) / questions


def mean(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """Mean of independent values with Student's t interval; nan bounds for a single one. Raises ValueError for none."""
    from scipy.stats import sem, t

    if not values:
        raise ValueError("no values, no mean")
    value = math.fsum(values) / len(values)
    if len(values) == 1:
        return Estimate(value, math.nan, math.nan)
    margin = float(sem(values)) * float(t.ppf((1 + confidence) / 2, len(values) - 1))
    return Estimate(value, value - margin, value + margin)


def over_seeds(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """Mean of one value per seed (see mean)."""
    return mean(values, confidence)
