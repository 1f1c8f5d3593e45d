"""Refinement, beyond the paper: the winner's writer revises its rationale, and a better revision wins in its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from gra_train.chat.protocol import Sampling
from gra_train.collate import modes
from gra_train.collate.data import Task
from gra_train.collate.merit import score
from gra_train.collate.pairs import Rules, leaks
from gra_train.collate.providers import Calls, told, write_rationales
from gra_train.records import PreferencePair
from gra_train.schema import Model


def refined(
    pairs: Sequence[PreferencePair],
    tasks: Mapping[str, Task],
    writers: Sequence[Model],
    scorer: Model,
    rules: Rules,
    *,
    calls: Calls,
    sampling: Sampling,
    seed: int,
) -> tuple[list[PreferencePair], dict[str, Any]]:
    """The pairs, with revisions as winners where their merit is strictly higher; share of such pairs, mean gain (nats).

    info["writer"] names the winner's writer.
    """
    found: dict[str, PreferencePair] = {}
    gains: list[float] = []
    for writer in writers:
        own = [pair for pair in pairs if pair.info["writer"] == writer.name]
        if not own:
            continue
        prompts = {p.task_id: modes.refine(calls.prompts, tasks[p.task_id].instruction, p.chosen) for p in own}
        asked = [tasks[pair.task_id] for pair in own]

        def prompt(task: Task, prompts: Mapping[str, str] = prompts) -> str:
            return prompts[task.id]

        [replies] = write_rationales(
            [writer], asked, calls=calls, sampling=sampling, seeds=[seed], label="refined rationales",
            prompt=prompt,
        )  # fmt: skip
        texts = [told(reply) for reply in replies]
        merits = score(scorer, asked, [[pair.chosen, text] for pair, text in zip(own, texts, strict=True)], calls=calls)
        for pair, text, merit, task in zip(own, texts, merits, asked, strict=True):
            before, after = merit.candidates
            if before is None or after is None or not after > before:
                continue
            if text and not (rules.leak_filter and leaks(text, task.answer)):
                gains.append(after - before)
                info = {**pair.info, "refined": pair.chosen}
                found[pair.task_id] = replace(pair, chosen=text, margin=pair.margin + after - before, info=info)
    report = {"share": len(gains) / max(len(pairs), 1), "gain": fmean(gains) if gains else 0.0}
    return [found.get(pair.task_id, pair) for pair in pairs], report
