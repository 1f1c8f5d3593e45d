"""A number, in the many ways in which models write one."""

from __future__ import annotations

import re
from fractions import Fraction

from gra_train.evaluation.answers.found import NOTHING, Found, boxed, marked, stated, without_thinking

_SIGN = r"(?:[-−–]\s?(?=[$€£\d.]))?"
_PLAIN = r"(?:\d{1,3}(?:[,\u202f\u00a0 ]\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
NUMBER = re.compile(
    rf"(?<![\w.])({_SIGN})[$€£]?\s?({_SIGN})(?:"
    rf"\\[dt]?frac\s*\{{\s*({_SIGN}\d+)\s*\}}\s*\{{\s*(\d+)\s*\}}"
    rf"|({_PLAIN})(?:\s*[eE]\s*([-+]?\d+)|\s*(?:\\times|[×x*])\s*10\s*\^\s*\{{?([-+]?\d+)\}}?)?"
    rf"(?:\s*/\s*(\d+)(?!\d*[./]\d)|\s+(\d+)\s*/\s*(\d+))?)"
)


def number(text: str) -> Found:
    """The number that a text answers with, as `str(Fraction)` ("18", "-5/2").

    After ####, in a box, after "the answer is", alone in the text; else the last number, as a guess.
    """
    text = without_thinking(text)
    for place, how in ((marked(text), "marked"), (boxed(text), "boxed")):
        if place is not None and (values := _values(place)):
            return Found(str(values[0]), how)
    for place in stated(text):
        if values := _values(place):
            return Found(str(_of_statement(place, values)), "stated")
    values = _values(text)
    if not values:
        return NOTHING
    alone = len(values) == 1 and not re.search(r"[A-Za-z]{3,}.*[A-Za-z]{3,}", text, re.DOTALL)
    return Found(str(values[-1]), "alone" if alone else "last")


def same_number(a: str | None, b: str | None, *, tolerance: float = 1e-6) -> bool:
    """Whether two numbers are equal, up to a relative `tolerance` (0.333333 is 1/3). None equals nothing."""
    if a is None or b is None:
        return False
    try:
        x, y = Fraction(a), Fraction(b)
    except (ValueError, ZeroDivisionError):
        return False
    return x == y or abs(x - y) <= Fraction(tolerance) * max(abs(x), abs(y))


def _of_statement(place: str, values: list[Fraction]) -> Fraction:
    """ "The answer is 3 + 4 = 7": what an equation comes to; else the first number."""
    return values[-1] if "=" in place else values[0]


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
