"""One candidate, from its draw to its decision, as a straight story (GRA, sections 3.2 and 3.3).

Concurrency belongs to the caller; every question goes through the ledger, so the same story told again costs nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gra_train.chat.protocol import Ask
from gra_train.records import Fate
from gra_train.schema import Synthesis
from gra_train.synthesis import generate
from gra_train.synthesis.candidate import Candidate
from gra_train.synthesis.decide import Decision, adjudicated, decide, mean_and_spread
from gra_train.synthesis.draw import Draw
from gra_train.synthesis.prompts import Family
from gra_train.synthesis.review import reviewing
from gra_train.synthesis.telling import Telling


async def synthesise(ask: Ask, draw: Draw, *, family: Family, synthesis: Synthesis) -> Candidate:
    """A candidate with fate KEPT (good so far), REJECTED_* or UNPARSEABLE."""
    telling = Telling(ask, draw, family, synthesis)
    told: dict[str, Any] = {}
    fate, failed_at = await _tell(telling, told)
    return replace(Candidate.of(draw), fate=fate, failed_at=failed_at, attempts=tuple(telling.trace), **told)


async def _tell(telling: Telling, told: dict[str, Any]) -> tuple[Fate, str]:
    """(fate, the prompt at which it was decided against). What was made on the way is left in `told`."""
    review = telling.synthesis.review
    told["keywords"] = keywords = await generate.propose_keywords(telling) or ()
    if not keywords:
        return Fate.UNPARSEABLE, "new_keywords"
    told["instruction"] = instruction = await generate.write_instruction(telling, keywords) or ""
    if not instruction:
        return Fate.UNPARSEABLE, "instruction"

    respond_first = telling.synthesis.respond == "before_review" or review.mode == "none"
    if respond_first:
        told["response"] = await generate.write_response(telling, instruction) or ""
        if not told["response"]:
            return Fate.UNPARSEABLE, "response"
    if review.mode == "none":
        return Fate.KEPT, ""

    reviewers = reviewing(review.scoring)
    flags = await reviewers.instruction(telling, keywords, instruction)
    told["instruction_reviews"] = tuple(f for f in flags if f is not None)
    if not all(f.passes for f in told["instruction_reviews"]):  # one 0 rejects at once, whatever else is missing
        return Fate.REJECTED_INSTRUCTION, "instruction_review"
    if None in flags:
        return Fate.UNPARSEABLE, "instruction_review"

    if not respond_first:
        told["response"] = await generate.write_response(telling, instruction) or ""
        if not told["response"]:
            return Fate.UNPARSEABLE, "response"
    response = told["response"]

    answers = await reviewers.response(telling, keywords, instruction, response)
    told["reviews"] = reviews = tuple(r for r in answers if r is not None)
    if len(reviews) < len(answers):  # a missing review is never imputed
        return Fate.UNPARSEABLE, "response_review"
    means = [r.mean for r in reviews]
    told["mu"], told["sigma"] = mean_and_spread(means)
    told["decision"] = decision = decide(means, T_mean=telling.synthesis.T_mean, T_std=telling.synthesis.T_std)
    if decision is Decision.REJECT:
        return Fate.REJECTED_SCORE, "response_review"
    if decision is Decision.ACCEPT:
        return Fate.KEPT, ""

    told["adjudication"] = verdict = await reviewers.adjudicate(telling, keywords, instruction, response, reviews)
    if verdict is None:
        return Fate.UNPARSEABLE, "adjudication"
    if adjudicated(verdict.mean, T_mean=telling.synthesis.T_mean):
        return Fate.KEPT, ""
    return Fate.REJECTED_ADJUDICATOR, "adjudication"
