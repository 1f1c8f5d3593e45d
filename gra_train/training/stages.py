"""The fine-tuning stage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gra_train.records import read_samples
from gra_train.stages import SftStage
from gra_train.training.arguments import Place
from gra_train.training.rows import example
from gra_train.training.sft import train_sft


def sft(config: SftStage, inputs: Mapping[str, Path], out: Path) -> None:
    """inputs: data, model? (else config.model) -> model/, training.json: the student, trained on an arm's rows."""
    samples = read_samples(inputs["data"])
    start = str(inputs["model"] / "model") if "model" in inputs else config.model.path
    train_sft(
        start,
        [example(sample.instruction, sample.response) for sample in samples],
        config.train,
        out=out,
        seed=config.seed,
        place=Place(config.device, config.ranks, config.deepspeed),
        base=inputs["model"].parent.name if "model" in inputs else config.model.name or config.model.path,
        data=f"`{inputs['data'].parent.name}`",
        trust_remote_code=config.model.trust_remote_code,
        revision=config.model.revision,
    )
