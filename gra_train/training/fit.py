"""One training from start, or from its last checkpoint, to a saved model."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gra_train import garbage, progress
from gra_train.runs import Stopped, content_hash, read_json, write_json
from gra_train.schema import Train
from gra_train.training import adapters, checkpoints, models, readiness
from gra_train.training.arguments import Place
from gra_train.training.callbacks import Watch
from gra_train.training.health import Health
from gra_train.training.ranks import from_first, together
from gra_train.training.stopping import Stopping, deadline, save_seconds
from gra_train.training.throughput import Meter, peak_tflops


@contextmanager
def fresh(place: Place, seed: int) -> Iterator[None]:
    """A process as if nothing had been trained in it before, and afterwards as if nothing had: seeds set, accelerate's
    shared state forgotten, and DeepSpeed's, under which whoever loads a model next would shard it (ZeRO-3)."""
    import transformers
    from accelerate.state import AcceleratorState, GradientState
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    place.check()

    def forget() -> None:
        unset_hf_deepspeed_config()
        if place.ranks == 1 and not place.deepspeed:
            AcceleratorState._reset_state(reset_partial_state=True)
            GradientState._reset_state()

    forget()
    transformers.set_seed(seed)
    try:
        yield
    finally:
        forget()


@dataclass(frozen=True)
class Job:
    """What is trained on what: method (SFT, DPO), path of the model at the start, the card's names of it and of the
    data, the examples, and every setting that can change the result."""

    method: str
    start: str
    base: str
    data: str
    examples: Sequence[dict[str, Any]]
    settings: dict[str, Any]
    trust_remote_code: bool = False


def check(model: str, train: Train, place: Place, *, loss: str = "") -> None:
    """Raises UserError, before anything is loaded, for what cannot work. loss: of a preference training."""
    readiness.check(train, place, loss=loss)
    adapters.check(model, train.lora, place)


def complete(trainer: Any, train: Train, job: Job, *, out: Path, examples: int, overlong: int) -> None:
    """Run the training and leave out/model and out/training.json. Raises Stopped after saving when it has to stop."""
    data = content_hash(list(job.examples))
    facts = {"data": data, "settings": content_hash(job.settings)}
    counts = {"examples": examples, "overlong": overlong}
    counts |= fit(trainer, train, out=out, label=job.method, facts=facts)
    card = models.card(
        title=out.parent.name,
        base=job.base or os.path.basename(job.start),
        method=job.method.lower(),
        data=f"{job.data} " * bool(job.data) + f"(content hash `{data}`)",
        settings=job.settings,
        counts=counts,
        adapter=bool(train.lora.r and not train.lora.merge),
    )
    _save(trainer, train, job, out=out, card=card)
    if trainer.is_world_process_zero():
        write_json(out / "training.json", counts)


def _save(trainer: Any, train: Train, job: Job, *, out: Path, card: str) -> None:
    """out/model, on all ranks. Raises UserError where the disk is full, before or in the middle of it."""
    args, folder, need = trainer.args, Path(trainer.args.output_dir), models.save_bytes(trainer.model, train)
    first = trainer.is_world_process_zero()
    together(args, lambda: checkpoints.check_room(folder, need) if first else None)

    def write() -> None:
        with checkpoints.full_disk_explained(folder, need, unfinished=models.unfinished(out / "model")):
            models.save(
                trainer, out / "model", train, start=job.start, card=card, trust_remote_code=job.trust_remote_code
            )

    together(args, write)


def fit(trainer: Any, train: Train, *, out: Path, label: str, facts: Mapping[str, str]) -> dict[str, Any]:
    """Run the training; {"steps", "last_loss"}. Raises Stopped after saving when it has to stop.

    facts: hashes of what a checkpoint must have been trained on to be resumed.
    """
    import transformers

    args, folder = trainer.args, Path(trainer.args.output_dir)
    checkpoint = from_first(args, lambda: checkpoints.resume(folder, ranks=args.world_size, facts=facts))
    before = read_json(checkpoint / checkpoints.MARKER) if checkpoint else {}
    health = Health(folder, train.max_loss_ratio, before.get("first_losses", ()), before.get("recent_losses", ()))
    trainer.saves(keep=train.keep_checkpoints, facts=lambda: {**facts, **health.facts()})
    meter = Meter(trainer.model, devices=args.world_size, peak=peak_tflops(train.peak_tflops))
    stopping = Stopping(
        out,
        must_save_by=deadline(train.must_save_by) if trainer.is_world_process_zero() else None,
        save_minutes=train.save_minutes,
        save_s=save_seconds(trainer.save_bytes()),
    )
    with progress.task(label, unit="steps", stoppable=False) as bar, stopping:
        watch = Watch(
            trainer,
            out=out,
            save_steps=train.save_steps,
            samples=train.samples,
            bar=bar,
            health=health,
            stopping=stopping,
            meter=meter,
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.add_callback(watch)
        # accelerate collects garbage before the first step, to make room on a GPU
        with nullcontext() if args.device.type == "cuda" else garbage.passed_over():
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if trainer.args.deepspeed:
        import deepspeed

        wrapped = type(trainer.model_wrapped).__name__
        assert isinstance(trainer.model_wrapped, deepspeed.DeepSpeedEngine), f"DeepSpeed was asked for, {wrapped} ran"
    if watch.stopped:
        step, last = trainer.state.global_step, trainer.state.max_steps
        raise Stopped(f"{label}: saved and stopped at step {step} of {last}, {watch.stopped}")
    return {"steps": trainer.state.global_step, "last_loss": round(watch.losses[-1], 6) if watch.losses else None}
