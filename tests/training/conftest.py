"""A tiny random Llama with a word tokenizer and a chat template: what every test here trains."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gra_train.schema import Train
from gra_train.training.rows import example

TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|> ' + m['content'] + (' <|end|>' if m['role'] == 'assistant' else "
    "' ') }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|> ' }}{% endif %}"
)


def make_model(folder: Path, *, width: int = 32, seed: int = 0) -> str:
    """Write a Llama of two layers and its tokenizer; returns the folder."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["<pad>", "<unk>", "<|user|>", "<|assistant|>", "<|end|>", *map(str, range(60)), *"+=?.", "what", "is"]
    words += [f"w{i}" for i in range(40)]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<|end|>",
        extra_special_tokens=["<|user|>", "<|assistant|>"],
    )
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=2 * width,
        max_position_embeddings=128,
        initializer_range=0.15,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=4,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def sums(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """(instruction, response) rows of different lengths."""
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        a, b = rng.randint(0, 29), rng.randint(0, 29)
        noise = " ".join(f"w{rng.randint(0, 39)}" for _ in range(rng.randint(0, 12)))
        rows.append((f"{noise} what is {a} + {b} ?".strip(), f"{a} + {b} = {a + b}"))
    return rows


@pytest.fixture(scope="session")
def new_model() -> Callable[..., str]:
    return make_model


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def examples() -> list[dict[str, Any]]:
    """40 prompt-completion examples."""
    return [example(*row) for row in sums(40)]


@pytest.fixture
def train() -> Train:
    return Train(
        steps=8, global_batch=8, device_batch=8, lr=3e-3, max_length=64, dtype="float32", activation_checkpointing=False
    )


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "run" / "work-1"
    folder.mkdir(parents=True)
    return folder
