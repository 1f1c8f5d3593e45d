"""Several examples in one row, so that nothing is padded: only where they cannot see each other.

A packed row starts its positions anew at every example. Whether a model then keeps the examples apart depends on its
architecture, its attention kernel and the version of transformers, so it is tried on the model itself, not assumed.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Any

from gra_train.errors import UserError
from gra_train.training.rows import Row, length

TOLERANCE = 1e-3
"""Largest difference of a logit, as a share of the largest logit, that is rounding."""


def pack(rows: Sequence[Row], *, max_length: int) -> list[Row]:
    """Rows of at most `max_length` tokens, each {"parts": [example, ...]}: the longest example first, each into the row
    that it fills best (best-fit decreasing). Deterministic."""
    order = sorted(range(len(rows)), key=lambda i: (-length(rows[i]), i))
    packs: list[list[Row]] = []
    room: list[tuple[int, int]] = []  # (tokens left, pack), ascending
    for i in order:
        need = length(rows[i])
        place = bisect.bisect_left(room, (need, -1))
        left, number = room.pop(place) if place < len(room) else (max_length, len(packs))
        if number == len(packs):
            packs.append([])
        packs[number].append(rows[i])
        bisect.insort(room, (left - need, number))
    return [{"parts": parts} for parts in packs]


def check_isolated(model: Any, name: str) -> None:
    """Raises UserError if an example of a packed row changes the logits of the next one."""
    leak = leakage(model)
    if not leak < TOLERANCE:
        raise UserError(
            f"packing=true: in {name!r} ({type(model).__name__}) one example of a packed row reaches into the next ("
            f"logits change by {leak:.1%} of the largest). Use packing=false; group_by_length=true saves most padding."
        )


def leakage(model: Any) -> float:
    """Largest difference between the logits of two sequences in one row and of the same two apart, as a share of the
    largest logit."""
    import torch

    vocabulary = model.get_input_embeddings().num_embeddings
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, vocabulary, (1, 12), generator=generator).to(model.device)
    positions = torch.cat([torch.arange(7), torch.arange(5)])[None].to(model.device)
    training = model.training
    model.eval()
    with torch.no_grad():
        together = model(input_ids=ids, position_ids=positions, use_cache=False).logits
        apart = torch.cat([model(input_ids=part, use_cache=False).logits for part in (ids[:, :7], ids[:, 7:])], dim=1)
    model.train(training)
    return float((together - apart).abs().max() / apart.abs().max())
