"""A short text: a name, a phrase, True or False, a sequence of brackets."""

from __future__ import annotations

import re
import string

from gra_train.evaluation.answers.found import NOTHING, Found, boxed, marked, stated, without_thinking
from gra_train.evaluation.answers.letters import leading


def text(answer: str) -> Found:
    """The short text that an answer ends in: after ####, in a box, after "the answer is", alone; else the last line."""
    answer = without_thinking(answer)
    for place, how in ((marked(answer), "marked"), (boxed(answer), "boxed")):
        if place:
            return Found(place, how)
    for place in stated(answer):
        if bare := _bare(place):
            return Found(bare, "stated")
    lines = [line for line in map(_bare, answer.splitlines()) if line]
    if not lines:
        return NOTHING
    return Found(lines[-1], "alone" if len(lines) == 1 else "last")


def same_text(gold: str | None, answer: str | None) -> bool:
    """Equal up to spacing; or up to case, punctuation and articles (SQuAD's normal form, Rajpurkar et al. 2016).

    A gold option like "(A)" asks for its letter alone: "A", "a)" and "(A) Paris" say it; an article does not.
    """
    if not gold or not answer:
        return False
    if "".join(gold.split()) == "".join(answer.split()):
        return True
    if option := re.fullmatch(r"\(([A-Z])\)", gold.strip()):
        return leading(answer, string.ascii_uppercase, strict=True) == option[1]
    return bool(_squad(gold)) and _squad(gold) == _squad(answer)


def _bare(place: str) -> str:
    return re.sub(r"(?<=[^.])\.$", "", place.strip().strip('*_`"“” ')).strip("*_ ")


def _squad(value: str) -> str:
    kept = value.casefold().translate(str.maketrans("", "", string.punctuation))
    return " ".join(re.sub(r"\b(?:a|an|the)\b", " ", kept).split())
