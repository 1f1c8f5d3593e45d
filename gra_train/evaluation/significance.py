"""Whether two models differ on the questions that both answered, and what a comparison of this size could have seen."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from gra_train import garbage
from gra_train.evaluation.statistics import AVERAGE, RESAMPLING_SEED, Answers

K = TypeVar("K", bound=Hashable)


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


def holm(p_values: Mapping[K, float]) -> dict[K, float]:
    """Holm's step-down correction over a family of tests (Holm 1979): adjusted p-values by name."""
    from statsmodels.stats.multitest import multipletests

    if not p_values:
        return {}
    with garbage.passed_over():  # statsmodels collects each time
        adjusted = multipletests(list(p_values.values()), method="holm")[1]
    return dict(zip(p_values, map(float, adjusted), strict=True))


def detectable(n: float, disagreement: float, *, confidence: float = 0.95, power: float = 0.8) -> float:
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


def detectable_over_seeds(values: Sequence[float], *, confidence: float = 0.95, power: float = 0.8) -> float:
    """The smallest true mean that Student's t-test over as many seeds finds with the given power.

    values: one difference per seed; their standard deviation is taken for the true one, which few seeds know badly.
    nan for fewer than two, or where they are all equal.
    """
    from scipy.stats import tstd
    from statsmodels.stats.power import TTestPower

    if len(values) < 2 or max(values) - min(values) < 1e-12:
        return math.nan
    effect = TTestPower().solve_power(nobs=len(values), alpha=1 - confidence, power=power)
    return float(effect) * float(tstd(values))


def mean_test(tests: Sequence[McNemar], *, resamples: int = 10_000) -> float:
    """p, two-sided, of the plain mean over tasks of (won - lost) / n, by drawing from what no difference would give.

    Without a difference every question that the two answer differently goes either way (the permutation test of paired
    answers: won ~ Binomial(won + lost, 1/2) in each task). Of tasks of equal size it is McNemar's test of all questions
    together. It never falls below 2 / (resamples + 1).
    """
    import numpy as np
    from scipy.stats import monte_carlo_test

    differing = np.array([test.won + test.lost for test in tests])
    sizes = np.array([test.n for test in tests])
    rng = np.random.default_rng(RESAMPLING_SEED)

    def mean(won: Any, axis: int) -> Any:
        return ((2 * won - differing) / sizes).mean(axis=axis)

    def draw(size: tuple[int, ...]) -> Any:
        return rng.binomial(differing, 0.5, size=size)

    won = np.array([test.won for test in tests])
    found = monte_carlo_test(won, draw, mean, vectorized=True, n_resamples=resamples)
    return float(min(1.0, found.pvalue))


class Verdict(NamedTuple):
    """What is known of a difference on one task, or on the mean of tasks (won, lost and n are then sums).

    p: of the test alone; adjusted: after Holm's correction over the table; detectable: smallest true difference that
    this comparison would find with a power of 80% (nan where nothing disagrees).
    """

    won: int
    lost: int
    n: int
    p: float
    adjusted: float
    detectable: float


class Tally(NamedTuple):
    """Benchmarks on which ours is better, undecided and worse, at the family-wise level of the correction."""

    wins: int
    ties: int
    losses: int


def verdicts(
    sheets: Mapping[str, Answers], baseline: Answers, *, confidence: float = 0.95, resamples: int = 10_000
) -> dict[str, dict[str, Verdict]]:
    """label -> task -> verdict, with `average` where a sheet answers exactly the baseline's tasks.

    Holm's correction is over two families: every single task of every sheet, and every average.
    """
    tests = {
        label: {task: mcnemar(sheet[task], baseline[task]) for task in sheet if task in baseline}
        for label, sheet in sheets.items()
    }
    complete = [label for label, sheet in sheets.items() if sheet and set(sheet) == set(baseline)]
    single = holm({(label, task): test.p for label, of in tests.items() for task, test in of.items()})
    means = {label: mean_test(list(tests[label].values()), resamples=resamples) for label in complete}
    together = holm(means)
    found: dict[str, dict[str, Verdict]] = {}
    for label, of in tests.items():
        found[label] = {
            task: Verdict(*test, single[label, task], _detectable([test], confidence)) for task, test in of.items()
        }
        if label in means:
            won, lost, n = (sum(values) for values in zip(*(test[:3] for test in of.values()), strict=True))
            limit = _detectable(list(of.values()), confidence)
            found[label][AVERAGE] = Verdict(won, lost, n, means[label], together[label], limit)
    return found


def tally(found: Mapping[str, Verdict], *, confidence: float = 0.95) -> Tally:
    """Wins, ties and losses over the single tasks."""
    single = [one for task, one in found.items() if task != AVERAGE]
    decided = [one for one in single if one.adjusted <= 1 - confidence]
    wins = sum(one.won > one.lost for one in decided)
    return Tally(wins, len(single) - len(decided), len(decided) - wins)


def _detectable(tests: Sequence[McNemar], confidence: float) -> float:
    """Of a mean of tasks: that of one task with the same mean disagreement and the same variance of the mean."""
    shares = [(test.won + test.lost) / test.n for test in tests]
    disagreement = math.fsum(shares) / len(tests)
    if not disagreement:
        return math.nan
    variance = math.fsum(share / test.n for share, test in zip(shares, tests, strict=True)) / len(tests) ** 2
    return detectable(disagreement / variance, disagreement, confidence=confidence)
