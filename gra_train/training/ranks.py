"""What the ranks of one training agree on. With one rank there is nothing to agree on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch


def total(args: Any, values: Sequence[float]) -> list[float]:
    """The sum of each value over all ranks: one small reduction."""
    if args.world_size == 1:
        return list(values)
    shared = torch.tensor(values, dtype=torch.float64, device=args.device)
    torch.distributed.all_reduce(shared)
    return shared.tolist()


def together(args: Any, action: Callable[[], object]) -> None:
    """Run `action` here and wait for it on every rank. Fails everywhere if it fails anywhere: no rank is left waiting
    for one that is gone."""
    error: Exception | None = None
    try:
        action()
    except Exception as caught:
        error = caught
    failed = total(args, [float(error is not None)])[0]
    if error:
        raise error
    if failed:
        raise RuntimeError("another rank failed; its log says why")
