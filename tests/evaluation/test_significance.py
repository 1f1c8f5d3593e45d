"""Tests and corrections against cases worked by hand."""

import math
import random

import pytest

from gra_train.evaluation.significance import (
    Tally,
    Verdict,
    detectable,
    detectable_over_seeds,
    holm,
    mcnemar,
    mean_test,
    tally,
    verdicts,
)


def sheet(right, n=20):
    return {f"q{i}": i in right for i in range(n)}


def test_mcnemar_by_hand():
    """8 wins, 2 losses: 2 * (C(10,0) + C(10,1) + C(10,2)) / 2^10 = 112/1024."""
    found = mcnemar(sheet(range(8)), sheet([18, 19]))
    assert found[:3] == (8, 2, 20)
    assert found.p == pytest.approx(112 / 1024)
    assert mcnemar(sheet([1]), sheet([1])).p == 1
    assert mcnemar(sheet(range(6)), sheet([])).p == pytest.approx(2 / 64)
    with pytest.raises(ValueError, match="no shared question"):
        mcnemar({"a": True}, {"b": True})


def test_only_shared_questions_count():
    assert mcnemar(sheet([0, 15], 20), sheet([], 10))[:3] == (1, 0, 10)


def test_holm_by_hand():
    """0.01 * 3, then max(0.03, 0.02 * 2), then max(0.04, 0.03)."""
    assert holm({"b": 0.02, "a": 0.01, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.04, "c": 0.04})
    assert holm({}) == {}


def test_detectable_difference_is_found_with_that_power():
    """By simulation: a true difference of that size is significant in about 80% of comparisons."""
    n, disagreement = 300, 0.3
    difference = detectable(n, disagreement)
    assert difference == pytest.approx(2.8 * math.sqrt(disagreement / n), rel=0.05)
    rng, found = random.Random(0), 0
    for _ in range(400):
        ours, theirs = {}, {}
        for i in range(n):
            u = rng.random()
            ours[str(i)] = u < (disagreement + difference) / 2
            theirs[str(i)] = (disagreement + difference) / 2 <= u < disagreement
        found += mcnemar(ours, theirs).p <= 0.05
    assert 0.7 <= found / 400 <= 0.87
    assert math.isnan(detectable(100, 0.0))
    assert detectable(5, 0.2) == 0.2, "nothing can be seen"


def test_what_seeds_can_detect_is_found_with_that_power():
    """By simulation: a true mean of that size, seeds of standard deviation 1."""
    from scipy.stats import ttest_1samp

    values = [-1.0, 1.0, 0.0, 1.0, -1.0]
    size = detectable_over_seeds(values)
    assert size == pytest.approx(1.682, abs=1e-3)
    rng = random.Random(0)
    draws = [[rng.gauss(size, 1) for _ in values] for _ in range(1000)]
    assert 0.76 <= sum(ttest_1samp(one, 0).pvalue <= 0.05 for one in draws) / 1000 <= 0.84
    assert math.isnan(detectable_over_seeds([1.0]))
    assert math.isnan(detectable_over_seeds([1.0, 1.0]))


def test_mean_of_equal_tasks_is_mcnemars_test_of_all_questions():
    """8 wins and 2 losses over two tasks of 20: exactly 112/1024, here drawn."""
    tests = [mcnemar(sheet(range(5)), sheet([18])), mcnemar(sheet(range(3)), sheet([19]))]
    assert mean_test(tests, resamples=20_000) == pytest.approx(112 / 1024, abs=0.01)


def test_mean_of_unequal_tasks_by_hand():
    """One win of 4 questions, one loss of 20: mean (1/4 - 1/20) / 2 = 0.1. Of the four equally likely signs, +0.15 and
    +0.1 are as far up as that: 2/4, twice for two sides, is 1. With the win of 4 alone p is 1 too; six wins of 20
    beside it: 2 * P(all seven go up) = 2/128."""
    one, minus = mcnemar(sheet([1], 4), sheet([], 4)), mcnemar(sheet([]), sheet([1]))
    assert mean_test([one, minus]) == 1
    six = mcnemar(sheet(range(6)), sheet([]))
    assert mean_test([one, six], resamples=20_000) == pytest.approx(2 / 128, abs=0.004)
    none = mcnemar(sheet([]), sheet([]))
    assert mean_test([none, none]) == 1


def test_a_table():
    """a: 16 wins and b: 2 of 2 against one baseline, in two rows: the family of single tasks has four members."""
    baseline = {"a": sheet([]), "b": sheet([2, 3])}
    sheets = {
        "good": {"a": sheet(range(16)), "b": sheet([1, 2])},
        "part": {"a": sheet([]), "c": sheet([1])},
        "bad": {"a": sheet([]), "b": sheet([])},
        "missing": {},
    }
    found = verdicts(sheets, baseline)
    assert {label: list(of) for label, of in found.items()} == {
        "good": ["a", "b", "average"],
        "part": ["a"],
        "bad": ["a", "b", "average"],
        "missing": [],
    }
    assert found["good"]["a"].p == pytest.approx(2 / 2**16)
    assert found["good"]["a"].adjusted == pytest.approx(5 * 2 / 2**16), "five tests of single tasks"
    assert found["bad"]["b"].adjusted == 1
    average = found["good"]["average"]
    assert average[:3] == (17, 1, 40)
    assert average.adjusted == pytest.approx(2 * average.p), "two averages"
    assert tally(found["good"]) == Tally(1, 1, 0)
    assert tally(found["bad"]) == Tally(0, 2, 0)
    assert tally({"x": Verdict(1, 9, 10, 0.02, 0.04, 0.1)}) == Tally(0, 0, 1)
    assert tally({"x": Verdict(1, 9, 10, 0.02, 0.06, 0.1)}) == Tally(0, 1, 0)


def test_detectable_difference_of_a_mean():
    """Of equal tasks it is that of their questions together."""
    half = {"a": sheet(range(4)), "b": sheet(range(6))}
    found = verdicts({"x": half}, {"a": sheet([]), "b": sheet([])})["x"]
    assert found["average"].detectable == pytest.approx(detectable(40, 0.25))
    assert found["a"].detectable == pytest.approx(detectable(20, 0.2))
