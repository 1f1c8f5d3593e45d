"""What can be said of trainings before anything is computed: settings that contradict each other, or the place.

A synthesis may take days before its first training; whatever is wrong with that one is said before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from gra_train.doctor import Finding
from gra_train.errors import UserError
from gra_train.graph import Node
from gra_train.schema import Preference, Train
from gra_train.training import adapters
from gra_train.training.arguments import Place, accumulation
from gra_train.training.stopping import deadline

SETTINGS: dict[str, tuple[str, Callable[[Any], Train]]] = {
    "sft": ("sft", lambda config: config.train),
    "ift": ("collate.ift", lambda config: config.collate.ift),
    **dict.fromkeys(("distinct", "spin"), ("collate.stage2", lambda config: config.collate.stage2)),
    **dict.fromkeys(("tune", "self_rewarding"), ("collate.stage3", lambda config: config.collate.stage3)),
    **dict.fromkeys(("answerer", "answers", "star"), ("collate.answerer", lambda config: config.collate.answerer)),
}
"""Of every stage that trains: what its settings are called, and where they are."""


def check(train: Train, place: Place, *, loss: str = "") -> None:
    """Raises UserError for a training that cannot work, whatever its model and data. loss: of preferences ("": SFT).

    Whether this machine has a GPU is asked where the training begins: it may begin elsewhere.
    """
    accumulation(train.global_batch, train.device_batch, place.ranks)
    adapters.check_settings(train.lora, place)
    if train.must_save_by != "auto":
        deadline(train.must_save_by)
    if train.samples and adapters.zero_stage(place) == 3:
        raise UserError("samples > 0: a model that deepspeed=zero3 has sharded cannot write; use samples=0 or zero2.")
    if train.dtype == "float16" and place.device == "cpu":
        raise UserError("dtype=float16 needs a GPU; use float32 or bfloat16 on a CPU")
    if loss and train.packing:
        raise UserError("packing=true is for fine-tuning: preference pairs are not packed. Set packing=false here.")
    if loss == "kto" and train.device_batch < 2:
        raise UserError("loss=kto estimates a divergence within each batch: it needs device_batch=2 or more")


def wrong(nodes: Sequence[Node], runs_dir: Path) -> Iterator[str]:
    """What is wrong with the trainings that are yet to be run; each thing once."""
    said = set()
    for node in nodes:
        if node.stage not in SETTINGS or node.run(runs_dir).status["state"] == "done":
            continue
        name, settings = SETTINGS[node.stage]
        config, train = node.config, settings(node.config)
        loss = config.collate.loss if isinstance(train, Preference) else ""
        try:
            place = Place(config.device, config.ranks, config.deepspeed)
            place.check_deepspeed()
            check(train, place, loss=loss)
        except UserError as error:
            if (text := f"{name}: {error}") not in said:
                said.add(text)
                yield text


def check_trainings(nodes: Sequence[Node], runs_dir: Path) -> None:
    """Raises UserError for the first thing that is wrong with a training that is yet to be run."""
    for text in wrong(nodes, runs_dir):
        raise UserError(text)


def trainings(nodes: Sequence[Node], runs_dir: Path) -> Iterator[Finding]:
    """The same for `gra-train validate`."""
    found = [*wrong(nodes, runs_dir)]
    yield from (Finding("problem", "training", text) for text in found)
    count = sum(node.stage in SETTINGS for node in nodes)
    if count and not found:
        yield Finding("ok", "training", f"{count} trainings: batches, adapters and DeepSpeed fit the ranks")
