"""A formula, and whether two of them are the same: by math-verify, which knows LaTeX, sets, intervals and units."""

from __future__ import annotations

import logging
import re
from functools import lru_cache
from typing import Any

from gra_train.evaluation.answers.found import ANSWERED, NOTHING, Found, boxed, marked, stated, without_thinking

_DOLLARS = re.compile(r"\$\$?(.+?)\$\$?|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
LONGEST = 2000
"""Characters of a formula that is looked at: a longer one is no answer, and would only cost time."""
_LONGEST_LINE = 200
_COMMAND = re.compile(r"\\(?:text|textbf|mathrm|mbox)\s*\{[^{}]*\}|\\[A-Za-z]+")
_WORD = re.compile(r"[A-Za-z]{3,}")  # ab and xyz: the second is lost, and read as before


def formula(text: str) -> Found:
    """The formula that a text answers with, as LaTeX.

    In a box, after ####, after "the answer is", or all that is written; else the last formula between dollars, or the
    last number: guesses.
    """
    text = without_thinking(text)
    for place, how in ((boxed(text), "boxed"), (marked(text), "marked")):
        if place:
            return Found(place, how)
    for place in stated(text, ANSWERED):
        if bare := _bare(place):
            return Found(bare, "stated")
    if alone := _alone(text.strip()):
        return Found(alone, "alone")
    if shown := [next(filter(None, groups)).strip() for groups in _DOLLARS.findall(text)]:
        return Found(shown[-1], "last")
    numbers = re.findall(r"-?\d[\d,]*(?:\.\d+)?(?:/\d+)?", text)
    return Found(numbers[-1], "last") if numbers else NOTHING


def _alone(text: str) -> str:
    """`text` without its dollars, if it is one line of mathematics and nothing else; "" where it has words."""
    whole = _DOLLARS.fullmatch(text.rstrip("."))
    inner = (next(filter(None, whole.groups())) if whole else text).strip()
    if not inner or len(inner) > _LONGEST_LINE or re.search(r"\n|\$|\\[()\[\]]", inner):
        return ""
    return "" if _WORD.search(_COMMAND.sub(" ", inner)) else inner.rstrip(".")


def same_formula(gold: str | None, answer: str | None) -> bool:
    """Whether an answer is mathematically the gold one. None equals nothing. What cannot be parsed is compared as text.

    Not symmetric (math-verify: the gold answer decides what is asked for). Runs without time limit of its own: call it
    through `maths_pool.same_formulas`, where a formula that takes too long is given up.
    """
    if not gold or not answer or len(answer) > LONGEST:
        return False
    if normal(gold) == normal(answer):
        return True
    from math_verify import verify

    parsed, said = _parsed(gold), _parsed(answer)
    if not parsed or not said:
        return False
    return bool(verify(list(parsed), list(said), timeout_seconds=None))


@lru_cache(maxsize=4096)
def _parsed(latex: str) -> tuple[Any, ...]:
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    logging.getLogger("math_verify").setLevel(logging.ERROR)
    wanted = [LatexExtractionConfig(), ExprExtractionConfig()]
    return tuple(parse(f"${latex}$", extraction_config=wanted, parsing_timeout=None))


def normal(latex: str) -> str:
    """LaTeX without what does not matter: spacing, sizes, units in \\text, degrees, dollars, a final full stop."""
    text = re.sub(r"\\(?:left|right|bigl?|bigr|displaystyle|,|!|;|:|\s|quad|qquad)(?![a-zA-Z])", "", latex.strip())
    text = re.sub(r"\\(?:mbox|text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}", r"\1", text)
    text = text.replace("dfrac", "frac").replace("tfrac", "frac").replace("^\\circ", "").replace("^{\\circ}", "")
    text = re.sub(r"\\frac\s*([0-9])\s*([0-9])", r"\\frac{\1}{\2}", text)
    return re.sub(r"\s+|[$]|\\[$%]", "", text).rstrip(".").replace("{,}", "").lower()


def _bare(place: str) -> str:
    match = _DOLLARS.search(place)
    return next(filter(None, match.groups())).strip() if match else place.strip().strip("*_ ").rstrip(".")
