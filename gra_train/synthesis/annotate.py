"""Annotation by the pool: domain, keywords and summary of an instruction (GRA, section 3.1, D(0))."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from gra_train.chat.protocol import Ask
from gra_train.records import Sample
from gra_train.schema import Synthesis
from gra_train.synthesis.calls import Attempt, Call, ask_all
from gra_train.synthesis.draw import number
from gra_train.synthesis.prompts import Family, Prompt

ANNOTATOR = "annotator"


async def summarise(
    ask: Ask, instruction: str, id: str, *, seed: int, models: Sequence[str], family: Family, synthesis: Synthesis
) -> tuple[str, list[Attempt]]:
    """(summary, attempts) of a kept instruction, by a random pool model; "" where no answer could be read."""
    trace: list[Attempt] = []
    model = models[number(seed, id, "summariser") % len(models)]
    call = _call(family.summary(instruction), model, seed, id)
    (summary,) = await ask_all(ask, [call], synthesis=synthesis, trace=trace)
    return summary or "", trace


async def annotate(
    ask: Ask, sample: Sample, place: int, *, seed: int, models: Sequence[str], family: Family, synthesis: Synthesis
) -> tuple[Sample, list[Attempt]]:
    """(the seed with what it lacks of domain, keywords and summary, attempts).

    The pool's models take turns in random rotation: seed `place` goes through a shuffled order of the pool, its three
    annotations by three consecutive models. What a seed brings with it is kept. An annotation that cannot be read is
    asked of the next model in the rotation; after all of them it stays empty.
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
    for turn in range(len(models)):
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


def _call(prompt: Prompt[Any], model: str, seed: int, id: str) -> Call:
    return Call(ANNOTATOR, model, prompt, partial(number, seed, id, prompt.kind, model))
