"""The miniature's prompt family: one short line per prompt (mini/prompts.py), with the fields of the paper's nine.

Its models know one form of answer each, so the parsers are strict: nothing is repaired.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import TypeVar

from gra_train.chat.protocol import Message
from gra_train.mini import prompts
from gra_train.records import DOMAINS, Review, Sample
from gra_train.synthesis.prompts import Prompt, Scored
from gra_train.synthesis.repair import Parsed, ParseError

T = TypeVar("T")


def _turn(text: str) -> tuple[Message, ...]:
    return ({"role": "user", "content": text},)


def _reader(read: Callable[[str], T | None], reason: str) -> Callable[[str], Parsed[T]]:
    def parse(text: str) -> Parsed[T]:
        value = read(text)
        if value is None:
            raise ParseError(reason)
        return Parsed(value)

    return parse


def _read_domain(text: str) -> str | None:
    return text.strip() if text.strip() in DOMAINS else None


_read_text = _reader(lambda text: text.strip() or None, "empty answer")
_read_keywords = _reader(prompts.read_keywords, "not three keywords")


def _join(words: Sequence[str]) -> str:
    return prompts.SEPARATOR.join(words)


class MiniFamily:
    """The methods are those of prompts.Family."""

    def domain(self, instruction: str) -> Prompt[str]:
        return Prompt(
            "domain", _turn(prompts.domain(instruction)), _reader(_read_domain, "none of the seven domains"), str
        )

    def summary(self, instruction: str) -> Prompt[str]:
        return Prompt("summary", _turn(prompts.summary(instruction)), _read_text, str)

    def keywords(self, instruction: str) -> Prompt[tuple[str, ...]]:
        return Prompt("keywords", _turn(prompts.keywords(instruction)), _read_keywords, _join)

    def new_keywords(self, domain: str, examples: Sequence[Sample]) -> Prompt[tuple[str, ...]]:
        taken = {tuple(e.keywords) for e in examples}

        def parse(text: str) -> Parsed[tuple[str, ...]]:
            parsed = _read_keywords(text)
            if parsed.value in taken:
                raise ParseError("the keywords of an example")
            return parsed

        shown = prompts.new_keywords(domain, [e.keywords for e in examples])
        return Prompt("new_keywords", _turn(shown), parse, _join)

    def instruction(self, domain: str, keywords: Sequence[str], summaries: Sequence[str]) -> Prompt[str]:
        return Prompt("instruction", _turn(prompts.instruction(domain, keywords, summaries)), _read_text, str)

    def instruction_review(self, instruction: str) -> Prompt[tuple[int, ...]]:
        return Prompt("instruction_review", _turn(prompts.instruction_review(instruction)),
                      _reader(prompts.read_flags, "not three flags"), lambda flags: " ".join(map(str, flags)),
                      regex=prompts.FLAGS_PATTERN)  # fmt: skip

    def response(self, instruction: str) -> Prompt[str]:
        return Prompt("response", _turn(prompts.response(instruction)), _read_text, str)

    def response_review(self, instruction: str, response: str) -> Prompt[Scored]:
        return self._scored("response_review", prompts.response_review(instruction, response))

    def adjudication(self, instruction: str, response: str, reviews: Sequence[Review]) -> Prompt[Scored]:
        """The reviewers' means stand for their reviews: a model of this size reads no more."""
        return self._scored(
            "adjudication", prompts.adjudication(instruction, response, [fmean(r.scores) for r in reviews])
        )

    def _scored(self, kind: str, text: str) -> Prompt[Scored]:
        return Prompt(kind, _turn(text), _reader(prompts.read_review, "not six scores"),
                      lambda scored: prompts.write_review(scored[1], scored[0]))  # fmt: skip
