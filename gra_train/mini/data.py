"""Data sets of the miniature world: seeds, held-out problems, COLLATE's rationale and task data. All deterministic.

Everything is a plain dict of strings, as it would come from a JSON-lines file.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from gra_train.mini.language import DOMAINS, Problem, sample_problem, split_of


def problems(split: str, n: int, seed: int, domain: str | None = None) -> list[Problem]:
    """`n` different problems of a split ("train", "validation", "test"); domains take turns unless one is given.

    The first k of n problems are the k problems of a smaller call with the same seed.
    """
    return [problem for problem, _ in zip(_stream(split, seed, domain), range(n), strict=False)]


def _stream(split: str, seed: int, domain: str | None) -> Iterator[Problem]:
    rng, seen, turn = random.Random(f"{split} {seed} {domain}"), set[str](), 0
    while True:
        problem = sample_problem(rng, domain or DOMAINS[turn % len(DOMAINS)])
        if split_of(problem) == split and problem.key not in seen:
            seen.add(problem.key)
            turn += 1
            yield problem


def seed_rows(n: int, seed: int) -> list[dict[str, str]]:
    """Seed data for GRA: correct (instruction, response) rows of the train split, without annotations."""
    return [{"instruction": p.instruction, "response": p.response} for p in problems("train", n, seed)]


def question_rows(split: str, n: int, seed: int, domain: str | None = None) -> list[dict[str, str]]:
    """Problems to answer: instruction, answer, gold response and domain (for evaluation, gold arms, distilling)."""
    return [
        {"instruction": p.instruction, "response": p.response, "answer": p.answer, "domain": p.domain}
        for p in problems(split, n, seed, domain)
    ]


def rationale_rows(n: int, seed: int, domain: str | None = None) -> list[dict[str, str]]:
    """COLLATE's rationale data (train split): instruction, rationale, answer, domain; half of it is vague.

    Gold rationales of differing usefulness are what makes merit worth measuring (the prototype was flat without).
    """
    rng = random.Random(f"vague {seed}")
    return [
        {
            "instruction": p.instruction,
            "rationale": p.vague_rationale if rng.random() < 0.5 else p.rationale,
            "answer": p.answer,
            "domain": p.domain,
        }
        for p in problems("train", n, seed, domain)
    ]


def task_rows(
    n: int, seed: int, domain: str | None = None, *, skip: int = 0, split: str = "train"
) -> list[dict[str, str]]:
    """COLLATE's task data: instruction, answer, domain, no rationale. `skip` the problems that rationale_rows took."""
    return [
        {"instruction": p.instruction, "answer": p.answer, "domain": p.domain}
        for p in problems(split, skip + n, seed, domain)[skip:]
    ]
