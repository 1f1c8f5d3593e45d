"""A trainer that saves checkpoints as checkpoints.py wants them: room first, aside, marked, renamed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gra_train.training import checkpoints
from gra_train.training.ranks import together


class Saving:
    """Mixed into trl's trainers. save_s: seconds that the last save took."""

    args: Any
    model: Any
    state: Any
    is_world_process_zero: Any
    save_s: float = 0.0

    def saves(self, *, keep: int, facts: Callable[[], dict[str, Any]]) -> None:
        """How many checkpoints are kept, and what is noted in each."""
        self._keep, self._facts = keep, facts

    def save_bytes(self) -> int:
        """What a checkpoint takes: as the last one did; before there is one, float32 weights (of adapters alone, where
        there are any) and AdamW's states, which DeepSpeed gives float32 masters."""
        known = checkpoints.complete(Path(self.args.output_dir))
        if known and (held := checkpoints.size(known[-1])):
            return held
        sizes = [(getattr(p, "ds_numel", p.numel()), p.requires_grad) for p in self.model.parameters()]
        frozen = 0 if hasattr(self.model, "peft_config") else 4
        return sum(n * (16 if trained else frozen) for n, trained in sizes)

    def _save_checkpoint(self, model: Any, trial: Any = None) -> None:
        """Write aside, mark, rename (see checkpoints.py); all ranks."""
        args, began = self.args, time.monotonic()
        folder, need, first = Path(args.output_dir), self.save_bytes(), self.is_world_process_zero()
        together(args, lambda: checkpoints.check_room(folder, need) if first else None)
        save = super()._save_checkpoint  # type: ignore[misc]

        def write() -> None:
            with checkpoints.full_disk_explained(folder, need):
                save(model, trial)

        def publish() -> None:
            if first:
                checkpoints.publish(folder, step=self.state.global_step, ranks=args.world_size, **self._facts())
                checkpoints.keep(folder, self._keep)

        args.output_dir = str(folder / checkpoints.UNFINISHED)
        try:
            together(args, write)
        finally:
            args.output_dir = str(folder)
        together(args, publish)
        self.save_s = time.monotonic() - began
