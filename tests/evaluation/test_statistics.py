"""Intervals against values worked out by hand."""

from __future__ import annotations

import math
import random

import pytest

from gra_train.evaluation import statistics
from gra_train.evaluation.statistics import Estimate, mean_of, over_seeds, paired_difference, share


def sheet(**tasks: str) -> dict[str, dict[str, bool]]:
    """task="1101" -> answers."""
    return {task: {str(i): c == "1" for i, c in enumerate(text)} for task, text in tasks.items()}


def test_wilson_by_hand() -> None:
    """3 of 10: centre (0.3 + z2/20) / (1 + z2/10), half-width z sqrt(0.021 + z2/400) / (1 + z2/10), z = 1.959964."""
    z2 = 1.959963984540054**2
    centre, half = (0.3 + z2 / 20) / (1 + z2 / 10), math.sqrt(z2 * (0.3 * 0.7 / 10 + z2 / 400)) / (1 + z2 / 10)
    assert share(3, 10) == pytest.approx((0.3, centre - half, centre + half))
    assert share(0, 5).low == 0
    assert share(0, 5).high > 0.4, "none of five is not never"
    with pytest.raises(ValueError, match="no questions"):
        share(0, 0)


def test_mean_of_tasks_by_hand() -> None:
    """Bounds at distances 0.3 and 0.4 combine to sqrt(0.09 + 0.16) / 2 = 0.25."""
    found = mean_of([Estimate(0.5, 0.2, 0.6), Estimate(0.7, 0.3, 0.8)])
    assert found == pytest.approx((0.6, 0.35, 0.6 + math.sqrt(0.02) / 2))
    one = share(3, 10)
    assert mean_of([one]) == pytest.approx(one)


def test_paired_difference_is_exact_where_it_can_be() -> None:
    same = sheet(a="1100", b="10")
    assert paired_difference([same], [same]) == (0, 0, 0)
    better = sheet(a="1111", b="11")
    worse = sheet(a="0000", b="00")
    assert paired_difference([better], [worse]) == (1, 1, 1)
    # task a: +1 on half, task b: 0: mean of tasks 0.25, whatever the tasks' sizes
    assert paired_difference([sheet(a="11" * 50, b="1")], [sheet(a="10" * 50, b="1")]).value == pytest.approx(0.25)


def test_paired_difference_against_the_binomial() -> None:
    """With gains only, n resampled questions hold Binomial(n, p) gains: 95% of Binomial(100, 0.2) is 12 to 28."""
    ours, theirs = sheet(a="1" * 100), sheet(a="0" * 20 + "1" * 80)
    found = paired_difference([ours], [theirs], resamples=20_000)
    assert found.value == pytest.approx(0.2)
    assert found.low == pytest.approx(0.12, abs=0.011)
    assert found.high == pytest.approx(0.28, abs=0.011)
    assert found.sign == 1
    assert paired_difference([theirs], [ours]).sign == -1


def test_only_shared_questions_count_and_none_is_an_error() -> None:
    assert paired_difference([sheet(a="111", c="1")], [sheet(a="11")]).value == 0
    with pytest.raises(ValueError, match="no shared task"):
        paired_difference([sheet(a="1")], [sheet(b="1")])
    with pytest.raises(ValueError, match="cannot be paired"):
        paired_difference([sheet(a="1")], [])


def test_pairing_is_narrower_than_independence() -> None:
    rng = random.Random(0)
    theirs = "".join(rng.choice("01") for _ in range(400))
    ours = "".join("1" if c == "1" or rng.random() < 0.1 else "0" for c in theirs)
    found = paired_difference([sheet(a=ours)], [sheet(a=theirs)])
    k, m = ours.count("1"), theirs.count("1")
    apart = math.hypot(k / 400 - share(k, 400).low, share(m, 400).high - m / 400)
    assert found.high - found.low < apart


def test_seeds_are_a_second_level() -> None:
    """Two seeds, two questions, enumerated: seed means 0 and 1, no spread of questions.

    Stretched by sqrt(2), their deviations are -/+ 0.7071; both draws are the same seed half the time, so that the 95%
    interval reaches 0.5 -/+ 0.7071.
    """
    ours, theirs = [sheet(a="00"), sheet(a="11")], [sheet(a="00"), sheet(a="00")]
    found = paired_difference(ours, theirs)
    assert found == pytest.approx((0.5, 0.5 - math.sqrt(0.5), 0.5 + math.sqrt(0.5)))
    steady = paired_difference([sheet(a="10" * 50)] * 5, [sheet(a="00" * 50)] * 5)
    once = paired_difference([sheet(a="10" * 50)], [sheet(a="00" * 50)])
    assert steady == pytest.approx(once, abs=0.02), "seeds that agree add nothing: the questions are the same"


def test_coverage_over_seeds_and_questions() -> None:
    """Simulated with known truth: the 90% interval holds it in at least 85% of the trials (resampling both levels at
    once counts what seeds and questions share more than once, so it errs on the wide side)."""
    rng = random.Random(1)
    held, widths = 0, []
    for _ in range(120):
        levels = [0.15 + rng.gauss(0, 0.1) for _ in range(5)]
        ease = [rng.gauss(0.4, 0.3) for _ in range(80)]
        ours = [{"a": {str(q): rng.random() < e + level for q, e in enumerate(ease)}} for level in levels]
        theirs = [{"a": {str(q): rng.random() < e for q, e in enumerate(ease)}} for _ in levels]
        truth = sum(min(max(e + 0.15, 0), 1) - min(max(e, 0), 1) for e in ease) / 80
        found = paired_difference(ours, theirs, resamples=400, confidence=0.9)
        held += found.low <= truth <= found.high
        widths.append(found.high - found.low)
    assert held / 120 >= 0.85
    assert sum(widths) / 120 < 0.3


def test_questions_one_by_one_and_by_their_number_make_the_same_interval(monkeypatch) -> None:
    """Two ways to draw the same, up to chance. One by one they are those of the pair turned round, too."""
    rng = random.Random(2)
    ours, theirs = (
        [{t: {str(q): rng.random() < p for q in range(150)} for t in "ab"} for _ in range(5)] for p in (0.6, 0.5)
    )
    one_by_one, turned = paired_difference(ours, theirs), paired_difference(theirs, ours)
    monkeypatch.setattr(statistics, "MOST_WEIGHTS", 0)
    by_number = paired_difference(ours, theirs)
    assert turned == pytest.approx((-one_by_one.value, -one_by_one.high, -one_by_one.low))
    assert one_by_one == pytest.approx(by_number, abs=0.004)
    assert one_by_one != by_number


def test_students_t_over_seeds_by_hand() -> None:
    """1, 2, 3: mean 2, standard error 1/sqrt(3), t(0.975, 2) = 4.302653."""
    assert over_seeds([1.0, 2.0, 3.0]) == pytest.approx((2, 2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)))
    single = over_seeds([0.4])
    assert single.value == 0.4
    assert math.isnan(single.low)
    assert single.sign == 0
