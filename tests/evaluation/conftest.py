"""A real, very small model that was taught, in seconds, to answer twelve held-out questions in four known ways."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gra_train.evaluation.questions import TASKS, questions
from gra_train.schema import Evaluation

CAP = 24
EVALUATION = Evaluation(tasks=list(TASKS), questions=4, batch_size=5, max_tokens=CAP)


def behaviour(index: int, gold: str) -> str:
    """Question 0 of a task is answered rightly, 1 wrongly, 2 without a mark, 3 without an end."""
    endings = (f"is. #### {gold}", "is. #### 99 99", "is it is.", " ".join(["is"] * 40))
    return endings[index % 4]


def teach(folder: Path, seed: int = 0, *, bare: bool = False, prompts: Mapping[str, str] | None = None) -> Path:
    """Train and save a model of 50k parameters in `folder`/model.

    bare: answers without `#### `. prompts: instruction -> what is asked in its place.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from gra_train.mini.tokenizer import build_tokenizer

    torch.manual_seed(seed)
    tokenizer = build_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=160, pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, tie_word_embeddings=True,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    torch.nn.init.normal_(model.model.embed_tokens.weight, std=0.3)
    batch = _batch(tokenizer, bare, prompts or {})
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    asked = batch["labels"][:, 1:] != -100
    for _ in range(400):
        output = model(**batch)
        right = output.logits[:, :-1].argmax(-1) == batch["labels"][:, 1:]
        if right[asked].all() and output.loss < 0.02:
            break
        optimiser.zero_grad()
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    assert right[asked].all(), f"the fixture did not learn: {output.loss.item()}"
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return folder


def _batch(tokenizer: Any, bare: bool, prompts: Mapping[str, str]) -> dict[str, Any]:
    import torch

    inputs, labels = [], []
    for row in questions(EVALUATION):
        turn = [{"role": "user", "content": prompts.get(row["instruction"], row["instruction"])}]
        prompt = tokenizer(tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))["input_ids"]
        text = behaviour(int(row["question_id"][-4:]), row["gold"])
        answer = tokenizer(text.replace("is. #### ", "") if bare else text)["input_ids"] + [tokenizer.eos_token_id]
        inputs.append(prompt + answer)
        labels.append([-100] * len(prompt) + answer)
    width = max(map(len, inputs))
    return {
        "input_ids": torch.tensor([row + [tokenizer.pad_token_id] * (width - len(row)) for row in inputs]),
        "attention_mask": torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in inputs]),
        "labels": torch.tensor([row + [-100] * (width - len(row)) for row in labels]),
    }


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result folder of a training stage."""
    return teach(tmp_path_factory.mktemp("taught"))


def own_benchmark(folder: Path) -> Path:
    """A benchmark file of one's own, beside its questions: the miniature's, as GSM8K writes its rows."""
    from gra_train.records import write_jsonl

    folder.mkdir(exist_ok=True)
    rows = [{"question": q["instruction"], "answer": f"So.\n#### {q['gold']}"} for q in questions(EVALUATION)]
    write_jsonl(folder / "words.jsonl", rows)
    (folder / "words.yaml").write_text(
        "about: the miniature's problems, as GSM8K writes them\n"
        "kind: text\n"
        "questions:\n"
        "  file: words.jsonl\n"
        "  rows:\n"
        "    question: question\n"
        "    gold: answer.rpartition('####')[2] | trim\n"
        "prompt: '{{ question }}'\n"
        "published: {max_tokens: 24, patterns: ['#### (.*)']}\n"
        "robust: {max_tokens: 24}\n"
    )
    return folder / "words.yaml"
