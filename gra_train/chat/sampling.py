"""How the next token is drawn: temperature, nucleus, and one uniform number per (seed, step).

A row's draws depend on its own seed and step alone, never on its neighbours in the batch: the batch may be cut
differently and every row still meets the same numbers.
"""

from __future__ import annotations

import numpy as np
import torch

from gra_train.chat.protocol import Completion

_NUCLEUS = 64
"""Tokens looked at before the whole vocabulary is sorted: nearly every nucleus is smaller."""


def uniforms(request: Completion, steps: int) -> np.ndarray:
    """[steps] uniform numbers in [0, 1) of a counter-based generator keyed by (seed, attempt, sample)."""
    mask = 2**64 - 1
    key = np.array([request.seed & mask, (request.attempt + (request.sample << 32)) & mask], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).random(steps)


def draw(
    logits: torch.Tensor, *, temperature: torch.Tensor, top_p: torch.Tensor, uniform: torch.Tensor
) -> torch.Tensor:
    """Token ids [rows] from float32 `logits` [rows, vocabulary]: inverse CDF over the nucleus, likeliest token first.

    `temperature`, `top_p`, `uniform`: [rows] each. Temperature 0 is greedy. The nucleus is the smallest set of
    likeliest tokens whose mass reaches top_p (Holtzman et al. 2020); it holds at least one token.
    """
    greedy = logits.argmax(-1)
    hot = (temperature > 0).nonzero().squeeze(-1)
    if not len(hot):
        return greedy
    probabilities, top_p, uniform = (logits[hot] / temperature[hot, None]).softmax(-1), top_p[hot], uniform[hot]
    drawn = _inverse(probabilities.cumsum(-1), uniform)  # the whole distribution: no order needed
    nucleus = top_p < 1
    if bool(nucleus.any()):
        width = min(_NUCLEUS, probabilities.shape[-1])
        mass, order = probabilities.topk(width, dim=-1)
        if bool((nucleus & (mass.sum(-1) < top_p)).any()):  # a rare wide nucleus: order everything
            mass, order = probabilities.sort(dim=-1, descending=True, stable=True)
        total = mass.cumsum(-1)
        kept = ((total - mass) < top_p[:, None]).sum(-1).clamp(min=1)
        choice = _inverse(total, uniform, kept)
        drawn = torch.where(nucleus, order.gather(-1, choice[:, None]).squeeze(-1), drawn)
    greedy[hot] = drawn
    return greedy


def _inverse(total: torch.Tensor, uniform: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
    """The first index whose cumulated mass exceeds uniform x (mass of the first `kept` entries)."""
    kept = torch.full_like(uniform, total.shape[-1], dtype=torch.long) if kept is None else kept
    target = uniform * total.gather(-1, kept[:, None] - 1).squeeze(-1)
    return torch.minimum((total <= target[:, None]).sum(-1), kept - 1)
