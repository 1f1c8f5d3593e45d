"""One training from start, or from its last checkpoint, to a saved model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gra_train import progress
from gra_train.runs import Stopped, write_json
from gra_train.schema import Train
from gra_train.training import checkpoints
from gra_train.training.arguments import Place
from gra_train.training.callbacks import Watch


@contextmanager
def fresh(place: Place, seed: int) -> Iterator[None]:
    """A process as if nothing had been trained in it before: seeds set, accelerate's shared state forgotten."""
    import transformers
    from accelerate.state import AcceleratorState, GradientState

    place.check()

    def forget() -> None:
        if place.ranks == 1 and not place.deepspeed:
            AcceleratorState._reset_state(reset_partial_state=True)
            GradientState._reset_state()

    forget()
    transformers.set_seed(seed)
    try:
        yield
    finally:
        forget()


def fit(trainer: Any, train: Train, *, out: Path, label: str) -> dict[str, Any]:
    """Run the training; {"steps", "first_loss", "last_loss"}. Raises Stopped after saving when asked to stop."""
    import transformers

    checkpoint = checkpoints.latest(Path(trainer.args.output_dir), ranks=trainer.args.world_size)
    with progress.task(label, unit="steps", stoppable=False) as bar:
        watch = Watch(trainer, out=out, save_steps=train.save_steps, keep=train.keep_checkpoints, bar=bar)
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.add_callback(watch)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if trainer.args.deepspeed:
        import deepspeed

        wrapped = type(trainer.model_wrapped).__name__
        assert isinstance(trainer.model_wrapped, deepspeed.DeepSpeedEngine), f"DeepSpeed was asked for, {wrapped} ran"
    if watch.stopped:
        raise Stopped(f"{label}: saved and stopped at step {trainer.state.global_step} of {trainer.state.max_steps}")
    return {"steps": trainer.state.global_step, "last_loss": round(watch.losses[-1], 6) if watch.losses else None}


def report(trainer: Any, file: Path, values: dict[str, Any]) -> None:
    """Write counts of the training into the results (rank 0)."""
    if trainer.is_world_process_zero():
        write_json(file, values)
