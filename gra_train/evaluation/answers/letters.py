"""The letter of a choice."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gra_train.evaluation.answers.found import (
    NOTHING,
    Found,
    announced,
    boxed,
    headings,
    marked,
    stated,
    without_thinking,
)


def letter(text: str, choices: Sequence[str] = (), *, letters: str = "ABCDE") -> Found:
    """The letter that a text answers with.

    choices: the options' texts, in order; one that is quoted as the answer in place of its letter counts. After ####,
    in a box, after "the answer is", alone (at the start of a text or line: "B", "(B) because", "B. Paris"); else the
    last letter in brackets or bold, as a guess. A Markdown heading is an answer only where it is a letter alone.
    """
    text = without_thinking(text)
    known = letters[: len(choices)] if choices else letters
    for place, how in ((marked(text), "marked"), (boxed(text), "boxed")):
        if place is not None and (value := leading(place, known) or _quoted(place, choices, known)):
            return Found(value, how)
    for place in stated(text):
        if value := leading(place, known) or _quoted(place, choices, known):
            return Found(value, "stated")
    for rest in announced(text):  # a choice of several sentences
        if value := _quoted(rest, choices, known):
            return Found(value, "stated")
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    for line in (*lines[:1], *lines[-1:]):
        if value := leading(line, known, strict=True):
            return Found(value, "alone")
    if value := _quoted(text, choices, known):
        return Found(value, "alone")
    if headed := re.findall(rf"^[\s*_(]*([{known}])[\s*_)]*$", "\n".join(headings(text)), re.MULTILINE):
        return Found(headed[0], "marked" if len(set(headed)) == 1 else "last")
    loose = re.findall(rf"[(\[]([{known}])[)\]]|\*\*([{known}])\b", text)
    return Found(next(filter(None, loose[-1])), "last") if loose else NOTHING


def leading(place: str, letters: str, *, strict: bool = False) -> str | None:
    r"""The letter at the start: `B`, `(B)`, `**B**`, `B) text`, `\text{B}`. strict: "A" alone may be an article."""
    place = re.sub(r"\\(?:text|mathrm|textbf|mathbf)\s*\{([^}]*)\}", r"\1", place)
    place = re.sub(r"^(?:option|choice|answer)\s+", "", place.strip(), flags=re.IGNORECASE)
    sign = rf"([{letters}{letters.lower()}])(?![\w'])"
    match = re.match(rf"[\s*_`\"'“(\[{{$]*{sign}([\s*_`\"'”)\]}}$.:,;-]*)(.*)", place, re.DOTALL)
    if not match:
        return None
    sign, after, rest = match.groups()
    closed = not rest or re.search(r"[)\].:,;*-]", after) is not None
    if strict and not closed:
        return None
    if not strict and sign in "aA" and rest and not re.search(r"[)\].:,;*-]", after) and not rest[0].isupper():
        return None  # "the answer is a list"
    return sign.upper()


def _quoted(place: str, choices: Sequence[str], letters: str) -> str | None:
    """The one choice whose text is what the place says."""
    said = _bare(place)
    equal = [sign for sign, choice in zip(letters, choices, strict=False) if _bare(choice) == said and said]
    return equal[0] if len(equal) == 1 else None


def _bare(text: str) -> str:
    return re.sub(r"\W+", " ", text).strip().casefold()
