"""A language-model head for small vocabularies on a CPU, in place of TRL's fused one.

TRL's fused head never holds all logits, which a 150k vocabulary needs. Without Triton it pays for that by scoring every
position, prompt and padding included, and by computing the logits again in the backward pass: on a CPU it is a third of
a small model's step. With a small vocabulary the plain way is the fast one: logits of the answer's positions only. The
result is the same object with the same values.
"""

from __future__ import annotations

import functools
import types
from typing import Any

import torch

SMALL_VOCABULARY = 8192
_SCALED = ("final_logit_softcapping", "logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling",
           "output_router_logits")  # fmt: skip


def applies(model: Any) -> bool:
    """Plain causal models with a small vocabulary; whatever scales or caps its logits keeps TRL's head."""
    config = model.config.get_text_config()
    return config.vocab_size <= SMALL_VOCABULARY and not any(getattr(config, name, None) for name in _SCALED)


def add_plain_head(model: Any) -> None:
    """Let `model(..., labels=..., fused_lm_head=True)` return trl's FusedCausalLMOutput from plain logits.

    Batches must be padded on the right: causal attention then needs no mask, and none is passed on (a dense mask would
    keep PyTorch from its causal kernel).
    """
    fused = model.forward

    @functools.wraps(type(model).forward)
    def forward(self: Any, *args: Any, fused_lm_head: bool = False, labels: Any = None, **kwargs: Any) -> Any:
        if not fused_lm_head:
            return fused(*args, fused_lm_head=False, labels=labels, **kwargs)
        inputs = {k: v for k, v in kwargs.items() if k in ("input_ids", "position_ids", "inputs_embeds")}
        hidden = self.base_model(*args, **inputs, use_cache=False).last_hidden_state
        return _score(self.get_output_embeddings(), hidden[:, :-1], labels[:, 1:])

    model.forward = types.MethodType(forward, model)


def _score(head: Any, hidden: torch.Tensor, labels: torch.Tensor) -> Any:
    """hidden: (rows, length, width); labels: (rows, length), -100 where nothing is scored."""
    from trl.trainer.utils import FusedCausalLMOutput

    mask = labels != -100
    targets = labels[mask]
    logits = head(hidden[mask]).float()
    every = torch.log_softmax(logits, dim=-1)
    chosen = every.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    with torch.no_grad():
        details = {
            "entropy": -(every.exp() * every).sum(-1),
            "mean_logits": logits.mean(-1),
            "is_top1": logits.argmax(-1) == targets,
        }
    return FusedCausalLMOutput(
        loss=-chosen.sum() / mask.sum().clamp(min=1),
        log_probs=_spread(chosen, mask),
        label_mask=mask,
        **{name: _spread(value, mask) for name, value in details.items()},
    )


def _spread(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return values.new_zeros(mask.shape).masked_scatter(mask, values)
