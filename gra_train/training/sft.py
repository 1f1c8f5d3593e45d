"""Supervised fine-tuning: token cross-entropy on the completion, with TRL's SFTTrainer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gra_train.schema import Train
from gra_train.settings import identity
from gra_train.training import adapters, fit, models, rows
from gra_train.training.arguments import Place, sft_arguments


def train_sft(
    model: str,
    examples: Sequence[dict[str, Any]],
    train: Train,
    *,
    out: Path,
    seed: int,
    place: Place,
    base: str = "",
    trust_remote_code: bool = False,
) -> None:
    """Fine-tune `model` (a path) on prompt-completion examples (see `rows.example`) -> out/model, out/training.json.

    base: how the model card calls the model that was started from. Checkpoints go to out.parent/checkpoints.
    Raises UserError for empty data, too many over-long examples, a model that cannot be trained, an indivisible batch
    and a lost loss; Stopped when asked to stop.
    """
    adapters.check(model, train.lora, place)
    with fit.fresh(place, seed):
        from trl import SFTConfig

        from gra_train.training.trainers import Sft

        arguments = sft_arguments(train, place, folder=out.parent / "checkpoints", seed=seed)
        args = SFTConfig(**arguments)  # before the model is loaded: ZeRO-3 shards it at once
        network, tokenizer = models.load(model, lora=train.lora, dtype=train.dtype, trust_remote_code=trust_remote_code)
        data = rows.sft_rows(tokenizer, examples)
        kept = rows.keep_fitting(data, max_length=train.max_length, max_overlong=train.max_overlong)
        trainer = Sft(network, tokenizer, args, **adapters.arguments(network, train.lora))
        trainer.use(kept, seed=seed, batch=train.global_batch, by_length=train.group_by_length)
        counts = {"examples": len(kept), "overlong": len(data) - len(kept)}
        counts |= fit.fit(trainer, train, out=out, label="SFT")
        text = models.card(title=out.parent.name, base=base or os.path.basename(model), method="sft",
                           settings=identity(train), examples=examples, counts=counts)  # fmt: skip
        models.save(trainer, out / "model", train, start=model, card=text, trust_remote_code=trust_remote_code)
        fit.report(trainer, out / "training.json", counts)
