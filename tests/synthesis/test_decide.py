"""The decision rule on the paper's worked case and at its boundaries."""

import pytest

from gra_train.records import Review
from gra_train.synthesis.decide import Decision, adjudicated, decide, mean_and_spread


def review(*scores):
    return Review("someone", scores)


def test_case_1_of_the_paper():
    reviews = [review(10, 10, 10, 10, 9, 10), review(10, 9, 10, 10, 9, 10), review(3, 5, 4, 6, 4, 5)]
    means = [r.mean for r in reviews]
    assert [round(m, 3) for m in means] == [9.833, 9.667, 4.5]
    mu, sigma = mean_and_spread(means)
    assert mu == 8.0
    assert round(sigma, 4) == 2.4758
    assert decide(means) is Decision.ADJUDICATE


@pytest.mark.parametrize(
    ("means", "decision"),
    [
        ([8, 8, 8], Decision.ACCEPT),
        ([49 / 6, 47 / 6, 8], Decision.ACCEPT),  # sums of sixths: exactly 8, not 7.999...
        ([49 / 6, 49 / 6, 46 / 6], Decision.ACCEPT),
        ([47 / 6, 8, 8], Decision.REJECT),
        ([10, 10, 4], Decision.ADJUDICATE),
        ([10, 10, 3], Decision.REJECT),
        ([9.5, 6.5], Decision.ACCEPT),  # sigma is exactly 1.5
        ([9.75, 6.5], Decision.ADJUDICATE),
        ([1, 1, 1], Decision.REJECT),
        ([10], Decision.ACCEPT),  # one reviewer never disagrees
    ],
)
def test_boundaries(means, decision):
    assert decide(means) is decision


def test_every_committee_whose_scores_add_up_to_a_mean_of_8_passes():
    """No order of three reviewers' sums (of six integers) with total 144 falls below the threshold by rounding."""
    for first in range(6, 61):
        for second in range(6, 61):
            third = 144 - first - second
            if 6 <= third <= 60:
                assert decide([first / 6, second / 6, third / 6]) is not Decision.REJECT


def test_thresholds_are_settings():
    assert decide([7, 7, 7], T_mean=7.0) is Decision.ACCEPT
    assert decide([9, 9, 7], T_mean=8.0, T_std=0.5) is Decision.ADJUDICATE


def test_adjudicator_keeps_a_mean_of_exactly_8():
    assert adjudicated(review(8, 8, 8, 8, 8, 8).mean)
    assert adjudicated(review(10, 10, 10, 10, 7, 1).mean)
    assert not adjudicated(review(8, 8, 8, 8, 8, 7).mean)
