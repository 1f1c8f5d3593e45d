"""One candidate, from its draw to its decision, as a straight story (GRA, sections 3.2 and 3.3).

Concurrency belongs to the caller; every question goes through the ledger, so the same story told again costs nothing.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from gra_train.chat.protocol import Ask
from gra_train.records import Fate, Sample
from gra_train.schema import Synthesis
from gra_train.synthesis import generate
from gra_train.synthesis.calls import KeyOf, no_key
from gra_train.synthesis.candidate import Candidate
from gra_train.synthesis.decide import Decision, adjudicated, decide, mean_and_spread
from gra_train.synthesis.draw import Draw
from gra_train.synthesis.prompts import Family
from gra_train.synthesis.review import reviewing
from gra_train.synthesis.telling import Telling


async def synthesise(
    ask: Ask, draw: Draw, *, family: Family, synthesis: Synthesis, key_of: KeyOf = no_key
) -> Candidate:
    """A candidate with fate KEPT (good so far), REJECTED_* or UNPARSEABLE."""
    telling = Telling(ask, draw, family, synthesis, key_of)
    told: dict[str, Any] = {}
    return _candidate(telling, told, await _tell(telling, told))


async def refine(
    ask: Ask, draw: Draw, sample: Sample, *, family: Family, synthesis: Synthesis, key_of: KeyOf = no_key
) -> Candidate:
    """GRA-Refine: a new response to the sample's instruction, which is reviewed and adjudicated like any other.

    draw: by draw.draw_for(sample, ...). The instruction is reviewed too: a bad seed is left out, not answered better.
    """
    telling = Telling(ask, draw, family, synthesis, key_of)
    told: dict[str, Any] = {"keywords": sample.keywords, "instruction": sample.instruction}
    return _candidate(telling, told, await _judge(telling, told))


def _candidate(telling: Telling, told: dict[str, Any], end: tuple[Fate, str]) -> Candidate:
    fate, failed_at = end
    return replace(Candidate.of(telling.draw), fate=fate, failed_at=failed_at, attempts=tuple(telling.trace), **told)


async def _tell(telling: Telling, told: dict[str, Any]) -> tuple[Fate, str]:
    """(fate, the prompt at which it was decided against). What was made on the way is left in `told`."""
    told["keywords"] = keywords = await generate.propose_keywords(telling) or ()
    if not keywords:
        return Fate.UNPARSEABLE, "new_keywords"
    told["instruction"] = await generate.write_instruction(telling, keywords) or ""
    if not told["instruction"]:
        return Fate.UNPARSEABLE, "instruction"
    return await _judge(telling, told)


async def _judge(telling: Telling, told: dict[str, Any]) -> tuple[Fate, str]:
    """As _tell, from the instruction on: its review, the response, its review, the decision."""
    review, keywords, instruction = telling.synthesis.review, told["keywords"], told["instruction"]
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
    rule = partial(decide, means, T_mean=telling.synthesis.T_mean, T_std=telling.synthesis.T_std, mode=review.mode)
    told["mu"], told["sigma"] = mean_and_spread(means)
    told["decision"] = decision = rule()
    if weights := telling.draw.weights:
        told["weighted_mu"], told["weighted_sigma"] = mean_and_spread(means, weights)
        told["weighted_decision"] = decision = rule(weights=weights)
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
