"""A tiny random model and a handful of tasks: enough to walk every stage of COLLATE."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from gra_train.schema import Collate, DataFile, Evaluation, Model, Preference, Train
from gra_train.stages import CollateStage

TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] }}{% if m['role'] == 'assistant' %}<|end|>"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Llama of one layer with a word tokenizer."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<pad>", "<unk>", "<|user|>", "<|assistant|>", "<|end|>"]
    words = [*map(str, range(40)), *"+=?", "Answer:", "Explain:", "Because:", "what", "is", "first", "then"]
    words = [*special, *(f"\u2581{word}" for word in words)]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>", eos_token="<|end|>", chat_template=TEMPLATE,
        extra_special_tokens=["<|user|>", "<|assistant|>"],
    )  # fmt: skip
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=96, pad_token_id=0, bos_token_id=None, eos_token_id=4, initializer_range=0.2,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("base") / "tiny"
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def config(base: str, tmp_path: Path) -> CollateStage:
    """Two providers; 24 rows with rationales, 12 tasks without."""
    rng = random.Random(0)
    with (tmp_path / "rationales.jsonl").open("w") as gold, (tmp_path / "tasks.jsonl").open("w") as task:
        for i in range(36):
            a, b = rng.randint(0, 19), rng.randint(0, 19)
            row = {"instruction": f"what is {a} + {b} ?", "answer": str(a + b)}
            more = {"rationale": f"first {a} then {b} = {a + b}"} if i < 24 else {}
            (gold if i < 24 else task).write(json.dumps(row | more) + "\n")
    size = {"steps": 3, "global_batch": 8, "device_batch": 8, "lr": 3e-3, "max_length": 64, "dtype": "float32",
            "activation_checkpointing": False}  # fmt: skip
    collate = Collate(
        rationale_data=DataFile(path=str(tmp_path / "rationales.jsonl")),
        task_data=DataFile(path=str(tmp_path / "tasks.jsonl")),
        validation_rows=4, prompts="mini", temperature=1.0, stage2_temperature=1.0, max_tokens=8, block=16,
        ift=Train(**{**size, "steps": 20}), stage2=Preference(**size), stage3=Preference(**size),
        answerer=Train(**size),
    )  # fmt: skip
    evaluation = Evaluation(tasks=["mini_math"], questions=3)
    return CollateStage(
        seed=0, model=Model(name="tiny", path=base), collate=collate, evaluation=evaluation, deepspeed={}, device="cpu",
        ranks=1, ledger=str(tmp_path / "ledger"),
    )  # fmt: skip
