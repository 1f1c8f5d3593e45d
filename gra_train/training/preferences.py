"""TRL's trainers for preferences, on pairs of tokenised rows: DPO and its relatives, KTO, SimPO, ORPO.

TRL keeps SimPO and ORPO among its experimental trainers; they work on all logits, so they need more memory than DPO.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from accelerate.utils import gather_object
from datasets import Dataset
from trl import DPOTrainer, KTOTrainer

from gra_train.training import references
from gra_train.training.batches import dpo_batch, kto_batch, sides_batch
from gra_train.training.ranks import from_first
from gra_train.training.rows import Row, length
from gra_train.training.trainers import Ours, gathered, plain_head

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # we know, and pin trl

from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer

BATCH = 32
"""Pairs that are scored together by the reference: part of its bits."""


class Preference(Ours):
    """What they share. columns: reference values of a row; none: the loss needs no reference."""

    columns: tuple[str, ...] = ()

    def __init__(self, model: Any, tokenizer: Any, args: Any, **more: Any) -> None:
        pad = tokenizer.pad_token_id
        super().__init__(  # type: ignore[call-arg]  # a trainer of trl comes next
            model,
            args=args,
            train_dataset=Dataset.from_list([self.first]),
            data_collator=partial(self.collate, pad=pad),
            processing_class=tokenizer,
            **more,
        )
        if self.columns:
            plain_head(self)

    first: ClassVar[dict[str, Any]] = {"prompt_ids": [0], "chosen_ids": [0], "rejected_ids": [0]}
    collate: Callable[..., dict[str, torch.Tensor]]
    accelerator: Any
    data_collator: Any
    compute_ref_log_probs: Any
    _prepare_inputs: Any

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset

    def _precompute_ref_logps(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset  # `add_references` does it, for the real rows

    def add_references(
        self, rows: Sequence[Row], *, model: Any = None, digest: str = "", folder: Path, quantized: bool = False
    ) -> None:
        """Set `columns` (log-probabilities under the reference) in every row: from `folder`, or computed, and kept
        there.

        model: the reference, with a fused head; by default the policy as it is now. digest: of its weights ("": they
        are not known well enough, nothing is kept). quantized: it computes in 4 bits, which gives other values. Raises
        UserError where a row's values are missing.
        """
        if not self.columns:
            return
        how = {"columns": self.columns, "batch": BATCH, "device": self.args.device.type, "bf16": self.args.bf16,
               "fp16": self.args.fp16}  # fmt: skip
        how |= {"quantized": True} if quantized else {}  # only then: what was computed before has its key without
        digests = [references.row_digest(row) for row in rows]
        file = folder / f"{references.key(digest, digests, how)}.npz"
        table = from_first(self.args, lambda: references.read(file) if digest else None)
        if table is None:
            table = {"digests": np.asarray(digests)} | self._score(rows, self.model if model is None else model)
            if digest and self.is_world_process_zero():
                references.write(file, table)
        references.fill(rows, digests, table, self.columns, str(file) if digest else "the reference model")
        if "ref" in getattr(self.model, "peft_config", {}):  # trl's copy of the adapter as it was; it has served
            self.model.delete_adapter("ref")

    @torch.no_grad()
    def _score(self, rows: Sequence[Row], reference: Any) -> dict[str, np.ndarray]:
        """Each column's values, in the order of the rows. Rows are batched by length, and the batches shared out among
        the ranks. Under ZeRO-3 each rank holds the whole model meanwhile (the engine's own forward cannot be used
        before training: DeepSpeed loses track of the parameters in the second batch).
        """
        with gathered(reference):
            reference.to(self.args.device).eval()
            by_length = sorted(range(len(rows)), key=lambda i: (length(rows[i]), i))
            batches = [by_length[i : i + BATCH] for i in range(0, len(by_length), BATCH)]
            found = []
            for mine in batches[self.accelerator.process_index :: self.accelerator.num_processes]:
                inputs = self._prepare_inputs(self.data_collator([rows[i] for i in mine]))
                scored = self.compute_ref_log_probs(reference, inputs)
                halves = [
                    half for values in scored for half in (values.chunk(2) if len(values) > len(mine) else [values])
                ]
                found += list(zip(mine, *(half.tolist() for half in halves), strict=True))
        everything = gather_object(found) if self.accelerator.num_processes > 1 else found
        table = {name: np.full(len(rows), np.nan) for name in self.columns}
        for i, *values in everything:
            for name, value in zip(self.columns, values, strict=True):
                table[name][i] = value
        return table


class Dpo(Preference, DPOTrainer):
    """Direct preference optimisation (sigmoid), and what TRL's DPOTrainer has beside it: hinge, IPO, DPO + SFT."""

    columns = ("ref_chosen", "ref_rejected")
    collate = staticmethod(dpo_batch)


class Kto(Preference, KTOTrainer):
    """Both sides of a pair as unpaired examples, one desirable, one not; rows have KL sequences (rows.mismatched)."""

    columns = ("ref_chosen", "ref_rejected", "ref_kl_chosen", "ref_kl_rejected")
    collate = staticmethod(kto_batch)


class _Unreferenced(Preference):
    first: ClassVar[dict[str, Any]] = {"prompt": "a", "chosen": "b", "rejected": "c"}
    collate = staticmethod(sides_batch)

    @staticmethod
    def tokenize_row(row: Any, model: Any = None) -> dict[str, Any]:
        return {}  # rows come tokenised


class SimPo(_Unreferenced, CPOTrainer):
    """SimPO: CPOTrainer with mean log-probabilities, a margin and no SFT term."""


class Orpo(_Unreferenced, ORPOTrainer):
    """ORPO: SFT with an odds-ratio penalty."""


TRAINERS = {"dpo": Dpo, "kto": Kto, "simpo": SimPo, "orpo": Orpo}
