"""A number, in the many ways in which models write one."""

from __future__ import annotations

import re
from fractions import Fraction

from gra_train.evaluation.answers.found import (
    ANSWERED,
    NOTHING,
    Found,
    boxed,
    headings,
    marked,
    stated,
    without_thinking,
)

_SIGN = r"(?:[-−–]\s?(?=[$€£\d.]))?"
_PLAIN = r"(?:\d{1,3}(?:[,\u202f\u00a0 ]\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
NUMBER = re.compile(
    rf"(?<![\w.])({_SIGN})[$€£]?\s?({_SIGN})(?:"
    rf"\\[dt]?frac\s*\{{\s*({_SIGN}\d+)\s*\}}\s*\{{\s*(\d+)\s*\}}"
    rf"|({_PLAIN})(?:\s*[eE]\s*([-+]?\d+)|\s*(?:\\times|[×x*])\s*10\s*\^\s*\{{?([-+]?\d+)\}}?)?"
    rf"(?:\s*/\s*(\d+)(?!\d*[./]\d)|\s+(\d+)\s*/\s*(\d+))?)"
)
_WITH_UNIT = re.compile(rf"[^\w.]*(?:{NUMBER.pattern})[\s*_$]*(?:[a-z%°€£][^\s:]*)?[\s*_$]*")
"""A number and at most a unit: an answer, where "Step 1: count" and "2." are headings."""
_LEADING = re.compile(rf"[^\w.]*(?:{NUMBER.pattern})")
_MORE = re.compile(r"[(;]|,?\s(?:because|since|which|where|as|for|per|in|at|on|from|after)\b", re.IGNORECASE)
"""Where a sentence that begins with its number goes on to something else."""
_RESULT = re.compile(r"\b(?:so|thus|hence|therefore|making)\b", re.IGNORECASE)


def number(text: str) -> Found:
    """The number that a text answers with, as `str(Fraction)` ("18", "-5/2").

    After #### (in the last line, or nothing but the number and a unit), in a box, after "the answer is", alone in the
    text; else the last number, as a guess.
    """
    text = without_thinking(text)
    line = marked(text)
    for place in (*stated(line, ANSWERED), line) if line else ():
        if values := _values(place):
            return Found(str(values[0]), "marked")
    for place in headings(text):
        if _WITH_UNIT.fullmatch(place) and (values := _values(place)):
            return Found(str(values[0]), "marked")
    box = boxed(text)
    if box is not None and (values := _values(box)):
        return Found(str(values[0]), "boxed")
    for place in stated(text, ANSWERED):
        if values := _values(place):
            return _of_statement(place, values)
    values = _values(text)
    if not values:
        return NOTHING
    alone = len(values) == 1 and not re.search(r"[A-Za-z]{3,}.*[A-Za-z]{3,}", text, re.DOTALL)
    return Found(str(values[-1]), "alone" if alone else "last")


def same_number(a: str | None, b: str | None, *, tolerance: float = 1e-6) -> bool:
    """Whether two numbers are equal. None equals nothing.

    Whole numbers are compared exactly; others up to a relative `tolerance` (0.333333 is 1/3), and never more than half
    a hundredth, or a million would be a million and a half.
    """
    if a is None or b is None:
        return False
    try:
        x, y = Fraction(a), Fraction(b)
    except (ValueError, ZeroDivisionError):
        return False
    if x.denominator == y.denominator == 1:
        return x == y
    return abs(x - y) <= min(Fraction(tolerance) * max(abs(x), abs(y)), Fraction(1, 200))


def _of_statement(place: str, values: list[Fraction]) -> Found:
    """Of "the answer is ...": its one number, what an equation comes to (3 + 4 = 7), or the number that it begins with
    (12, since there are 3 boxes of 4); of other sentences with several numbers the last, as a guess."""
    if len(values) == 1 or ("=" in place and len(_values(place.rpartition("=")[2])) == 1):
        return Found(str(values[-1]), "stated")
    if _LEADING.match(place) and not _RESULT.search(place):
        first = _values(_MORE.split(place, maxsplit=1)[0])
        if len(first) == 1:
            return Found(str(first[0]), "stated")
    return Found(str(values[-1]), "last")


def _values(text: str) -> list[Fraction]:
    text = re.sub(r"\\(?:[,!;: ]|text\{[^}]*\}|mathrm\{[^}]*\}|left|right|%|\$)|\{,\}", _kept, text)
    found = []
    for match in NUMBER.finditer(text):
        outer, inner, top, bottom, plain, power, times, over, part, whole = match.groups()
        try:
            if top:
                value = Fraction(int(_minus(top)), int(bottom))
            else:
                value = Fraction(re.sub(r"[,\u202f\u00a0 ]", "", plain))
                value *= Fraction(10) ** int(power or times or 0) if abs(int(power or times or 0)) < 400 else 1
                value = value / int(over) if over else value
                value = value + Fraction(int(part), int(whole)) if part else value
        except ZeroDivisionError:
            continue
        found.append(-value if (outer.strip() or inner.strip()) else value)
    return found


def _kept(match: re.Match[str]) -> str:
    """LaTeX that says nothing about the number; a thousands separator goes without a gap."""
    return "" if match[0] in ("{,}", "\\!", "\\,") else " "


def _minus(text: str) -> str:
    return re.sub(r"[−–]\s?", "-", text).replace("- ", "-")
