"""How many calls and tokens a synthesis will ask of each model, before anything is asked.

Prompts are rendered from real seeds and measured; how many candidates come how far and how long answers are comes from
`assumptions`. A candidate's calls follow the story (story.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import fmean
from typing import Any

from gra_train.chat.protocol import Message
from gra_train.records import CRITERIA, Review, Sample
from gra_train.schema import Model, Synthesis
from gra_train.synthesis.annotate import completed
from gra_train.synthesis.assumptions import Assumptions
from gra_train.synthesis.draw import committee_of
from gra_train.synthesis.prompts import Prompt, family
from gra_train.synthesis.rounds import share_of

MEASURED_SEEDS = 64
"""Seeds whose prompts are rendered and measured."""
TEMPLATE_TOKENS = 12
"""What a chat template adds to a prompt, where no tokenizer is at hand."""

Count = Callable[[Sequence[Message] | str], int]
"""Tokens of a conversation, or of a text."""


@dataclass(frozen=True)
class Demand:
    """What is asked of one model under one prompt. Tokens are totals: read, written, scored (likelihoods)."""

    model: str
    kind: str
    calls: float
    read: float
    written: float
    scored: float = 0.0


def counter(models: Sequence[Model], characters: float) -> tuple[Count, str]:
    """(how tokens are counted, in words): with the first tokenizer on this machine, else by characters."""
    from pathlib import Path

    from gra_train.chat.templates import load_tokenizer, prompt_ids, token_ids
    from gra_train.locate import MINI, model_folder

    here = [m for m in models if m.path and (m.path.startswith(MINI) or Path(model_folder(m.path)).is_dir())]
    if here:
        tokenizer = load_tokenizer(here[0])

        def exact(text: Sequence[Message] | str) -> int:
            ids = token_ids(tokenizer, [text]) if isinstance(text, str) else prompt_ids(tokenizer, [text])
            return len(ids[0])

        return exact, f"with the tokenizer of {here[0].name}"

    def roughly(text: Sequence[Message] | str) -> int:
        if isinstance(text, str):
            return round(len(text) / characters)
        return round(sum(len(m["content"]) for m in text) / characters) + TEMPLATE_TOKENS

    return roughly, f"as {characters:g} characters each (no tokenizer of the pool is on this machine)"


@dataclass(frozen=True)
class Lengths:
    """Mean tokens of the nine prompts as rendered, of seeds, and of what a likelihood scores."""

    prompt: Mapping[str, float]
    instruction: float
    response: float


def lengths(samples: Sequence[Sample], synthesis: Synthesis, count: Count) -> Lengths:
    """Measured by rendering every prompt with the first seeds."""
    some = completed(samples[:MEASURED_SEEDS])
    found: dict[str, list[int]] = {}
    for _, prompt in rendered(some, synthesis):
        found.setdefault(prompt.kind, []).append(count(prompt.messages))
    return Lengths(
        {kind: fmean(values) for kind, values in found.items()},
        fmean([count(s.instruction) for s in some]),
        fmean([count(s.response or s.instruction) for s in some]),
    )


def rendered(samples: Sequence[Sample], synthesis: Synthesis) -> Iterator[tuple[Sample, Prompt[Any]]]:
    """All nine prompts with each of the samples, which stand in for what models write. What they lack is made up."""
    prompts = family(synthesis.prompts)
    some = completed(samples)
    review = Review("reviewer-name", (8,) * len(CRITERIA), "word " * 25)
    shown = (synthesis.min_examples + synthesis.max_examples) // 2
    for place, sample in enumerate(some):
        examples = [some[(place + i) % len(some)] for i in range(min(shown, len(some)))]
        text, answer = sample.instruction, sample.response or sample.instruction
        for prompt in (
            prompts.domain(text), prompts.summary(text), prompts.keywords(text),
            prompts.new_keywords(sample.domain, examples),
            prompts.instruction(sample.domain, sample.keywords, [e.summary for e in examples]),
            prompts.instruction_review(text), prompts.response(text), prompts.response_review(text, answer),
            prompts.adjudication(text, answer, [review] * 3),
        ):  # fmt: skip
            yield sample, prompt


def stand_in(values: Assumptions) -> list[Sample]:
    """One seed of the assumed length, where the seeds cannot be read."""
    words = "word " * round(values.seed_instruction * values.characters / 5)
    answer = "word " * round(values.seed_response * values.characters / 5)
    return [Sample("assumed", words.strip(), answer.strip())]


def annotation(
    rows: int, missing: Mapping[str, int], names: Sequence[str], size: Lengths, values: Assumptions, limit: int
) -> list[Demand]:
    """The seeds stage: three annotations of each seed, less what it brings with it (missing: kind -> seeds)."""
    return [d for kind, n in missing.items() for d in _text(kind, min(n, rows), names, None, size, values, limit)]


def candidates(synthesis: Synthesis, values: Assumptions) -> int:
    """Candidates until every round has its share, in whole waves (max_candidates is for the caller to mind)."""
    kept = values.survive
    if synthesis.review.mode != "none":
        kept *= values.pass_instruction * values.good
    total = 0
    for number in range(synthesis.rounds):
        share = share_of(synthesis.target, synthesis.rounds, number)
        total += ceil(share / kept / synthesis.wave) * synthesis.wave if kept else synthesis.max_candidates
    return total


def loop(
    synthesis: Synthesis, names: Sequence[str], size: Lengths, values: Assumptions, made: float, kept: float | None
) -> list[Demand]:
    """The synthesize stage: `made` candidates, `kept` rows that get a summary (None: GRA-Refine, whose instructions
    and summaries are the seeds'). Roles are drawn evenly unless fixed."""
    mode, scoring = synthesis.review.mode, synthesis.review.scoring
    reviewers = committee_of(synthesis)
    generator, committee, judge = _who(synthesis, names, reviewers)
    reviewed = made * (1.0 if mode == "none" else values.pass_instruction)
    answered = made if synthesis.respond == "before_review" or mode == "none" else reviewed
    limit = synthesis.max_tokens
    found = _text("response", answered, names, generator, size, values, limit)
    if kept is not None:
        found += _text("new_keywords", made, names, generator, size, values, limit)
        found += _text("instruction", made, names, generator, size, values, limit)
        found += _text("summary", kept, names, None, size, values, limit)
    if mode == "none":
        return found
    judged = reviewed * values.adjudicated if mode == "committee" else 0.0
    if scoring == "likelihood":
        found += _scored("instruction", made * reviewers, names, committee, size, size.instruction)
        for calls, who in ((reviewed * reviewers, committee), (judged, judge)):
            found += _scored("response", calls, names, who, size, size.response)
            found += _scored("instruction", calls, names, who, size, size.instruction)
        return found
    found += _text("instruction_review", made * reviewers, names, committee, size, values, limit)
    found += _text("response_review", reviewed * reviewers, names, committee, size, values, limit)
    return found + _text("adjudication", judged, names, judge, size, values, limit)


def distillation(rows: int, model: str, size: Lengths, values: Assumptions, limit: int) -> list[Demand]:
    return _text("response", rows, [model], None, size, values, limit)


Shares = Mapping[str, float]


def _who(synthesis: Synthesis, names: Sequence[str], reviewers: int) -> tuple[Shares | None, ...]:
    """Who plays generator, reviewer and adjudicator, as shares; None: all evenly."""
    if synthesis.roles != "fixed":
        return None, None, None
    committee = {name: 1 / max(1, reviewers) for name in names[1 : 1 + reviewers]}
    return {names[0]: 1.0}, committee, {names[min(1 + reviewers, len(names) - 1)]: 1.0}


def _text(
    kind: str, calls: float, names: Sequence[str], who: Shares | None, size: Lengths, values: Assumptions, limit: int
) -> list[Demand]:
    """Calls that are answered in writing, retries included."""
    asked = calls * (1 + values.retried)
    length = min(getattr(values, kind), limit)
    return [
        Demand(name, kind, asked * share, asked * share * size.prompt[kind], asked * share * length)
        for name, share in (who or dict.fromkeys(names, 1 / len(names))).items()
    ]


def _scored(
    kind: str, calls: float, names: Sequence[str], who: Shares | None, size: Lengths, length: float
) -> list[Demand]:
    """Likelihoods: the prompt is read, the continuation scored, nothing written."""
    return [
        Demand(
            name, f"{kind} (likelihood)", calls * share, calls * share * size.prompt[kind], 0, calls * share * length
        )
        for name, share in (who or dict.fromkeys(names, 1 / len(names))).items()
    ]
