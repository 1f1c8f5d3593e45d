"""What the base student reads before any fine-tuning: the language without solutions in the task's format.

It sees instructions, single facts (one step at a time, never a solution), and short texts whose conclusion follows the
steps that precede it, right or wrong. The last is what COLLATE needs: an answerer that trusts the rationale it is given.
"""

from __future__ import annotations

import random

from gra_train.mini import prompts
from gra_train.mini.flaws import flawed_response
from gra_train.mini.language import DOMAINS, ANSWER_MARK, Problem, sample_problem, split_of, work

Example = tuple[str, str]


def _problem(rng: random.Random) -> Problem:
    while True:
        problem = sample_problem(rng, rng.choice(DOMAINS))
        if split_of(problem) == "train":
            return problem


def retell(rng: random.Random) -> Example:
    """Finish an instruction from its first half."""
    words = _problem(rng).instruction.split(" ")
    cut = rng.randint(1, len(words) - 2)
    return f"Read: {' '.join(words[:cut])}", " ".join(words[cut:])


def fact(rng: random.Random) -> Example:
    """One step alone: a sum, an operation on letters, what comes first in a line of names."""
    problem = _problem(rng)
    steps = work(problem)
    index = rng.randrange(len(steps))
    before = steps[index - 1].result if index else ""
    step = steps[index]
    if problem.domain == "Math":
        left, right = step.working.split(" = ")
        return f"Fact: {left}", right
    if problem.domain == "Coding":
        return f"Fact: {step.label} {before or ' '.join(problem.spec.letters)}", step.result  # type: ignore[attr-defined]
    return f"Fact: {steps[0].working} {steps[1].label}", steps[1].result


def conclude(rng: random.Random) -> Example:
    """The answer that follows from the steps, right or wrong as they may be."""
    problem = _problem(rng)
    response = flawed_response(rng, problem) if rng.random() < 0.5 else problem.response
    steps, _, _ = response.partition(f" {ANSWER_MARK} ")
    last = steps.rstrip(".").rsplit(": ", 1)[-1].rsplit(" = ", 1)[-1]
    return f"Because: {steps}", last


def copy(rng: random.Random) -> Example:
    """The keywords of an instruction: where its names and numbers stand."""
    problem = _problem(rng)
    return prompts.keywords(problem.instruction), prompts.SEPARATOR.join(problem.keywords)


SHARES = {retell: 0.25, fact: 0.4, conclude: 0.15, copy: 0.2}


def base_example(rng: random.Random) -> Example:
    """One training example of the base student."""
    return rng.choices(tuple(SHARES), tuple(SHARES.values()))[0](rng)
