"""The Coding domain of the miniature: a list of letters and two or three operations on it.

Take d f k m. Reverse it. Swap the ends. What is left?
Reverse: m k f d. Swap: d k f m. #### d k f m
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

from gra_train.mini.problem import Problem, Step, rationale_text

DOMAIN = "Coding"
LETTERS = tuple("bdfghkmprtwz")
Letters = tuple[str, ...]
# label: (sentence, gerund, function)
OPERATIONS: dict[str, tuple[str, str, Callable[[Letters], Letters]]] = {
    "Reverse": ("Reverse it.", "reversing", lambda s: s[::-1]),
    "Swap": ("Swap the ends.", "swapping", lambda s: (s[-1], *s[1:-1], s[0])),
    "Chop": ("Chop the first.", "chopping", lambda s: s[1:]),
    "Drop": ("Drop the last.", "dropping", lambda s: s[:-1]),
    "Turn": ("Turn it left.", "turning", lambda s: (*s[1:], s[0])),
    "Double": ("Double the last.", "doubling", lambda s: (*s, s[-1])),
}
CHOP_DROPS, DROP_CHOPS, SWAP_REVERSES, REVERSE_SWAPS, TURN_RIGHT, DOUBLE_FIRST = (
    "chop-drops",
    "drop-chops",
    "swap-reverses",
    "reverse-swaps",
    "turn-right",
    "double-first",
)
WRONG: dict[str, tuple[str, Callable[[Letters], Letters]]] = {
    CHOP_DROPS: ("Chop", lambda s: s[:-1]),
    DROP_CHOPS: ("Drop", lambda s: s[1:]),
    SWAP_REVERSES: ("Swap", lambda s: s[::-1]),
    REVERSE_SWAPS: ("Reverse", lambda s: (s[-1], *s[1:-1], s[0])),
    TURN_RIGHT: ("Turn", lambda s: (s[-1], *s[:-1])),
    DOUBLE_FIRST: ("Double", lambda s: (s[0], *s)),
}
MISCONCEPTIONS = tuple(WRONG)


@dataclass(frozen=True)
class Program:
    """letters: three or four; operations: two or three labels of OPERATIONS. Samples repeat no letter, no neighbour."""

    letters: Letters
    operations: tuple[str, ...]


def sample(rng: random.Random) -> Program:
    """A random program; one in seven has three operations."""
    while True:  # only a program that leaves nothing over is drawn again
        operations: list[str] = []
        for _ in range(2 if rng.random() < 0.85 else 3):
            operations.append(rng.choice([o for o in OPERATIONS if o not in operations[-1:]]))
        program = Program(tuple(rng.sample(LETTERS, rng.choice((3, 4)))), tuple(operations))
        if _is_valid(program):
            return program


def _is_valid(program: Program) -> bool:
    letters, operations = program.letters, program.operations
    return (
        3 <= len(letters) <= 4
        and len(operations) in (2, 3)
        and sum(o in ("Chop", "Drop") for o in operations) < len(letters)
    )


def render(program: Program) -> str:
    """The instruction."""
    return " ".join(
        [f"Take {' '.join(program.letters)}.", *(OPERATIONS[o][0] for o in program.operations), "What is left?"]
    )


_PROGRAM = re.compile(r"Take ([a-z](?: [a-z])*)\. (.*) What is left\?")
_LABELS = {sentence: label for label, (sentence, _, _) in OPERATIONS.items()}


def parse(text: str) -> Program | None:
    """The program that `text` states, or None: unknown letters or operations, too few, too many, nothing left over."""
    match = _PROGRAM.fullmatch(text)
    if match is None:
        return None
    sentences = [f"{sentence}." for sentence in match[2].removesuffix(".").split(". ")]
    letters = tuple(match[1].split(" "))
    if not set(letters) <= set(LETTERS) or not all(s in _LABELS for s in sentences):
        return None
    program = Program(letters, tuple(_LABELS[s] for s in sentences))
    return program if _is_valid(program) and render(program) == text else None


def work(program: Program, held: Collection[str] = ()) -> tuple[Step, ...]:
    """One step per operation, under the misconceptions that are held."""
    wrong = {WRONG[h][0]: WRONG[h][1] for h in held if h in WRONG}
    letters, steps = program.letters, []
    for label in program.operations:
        letters = wrong.get(label, OPERATIONS[label][2])(letters)
        text = " ".join(letters)
        steps.append(Step(label, text, text))
    return tuple(steps)


def problem(program: Program) -> Problem:
    steps = work(program)
    gerunds = " and ".join(OPERATIONS[o][1] for o in program.operations)
    return Problem(
        domain=DOMAIN,
        key=f"{DOMAIN} {' '.join(program.letters)} {' '.join(program.operations)}",
        instruction=render(program),
        rationale=rationale_text(steps),
        vague_rationale=f"Think about {gerunds}.",
        answer=steps[-1].result,
        keywords=(" ".join(program.letters), " ".join(o.lower() for o in program.operations), "letters"),
        summary=f"{'Two' if len(steps) == 2 else 'Three'} steps: {gerunds}.",
        spec=program,
    )
