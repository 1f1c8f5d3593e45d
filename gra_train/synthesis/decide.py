"""The decision over a response: accept, reject, or ask the adjudicator (GRA, section 3.3). Pure functions of scores."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from statistics import fmean, pstdev


class Decision(StrEnum):
    ACCEPT = "accept"
    REJECT = "reject"
    ADJUDICATE = "adjudicate"


def mean_and_spread(reviewer_means: Sequence[float]) -> tuple[float, float]:
    """(mu, sigma): mean and *population* standard deviation of the reviewers' means, as in the paper's Case 1.

    Rounded to nine decimals: means are multiples of 1/6, and a mean of exactly 8 must not fall to 7.999999999999999.
    """
    return round(fmean(reviewer_means), 9), round(pstdev(reviewer_means), 9)


def decide(reviewer_means: Sequence[float], *, T_mean: float = 8.0, T_std: float = 1.5) -> Decision:
    """Fate of a response after review (GRA, section 3.3).

    reviewer_means: one mean over the six criteria per reviewer, on the 1-10 scale.
    """
    mu, sigma = mean_and_spread(reviewer_means)
    if mu < T_mean:
        return Decision.REJECT
    return Decision.ACCEPT if sigma <= T_std else Decision.ADJUDICATE


def adjudicated(mean: float, *, T_mean: float = 8.0) -> bool:
    """Whether the adjudicator's own mean over the six criteria keeps the sample."""
    return round(mean, 9) >= T_mean
