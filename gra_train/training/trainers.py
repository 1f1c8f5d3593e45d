"""TRL's trainers with our data order, our batches and nothing that a small model would wait for; the one for SFT.
Those for preferences are in preferences.py."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from datasets import Dataset
from trl import SFTTrainer

from gra_train.training import head
from gra_train.training.batches import Order, sft_batch
from gra_train.training.rows import Row, length
from gra_train.training.saving import Saving


class Ours(Saving):
    """Data order from `Order`; per-step loss and gradient norm noted for our callback; no card, telemetry, flop count.

    Examples are tokenised rows in a list: TRL gets one of them as a `datasets.Dataset` for its checks (Arrow would cost
    a millisecond per batch), the trainer the list.
    """

    order: Order
    micro_losses: list[torch.Tensor]
    grad_norm: float | None  # None: DeepSpeed's stage 0 does not say
    _tokens: list[torch.Tensor]

    def use(self, rows: Sequence[Row], *, seed: int, batch: int, by_length: bool) -> None:
        """Train on `rows`; `batch`: examples of one optimiser step."""
        self.train_dataset = rows
        self.order = Order([length(row) for row in rows], batch=batch, seed=seed, by_length=by_length)
        self.micro_losses, self.grad_norm = [], 0.0
        self._rows, self._tokens = 0, []

    def _get_train_sampler(self, train_dataset: Any = None) -> Order:
        return self.order

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        inputs = args[1]
        if "counts" in inputs:  # packed rows
            rows, tokens = inputs.pop("counts")
            self._rows += int(rows)
            self._tokens.append(tokens)
        for name, value in inputs.items():
            if name.endswith("attention_mask") and not name.startswith("KL"):  # KTO's estimate trains nothing
                self._rows += len(value)
                self._tokens.append(value.sum())
        loss = super().training_step(*args, **kwargs)  # type: ignore[misc]
        self.micro_losses.append(loss)
        return loss

    def take_counts(self) -> tuple[int, int]:
        """Rows and tokens (without padding) that this rank has trained on since it was last asked."""
        rows, tokens = self._rows, int(sum(self._tokens))
        self._rows, self._tokens = 0, []
        return rows, tokens

    def _get_grad_norm(self, *args: Any, **kwargs: Any) -> Any:
        norm = super()._get_grad_norm(*args, **kwargs)  # type: ignore[misc]
        self.grad_norm = None if norm is None else float(norm)
        return norm

    def create_model_card(self, *args: Any, **kwargs: Any) -> None: ...

    def _send_telemetry(self) -> None: ...

    def floating_point_ops(self, inputs: Any) -> int:
        return 0


class Sft(Ours, SFTTrainer):
    """Token cross-entropy on completions."""

    def __init__(self, model: Any, tokenizer: Any, args: Any, **more: Any) -> None:
        first = {"input_ids": [0], "labels": [0]}
        super().__init__(
            model,
            args=args,
            train_dataset=Dataset.from_list([first]),
            data_collator=partial(sft_batch, pad=tokenizer.pad_token_id),
            processing_class=tokenizer,
            **more,
        )
        plain_head(self)


def plain_head(trainer: Any) -> None:
    """Our head, where it is the faster one."""
    bare = trainer.model.get_base_model() if hasattr(trainer.model, "peft_config") else trainer.model
    if trainer.args.device.type == "cpu" and head.applies(bare):
        head.add_plain_head(bare)


def gathered(model: Any) -> Any:
    """The weights whole, where ZeRO-3 has sharded them."""
    parameters = list(model.parameters())
    if not any(hasattr(p, "ds_id") for p in parameters):
        return contextlib.nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(parameters)
