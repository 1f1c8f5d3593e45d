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


def from_first(args: Any, make: Callable[[], Any]) -> Any:
    """What `make` gives on rank 0, on every rank: one look at the disk, and all go on from the same. Fails everywhere
    if it fails there."""
    found: list[Any] = []
    together(args, lambda: found.append(make()) if args.process_index == 0 else None)
    if args.world_size > 1:
        found = found or [None]
        torch.distributed.broadcast_object_list(found, src=0, device=args.device)
    return found[0]


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
