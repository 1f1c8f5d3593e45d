"""Playing with the miniature's models in tests: `play.load`, `play.write`, `play.accuracy`."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gra_train.mini import prompts
from gra_train.mini.data import problems
from gra_train.mini.language import is_correct


def write(model: Any, tokenizer: Any, texts: list[str], *, max_new_tokens: int = 60) -> list[str]:
    """Greedy answers."""
    import torch

    tokenizer.padding_side = "left"
    chats = [[{"role": "user", "content": text}] for text in texts]
    batch = tokenizer.apply_chat_template(
        chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
    )
    with torch.inference_mode():
        out = model.generate(**batch, max_new_tokens=max_new_tokens, do_sample=False)
    return tokenizer.batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)  # type: ignore[no-any-return]


def load(folder: Path) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), AutoTokenizer.from_pretrained(folder)


def accuracy(model: Any, tokenizer: Any, number: int = 60) -> float:
    asked = problems("validation", number, 1)
    answers = write(model, tokenizer, [prompts.response(p.instruction) for p in asked])
    return sum(is_correct(p.instruction, a) for p, a in zip(asked, answers, strict=True)) / number


@pytest.fixture(scope="session")
def play() -> SimpleNamespace:
    return SimpleNamespace(load=load, write=write, accuracy=accuracy)
