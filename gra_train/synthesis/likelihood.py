"""Scores and flags read from token log-probabilities: how likely a text is as the reviewer's own.

    instruction_flags(own, min_token_prob=0.03) -> three flags
    response_scores(response, instruction, slope=2) -> (six scores in the order of CRITERIA, a short text)

`own` and `instruction` are the instruction's tokens under the reviewer's own instruction prompt, `response` the
response's under its own response prompt. Nothing here knows the miniature: any model that gives log-probabilities will
do, with thresholds of its own. A wrong step shows in the text's least likely tokens and hardly in its mean. The six
criteria read different parts of the text, so that a reviewer can be of two minds and reviewers can disagree.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from math import exp
from statistics import fmean

from gra_train.chat.protocol import TokenLogProbs
from gra_train.records import FLAGS
from gra_train.synthesis.ratings import HIGHEST, LOWEST

ANSWER_MARK = "####"
_SENTENCE_END = re.compile(r"[.!?;\n]\s*$")


def instruction_flags(own: TokenLogProbs, *, min_token_prob: float = 0.03) -> tuple[int, ...]:
    """Three flags that agree: 1 if the least likely token of the instruction has at least this probability."""
    return (int(exp(min(own.logprobs, default=0.0)) >= min_token_prob),) * len(FLAGS)


def response_scores(
    response: TokenLogProbs, instruction: TokenLogProbs, *, slope: float = 2.0
) -> tuple[tuple[int, ...], str]:
    """(six scores in the order of CRITERIA, a short text). score = 10 + slope * ln(probability aggregate), 1 to 10.

    Correctness is the least likely token, clarity and ethicality the geometric mean of the two and three least likely,
    completeness the least likely token of the final answer, relevance that of the instruction, coherence the least
    likely sentence. With slope 2, 8 means a probability of e^-1.
    """
    values = response.logprobs or (0.0,)
    worst = min(values)
    aggregates = (
        worst,
        _least(values, 2),
        min(_answer(response)) if len(values) > 1 else worst,
        min(instruction.logprobs, default=0.0),
        min(map(sum, _sentences(response))),
        _least(values, 3),
    )
    scores = tuple(max(LOWEST, min(HIGHEST, round(HIGHEST + slope * a))) if a > -1e6 else LOWEST for a in aggregates)
    least = response.tokens[values.index(worst)].strip() if response.tokens else ""
    return scores, f"least likely: {least!r} ({exp(worst):.3f})"


def _least(values: Sequence[float], number: int) -> float:
    return fmean(sorted(values)[:number])


def _answer(response: TokenLogProbs) -> Sequence[float]:
    """The tokens behind the last answer mark; all of them where there is none."""
    values = response.logprobs
    marks = [i for i, token in enumerate(response.tokens) if ANSWER_MARK in token]
    return values[marks[-1] + 1 :] if marks and marks[-1] < len(values) - 1 else values


def _sentences(response: TokenLogProbs) -> list[Sequence[float]]:
    """The tokens of each sentence, the answer with its mark being one; all in one where tokens' texts are unknown."""
    values, tokens = response.logprobs or (0.0,), response.tokens
    ends = [i + 1 for i, token in enumerate(tokens[: len(values)]) if _SENTENCE_END.search(token)]
    cuts = [0, *ends, len(values)]
    return [values[a:b] for a, b in pairwise(cuts) if a < b]
