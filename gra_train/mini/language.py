"""The closed language of the miniature world: three of GRA's domains, every instruction of which parses back.

`sample_problem` and `parse` are each other's inverse, so that validity of an instruction and correctness of a response
are exact. Splits are a function of the problem's canonical key: disjoint by construction.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Collection
from types import ModuleType
from typing import Any

from gra_train.mini import orders, programs, stories
from gra_train.mini.problem import ANSWER_MARK, Problem, Step, rationale_text, response_text

__all__ = [
    "ANSWER_MARK",
    "DOMAINS",
    "MISCONCEPTIONS",
    "Problem",
    "Step",
    "final_answer",
    "is_correct",
    "parse",
    "rationale_text",
    "response_text",
    "sample_problem",
    "split_of",
    "work",
]

_MODULES: dict[str, ModuleType] = {module.DOMAIN: module for module in (stories, orders, programs)}
DOMAINS: tuple[str, ...] = tuple(_MODULES)
MISCONCEPTIONS: dict[str, tuple[str, ...]] = {domain: module.MISCONCEPTIONS for domain, module in _MODULES.items()}
SPLITS = ("train", "validation", "test")


def sample_problem(rng: random.Random, domain: str | None = None) -> Problem:
    """A random problem of `domain` (of a random one by default), of whatever split.

    Raises KeyError for a domain that the miniature does not have.
    """
    module = _MODULES[domain or rng.choice(DOMAINS)]
    return module.problem(module.sample(rng))


def parse(instruction: str) -> Problem | None:
    """The problem that `instruction` states, or None where it states none (invalid, cyclic, ambiguous, other text)."""
    for module in _MODULES.values():
        spec = module.parse(instruction.strip())
        if spec is not None:
            return module.problem(spec)
    return None


def work(problem: Problem, held: Collection[str] = ()) -> tuple[Step, ...]:
    """The steps of a solution under the misconceptions `held` (of MISCONCEPTIONS; other domains' are ignored)."""
    module: Any = _MODULES[problem.domain]
    return module.work(problem.spec, held)


def final_answer(text: str) -> str | None:
    """What follows the last `####`, or None without one. COLLATE's bare answers are the caller's to compare."""
    _, mark, tail = text.rpartition(ANSWER_MARK)
    return " ".join(tail.split()) or None if mark else None


def is_correct(instruction: str, response: str) -> bool:
    """Whether the instruction is valid and the response's final answer is right (its steps are not judged)."""
    problem = parse(instruction)
    return problem is not None and final_answer(response) == problem.answer


def split_of(problem: Problem) -> str:
    """train, validation or test (80:10:10), by a hash of the canonical key."""
    bucket = int.from_bytes(hashlib.sha256(problem.key.encode()).digest()[:4], "big") % 10
    return SPLITS[max(0, bucket - 7)]
