"""In what order examples are trained on, and how a batch is padded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler

from gra_train.training.rows import Row

IGNORED = -100
WINDOW = 50
"""Batches among which examples are sorted by length: less padding, and still another mixture in every epoch."""


def epoch_order(lengths: Sequence[int], *, batch: int, seed: int, epoch: int, by_length: bool = True) -> list[int]:
    """Indices in the order of training: a pure function of its arguments, so that a resumed epoch is the same epoch.

    lengths: tokens of each example; batch: examples of one optimiser step over all ranks. With `by_length`, examples of
    one step have similar lengths: shuffled, sorted inside windows of WINDOW steps, and the steps shuffled again; a
    short last step stays last.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    if not by_length:
        return order.tolist()
    size = np.asarray(lengths)
    window = batch * WINDOW
    order = np.concatenate(
        [part[np.argsort(-size[part], kind="stable")] for part in np.split(order, range(window, len(order), window))]
    )
    whole = len(order) // batch * batch
    steps = order[:whole].reshape(-1, batch)
    return np.concatenate([steps[rng.permutation(len(steps))].reshape(-1), order[whole:]]).tolist()


class Order(Sampler[int]):
    """`epoch_order` as a sampler; `epoch` is set by our callback."""

    def __init__(self, lengths: Sequence[int], *, batch: int, seed: int, by_length: bool) -> None:
        self.lengths, self.batch, self.seed, self.by_length, self.epoch = lengths, batch, seed, by_length, 0

    def __iter__(self) -> Iterator[int]:
        return iter(
            epoch_order(self.lengths, batch=self.batch, seed=self.seed, epoch=self.epoch, by_length=self.by_length)
        )

    def __len__(self) -> int:
        return len(self.lengths)


def sft_batch(rows: Sequence[Row], *, pad: int) -> dict[str, torch.Tensor]:
    """input_ids, attention_mask and labels (prompt and padding ignored), each (rows, longest); padded on the right.

    Of packed rows: input_ids, labels and position_ids, which start anew at every example (padding counts as one), no
    mask, and counts: (examples, tokens without padding).
    """
    if "parts" in rows[0]:
        return _packed_batch(rows, pad)
    wholes = [np.concatenate([r["prompt_ids"], r["completion_ids"]]) for r in rows]
    batch = _padded(wholes, pad)
    labels = batch["input_ids"].clone()
    for i, row in enumerate(rows):
        labels[i, : len(row["prompt_ids"])] = IGNORED
        labels[i, len(wholes[i]) :] = IGNORED
    return batch | {"labels": labels}


def _packed_batch(rows: Sequence[Row], pad: int) -> dict[str, torch.Tensor]:
    lines = [sft_batch([part], pad=pad) for row in rows for part in row["parts"]]
    width = max(sum(len(p["prompt_ids"]) + len(p["completion_ids"]) for p in row["parts"]) for row in rows)
    columns: dict[str, list[torch.Tensor]] = {"input_ids": [], "labels": [], "position_ids": []}
    queue = iter(lines)
    for row in rows:
        own = [next(queue) for _ in row["parts"]]
        short = width - sum(line["labels"].shape[1] for line in own)
        filler = {"input_ids": pad, "labels": IGNORED}
        for name, value in filler.items():
            columns[name].append(torch.cat([*(line[name][0] for line in own), torch.full((short,), value)]))
        lengths = [*(line["labels"].shape[1] for line in own), short]
        columns["position_ids"].append(torch.cat([torch.arange(n) for n in lengths]))
    tokens = sum(line["labels"].shape[1] for line in lines)
    return {name: torch.stack(values) for name, values in columns.items()} | {
        "counts": torch.tensor([len(lines), tokens])
    }


def dpo_batch(rows: Sequence[Row], *, pad: int) -> dict[str, torch.Tensor]:
    """What trl's DPOTrainer expects: chosen rows, then rejected rows, each (2 * rows, longest); completion_mask is 1 on
    completion tokens; ref_chosen_logps and ref_rejected_logps, (rows,), where they are known."""
    sides = [(r, r[side]) for side in ("chosen_ids", "rejected_ids") for r in rows]
    batch = _padded([np.concatenate([r["prompt_ids"], ids]) for r, ids in sides], pad)
    mask = torch.zeros_like(batch["input_ids"])
    for i, (row, ids) in enumerate(sides):
        start = len(row["prompt_ids"])
        mask[i, start : start + len(ids)] = 1
    references: dict[str, Any] = {}
    if "ref_chosen" in rows[0]:
        references = {f"ref_{s}_logps": torch.tensor([r[f"ref_{s}"] for r in rows]) for s in ("chosen", "rejected")}
    return batch | {"completion_mask": mask} | references


def kto_batch(rows: Sequence[Row], *, pad: int) -> dict[str, torch.Tensor]:
    """What trl's KTOTrainer expects of pairs: chosen rows with label True, then rejected rows with False; the same
    prompts with another pair's completions as KL_*; ref_logps and ref_KL_logps, (2 * rows,), where they are known."""
    main = dpo_batch([{k: v for k, v in row.items() if not k.startswith("ref")} for row in rows], pad=pad)
    other = dpo_batch(
        [
            {"prompt_ids": r["prompt_ids"]} | {f"{s}_ids": r[f"kl_{s}_ids"] for s in ("chosen", "rejected")}
            for r in rows
        ],
        pad=pad,
    )
    batch = main | {f"KL_{name}": value for name, value in other.items()}
    batch["label"] = torch.tensor([True] * len(rows) + [False] * len(rows))
    if "ref_chosen" in rows[0]:
        for name, prefix in (("ref_logps", "ref"), ("ref_KL_logps", "ref_kl")):
            batch[name] = torch.tensor([r[f"{prefix}_{s}"] for s in ("chosen", "rejected") for r in rows])
    return batch


def sides_batch(rows: Sequence[Row], *, pad: int) -> dict[str, torch.Tensor]:
    """What trl's CPOTrainer and ORPOTrainer expect: input_ids, attention_mask and labels (prompt and padding ignored)
    of the chosen rows and of the rejected rows, each (rows, longest of that side)."""
    batch: dict[str, torch.Tensor] = {}
    for side in ("chosen", "rejected"):
        own = sft_batch([{"prompt_ids": r["prompt_ids"], "completion_ids": r[f"{side}_ids"]} for r in rows], pad=pad)
        batch |= {f"{side}_{name}": value for name, value in own.items()}
    return batch


def _padded(sequences: Sequence[np.ndarray], pad: int) -> dict[str, torch.Tensor]:
    ids: np.ndarray = np.full((len(sequences), max(map(len, sequences))), pad, dtype=np.int64)
    mask = np.zeros_like(ids)
    for i, sequence in enumerate(sequences):
        ids[i, : len(sequence)] = sequence
        mask[i, : len(sequence)] = 1
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
