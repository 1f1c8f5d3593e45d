"""What happens around a step: metrics, progress, checkpoints, and stopping when asked to or when the loss is lost."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from gra_train.errors import UserError
from gra_train.progress import Bar
from gra_train.runs import log_metrics, stop_requested
from gra_train.training import checkpoints

DUPLICATES = ("loss", "grad_norm", "learning_rate", "epoch")
"""What trl's averages repeat of our own lines."""


class Watch(TrainerCallback):
    """Our side of a training. One line of metrics.jsonl per step: loss (mean over ranks), lr, grad_norm, and every few
    steps TRL's averages; a checkpoint every `save_steps`, none at the end; STOP polled by rank 0 and told to all.

    stopped: the training was asked to stop before its last step, and has saved.
    """

    def __init__(self, trainer: Any, *, out: Path, save_steps: int, keep: int, bar: Bar) -> None:
        self.trainer, self.out, self.save_steps, self.keep, self.bar = trainer, out, save_steps, keep, bar
        self.stopped = False
        self.losses: list[float] = []
        self._line: dict[str, Any] = {}
        self._lr = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            checkpoints.cut_metrics(self.out, state.global_step)
        self.bar.total = state.max_steps
        self.bar.update(state.global_step)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **_: Any) -> None:
        steps = math.ceil(len(train_dataloader) / args.gradient_accumulation_steps)
        self.trainer.order.epoch = state.global_step // steps

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any) -> None:
        self._lr = optimizer.param_groups[0]["lr"]

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        loss, stop = self._agree(args, sum(self.trainer.micro_losses), stop_requested(self.out))
        self.trainer.micro_losses.clear()
        self._flush()
        self._line = {"step": state.global_step, "loss": loss, "lr": self._lr, "grad_norm": self.trainer.grad_norm}
        self.losses.append(loss)
        self.bar.update(state.global_step, note=f"loss {loss:.3f}")
        if not math.isfinite(loss):
            self._flush()
            raise UserError(
                f"the loss became {loss} at step {state.global_step}. The last good checkpoint is kept. Lower the "
                "learning rate (lr), raise warmup, or look for broken rows in the data."
            )
        last = state.global_step >= state.max_steps
        if stop and not last:
            self.stopped = control.should_training_stop = True
        control.should_save = not last and (stop or state.global_step % self.save_steps == 0)
        control.should_log = control.should_log or control.should_save or last

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if self._line.get("step") == state.global_step:
            self._line |= {k: v for k, v in (logs or {}).items() if k not in DUPLICATES and not k.startswith("train_")}
            self._flush()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._flush()
        if args.world_size > 1:
            torch.distributed.barrier()
        if state.is_world_process_zero:
            folder = Path(args.output_dir)
            checkpoint = folder / f"checkpoint-{state.global_step}"
            checkpoints.mark(checkpoint, step=state.global_step, ranks=args.world_size)
            checkpoints.keep_last(folder, self.keep)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._flush()

    def _flush(self) -> None:
        if self._line and self.trainer.is_world_process_zero():
            log_metrics(self.out, self._line)
        self._line = {}

    def _agree(self, args: Any, loss: Any, stop: bool) -> tuple[float, bool]:
        """Mean loss over ranks, and rank 0's wish to stop: one small reduction, so all ranks stop at the same step."""
        if args.world_size == 1:
            return float(loss), stop
        wish = float(stop and args.process_index == 0)
        both = torch.tensor([float(loss) / args.world_size, wish], dtype=torch.float64, device=args.device)
        torch.distributed.all_reduce(both)
        return float(both[0]), bool(both[1])
