"""Rationale providers at work: each writes one rationale per instruction, through the chat layer and its ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gra_train import progress
from gra_train.chat.pool import open_pool
from gra_train.chat.protocol import Ask, Completion, Reply, Sampling
from gra_train.collate import modes
from gra_train.collate.data import Task, number
from gra_train.schema import Collate, Model


@dataclass(frozen=True)
class Calls:
    """How the models of a stage are called: prompt family, stories of one block, ledger folder, device."""

    prompts: str
    block: int
    ledger: Path
    device: str = "auto"


def member(name: str, folder: Path, base: Model) -> Model:
    """The model in a stage's result folder as a pool member in process; dtype and trust are those of its base."""
    path = str(folder / "model")
    return Model(name=name, path=path, dtype=base.dtype, trust_remote_code=base.trust_remote_code)


def write_rationales(
    writer: Model,
    tasks: Sequence[Task],
    *,
    calls: Calls,
    sampling: Sampling,
    seed: int,
    label: str = "rationales",
) -> list[Reply]:
    """One rationale for each task, in mode I -> R; finish is "length" where it was cut at max_tokens.

    The sampling seed of a task depends on (seed, task), not on its writer: writers differ by their weights alone.
    """

    def story(task: Task) -> Any:
        async def tell(ask: Ask) -> Reply:
            text = modes.rationale(calls.prompts, task.instruction)
            request = Completion(
                ({"role": "user", "content": text},),
                sampling,
                number("rationale", seed, task.id),
                purpose=f"provider/{label}",
            )
            [reply] = await ask((writer.name, request))
            return reply

        return tell

    with (
        open_pool([writer], ledger=calls.ledger, device=calls.device) as pool,
        progress.task(f"{label} by {writer.name}", total=len(tasks), unit="rationales") as bar,
    ):
        bar.also = pool.health
        return pool.run([story(task) for task in tasks], block=calls.block, on_done=bar.advance)


def task_sampling(collate: Collate, *, temperature: float | None = None) -> Sampling:
    """How rationales are drawn: collate.temperature unless another is given."""
    return Sampling(
        temperature=collate.temperature if temperature is None else temperature,
        top_p=collate.top_p,
        max_tokens=collate.max_tokens,
    )
