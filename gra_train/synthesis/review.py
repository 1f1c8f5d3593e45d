"""Reviewers and the adjudicator behind one interface, whether they write their scores or are read by likelihood.

Either way each reviewer gives an instruction three flags, and a response six integers from 1 to 10 and a short text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gra_train.chat.protocol import Likelihood, TokenLogProbs
from gra_train.records import InstructionReview, Review
from gra_train.synthesis import likelihood
from gra_train.synthesis.calls import SCORED, UNANSWERED, Attempt
from gra_train.synthesis.generate import instruction_prompt
from gra_train.synthesis.prompts import Prompt, Scored
from gra_train.synthesis.telling import Telling

REVIEWER, ADJUDICATOR = "reviewer", "adjudicator"


class Reviewing(Protocol):
    """All reviewers of a sample are asked together. None stands for a review that could not be read."""

    async def instruction(
        self, telling: Telling, keywords: Sequence[str], instruction: str
    ) -> list[InstructionReview | None]: ...

    async def response(
        self, telling: Telling, keywords: Sequence[str], instruction: str, response: str
    ) -> list[Review | None]: ...

    async def adjudicate(
        self, telling: Telling, keywords: Sequence[str], instruction: str, response: str, reviews: Sequence[Review]
    ) -> Review | None: ...


def reviewing(scoring: str) -> Reviewing:
    """The reviewers of `synthesis.review.scoring`."""
    assert scoring in ("text", "likelihood"), f"the schema allows no scoring {scoring!r}"
    return TextReviewing() if scoring == "text" else LikelihoodReviewing()


class TextReviewing:
    """Reviewers write flags, scores and reasons, as in the paper (GRA, section 3.3)."""

    async def instruction(
        self, telling: Telling, keywords: Sequence[str], instruction: str
    ) -> list[InstructionReview | None]:
        models = telling.draw.reviewers
        flags = await telling.several(REVIEWER, models, telling.family.instruction_review(instruction))
        return [
            None if own is None else InstructionReview(model, own) for model, own in zip(models, flags, strict=True)
        ]

    async def response(
        self, telling: Telling, keywords: Sequence[str], instruction: str, response: str
    ) -> list[Review | None]:
        prompt = telling.family.response_review(instruction, response)
        return await _written(telling, REVIEWER, telling.draw.reviewers, prompt)

    async def adjudicate(
        self, telling: Telling, keywords: Sequence[str], instruction: str, response: str, reviews: Sequence[Review]
    ) -> Review | None:
        prompt = telling.family.adjudication(instruction, response, reviews)
        return (await _written(telling, ADJUDICATOR, [telling.draw.adjudicator], prompt))[0]


async def _written(telling: Telling, role: str, models: Sequence[str], prompt: Prompt[Scored]) -> list[Review | None]:
    answers = await telling.several(role, models, prompt)
    return [None if a is None else Review(model, *a) for model, a in zip(models, answers, strict=True)]


class LikelihoodReviewing:
    """Reviewers are asked how likely the text is as *their own*: nothing is written, and nothing can be unparseable but
    what a server did not answer.

    An instruction is scored under the reviewer's own instruction prompt for the same keywords, a response under its own
    response prompt. The question is then "would I have written this", which suits tasks with one canonical solution;
    it makes self-review empty. Wherever a number is shown that rests on it, say so.
    """

    async def instruction(
        self, telling: Telling, keywords: Sequence[str], instruction: str
    ) -> list[InstructionReview | None]:
        models = telling.draw.reviewers
        scored = await _log_probs(telling, REVIEWER, models, [(instruction_prompt(telling, keywords), instruction)])
        floor = telling.synthesis.review.min_token_prob
        return [
            None
            if own is None
            else InstructionReview(model, likelihood.instruction_flags(own[0], min_token_prob=floor))
            for model, own in zip(models, scored, strict=True)
        ]

    async def response(
        self, telling: Telling, keywords: Sequence[str], instruction: str, response: str
    ) -> list[Review | None]:
        return await self._scores(telling, REVIEWER, telling.draw.reviewers, keywords, instruction, response)

    async def adjudicate(
        self, telling: Telling, keywords: Sequence[str], instruction: str, response: str, reviews: Sequence[Review]
    ) -> Review | None:
        models = [telling.draw.adjudicator]
        return (await self._scores(telling, ADJUDICATOR, models, keywords, instruction, response))[0]

    async def _scores(
        self,
        telling: Telling,
        role: str,
        models: Sequence[str],
        keywords: Sequence[str],
        instruction: str,
        response: str,
    ) -> list[Review | None]:
        own_prompt = telling.family.response(instruction)
        texts = [(own_prompt, response), (instruction_prompt(telling, keywords), instruction)]
        scored = await _log_probs(telling, role, models, texts)
        slope = telling.synthesis.review.score_slope
        return [
            None if own is None else Review(model, *likelihood.response_scores(own[0], own[1], slope=slope))
            for model, own in zip(models, scored, strict=True)
        ]


async def _log_probs(
    telling: Telling, role: str, models: Sequence[str], texts: Sequence[tuple[Prompt[str], str]]
) -> list[list[TokenLogProbs] | None]:
    """For each model, the log-probabilities of each text under its prompt, or None where its server did not answer one
    of them; all asked together."""
    calls = [
        (model, Likelihood(prompt.messages, prompt.write(text), f"{role}/{prompt.kind}", may_fail=True))
        for model in models
        for prompt, text in texts
    ]
    answers = await telling.ask(*calls)
    kinds = [prompt.kind for prompt, _ in texts] * len(models)
    for kind, (model, request), answer in zip(kinds, calls, answers, strict=True):
        key = answer.key or telling.key_of(model, request)
        telling.trace.append(Attempt(kind, role, model, UNANSWERED if answer.failed else SCORED, key=key))
    own = [answers[i : i + len(texts)] for i in range(0, len(answers), len(texts))]
    return [None if any(answer.failed for answer in part) else part for part in own]
