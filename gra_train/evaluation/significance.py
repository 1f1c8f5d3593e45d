"""Whether two models differ on the questions that both answered, and what a comparison of this size could have seen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from gra_train.evaluation.statistics import Answers


class McNemar(NamedTuple):
    """won: questions that ours has right and theirs wrong; lost: the reverse. p: exact, two-sided."""

    won: int
    lost: int
    n: int
    p: float


def mcnemar(ours: Mapping[str, bool], theirs: Mapping[str, bool]) -> McNemar:
    """McNemar's exact test on the shared questions (McNemar 1947): are wins and losses equally likely?

    Raises ValueError where no question is shared.
    """
    from statsmodels.stats.contingency_tables import mcnemar as test

    shared = ours.keys() & theirs.keys()
    if not shared:
        raise ValueError("no shared question")
    won = sum(ours[q] and not theirs[q] for q in shared)
    lost = sum(theirs[q] and not ours[q] for q in shared)
    p = test([[0, won], [lost, 0]], exact=True).pvalue if won + lost else 1.0
    return McNemar(won, lost, len(shared), float(p))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down correction over a family of tests (Holm 1979): adjusted p-values by name."""
    from statsmodels.stats.multitest import multipletests

    if not p_values:
        return {}
    adjusted = multipletests(list(p_values.values()), method="holm")[1]
    return dict(zip(p_values, map(float, adjusted), strict=True))


def detectable(n: int, disagreement: float, *, confidence: float = 0.95, power: float = 0.8) -> float:
    """The smallest true difference that a paired comparison on n questions finds with the given power.

    disagreement: share of the questions that exactly one of the two has right (observed, or a guess). Normal
    approximation of McNemar's test (Miettinen 1968): (z_a sqrt(d) + z_b sqrt(d - D^2)) / sqrt(n) = D, solved for D.
    nan where nothing disagrees.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    if n <= 0 or disagreement <= 0:
        return math.nan
    alpha, beta = norm.ppf((1 + confidence) / 2), norm.ppf(power)

    def lacking(difference: float) -> float:
        rest = math.sqrt(max(0.0, disagreement - difference**2))
        return (alpha * math.sqrt(disagreement) + beta * rest) / math.sqrt(n) - difference

    if lacking(disagreement) > 0:
        return disagreement  # not even if every disagreement went one way
    return float(brentq(lacking, 0.0, disagreement))


class Tally(NamedTuple):
    """Benchmarks on which ours is better, undecided and worse, at the family-wise level of the correction."""

    wins: int
    ties: int
    losses: int


def compare(
    ours: Answers, theirs: Answers, *, confidence: float = 0.95
) -> tuple[dict[str, McNemar], dict[str, float], Tally]:
    """(tests by task, Holm-adjusted p-values, tally) over the tasks that both sheets have."""
    tests = {task: mcnemar(ours[task], theirs[task]) for task in ours if task in theirs}
    adjusted = holm({task: test.p for task, test in tests.items()})
    decided = {task: test for task, test in tests.items() if adjusted[task] <= 1 - confidence}
    wins = sum(test.won > test.lost for test in decided.values())
    return tests, adjusted, Tally(wins, len(tests) - len(decided), len(decided) - wins)
