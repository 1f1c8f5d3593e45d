"""What the miniature's models are trained on: for every role, (prompt, output) pairs made from random problems.

A model's *profile* says how often it meets each domain and which misconceptions it holds: these make the pool's members
differ in what they are good at. A reviewer judges by its own lights: it works the problem out under its own
misconceptions and compares the response with that, step by step and word by word.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from gra_train.mini import prompts
from gra_train.mini.base_texts import one_step
from gra_train.mini.flaws import flawed_instruction, flawed_response
from gra_train.mini.language import (
    DOMAINS,
    Problem,
    Step,
    final_answer,
    rationale_text,
    response_text,
    sample_problem,
    split_of,
    work,
)
from gra_train.mini.orders import Order, plan

Example = tuple[str, str]
FINE = (10, 10, 10, 10, 10, 10)
HELD = 0.85  # how often a held misconception shows


@dataclass(frozen=True)
class Profile:
    """weights: of Math, Reasoning, Coding. misconceptions: names from language.MISCONCEPTIONS."""

    weights: tuple[int, int, int] = (1, 1, 1)
    misconceptions: tuple[str, ...] = ()
    roles: dict[str, float] = field(default_factory=lambda: dict(SHARES))


# Share of each role in the pool models' training examples (of examples, not of tokens).
SHARES: dict[str, float] = {
    "solve": 0.48,
    "fact": 0.10,
    "write": 0.13,
    "new_keywords": 0.07,
    "review": 0.04,
    "adjudicate": 0.02,
    "check": 0.10,
    "summary": 0.02,
    "keywords": 0.03,
    "domain": 0.01,
}


def draw_problem(rng: random.Random, profile: Profile) -> Problem:
    """A problem of the train split, its domain by the profile's weights."""
    while True:
        problem = sample_problem(rng, rng.choices(DOMAINS, profile.weights)[0])
        if split_of(problem) == "train":
            return problem


def believed(rng: random.Random, problem: Problem, profile: Profile) -> tuple[Step, ...]:
    """The problem worked out as this model would: its misconceptions show in HELD of the cases."""
    return work(problem, profile.misconceptions if rng.random() < HELD else ())


def solve(rng: random.Random, profile: Profile) -> Example:
    problem = draw_problem(rng, profile)
    steps = believed(rng, problem, profile)
    return prompts.response(problem.instruction), response_text(rationale_text(steps), steps[-1].result)


def fact(rng: random.Random, profile: Profile) -> Example:
    """One step alone, in the words in which a solution has it: cheap practice for sums and operations."""
    problem = draw_problem(rng, profile)
    return one_step(rng, problem, believed(rng, problem, profile))


def write(rng: random.Random, profile: Profile) -> Example:
    problem = draw_problem(rng, profile)
    like = [sample_problem(rng, problem.domain).summary] if rng.random() < 0.8 else []
    keywords = problem.keywords
    if isinstance(
        problem.spec, Order
    ):  # new names come in random order: let it be the order of which the instruction tells
        keywords = (plan(problem.spec), *keywords[1:])
    return prompts.instruction(problem.domain, keywords, like), problem.instruction


def new_keywords(rng: random.Random, profile: Profile) -> Example:
    problem = draw_problem(rng, profile)
    examples = [sample_problem(rng, problem.domain).keywords for _ in range(2)]
    return prompts.new_keywords(problem.domain, examples), prompts.SEPARATOR.join(problem.keywords)


def check(rng: random.Random, profile: Profile) -> Example:
    problem = draw_problem(rng, profile)
    text, flags = (problem.instruction, (1, 1, 1)) if rng.random() < 0.5 else flawed_instruction(rng, problem)
    return prompts.instruction_review(text), " ".join(map(str, flags))


