"""The decode loop: left-padded prompts, a key-value cache, and rows that leave the batch when they are done.

Small enough to read, and for small models faster than `generate`, which carries finished rows to the end.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from gra_train.chat.constrain import Constraints
from gra_train.chat.protocol import Completion, Reply
from gra_train.chat.sampling import draw, uniforms
from gra_train.chat.templates import cut_at


@dataclass(slots=True)
class Row:
    """A request that is being answered. index: its place among the requests."""

    index: int
    request: Completion
    limit: int
    """tokens to write at most"""
    ends: frozenset[int]
    tokens: list[int] = field(default_factory=list)


class Decoder:
    """Decodes batches with any Hugging Face causal LM.

    end_ids: ids that end an answer. window: positions of the model; an answer ends there as if cut at max_tokens.
    """

    def __init__(self, network: Any, tokenizer: Any, *, end_ids: Sequence[int], window: int) -> None:
        self.network, self.tokenizer, self.end_ids, self.window = network, tokenizer, end_ids, window
        self._parameters = inspect.signature(network.forward).parameters

    @torch.inference_mode()
    def run(
        self, prompts: Sequence[list[int]], requests: Sequence[Completion], constraints: Constraints | None = None
    ) -> list[Reply]:
        """One reply per prompt, in order. `constraints` has one row per request."""
        device = self.network.device
        replies: list[Reply | None] = [None] * len(requests)
        rows = [self.row(i, prompt, request) for i, (prompt, request) in enumerate(zip(prompts, requests, strict=True))]
        full = {r.index for r in rows if r.limit <= 0}  # prompts that fill the window leave no room for an answer
        for i in full:
            replies[i] = Reply("", "length", len(prompts[i]), 0)
        rows = [r for r in rows if r.index not in full]
        if full and constraints:
            constraints.keep([r.index for r in rows])
        if not rows:
            return [r for r in replies if r is not None]
        steps = max(r.limit for r in rows)
        uniform = torch.stack([torch.from_numpy(uniforms(r.request, steps)) for r in rows]).float().to(device)
        uniform = uniform.clamp(max=1 - 2**-24)  # rounding to float32 may reach 1
        settings = [r.request.sampling for r in rows]
        temperature = torch.tensor([s.temperature for s in settings], device=device, dtype=torch.float32)
        top_p = torch.tensor([s.top_p for s in settings], device=device, dtype=torch.float32)

        ids, mask = left_padded([prompts[r.index] for r in rows], device)
        position = (mask.cumsum(-1) - 1).clamp(min=0)
        output = self.forward(ids, mask, position, None)
        position = position[:, -1:]
        for step in range(steps):
            logits = output.logits[:, -1].float()
            if constraints:
                constraints.mask(logits)
            token = draw(logits, temperature=temperature, top_p=top_p, uniform=uniform[:, step])
            alive = []
            for k, (row, value) in enumerate(zip(rows, token.tolist(), strict=True)):
                if replies[row.index] is not None:
                    continue  # a cache that cannot drop rows carries finished ones along
                row.tokens.append(value)
                reply = self.finished(row, value, constraints.accept(k, value) if constraints else False)
                if reply is None:
                    alive.append(k)
                else:
                    replies[row.index] = Reply(*reply, len(prompts[row.index]), len(row.tokens))
            if not alive:
                break
            if len(alive) < len(rows) and hasattr(output.past_key_values, "batch_select_indices"):
                kept = torch.tensor(alive, device=device)
                output.past_key_values.batch_select_indices(kept)
                token, mask, position, uniform = token[kept], mask[kept], position[kept], uniform[kept]
                temperature, top_p, rows = temperature[kept], top_p[kept], [rows[k] for k in alive]
                if constraints:
                    constraints.keep(alive)
            position = position + 1
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
            output = self.forward(token[:, None], mask, position, output.past_key_values)
        return [r for r in replies if r is not None]

    def row(self, index: int, prompt: list[int], request: Completion) -> Row:
        """A stop string that is a token of its own (say "<|im_end|>") ends the answer as that token."""
        special = {s for s in request.sampling.stop if s in self.tokenizer.all_special_tokens}
        ends = frozenset(self.end_ids) | {self.tokenizer.convert_tokens_to_ids(s) for s in special}
        return Row(index, request, min(request.sampling.max_tokens, self.window - len(prompt)), ends)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, position: torch.Tensor, cache: Any) -> Any:
        extra: dict[str, Any] = {}
        if "position_ids" in self._parameters:
            extra["position_ids"] = position
        if "logits_to_keep" in self._parameters:
            extra["logits_to_keep"] = 1
        return self.network(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **extra)

    def finished(self, row: Row, token: int, complete: bool) -> tuple[str, Literal["stop", "length"]] | None:
        """Text and finish of a row that ends with this token, or None."""
        if token in row.ends:
            text = self._text(row.tokens[:-1])
            cut = cut_at(text, row.request.sampling.stop)
            return text if cut is None else cut, "stop"
        stop = row.request.sampling.stop
        if stop:
            # A stop string ends in the newest token, so the last few tokens (each has a character or more, save
            # for bytes of a rare character) show it; only then is the whole text decoded.
            tail = self._text(row.tokens[-(max(map(len, stop)) + 8) :])
            if any(s in tail for s in stop):
                cut = cut_at(self._text(row.tokens), stop)
                if cut is not None:
                    return cut, "stop"
        if complete:
            return self._text(row.tokens), "stop"
        return (self._text(row.tokens), "length") if len(row.tokens) >= row.limit else None

    def _text(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))


def left_padded(rows: Sequence[list[int]], device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask [rows, width]; padding repeats a row's own first token (any id would do: it is masked)."""
    width = max(map(len, rows))
    ids = torch.tensor([[row[0]] * (width - len(row)) + row for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask
