"""What the base student reads before any fine-tuning: the language without solutions in the task's format.

It sees instructions, single facts (one step at a time, never a solution), and short texts whose conclusion follows the
steps that precede it, right or wrong. The last is what COLLATE needs: an answerer that trusts the given rationale.
"""

from __future__ import annotations

import random

from gra_train.mini import prompts
from gra_train.mini.flaws import flawed_response
from gra_train.mini.language import ANSWER_MARK, DOMAINS, Problem, Step, sample_problem, split_of, work

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


def one_step(rng: random.Random, problem: Problem, steps: tuple[Step, ...]) -> Example:
    """One step of a solution, alone: what it starts from and its label are given, its result is asked for."""
    index = rng.randrange(len(steps))
    step = steps[index]
    if " = " in step.working:
        given, _, result = step.working.rpartition(" ")
        return f"Fact: {step.label}: {given}", result
    before = steps[index - 1].result if index else " ".join(getattr(problem.spec, "letters", ()))
    if not before:  # a line of names follows from a whole instruction: ask for the question's step in its place
        before, step = steps[0].result, steps[1]
    return f"Fact: {before}. {step.label}:", step.result


def fact(rng: random.Random) -> Example:
    """A sum, an operation on letters, who is first in a line of names."""
    problem = _problem(rng)
    return one_step(rng, problem, work(problem))


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
