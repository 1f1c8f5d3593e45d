"""Scores and flags read from token log-probabilities: how likely a text is as the reviewer's own.

A wrong step shows in its least likely token, not in the mean, so that most aggregates are minima. The six criteria take
different parts of the text, which is what lets reviewers disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from statistics import fmean

from gra_train.chat.protocol import TokenLogProbs
from gra_train.records import FLAGS
from gra_train.synthesis.ratings import HIGHEST, LOWEST

ANSWER_MARK = "####"


def instruction_flags(own: TokenLogProbs, *, min_token_prob: float) -> tuple[int, ...]:
    """Three flags that agree: 1 if the least likely token of the instruction has at least this probability."""
    return (int(exp(min(own.logprobs, default=0.0)) >= min_token_prob),) * len(FLAGS)


def response_scores(
    response: TokenLogProbs, instruction: TokenLogProbs, *, slope: float
) -> tuple[tuple[int, ...], str]:
    """(six scores in the order of CRITERIA, a short text). score = 10 + slope * ln(probability aggregate), 1 to 10."""
    values = response.logprobs or (0.0,)
    steps, answer = _parts(response)
    worst = min(values)
    aggregates = (min(answer), fmean(sorted(values)[:3]), worst, worst, min(steps), worst)
    scores = tuple(max(LOWEST, min(HIGHEST, round(HIGHEST + slope * a))) for a in aggregates)
    least = response.tokens[values.index(worst)].strip() if response.tokens else ""
    return scores, f"least likely: {least!r} ({exp(worst):.3f})"


def _parts(response: TokenLogProbs) -> tuple[Sequence[float], Sequence[float]]:
    """Log-probabilities of the steps and of the final answer (of the whole, where there is no answer mark)."""
    values = response.logprobs or (0.0,)
    marks = [i for i, token in enumerate(response.tokens) if ANSWER_MARK in token]
    if not marks or not 0 < marks[-1] < len(values) - 1:
        return values, values
    return values[: marks[-1]], values[marks[-1] + 1 :]
