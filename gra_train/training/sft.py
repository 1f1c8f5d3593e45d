"""Supervised fine-tuning: token cross-entropy on the completion, with TRL's SFTTrainer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gra_train.schema import Train
from gra_train.settings import identity
from gra_train.training import adapters, fit, models, packing, rows
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
    data: str = "",
    trust_remote_code: bool = False,
    revision: str = "",
) -> None:
    """Fine-tune `model` (a path) on prompt-completion examples (see `rows.example`) -> out/model, out/training.json.

    base, data: how the model card calls the model that was started from and the examples. revision: of `model`, where
    that is a Hub name. Checkpoints go to out.parent/checkpoints.
    Raises UserError for empty data, too many over-long examples, a model that cannot be trained, an indivisible batch,
    a broken checkpoint, a full disk and a lost loss; Stopped when it had to stop, and has saved.
    """
    fit.check(model, train, place)
    with fit.fresh(place, seed):
        from trl import SFTConfig

        from gra_train.training.trainers import Sft, gathered

        arguments = sft_arguments(train, place, folder=out.parent / "checkpoints", seed=seed)
        args = SFTConfig(**arguments)  # before the model is loaded: ZeRO-3 shards it at once
        network, tokenizer = models.load(
            model, lora=train.lora, dtype=train.dtype, trust_remote_code=trust_remote_code, revision=revision
        )
        adapter = adapters.arguments(network, train.lora, revision=adapters.pinned(model, revision))
        tokenised = rows.sft_rows(tokenizer, examples)
        kept = rows.keep_fitting(tokenised, max_length=train.max_length, max_overlong=train.max_overlong)
        trainer = Sft(network, tokenizer, args, **adapter)
        overlong = len(tokenised) - len(kept)
        if train.packing:
            with gathered(trainer.model):
                packing.check_isolated(trainer.model, model)
            kept = packing.pack(kept, max_length=train.max_length)
        trainer.use(kept, seed=seed, batch=train.global_batch, by_length=train.group_by_length)
        job = fit.Job("SFT", model, base, data, examples, identity(train) | {"seed": seed}, trust_remote_code)
        fit.complete(trainer, train, job, out=out, examples=len(tokenised) - overlong, overlong=overlong)
