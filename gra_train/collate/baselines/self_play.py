"""SPIN (Chen et al. 2024, arXiv 2401.01335): the gold target against what the model of the last iteration writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gra_train.chat.protocol import Reply
from gra_train.collate import modes
from gra_train.collate.data import Task
from gra_train.collate.sources import rationale_rows, task_rows
from gra_train.records import PreferencePair
from gra_train.runs import read_json
from gra_train.stages import CollateStage


def targets(config: CollateStage, inputs: Mapping[str, Path]) -> list[tuple[Task, str, str]]:
    """(task, prompt, gold target) of everything that is played for.

    "rationale": the rationale data that M_IFT was trained on, I -> R. "answer": the task data, I -> A.
    """
    method = config.collate
    if method.baselines.spin_target == "answer":
        given = task_rows(config, inputs, None)
        return [(t, modes.answer(method.prompts, t.instruction), t.answer) for t in given]
    trained = set(read_json(inputs["ift"] / "splits.json")["train"])
    learned = [t for t in rationale_rows(config, inputs) if t.id in trained]
    return [(t, modes.rationale(method.prompts, t.instruction), t.rationale) for t in learned]


def pairs(
    played: Sequence[tuple[Task, str, str]], replies: Sequence[Reply]
) -> tuple[list[PreferencePair], dict[str, Any]]:
    """Gold against own, where they differ and something was written; and counts."""
    found = [
        PreferencePair(task.id, prompt, gold, reply.text.strip())
        for (task, prompt, gold), reply in zip(played, replies, strict=True)
        if reply.text.strip() not in ("", gold)
    ]
    empty = sum(not reply.text.strip() for reply in replies)
    return found, {
        "rows": len(played),
        "pairs": len(found),
        "equal": len(played) - len(found) - empty,
        "empty": empty,
        "truncated_share": sum(reply.finish == "length" for reply in replies) / max(len(replies), 1),
    }
