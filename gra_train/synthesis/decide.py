"""The decision over a response: accept, reject, or ask the adjudicator (GRA, section 3.3). Pure functions of scores."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from math import sqrt
from statistics import fmean


class Decision(StrEnum):
    ACCEPT = "accept"
    REJECT = "reject"
    ADJUDICATE = "adjudicate"


def mean_and_spread(reviewer_means: Sequence[float], weights: Sequence[float] = ()) -> tuple[float, float]:
    """(mu, sigma): mean and *population* standard deviation of the reviewers' means, as in the paper's Case 1.

    weights: of the reviewers, where they do not count alike (adaptive roles).
    Rounded to nine decimals: means are multiples of 1/6, and a mean of exactly 8 must not fall to 7.999999999999999.
    """
    mu = fmean(reviewer_means, weights or None)
    return round(mu, 9), round(sqrt(fmean([(m - mu) ** 2 for m in reviewer_means], weights or None)), 9)


def decide(
    reviewer_means: Sequence[float],
    *,
    T_mean: float = 8.0,
    T_std: float = 1.5,
    mode: str = "committee",
    weights: Sequence[float] = (),
) -> Decision:
    """Fate of a response after review (GRA, section 3.3).

    reviewer_means: one mean over the six criteria per reviewer, on the 1-10 scale.
    mode: synthesis.review.mode. `majority` is the paper's ablation "majority vote in place of the adjudicator", taken
    at its word: only what would go to the adjudicator is voted on, and kept if more than half of the reviewers' means
    reach T_mean. (Three reviewers with mu >= 8 who disagree nearly always have that majority.)
    """
    mu, sigma = mean_and_spread(reviewer_means, weights)
    if mu < T_mean:
        return Decision.REJECT
    if sigma <= T_std:
        return Decision.ACCEPT
    if mode != "majority":
        return Decision.ADJUDICATE
    votes = [float(round(mean, 9) >= T_mean) for mean in reviewer_means]
    return Decision.ACCEPT if fmean(votes, weights or None) > 0.5 else Decision.REJECT


def adjudicated(mean: float, *, T_mean: float = 8.0) -> bool:
    """Whether the adjudicator's own mean over the six criteria keeps the sample."""
    return round(mean, 9) >= T_mean
