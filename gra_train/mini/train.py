"""Training a miniature model from nothing: a compact loop in plain torch, deterministic for one thread.

What made such small models learn in two minutes of one core: linear weights of std 1/sqrt(fan_in) (output projections
divided by sqrt(2 layers)), embeddings of std 0.3 and a final norm of 0.3 (0.02 nearly stalls); many short steps;
batches of equal length, so that right padding needs no mask; loss on the output alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch

from gra_train.mini.models import Schedule, Shape

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

Example = tuple[str, str]
CHUNK = 512  # examples that are sorted by length together
ROPE_THETA = 50.0  # texts have about 60 tokens: with the usual 10,000 most frequencies never turn


def new_model(shape: Shape, tokenizer: PreTrainedTokenizerFast, *, seed: int) -> LlamaForCausalLM:
    """A Llama with fresh weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        head_dim=32,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        attention_dropout=0.0,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 1:
                weight.fill_(0.3 if name == "model.norm.weight" else 1.0)
            elif "embed_tokens" in name:
                weight.normal_(0, 0.3)
            else:
                residual = name.endswith(("o_proj.weight", "down_proj.weight"))
                weight.normal_(0, weight.shape[1] ** -0.5 / ((2 * shape.layers) ** 0.5 if residual else 1))
    return model


def batches(
    examples: Iterator[Example], tokenizer: PreTrainedTokenizerFast, tokens: int, rng: random.Random
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(input ids, labels), both [rows, length], rows * length about `tokens`; labels are -100 outside the output."""
    user, assistant, eos = tokenizer.convert_tokens_to_ids(["<|user|>", "<|assistant|>", "</s>"])
    while True:
        chunk = [next(examples) for _ in range(CHUNK)]
        encoded = tokenizer([text for pair in chunk for text in pair], add_special_tokens=False)["input_ids"]
        rows = []
        for prompt, output in zip(encoded[::2], encoded[1::2], strict=True):
            head = [tokenizer.bos_token_id, user, *prompt, assistant]
            rows.append((head + output + [eos], [-100] * len(head) + output + [eos]))
        rows.sort(key=lambda row: len(row[0]))
        groups: list[list[tuple[list[int], list[int]]]] = [[]]
        for row in rows:
            if (len(groups[-1]) + 1) * len(row[0]) > tokens and groups[-1]:
                groups.append([])
            groups[-1].append(row)
        rng.shuffle(groups)
        for group in groups:
            length = len(group[-1][0])
            ids = torch.tensor([ids + [tokenizer.pad_token_id] * (length - len(ids)) for ids, _ in group])
            labels = torch.tensor([labels + [-100] * (length - len(labels)) for _, labels in group])
            yield ids, labels


def loss_of(model: LlamaForCausalLM, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of the labelled tokens; the vocabulary's logits are made only where there is a label."""
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    wanted = labels[:, 1:] != -100
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[wanted]), labels[:, 1:][wanted])


def _optimizers(model: LlamaForCausalLM, schedule: Schedule) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices (half the loss of AdamW after as many steps), AdamW for embeddings and norms."""
    matrices: list[torch.Tensor] = []
    others: list[torch.Tensor] = []
    for name, weight in model.named_parameters():
        (matrices if weight.ndim == 2 and "embed_tokens" not in name else others).append(weight)
    return [
        torch.optim.Muon(matrices, lr=schedule.matrix_lr, momentum=0.95, weight_decay=0.0),
        torch.optim.AdamW(others, lr=schedule.lr, betas=(0.9, 0.98), weight_decay=0.01, fused=True),
    ]


def train(
    shape: Shape,
    schedule: Schedule,
    example: Callable[[random.Random], Example],
    tokenizer: PreTrainedTokenizerFast,
    *,
    seed: int,
    progress: Callable[[int, float], None] = lambda step, loss: None,
) -> LlamaForCausalLM:
    """A new model, trained on endless examples. The caller sets the threads: with one, it is deterministic."""
    rng = random.Random(seed)
    model = new_model(shape, tokenizer, seed=seed)
    model.train()
    stream = batches((example(rng) for _ in iter(int, 1)), tokenizer, schedule.tokens, rng)
    optimizers = _optimizers(model, schedule)
    peaks = [(group, group["lr"]) for optimizer in optimizers for group in optimizer.param_groups]
    warm = max(1, schedule.steps // 50)
    for step in range(schedule.steps):
        rate = min((step + 1) / warm, max(0.05, 1 - step / schedule.steps))
        for group, peak in peaks:
            group["lr"] = peak * rate
        loss = loss_of(model, *next(stream))
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        if step % 50 == 49 or step + 1 == schedule.steps:
            progress(step + 1, loss.item())
    return model.eval()