def compare(own: Sequence[Step], response: str) -> tuple[str, int, int, bool]:
    """(the review's text, steps that agree, steps in all, whether the answers agree).

    The text sets the reviewer's own words beside the response's, in pairs, so that agreement is decided locally.
    """
    told = [part.split(": ", 1)[1] for part in response.split(" ####")[0].rstrip(".").split(". ") if ": " in part]
    given = [*map(_result, told), *[""] * len(own)][: len(own)]
    verdicts, texts = [], []
    for label, mine, theirs in [
        *((step.label, step.result, theirs) for step, theirs in zip(own, given, strict=True)),
        ("Answer", own[-1].result, final_answer(response) or ""),
    ]:
        verdicts.append(mine == theirs)
        pairs = zip_longest(mine.replace(" >", "").split(), theirs.replace(" >", "").split(), fillvalue="-")
        texts.append(f"{label}: {' '.join(f'{a} {b}' for a, b in pairs)} {'yes' if verdicts[-1] else 'no'}.")
    return " ".join(texts), sum(verdicts[:-1]), len(own), verdicts[-1]


def _result(working: str) -> str:
    return working.rsplit(" = ", 1)[-1]


def scores(agreeing: int, steps: int, answer_agrees: bool) -> tuple[int, ...]:
    """Six scores. One dissenter in three (mean below 5) leaves mu just above 8: then the adjudicator is asked."""
    if answer_agrees and agreeing == steps:
        return FINE
    if answer_agrees:
        return (6, 8, 7, 9, 4, 10)
    return (1 + agreeing, 6, 4, 6, 2 + agreeing, 9)


def review(rng: random.Random, profile: Profile) -> Example:
    problem, response, verdict = _reviewed(rng, profile)
    return prompts.response_review(problem, response), verdict


def adjudicate(rng: random.Random, profile: Profile) -> Example:
    """As a review; the reviewers' means beside it lean the right way in three of four cases."""
    instruction, response, verdict = _reviewed(rng, profile)
    fine = verdict.endswith(" ".join(map(str, FINE)))
    leaning = fine if rng.random() < 0.75 else not fine
    means = [10, 10, rng.randint(3, 6)] if leaning else [10, rng.randint(7, 10), rng.randint(4, 9)]
    rng.shuffle(means)
    return prompts.adjudication(instruction, response, means), verdict


def _reviewed(rng: random.Random, profile: Profile) -> tuple[str, str, str]:
    """(instruction, a right or flawed response, the review that this model should write)."""
    problem = draw_problem(rng, profile)
    own = believed(rng, problem, profile)
    kind = rng.random()
    response = response_text(rationale_text(own), own[-1].result) if kind < 0.35 else problem.response
    if kind > 0.5:
        response = flawed_response(rng, problem)
    text, agreeing, steps, answer_agrees = compare(own, response)
    return problem.instruction, response, prompts.write_review(text, scores(agreeing, steps, answer_agrees))


def summary(rng: random.Random, profile: Profile) -> Example:
    problem = draw_problem(rng, profile)
    return prompts.summary(problem.instruction), problem.summary


def keywords(rng: random.Random, profile: Profile) -> Example:
    problem = draw_problem(rng, profile)
    return prompts.keywords(problem.instruction), prompts.SEPARATOR.join(problem.keywords)


def domain(rng: random.Random, profile: Profile) -> Example:
    problem = draw_problem(rng, profile)
    return prompts.domain(problem.instruction), problem.domain


ROLES: dict[str, Callable[[random.Random, Profile], Example]] = {
    "solve": solve,
    "fact": fact,
    "write": write,
    "new_keywords": new_keywords,
    "review": review,
    "adjudicate": adjudicate,
    "check": check,
    "summary": summary,
    "keywords": keywords,
    "domain": domain,
}


def example(rng: random.Random, profile: Profile) -> Example:
    """One training example of a pool model, in a random role."""
    role = rng.choices(tuple(profile.roles), tuple(profile.roles.values()))[0]
    return ROLES[role](rng, profile)
