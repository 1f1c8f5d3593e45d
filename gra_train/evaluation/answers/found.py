"""What was read, and how sure its place was; and the places that every kind of answer shares."""

from __future__ import annotations

import re
from typing import NamedTuple

THINKING = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)


def _announcing(words: str) -> re.Pattern[str]:
    verbs = r"(?:is|are|would\s+be|must\s+be|should\s+be|:|：|=)"
    return re.compile(rf"(?:{words})(?:\s+(?:to\s+\w+\s+\w+|here))?\s*{verbs}[\s*_:]*", re.IGNORECASE)


STATED = _announcing("answer|option|choice")
"""Where an answer is announced in words."""
ANSWERED = _announcing(r"answer|correct\s+(?:choice|option)")
"""The same for what is no choice: "the cheaper option is 20 dollars less" announces no number."""


class Found(NamedTuple):
    """value: the answer as normal text, None where there is none. how: where it stood.

    marked (after ####), boxed, stated (after "the answer is"), block (a fenced program), alone (nothing else was
    written), last (the last thing of its kind, of the text or of a sentence that states several: a guess, to be counted
    as such), or "" for none.
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


_MARKED = re.compile(r"#{4,}[ \t]*([^\n]*\S)")


def marked(text: str) -> str | None:
    """The line after the last `####`, where nothing follows it (GSM8K's form). Else it is a heading: see `headings`."""
    found = list(_MARKED.finditer(text))
    return found[-1][1].strip() if found and not re.search(r"\w", text[found[-1].end() :]) else None


def headings(text: str) -> list[str]:
    """The lines after `####` that text follows, the last one first: an answer before an afterthought, or Markdown."""
    found = [m[1].strip() for m in _MARKED.finditer(text) if re.search(r"\w", text[m.end() :])]
    return found[::-1]


def stated(text: str, announcement: re.Pattern[str] = STATED) -> list[str]:
    """What follows each announcement, to the end of its line or sentence; the last one first."""
    sentence_end = r"\n|(?<=[^\d\s][.!?])\s|(?<=\d\.)\s"
    return [re.split(sentence_end, rest, maxsplit=1)[0] for rest in announced(text, announcement)]


def announced(text: str, announcement: re.Pattern[str] = STATED) -> list[str]:
    """What follows each announcement, to the end of the text; the last one first."""
    ends = [m.end() for m in announcement.finditer(text)]
    return [text[end:].lstrip() for end in reversed(ends)]
