"""Is this still a training? A loss or gradient that is not finite, or a loss far above where it began, ends it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from gra_train.errors import UserError
from gra_train.training import checkpoints

WINDOW = 20
"""Steps whose mean loss is compared."""


class Health:
    """Judges every step. `first` and `recent`: losses of the first and of the last WINDOW steps, kept in every
    checkpoint (`facts`) for its resumption.

    max_ratio: the mean loss of WINDOW steps may be this many times that of the first ones (0: any).
    """

    def __init__(
        self, folder: Path, max_ratio: float, first: Sequence[float] = (), recent: Sequence[float] = ()
    ) -> None:
        self.folder, self.max_ratio = folder, max_ratio
        self.first = list(first)
        self.recent = list(recent) or (list(first) if len(first) < WINDOW else [])  # older checkpoints lack them

    @property
    def loss(self) -> float | None:
        """Mean loss of the last WINDOW steps (of all, where there were no more); None where those are not known."""
        known = len(self.recent) == min(WINDOW, len(self.first))
        return fmean(self.recent) if self.recent and known else None

    def facts(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"loss": self.loss, "first_losses": self.first, "recent_losses": self.recent}

    def check(self, step: int, loss: float, grad_norm: float | None, *, scaled: bool) -> None:
        """Raises UserError when the training is lost. scaled: gradients overflow now and then by design (float16)."""
        if not math.isfinite(loss) or not (scaled or grad_norm is None or math.isfinite(grad_norm)):
            raise UserError(
                f"the loss became {loss} at step {step} (gradient norm {grad_norm}). {self._kept()} Lower the learning "
                "rate (lr), raise warmup, or look for broken rows in the data."
            )
        if len(self.first) < WINDOW:
            self.first.append(loss)
        self.recent = [*self.recent, loss][-WINDOW:]
        if self.max_ratio and len(self.recent) == WINDOW and step > WINDOW:
            began, now = fmean(self.first), fmean(self.recent)
            if began > 0 and now > self.max_ratio * began:
                raise UserError(
                    f"the loss diverges: its mean over {WINDOW} steps is {now:.3g} at step {step}, and was {began:.3g} "
                    f"at the beginning (max_loss_ratio={self.max_ratio}). {self._kept()} Lower the learning rate "
                    "(lr) or raise warmup."
                )

    def _kept(self) -> str:
        known = [path.name for path in checkpoints.complete(self.folder)]
        return f"Good checkpoints are kept: {', '.join(known)}." if known else "There is no checkpoint yet."
