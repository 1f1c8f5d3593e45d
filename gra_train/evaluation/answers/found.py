"""What was read, and how sure its place was; and the places that every kind of answer shares."""

from __future__ import annotations

import re
from typing import NamedTuple

THINKING = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
STATED = re.compile(
    r"(?:final\s+answer|correct\s+answer|correct\s+(?:choice|option)|answer|option|choice)"
    r"(?:\s+(?:to\s+\w+\s+\w+|here))?\s*(?:is|are|would\s+be|must\s+be|should\s+be|:|：|=)[\s*_:]*",
    re.IGNORECASE,
)
"""Where an answer is announced in words."""


class Found(NamedTuple):
    """value: the answer as normal text, None where there is none. how: where it stood.

    marked (after ####), boxed, stated (after "the answer is"), block (a fenced program), alone (nothing else was
    written), last (the last thing of its kind: a guess, to be counted as such), or "" for none.
    """

    value: str | None
    how: str = ""

    @property
    def guessed(self) -> bool:
        return self.how == "last"


NOTHING = Found(None)


def without_thinking(text: str) -> str:
    """The text after its thoughts; of an unfinished thought nothing is an answer yet."""
    text = THINKING.sub(" ", text)
    unfinished = re.search(r"<think(?:ing)?>", text, re.IGNORECASE)
    return text[: unfinished.start()] if unfinished else text


def boxed(text: str) -> str | None:
    r"""The content of the last \boxed{...} or \fbox{...} with balanced braces (`\boxed 3` too)."""
    starts = list(re.finditer(r"\\(?:f?boxed|fbox)\s*", text))
    for start in reversed(starts):
        rest = text[start.end() :]
        if not rest.startswith("{"):
            if bare := re.match(r"([^\s$.,{}]+)", rest):
                return bare[1]
            continue
        depth = 0
        for place, sign in enumerate(rest):
            depth += (sign == "{") - (sign == "}")
            if depth == 0:
                return rest[1:place].strip()
    return None


def marked(text: str) -> str | None:
    """The line after the last `####`."""
    found = re.findall(r"####[ \t]*([^\n]*\S)", text)
    return found[-1].strip() if found else None


def stated(text: str) -> list[str]:
    """What follows each announcement, to the end of its line or sentence; the last one first."""
    sentence_end = r"\n|(?<=[^\d\s][.!?])\s|(?<=\d\.)\s"
    return [re.split(sentence_end, rest, maxsplit=1)[0] for rest in announced(text)]


def announced(text: str) -> list[str]:
    """What follows each announcement, to the end of the text; the last one first."""
    ends = [m.end() for m in STATED.finditer(text)]
    return [text[end:].lstrip() for end in reversed(ends)]
