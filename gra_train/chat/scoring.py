"""Likelihoods of a batch: one forward pass of any Hugging Face causal LM, or two where prompts share prefixes."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch

from gra_train.chat import prefixes
from gra_train.chat.protocol import TokenLogProbs


class Scorer:
    """Scores batches with any Hugging Face causal LM.

    end_ids: ids that end an answer; the first one pads. window: positions of the model.
    shares: whether the network can go on from a repeated cache.
    """

    def __init__(self, network: Any, tokenizer: Any, *, end_ids: Sequence[int], window: int) -> None:
        self.network, self.tokenizer, self.end_ids, self.window = network, tokenizer, end_ids, window
        self._parameters = inspect.signature(network.forward).parameters
        self.shares = self._can_share()

    def _can_share(self) -> bool:
        """Not: networks that take other arguments, windows that slide, states."""
        config = self.network.config.get_text_config()
        kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
        slides = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
        needed = {"position_ids", "past_key_values", "logits_to_keep"}
        return kinds == {"full_attention"} and not slides and needed <= self._parameters.keys()

    @torch.inference_mode()
    def run(self, prompts: Sequence[list[int]], continuations: Sequence[list[int]]) -> list[TokenLogProbs]:
        """Right-padded (causal attention never looks right, so no mask), with only the logits that are asked for.

        Tokens beyond the model's window get -inf: it can give them no probability. Prefixes that prompts share are
        computed once.
        """
        device = self.network.device
        if (shared := self._shared(prompts, continuations)) is not None:
            return shared
        rows = [(p + c)[: self.window] for p, c in zip(prompts, continuations, strict=True)]
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self.end_ids[0] if self.end_ids else 0)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
        first = max(0, min(width, *map(len, prompts)) - 1)  # logits at position t speak of token t + 1
        columns = torch.arange(first, width, device=device)
        keep = {"logits_to_keep": columns} if "logits_to_keep" in self._parameters else {}
        logits = self.network(input_ids=ids.to(device), use_cache=False, **keep).logits
        if not keep:
            logits = logits[:, first:]
        answers = []
        for i, (prompt, continuation) in enumerate(zip(prompts, continuations, strict=True)):
            inside = max(0, min(len(continuation), len(rows[i]) - len(prompt)))
            start = len(prompt) - 1 - first
            row = logits[i, start : start + inside].float()
            target = torch.tensor(continuation[:inside], device=row.device, dtype=torch.long)
            values = row.gather(-1, target[:, None]).squeeze(-1) - row.logsumexp(-1)
            values = [float(v) for v in values.tolist()] + [float("-inf")] * (len(continuation) - inside)
            answers.append(self._with_tokens(values, continuation))
        return answers

    def _shared(self, prompts: Sequence[list[int]], continuations: Sequence[list[int]]) -> list[TokenLogProbs] | None:
        """As `run`, prefixes first; None where nothing is shared, or this model cannot."""
        if not self.shares or max(len(p) + len(c) for p, c in zip(prompts, continuations, strict=True)) > self.window:
            return None
        found = prefixes.groups(prompts)
        if not any(group.shared for group in found):
            return None
        values = prefixes.score(self.network, prompts, continuations, found)
        if values is None:
            self.shares = False
            return None
        return [self._with_tokens(*pair) for pair in zip(values, continuations, strict=True)]

    def _with_tokens(self, values: Sequence[float], continuation: Sequence[int]) -> TokenLogProbs:
        return TokenLogProbs(tuple(values), tuple(self.tokenizer.batch_decode([[t] for t in continuation])))
