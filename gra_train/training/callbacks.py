"""What happens around a step: metrics, progress, checkpoints, and stopping when asked to or when the loss is lost."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from gra_train.progress import Bar
from gra_train.runs import log_metrics
from gra_train.training import checkpoints
from gra_train.training.health import Health
from gra_train.training.ranks import total
from gra_train.training.samples import write as write_samples
from gra_train.training.stopping import REASONS, Stopping
from gra_train.training.throughput import Meter

DUPLICATES = ("loss", "grad_norm", "learning_rate", "epoch")
"""What trl's averages repeat of our own lines."""


class Watch(TrainerCallback):
    """Our side of a training. One line of metrics.jsonl per step: loss (mean over ranks), lr, grad_norm, tokens, and
    every few steps TRL's averages and the throughput; a checkpoint every `save_steps` and when `stopping` asks for one,
    none at the end. With every checkpoint and at the end, `samples` answers into samples.jsonl.

    stopped: why the training stopped before its last step (it has saved); "" if it did not.
    """

    def __init__(
        self,
        trainer: Any,
        *,
        out: Path,
        save_steps: int,
        samples: int,
        bar: Bar,
        health: Health,
        stopping: Stopping,
        meter: Meter,
    ) -> None:
        self.trainer, self.out, self.save_steps, self.samples, self.bar = trainer, out, save_steps, samples, bar
        self.health, self.stopping, self.meter = health, stopping, meter
        self.stopped = ""
        self.losses: list[float] = []
        self._line: dict[str, Any] = {}
        self._lr = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            checkpoints.cut_metrics(self.out, state.global_step)
        self.bar.total = state.max_steps
        self.bar.update(state.global_step)
        self.meter.reset()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **_: Any) -> None:
        steps = math.ceil(len(train_dataloader) / args.gradient_accumulation_steps)
        self.trainer.order.epoch = state.global_step // steps

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any) -> None:
        self._lr = optimizer.param_groups[0]["lr"]

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        trainer, step = self.trainer, state.global_step
        rows, tokens = trainer.take_counts()
        mine = float(sum(trainer.micro_losses)) / args.world_size
        trainer.micro_losses.clear()
        shared = total(args, [mine, rows, tokens, *self.stopping.wishes(first=args.process_index == 0)])
        loss, rows, tokens, *reasons, due = shared
        self.meter.rows += int(rows)
        self.meter.tokens += int(tokens)
        self._flush()
        self._line = {"step": step, "loss": loss, "lr": self._lr, "grad_norm": trainer.grad_norm, "tokens": int(tokens)}
        self.losses.append(loss)
        self.bar.update(step, note=f"loss {loss:.3f}")
        try:
            self.health.check(step, loss, trainer.grad_norm, scaled=args.fp16)
        except Exception:
            self._flush()
            raise
        last = step >= state.max_steps
        if any(reasons) and not last:
            self.stopped = next(text for text, held in zip(REASONS, reasons, strict=True) if held)
            control.should_training_stop = True
        control.should_save = not last and bool(self.stopped or due or step % self.save_steps == 0)
        control.should_log = control.should_log or control.should_save or last

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if self._line.get("step") == state.global_step:
            self._line |= {k: v for k, v in (logs or {}).items() if k not in DUPLICATES and not k.startswith("train_")}
            self._line |= self.meter.read()
            self._flush()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.stopping.saved(self.trainer.save_s)
        self.meter.pause(self.trainer.save_s)
        self._sample(state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._flush()
        if not self.stopped:
            self._sample(state.global_step)

    def _sample(self, step: int) -> None:
        trainer = self.trainer
        if not self.samples:
            return
        began = time.monotonic()
        model = trainer.accelerator.unwrap_model(trainer.model)
        file = self.out.parent / "samples.jsonl" if trainer.is_world_process_zero() else None
        write_samples(model, trainer.processing_class, trainer.train_dataset[: self.samples], file, step=step)
        self.meter.pause(time.monotonic() - began)

    def _flush(self) -> None:
        if self._line and self.trainer.is_world_process_zero():
            log_metrics(self.out, self._line)
        self._line = {}
