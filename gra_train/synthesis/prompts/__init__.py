"""GRA's nine prompts as families: each prompt is the conversation to send and the parser of what comes back.

A family is a module-like object with one method per prompt, so that the loop never sees wording or output format.
`tags` and `json` are for real models (our own wording of the paper's structure, and answers between tags or as JSON by
a schema); `mini` is for the miniature world.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from gra_train.chat.protocol import Message
from gra_train.records import Review, Sample
from gra_train.synthesis.repair import Parsed

T = TypeVar("T")
Scored = tuple[tuple[int, ...], str]
"""Six scores in the order of records.CRITERIA, and the review's text."""

KINDS = (
    "domain", "summary", "keywords", "new_keywords", "instruction", "instruction_review", "response", "response_review",
    "adjudication",
)  # fmt: skip
"""The nine prompts, by the names that tables and the ledger's purposes use."""


@dataclass(frozen=True, slots=True)
class Prompt(Generic[T]):
    """A question to one model.

    kind: one of KINDS.
    parse: answer text -> Parsed value; raises ParseError.
    write: the inverse, the answer in the prompt's own form (what likelihood scoring gives a reviewer to score).
    regex: what the answer must match as a whole, for constrained decoding, or None.
    schema: the answer's JSON schema, as canonical JSON text, or None.
    stop: strings that end the answer.
    """

    kind: str
    messages: tuple[Message, ...]
    parse: Callable[[str], Parsed[T]]
    write: Callable[[T], str]
    regex: str | None = None
    schema: str | None = None
    stop: tuple[str, ...] = ()


class Family(Protocol):
    """The nine prompts (GRA, sections 3.2-3.4)."""

    def domain(self, instruction: str) -> Prompt[str]: ...

    def summary(self, instruction: str) -> Prompt[str]: ...

    def keywords(self, instruction: str) -> Prompt[tuple[str, ...]]: ...

    def new_keywords(self, domain: str, examples: Sequence[Sample]) -> Prompt[tuple[str, ...]]: ...

    def instruction(self, domain: str, keywords: Sequence[str], summaries: Sequence[str]) -> Prompt[str]: ...

    def instruction_review(self, instruction: str) -> Prompt[tuple[int, ...]]: ...

    def response(self, instruction: str) -> Prompt[str]: ...

    def response_review(self, instruction: str, response: str) -> Prompt[Scored]: ...

    def adjudication(self, instruction: str, response: str, reviews: Sequence[Review]) -> Prompt[Scored]: ...


def family(name: str) -> Family:
    """The prompt family of `synthesis.prompts`."""
    if name == "mini":
        from gra_train.synthesis.prompts.mini import MiniFamily

        return MiniFamily()
    from gra_train.synthesis.prompts import json_forms, paper, tags

    assert name in ("tags", "json"), f"the schema allows no prompt family {name!r}"
    return paper.PaperFamily(tags.FORMS if name == "tags" else json_forms.FORMS)
