"""The Reasoning domain of the miniature: three or four people compared in pairs; who is the first, last or second?

Dan is younger than Jon. Dan is older than Ann. Who is the youngest?
Old: Jon > Dan > Ann. The youngest: Ann. #### Ann
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Collection
from dataclasses import dataclass

from gra_train.mini.problem import Problem, Step, rationale_text
from gra_train.mini.stories import NAMES

DOMAIN = "Reasoning"
# attribute: (more, less, most, least, noun)
ATTRIBUTES = {
    "tall": ("taller", "shorter", "tallest", "shortest", "height"),
    "old": ("older", "younger", "oldest", "youngest", "age"),
    "fast": ("faster", "slower", "fastest", "slowest", "speed"),
}
LESS_IS_MORE, LEAST_IS_MOST, SECOND_IS_FIRST, SECOND_IS_LAST = (
    "less-is-more",
    "least-is-most",
    "second-is-first",
    "second-is-last",
)
MISCONCEPTIONS = (LESS_IS_MORE, LEAST_IS_MOST, SECOND_IS_FIRST, SECOND_IS_LAST)


@dataclass(frozen=True)
class Comparison:
    """`left` is more (or less) of the attribute than `right`."""

    left: str
    more: bool
    right: str

    @property
    def pair(self) -> tuple[str, str]:
        """(who has more of it, who has less)."""
        return (self.left, self.right) if self.more else (self.right, self.left)


@dataclass(frozen=True)
class Order:
    """attribute: a key of ATTRIBUTES; comparisons: of neighbours, as told; asked: most, least or second."""

    attribute: str
    comparisons: tuple[Comparison, ...]
    asked: str


def sample(rng: random.Random) -> Order:
    """A random order; one in seven is of four people."""
    names = rng.sample(NAMES, 3 if rng.random() < 0.85 else 4)
    pairs = list(itertools.pairwise(names))
    rng.shuffle(pairs)
    flips = [rng.random() < 0.5 for _ in pairs]
    told = tuple(
        Comparison(lo, False, hi) if flip else Comparison(hi, True, lo)
        for (hi, lo), flip in zip(pairs, flips, strict=True)
    )
    return Order(rng.choice(tuple(ATTRIBUTES)), told, rng.choice(("most", "least", "second")))


def chain(pairs: Collection[tuple[str, str]]) -> tuple[str, ...] | None:
    """The names from most to least, or None where the pairs do not form one line (cycle, branch, gap, repetition)."""
    below = dict(pairs)
    tops = set(below) - set(below.values())
    if len(below) != len(pairs) or len(set(below.values())) != len(pairs) or len(tops) != 1:
        return None
    names = [tops.pop()]
    while names[-1] in below:  # every turn takes one pair away: this ends
        names.append(below.pop(names[-1]))
    return None if below else tuple(names)


def render(order: Order) -> str:
    """The instruction."""
    more, less, most, least, _ = ATTRIBUTES[order.attribute]
    told = [f"{c.left} is {more if c.more else less} than {c.right}." for c in order.comparisons]
    asked = {"most": most, "least": least, "second": f"second {most}"}[order.asked]
    return " ".join([*told, f"Who is the {asked}?"])


_NAME = rf"({'|'.join(NAMES)})"
_COMPARISON = re.compile(rf"{_NAME} is (\w+) than {_NAME}\. ")
_QUESTION = re.compile(r"Who is the (second )?(\w+)\?")


def parse(text: str) -> Order | None:
    """The order that `text` tells, or None: unknown words, cycles, branches, mixed attributes, two or five people."""
    head, _, tail = text.rpartition(". ")
    question = _QUESTION.fullmatch(tail)
    told = [(m[1], m[2], m[3]) for m in _COMPARISON.finditer(head + ". ")]
    for attribute, (more, less, most, least, _noun) in ATTRIBUTES.items():
        if question and question[2] in (most, least) and told and all(word in (more, less) for _, word, _ in told):
            comparisons = tuple(Comparison(a, word == more, b) for a, word, b in told)
            asked = "second" if question[1] else "most" if question[2] == most else "least"
            order, names = Order(attribute, comparisons, asked), chain([c.pair for c in comparisons])
            return order if names is not None and len(names) in (3, 4) and render(order) == text else None
    return None


def work(order: Order, held: Collection[str] = ()) -> tuple[Step, ...]:
    """The two steps of the solution (the line, then who is asked for), under the misconceptions that are held."""
    _, _, most, least, _ = ATTRIBUTES[order.attribute]
    told = order.comparisons
    if LESS_IS_MORE in held:  # reads "shorter than" as "taller than"; names that then form no line stay as told
        told = tuple(Comparison(c.left, True, c.right) for c in told)
    names = chain([c.pair for c in told])
    if names is None:
        names = tuple(dict.fromkeys(n for c in told for n in c.pair))
    place = {"most": 0, "least": -1, "second": 1}[order.asked]
    if order.asked == "least" and LEAST_IS_MOST in held:
        place = 0
    if order.asked == "second" and SECOND_IS_FIRST in held:
        place = 0
    if order.asked == "second" and SECOND_IS_LAST in held:
        place = -1
    asked = {"most": most, "least": least, "second": f"second {most}"}[order.asked]
    line = " > ".join(names)
    return (Step(order.attribute.capitalize(), line, line), Step(f"The {asked}", names[place], names[place]))


def plan(order: Order) -> str:
    """The names from most to least: what one has in mind who writes such an instruction."""
    return " ".join(chain([c.pair for c in order.comparisons]) or ())


def problem(order: Order) -> Problem:
    names = chain([c.pair for c in order.comparisons])
    assert names is not None, "a sampled or parsed order is a line"
    steps = work(order)
    asked, noun = steps[-1].label.removeprefix("The "), ATTRIBUTES[order.attribute][-1]
    mentioned = dict.fromkeys(n for c in order.comparisons for n in (c.left, c.right))
    return Problem(
        domain=DOMAIN,
        key=f"{DOMAIN} {order.attribute} {order.asked} {' '.join(names)}",
        instruction=render(order),
        rationale=rationale_text(steps),
        vague_rationale=f"Think about {noun}.",
        answer=steps[-1].result,
        keywords=(" ".join(mentioned), asked, noun),
        summary=f"Find the {asked} of {'three' if len(names) == 3 else 'four'} people.",
        spec=order,
    )
