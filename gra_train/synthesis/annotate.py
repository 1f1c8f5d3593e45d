"""Annotation by the pool: domain, keywords and summary of an instruction (GRA, section 3.1, D(0))."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from gra_train.chat.protocol import Ask
from gra_train.records import Sample
from gra_train.schema import Synthesis
from gra_train.synthesis.calls import Attempt, Call, KeyOf, ask_all, no_key
from gra_train.synthesis.draw import number
from gra_train.synthesis.parsing import MAX_KEYWORDS, MAX_SUMMARY_WORDS
from gra_train.synthesis.prompts import Family, Prompt

ANNOTATOR = "annotator"
MODELS_ASKED = 2
"""Models that are asked for an annotation, the second where the first one's answers cannot be read."""


async def summarise(
    ask: Ask, instruction: str, id: str, *, seed: int, models: Sequence[str], family: Family, synthesis: Synthesis,
    key_of: KeyOf = no_key,
) -> tuple[str, list[Attempt]]:  # fmt: skip
    """(summary, attempts) of a kept instruction, by a random pool model; "" where no answer could be read."""
    trace: list[Attempt] = []
    model = models[number(seed, id, "summariser") % len(models)]
    call = _call(family.summary(instruction), model, seed, id)
    (summary,) = await ask_all(ask, [call], synthesis=synthesis, trace=trace, key_of=key_of)
    return summary or "", trace


async def annotate(
    ask: Ask, sample: Sample, place: int, *, seed: int, models: Sequence[str], family: Family, synthesis: Synthesis
) -> tuple[Sample, list[Attempt]]:
    """(the seed with what it lacks of domain, keywords and summary, attempts).

    The pool's models take turns in random rotation: seed `place` goes through a shuffled order of the pool, its three
    annotations by three consecutive models. What a seed brings with it is kept. An annotation that cannot be read is
    asked of the next model in the rotation too; then it stays empty (see `completed`).
    """
    prompts: dict[str, Prompt[Any]] = {
        "domain": family.domain(sample.instruction),
        "keywords": family.keywords(sample.instruction),
        "summary": family.summary(sample.instruction),
    }
    missing = [name for name in prompts if not getattr(sample, name)]
    # One shuffled order for each pass over the pool, so that every model annotates equally often.
    order = list(models)
    random.Random(number(seed, "rotation", place // len(models))).shuffle(order)
    trace: list[Attempt] = []
    found: dict[str, Any] = {}
    for turn in range(min(MODELS_ASKED, len(models))):
        waiting = [name for name in missing if name not in found]
        calls = [
            _call(prompts[name], order[(place + list(prompts).index(name) + turn) % len(order)], seed, sample.id)
            for name in waiting
        ]
        if not calls:
            break
        answers = await ask_all(ask, calls, synthesis=synthesis, trace=trace)
        found |= {name: answer for name, answer in zip(waiting, answers, strict=True) if answer is not None}
    return replace(sample, **found), trace


def completed(samples: Sequence[Sample]) -> list[Sample]:
    """The seeds with what no model could give made from their own text, so that none is lost as an example.

    domain: the most frequent one of the others (QA, the most general, where there is none); keywords: the three longest
    words; summary: the first sentence, cut at 30 words.
    """
    known = Counter(s.domain for s in samples if s.domain)
    domain = min(known, key=lambda d: (-known[d], d)) if known else "QA"
    return [
        replace(
            s,
            domain=s.domain or domain,
            keywords=s.keywords or _longest_words(s.instruction),
            summary=s.summary or _first_sentence(s.instruction),
        )
        for s in samples
    ]


def _longest_words(text: str) -> tuple[str, ...]:
    words = dict.fromkeys(re.findall(r"\w+", text.lower()))
    return tuple(sorted(words, key=lambda word: -len(word))[:MAX_KEYWORDS]) or (text.strip(),)


def _first_sentence(text: str) -> str:
    return " ".join(re.split(r"(?<=[.!?])\s", text.strip())[0].split()[:MAX_SUMMARY_WORDS])


def _call(prompt: Prompt[Any], model: str, seed: int, id: str) -> Call:
    return Call(ANNOTATOR, model, prompt, partial(number, seed, id, prompt.kind, model))
