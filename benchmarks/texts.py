"""What the server answers and what is sent, both taken from gra_train's own prompts, so that answers can be read.

`answers()` is the server's file (see stub.py): fixed texts by prompt kind; reviewers give scores that differ by model,
so that every committee of three disagrees a little and its sample is adjudicated. `prompts()` are the same prompts as
plain templates, for the clients that have none of their own.
"""

from __future__ import annotations

from typing import Any

from gra_train.records import CRITERIA
from gra_train.synthesis.prompts import family

_INSTRUCTION = (
    "Someone notes these words in a row: %WORDS%. Number %COUNT% on the list is missing. Say which kind of word would "
    "fit there best, given the two beside it, and explain in three steps how one could find out."
)
_RESPONSE = (
    "First write down what kind of word each neighbour is: a thing, a doing or a quality. Then look at how the others "
    "of the row follow upon each other, since the same pattern must hold at the gap. Last, put a word of that kind in "
    "and read the three aloud. Here the neighbours are things, so the missing word is a doing. Check: it reads well."
)
_REVIEW = "The steps are right and follow from each other; the check at the end is useful."


def _scores(total: int) -> str:
    """Six scores that add up to `total`."""
    each = [total // 6 + (i < total % 6) for i in range(6)]
    lines = "\n".join(f"{name}: {score}" for name, score in zip(CRITERIA, each, strict=True))
    return f"<scores>\n{lines}\n</scores>\n<review>{_REVIEW}</review>"


def _kinds() -> dict[str, tuple[Any, ...]]:
    """Each prompt kind's messages, with placeholders where a sample's own text goes."""
    prompts, words = family("tags"), ("{keywords}",)
    made = {
        "new_keywords": prompts.new_keywords("Math", []),
        "instruction": prompts.instruction("Math", words, ["It asks which word is the odd one out."]),
        "instruction_review": prompts.instruction_review("{instruction}"),
        "response": prompts.response("{instruction}"),
        "response_review": prompts.response_review("{instruction}", "{response}"),
        "adjudication": prompts.adjudication("{instruction}", "{response}", []),
        "summary": prompts.summary("{instruction}"),
    }
    return {kind: prompt.messages for kind, prompt in made.items()}


def answers() -> dict[str, Any]:
    """{"markers": [[first line of a rubric, answer]], "default": ...}."""
    said: dict[str, Any] = {
        "new_keywords": "<keywords>word %COUNT%, lists, order</keywords>",
        "instruction": f"<instruction>{_INSTRUCTION}</instruction>",
        "instruction_review": "<flags>[1, 1, 1]</flags>",
        "response": f"<response>{_RESPONSE}</response>",
        "response_review": {f"stub-{i}": _scores(60 - 2 * i) for i in range(5)},
        "adjudication": f"<analysis>Both objections are minor.</analysis>\n{_scores(57)}",
        "summary": "<summary>It asks which kind of word is missing from a list.</summary>",
    }
    kinds = _kinds()
    return {
        "markers": [[kinds[kind][0]["content"].splitlines()[1], text] for kind, text in said.items()],
        "default": f"<response>{_RESPONSE}</response>",
    }


def prompts() -> dict[str, dict[str, str]]:
    """{kind: {"system": rubric, "user": template}}; "plain" is the response prompt with a question of its own."""
    made = {kind: {"system": turns[0]["content"], "user": turns[1]["content"]} for kind, turns in _kinds().items()}
    made["adjudication"]["user"] = made["adjudication"]["user"].replace("<reviews>\n", "<reviews>\n{reviews}")
    made["plain"] = {"system": made["response"]["system"], "user": "Explain to a pupil how to solve task number {i}."}
    return made
