"""Likelihoods of requests that share a prefix: it is computed once, and its keys and values serve all of them.

COLLATE asks for the likelihood of one answer after S rationales of one instruction: S prompts of one prefix. Where that
prefix is long, most of the work of S separate forward passes is the same work. `groups` finds what is shared, from the
requests alone; `score` computes prefixes as one batch and what follows them as another, over the repeated cache.

The values are those of the plain computation up to the rounding of floats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

SHORTEST = 64
"""Shared tokens below which two forward passes in place of one cost more than they save."""


@dataclass(frozen=True, slots=True)
class Group:
    """Requests `rows` whose prompts begin with the same `shared` tokens (0: alone)."""

    rows: tuple[int, ...]
    shared: int


def groups(prompts: Sequence[list[int]], *, shortest: int = SHORTEST) -> list[Group]:
    """The prompts in groups that save most tokens, each prompt in one group; in the order of the prompts' tokens.

    Sorted prompts that share a long prefix are neighbours. From the longest shared prefix to the shortest, neighbouring
    clusters become one group where that saves more than they save apart: (n - 1) * shared tokens for n prompts. A last
    token is never shared: the first token of the continuation is read off it.
    """
    order = sorted(range(len(prompts)), key=lambda i: (prompts[i], i))
    common = [
        min(_common(prompts[a], prompts[b]), len(prompts[a]) - 1, len(prompts[b]) - 1) for a, b in pairwise(order)
    ]
    clusters = [[Group((i,), 0)] for i in order]
    owner = list(range(len(order)))  # of each place in `order`, the cluster; of a cluster, its first place

    def root(place: int) -> int:
        while owner[place] != place:
            owner[place] = owner[owner[place]]
            place = owner[place]
        return place

    for place in sorted(range(len(common)), key=lambda p: (-common[p], p)):
        shared = common[place]
        if shared < shortest:
            break
        left, right = root(place), root(place + 1)
        apart = clusters[left] + clusters[right]
        rows = tuple(i for group in apart for i in group.rows)
        together = (len(rows) - 1) * shared > sum((len(g.rows) - 1) * g.shared for g in apart)
        clusters[left], clusters[right] = ([Group(rows, shared)] if together else apart), []
        owner[right] = left
    return [group for cluster in clusters for group in cluster]


def plan(
    prompts: Sequence[list[int]], continuations: Sequence[list[int]], *, budget: int, window: int
) -> tuple[list[list[int]], list[int]]:
    """(batches of requests that share prefixes, the other requests): a function of the requests alone.

    budget: tokens of a batch, each request counted with its prefix and with padding: what its cache takes. A group that
    is larger than that is cut. Requests beyond the model's window are among the others.
    """
    lengths = [len(p) + len(c) for p, c in zip(prompts, continuations, strict=True)]
    found = [group for group in groups(prompts) if group.shared and max(lengths[i] for i in group.rows) <= window]
    pieces: list[tuple[int, int, tuple[int, ...]]] = []
    for group in found:
        rows = sorted(group.rows, key=lambda i: (lengths[i], i))
        most = max(1, budget // lengths[rows[-1]])
        for at in range(0, len(rows), most):
            part = tuple(rows[at : at + most])
            pieces.append((group.shared, lengths[part[-1]] - group.shared, part))
    batches: list[list[int]] = []
    widest = (0, 0)
    for shared, tail, part in sorted(pieces):
        wide = max(widest[0], shared), max(widest[1], tail)
        if batches and (len(batches[-1]) + len(part)) * sum(wide) <= budget:
            batches[-1].extend(part)
            widest = wide
        else:
            batches.append(list(part))
            widest = shared, tail
    planned = {i for batch in batches for i in batch}
    return batches, [i for i in range(len(prompts)) if i not in planned]


@torch.inference_mode()
def score(
    network: Any, prompts: Sequence[list[int]], continuations: Sequence[list[int]], found: Sequence[Group]
) -> list[list[float]] | None:
    """ln P of each continuation token, in the order of the requests. None: this network's cache cannot be repeated.

    Prefixes and what follows them are padded on the left: all continuations end in the last column, so only the last
    columns' logits are computed. A request that shares nothing is cut in two all the same.
    """
    from transformers.cache_utils import DynamicLayer

    from gra_train.chat.decoding import left_padded

    device = network.device
    longest = max(group.shared for group in found)
    rows = [i for group in found for i in group.rows]
    cuts = [group.shared or min(longest, len(prompts[group.rows[0]]) - 1) for group in found]
    shared_ids, shared_mask = left_padded(
        [prompts[g.rows[0]][:cut] for g, cut in zip(found, cuts, strict=True)], device
    )
    position = (shared_mask.cumsum(-1) - 1).clamp(min=0)
    cache = network(
        input_ids=shared_ids, attention_mask=shared_mask, position_ids=position, use_cache=True, logits_to_keep=1
    ).past_key_values
    layers = list(getattr(cache, "layers", []))
    if not layers or any(type(layer) is not DynamicLayer for layer in layers):
        return None
    source = torch.tensor([k for k, group in enumerate(found) for _ in group.rows], device=device)
    cache.batch_select_indices(source)
    cut = {i: at for group, at in zip(found, cuts, strict=True) for i in group.rows}
    ids, mask = left_padded([prompts[i][cut[i] :] + continuations[i] for i in rows], device)
    before = torch.tensor([cut[i] for i in rows], device=device)[:, None]
    position = before + (mask.cumsum(-1) - 1).clamp(min=0)
    columns = max(len(continuations[i]) for i in rows) + 1
    logits = network(
        input_ids=ids,
        attention_mask=torch.cat([shared_mask[source], mask], dim=1),
        position_ids=position,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=columns,
    ).logits
    values: list[list[float]] = [[] for _ in prompts]
    for k, i in enumerate(rows):
        if size := len(continuations[i]):
            row = logits[k, -size - 1 : -1].float()
            target = torch.tensor(continuations[i], device=device)
            values[i] = (row.gather(-1, target[:, None]).squeeze(-1) - row.logsumexp(-1)).tolist()
    return values


def _common(a: list[int], b: list[int]) -> int:
    size = min(len(a), len(b))
    if a[:size] == b[:size]:
        return size
    return next(i for i in range(size) if a[i] != b[i])
