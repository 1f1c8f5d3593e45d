"""The Math domain of the miniature: stories of two or three steps about somebody's things, with numbers up to 99.

Bob has 4 bags with 6 shells each. Bob gives 6 to Jon. How many shells does Bob have now?
Filling: 4 * 6 = 24. Giving: 24 - 6 = 18. #### 18
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection
from dataclasses import dataclass

from gra_train.mini.problem import Problem, Step, rationale_text

DOMAIN = "Math"
NAMES = ("Bob", "Jon", "Dan", "Ann", "Eve", "Kim", "Leo", "Mia", "Ned", "Sue", "Tom")
THINGS = ("shells", "pens", "apples", "stamps", "coins", "books", "eggs", "keys")
# What the sampler tells; bags are filled first, packing comes last. The parser also takes an action that is repeated.
KINDS = ("bg", "gb", "fb", "fg", "bp", "gp", "fbg", "fgb", "bgp", "gbp", "fbp", "fgp")
GERUND = {"f": "filling", "b": "buying", "g": "giving", "p": "packing"}
SIGN = {"f": "*", "b": "+", "g": "-", "p": "/"}
LARGEST = 99
# Misconceptions: what a model may hold by mistake.
TIMES_ADDS, PACK_SUBTRACTS, NO_CARRY, NO_BORROW, GIVE_ADDS = (
    "times-adds",
    "pack-subtracts",
    "no-carry",
    "no-borrow",
    "give-adds",
)
MISCONCEPTIONS = (TIMES_ADDS, PACK_SUBTRACTS, NO_CARRY, NO_BORROW, GIVE_ADDS)


@dataclass(frozen=True)
class Story:
    """who does `kind` (letters of GERUND) with things; `numbers` in the order in which the story tells them.

    other: who is given things; None in a story without giving.
    """

    who: str
    other: str | None
    things: str
    kind: str
    numbers: tuple[int, ...]


def sample(rng: random.Random) -> Story:
    """A random story; one in seven has three steps."""
    kind = rng.choice(KINDS[:6] if rng.random() < 0.85 else KINDS[6:])
    who, other = rng.sample(NAMES, 2)
    while True:  # ends at once nearly always: about half of the draws give numbers that work out
        numbers = _numbers(kind, rng)
        story = Story(who, other if "g" in kind else None, rng.choice(THINGS), kind, numbers)
        if _results(story) is not None:
            return story


def _numbers(kind: str, rng: random.Random) -> tuple[int, ...]:
    """Numbers for the actions; a packed total is made divisible by choosing the number before it."""
    numbers = [rng.randint(2, 9), rng.randint(2, 9)] if kind[0] == "f" else [rng.randint(5, 30)]
    total = numbers[0] * numbers[1] if kind[0] == "f" else numbers[0]
    changes = [c for c in kind if c in "bg"]
    for position, change in enumerate(changes):
        amount = rng.randint(2, 12) if change == "b" else rng.randint(2, max(2, min(12, total - 1)))
        if kind[-1] == "p" and position == len(changes) - 1:
            boxes = rng.randint(2, 9)
            excess = (total + (amount if change == "b" else -amount)) % boxes
            amount += -excess if change == "b" else excess
            numbers += [amount, boxes]
        else:
            numbers.append(amount)
        total += amount if change == "b" else -amount
    return tuple(numbers)


def _results(story: Story) -> tuple[int, ...] | None:
    """The total after each action, or None where the story does not work out (too large, negative, a remainder)."""
    numbers, totals = list(story.numbers), []
    if min(numbers) < 2:
        return None
    total = numbers.pop(0)
    for action, number in zip(story.kind, numbers, strict=True):
        if action == "p" and total % number:
            return None
        total = {"f": total * number, "b": total + number, "g": total - number, "p": total // number}[action]
        if not 1 <= total <= LARGEST:
            return None
        totals.append(total)
    return tuple(totals)


def render(story: Story) -> str:
    """The instruction."""
    who, things, numbers = story.who, story.things, list(story.numbers)
    first = numbers.pop(0)
    sentences = [] if story.kind[0] == "f" else [f"{who} has {first} {things}."]
    for action, number in zip(story.kind, numbers, strict=True):
        sentences.append(
            {
                "f": f"{who} has {first} bags with {number} {things} each.",
                "b": f"{who} buys {number} more.",
                "g": f"{who} gives {number} to {story.other}.",
                "p": f"{who} packs them in boxes of {number}.",
            }[action]
        )
    packed = story.kind[-1] == "p"
    sentences.append(f"How many boxes does {who} fill?" if packed else f"How many {things} does {who} have now?")
    return " ".join(sentences)


_NAME, _NUMBER, _THING = rf"({'|'.join(NAMES)})", r"([1-9]\d?)", rf"({'|'.join(THINGS)})"
_STORY = re.compile(
    rf"{_NAME} has {_NUMBER} (?:bags with {_NUMBER} {_THING} each|{_THING})\.(.*) How many "
    rf"(?:boxes does {_NAME} fill|{_THING} does {_NAME} have now)\?"
)
_ACTION = re.compile(rf" {_NAME} (?:buys {_NUMBER} more|gives {_NUMBER} to {_NAME}|packs them in boxes of {_NUMBER})\.")


def parse(text: str) -> Story | None:
    """The story that `text` tells, or None: what renders back to other text is not a story of this language."""
    whole = _STORY.fullmatch(text)
    if whole is None:
        return None
    who, first, per_bag, things = whole[1], int(whole[2]), whole[3], whole[4] or whole[5]
    kind, numbers, other = ("f", [first, int(per_bag)], None) if per_bag else ("", [first], None)
    for action in _ACTION.finditer(whole[6]):
        kind += "b" if action[2] else "g" if action[3] else "p"
        numbers.append(int(action[2] or action[3] or action[5]))
        other = action[4] or other
    if not 2 <= len(kind) <= 3 or not re.fullmatch(r"f?[bg]{1,2}p?", kind) or other == who:
        return None
    story = Story(who, other, things, kind, tuple(numbers))
    return story if render(story) == text and _results(story) is not None else None


def work(story: Story, held: Collection[str] = ()) -> tuple[Step, ...]:
    """The steps of the solution, under the misconceptions that are held; results stay within 0 and 99."""
    numbers, steps = list(story.numbers), []
    total = numbers.pop(0)
    for action, number in zip(story.kind, numbers, strict=True):
        sign = SIGN[action]
        if (action, True) in (("f", TIMES_ADDS in held), ("g", GIVE_ADDS in held)):
            sign = "+"
        if action == "p" and PACK_SUBTRACTS in held:
            sign = "-"
        result = _calculate(total, sign, number, held)
        steps.append(Step(GERUND[action].capitalize(), f"{total} {sign} {number} = {result}", str(result)))
        total = result
    return tuple(steps)


def _calculate(a: int, sign: str, b: int, held: Collection[str]) -> int:
    if sign == "+" and NO_CARRY in held:
        return (a // 10 + b // 10) * 10 % 100 + (a + b) % 10
    if sign == "-" and NO_BORROW in held:
        return abs(a // 10 - b // 10) * 10 + abs(a % 10 - b % 10)
    result = {"+": a + b, "-": abs(a - b), "*": a * b, "/": a // max(b, 1)}[sign]
    return result % 100


def problem(story: Story) -> Problem:
    steps = work(story)
    actions = " and ".join(GERUND[a] for a in story.kind)
    people = story.who if story.other is None else f"{story.who} {story.other}"
    return Problem(
        domain=DOMAIN,
        key=f"{DOMAIN} {story.kind} {' '.join(map(str, story.numbers))}",
        instruction=render(story),
        rationale=rationale_text(steps),
        vague_rationale=f"Think about {actions}.",
        answer=steps[-1].result,
        keywords=(f"{people} {story.things}", " ".join(map(str, story.numbers)), actions),
        summary=f"Count {'boxes' if story.kind[-1] == 'p' else story.things} after {actions}.",
        spec=story,
    )
