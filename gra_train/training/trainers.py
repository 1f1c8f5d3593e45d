"""TRL's SFT and DPO trainers with our data order, our batches and nothing that a small model would wait for."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from trl import DPOTrainer, SFTTrainer

from gra_train.training import head
from gra_train.training.batches import Order, dpo_batch, sft_batch
from gra_train.training.rows import Row, length


class _Ours:
    """Data order from `Order`; per-step loss and gradient norm noted for our callback; no card, telemetry, flop count.

    Examples are tokenised rows in a list: TRL gets one of them as a `datasets.Dataset` for its checks (Arrow would cost
    a millisecond per batch), the trainer the list.
    """

    order: Order
    micro_losses: list[torch.Tensor]
    grad_norm: float

    def use(self, rows: Sequence[Row], *, seed: int, batch: int, by_length: bool) -> None:
        """Train on `rows`; `batch`: examples of one optimiser step."""
        self.train_dataset = rows
        self.order = Order([length(row) for row in rows], batch=batch, seed=seed, by_length=by_length)
        self.micro_losses, self.grad_norm = [], 0.0

    def _get_train_sampler(self, train_dataset: Any = None) -> Order:
        return self.order

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)  # type: ignore[misc]
        self.micro_losses.append(loss)
        return loss

    def _get_grad_norm(self, *args: Any, **kwargs: Any) -> Any:
        norm = super()._get_grad_norm(*args, **kwargs)  # type: ignore[misc]
        self.grad_norm = float(norm)
        return norm

    def create_model_card(self, *args: Any, **kwargs: Any) -> None: ...

    def _send_telemetry(self) -> None: ...

    def floating_point_ops(self, inputs: Any) -> int:
        return 0


class Sft(_Ours, SFTTrainer):
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
        _plain_head(self)


class Dpo(_Ours, DPOTrainer):
    """Direct preference optimisation against reference log-probabilities that are computed before training."""

    def __init__(self, model: Any, tokenizer: Any, args: Any, **more: Any) -> None:
        first = {"prompt_ids": [0], "chosen_ids": [0], "rejected_ids": [0]}
        super().__init__(
            model,
            args=args,
            train_dataset=Dataset.from_list([first]),
            data_collator=partial(dpo_batch, pad=tokenizer.pad_token_id),
            processing_class=tokenizer,
            **more,
        )
        _plain_head(self)

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset

    def _precompute_ref_logps(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset  # `add_references` does it, for the real rows, without files

    @torch.no_grad()
    def add_references(self, rows: Sequence[Row], *, model: Any = None, batch: int = 32) -> None:
        """Set ref_chosen and ref_rejected (log-probabilities of the completions) in every row.

        model: the reference, with a fused head; by default the policy as it is now. Rows are batched by length, and the
        batches shared out among the ranks. Under ZeRO-3 each rank holds the whole model meanwhile (the engine's own
        forward cannot be used before training: DeepSpeed loses track of the parameters in the second batch).
        """
        reference = self.model if model is None else model
        with _gathered(reference):
            reference.to(self.args.device).eval()
            by_length = sorted(range(len(rows)), key=lambda i: (length(rows[i]), i))
            batches = [by_length[i : i + batch] for i in range(0, len(by_length), batch)]
            found = []
            for mine in batches[self.accelerator.process_index :: self.accelerator.num_processes]:
                inputs = self._prepare_inputs(self.data_collator([rows[i] for i in mine]))
                chosen, rejected = self.compute_ref_log_probs(reference, inputs)
                found += list(zip(mine, chosen.tolist(), rejected.tolist(), strict=True))
        for i, good, bad in gather_object(found) if self.accelerator.num_processes > 1 else found:
            rows[i]["ref_chosen"], rows[i]["ref_rejected"] = good, bad
        if "ref" in getattr(self.model, "peft_config", {}):  # trl's copy of the adapter as it was; it has served
            self.model.delete_adapter("ref")


def _plain_head(trainer: Any) -> None:
    """Our head, where it is the faster one."""
    bare = trainer.model.get_base_model() if hasattr(trainer.model, "peft_config") else trainer.model
    if trainer.args.device.type == "cpu" and head.applies(bare):
        head.add_plain_head(bare)


def _gathered(model: Any) -> Any:
    """The weights whole, where ZeRO-3 has sharded them."""
    parameters = list(model.parameters())
    if not any(hasattr(p, "ds_id") for p in parameters):
        return contextlib.nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(parameters)
