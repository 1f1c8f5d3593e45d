"""GRA's nine prompts for real models: the rubric first, the sample last, the answer in the form of the family."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from gra_train.records import Review, Sample
from gra_train.synthesis.parsing import check_new
from gra_train.synthesis.prompts import Prompt, Scored
from gra_train.synthesis.prompts import rubrics as show
from gra_train.synthesis.repair import Parsed


@dataclass(frozen=True, slots=True)
class Form:
    """How the answer to one prompt is written.

    output: what the prompt says of it. parse and write: as in Prompt, with what an answer is held against: the domain
    and the examples' keywords of prompt 4, the material that the model was shown in prompts 6, 8 and 9.
    schema: its JSON schema as canonical JSON text, or None.
    """

    output: str
    parse: Callable[..., Parsed[Any]]
    write: Callable[..., str]
    schema: str | None = None


class PaperFamily:
    """The methods are those of prompts.Family. forms: one for each of KINDS."""

    def __init__(self, forms: Mapping[str, Form]) -> None:
        self._forms = forms

    def domain(self, instruction: str) -> Prompt[str]:
        return self._prompt("domain", show.block("instruction", instruction))

    def summary(self, instruction: str) -> Prompt[str]:
        return _in_brackets(self._prompt("summary", show.block("instruction", instruction)), [instruction])

    def keywords(self, instruction: str) -> Prompt[tuple[str, ...]]:
        return _in_brackets(self._prompt("keywords", show.block("instruction", instruction)), [instruction])

    def new_keywords(self, domain: str, examples: Sequence[Sample]) -> Prompt[tuple[str, ...]]:
        form, taken = self._forms["new_keywords"], [e.keywords for e in examples]
        prompt = self._prompt("new_keywords", show.shown_examples(domain, examples),
                              parse=partial(form.parse, domain=domain, taken=taken),
                              write=partial(form.write, domain=domain))  # fmt: skip
        shown = [text for e in examples for text in (show.keyword_list(e.keywords), e.summary)]
        return _in_brackets(prompt, shown, check=lambda words: check_new(words, taken))

    def instruction(self, domain: str, keywords: Sequence[str], summaries: Sequence[str]) -> Prompt[str]:
        prompt = self._prompt("instruction", show.shown_plan(domain, keywords, summaries))
        return _in_brackets(prompt, [*summaries, show.keyword_list(keywords)])

    def instruction_review(self, instruction: str) -> Prompt[tuple[int, ...]]:
        return self._judged("instruction_review", show.block("instruction", instruction))

    def response(self, instruction: str) -> Prompt[str]:
        return _in_brackets(self._prompt("response", show.neutralise(instruction)), [instruction])

    def response_review(self, instruction: str, response: str) -> Prompt[Scored]:
        return self._judged("response_review", show.shown_response(instruction, response))

    def adjudication(self, instruction: str, response: str, reviews: Sequence[Review]) -> Prompt[Scored]:
        return self._judged("adjudication", show.shown_reviews(instruction, response, reviews))

    def _judged(self, kind: str, sample: str) -> Prompt[Any]:
        return self._prompt(kind, sample, parse=partial(self._forms[kind].parse, shown=sample))

    def _prompt(
        self, kind: str, sample: str, *, parse: Callable[[str], Parsed[Any]] | None = None,
        write: Callable[[Any], str] | None = None,
    ) -> Prompt[Any]:  # fmt: skip
        form = self._forms[kind]
        messages = show.turns(kind, form.output, sample)
        return Prompt(kind, messages, parse or form.parse, write or form.write, schema=form.schema)


def _in_brackets(
    prompt: Prompt[Any], shown: Sequence[str], *, check: Callable[[Any], None] = lambda value: None
) -> Prompt[Any]:
    """A prompt whose answer becomes data: what was shown neutralised is read back with its brackets, and written for
    scoring as the prompt has it. Nothing changes where all of `shown` reached the model as it is.

    check: raises ParseError for a value that cannot be used once its brackets are back.
    """
    if not show.neutralises(shown):
        return prompt

    def parse(text: str) -> Parsed[Any]:
        parsed = prompt.parse(text)
        value = _each(partial(show.restored, pieces=shown), parsed.value)
        check(value)
        return replace(parsed, value=value)

    return replace(prompt, parse=parse, write=lambda value: prompt.write(_each(show.neutralise, value)))


def _each(change: Callable[[str], str], value: str | tuple[str, ...]) -> str | tuple[str, ...]:
    return change(value) if isinstance(value, str) else tuple(map(change, value))
