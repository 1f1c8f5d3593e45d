"""The prompt family `tags`: answers between tags, for any model that can follow a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from gra_train.records import CRITERIA, DOMAINS, FLAGS
from gra_train.synthesis import parsing, ratings
from gra_train.synthesis.prompts import Scored
from gra_train.synthesis.prompts.paper import Form
from gra_train.synthesis.prompts.rubrics import keyword_list, tagged


def _write_keywords(words: Sequence[str]) -> str:
    return tagged("keywords", keyword_list(words))


def _write_new_keywords(words: Sequence[str], *, domain: str) -> str:
    return f"{tagged('domain', domain)}\n{_write_keywords(words)}"


def _write_flags(flags: Sequence[int]) -> str:
    return tagged("flags", str(list(flags)))


def _write_scored(scored: Scored) -> str:
    lines = "\n".join(f"{name}: {score}" for name, score in zip(CRITERIA, scored[0], strict=True))
    return f"<scores>\n{lines}\n</scores>\n<review>{scored[1]}</review>"


_SCORES = (
    "<scores>\n" + "\n".join(f"{name}: integer" for name in CRITERIA) + "\n</scores>\n"
    "<review>your reasons in fewer than 30 words</review>"
)
FORMS: dict[str, Form] = {
    "domain": Form(f"<domain>one of: {', '.join(DOMAINS)}</domain>", parsing.domain, partial(tagged, "domain")),
    "summary": Form("<summary>your sentence</summary>", parsing.summary, partial(tagged, "summary")),
    "keywords": Form("<keywords>first, second, third</keywords>", parsing.keywords, _write_keywords),
    "new_keywords": Form(
        "<domain>the domain that was given</domain>\n<keywords>concrete, concrete, abstract</keywords>",
        parsing.new_keywords, _write_new_keywords,
    ),
    "instruction": Form(
        "<instruction>the whole instruction</instruction>", parsing.instruction, partial(tagged, "instruction")
    ),
    "instruction_review": Form(
        f"<flags>[{', '.join(FLAGS)}]</flags>, for example <flags>[1, 0, 1]</flags>", ratings.flags, _write_flags
    ),
    "response": Form("<response>the whole answer</response>", parsing.response, partial(tagged, "response")),
    "response_review": Form(_SCORES, ratings.scored, _write_scored),
    "adjudication": Form(
        f"<analysis>what each reviewer has right and wrong</analysis>\n{_SCORES}", ratings.scored, _write_scored
    ),
}  # fmt: skip
