"""Tests and corrections against cases worked by hand."""

import math
import random

import pytest

from gra_train.evaluation.significance import Tally, compare, detectable, holm, mcnemar


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


def test_a_table_of_tasks():
    ours = {"a": sheet(range(16)), "b": sheet([1, 2]), "c": sheet([]), "d": sheet([1])}
    theirs = {"a": sheet([]), "b": sheet([2, 3]), "c": sheet(range(15)), "e": sheet([1])}
    tests, adjusted, tally = compare(ours, theirs)
    assert list(tests) == ["a", "b", "c"]
    assert adjusted["a"] == pytest.approx(3 * 2 / 2**16)
    assert tally == Tally(1, 1, 1)
