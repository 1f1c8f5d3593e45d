"""True correctness, where it can be known: in the miniature world. For reports, and to keep test problems out.

The decision over a sample never sees it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

HELD_OUT = ("validation", "test")


@dataclass(frozen=True, slots=True)
class Checker:
    """correct: (instruction, response) -> whether the instruction is valid and the response right.

    valid: instruction -> whether it states a problem.
    held_out: instruction -> whether it is a validation or test problem.
    """

    correct: Callable[[str, str], bool]
    valid: Callable[[str], bool]
    held_out: Callable[[str], bool]


def checker(name: str) -> Checker | None:
    """The checker of `synthesis.checker`; None for "none"."""
    if name == "none":
        return None
    from gra_train.mini import language

    def held_out(instruction: str) -> bool:
        problem = language.parse(instruction)
        return problem is not None and language.split_of(problem) in HELD_OUT

    return Checker(language.is_correct, lambda text: language.parse(text) is not None, held_out)
