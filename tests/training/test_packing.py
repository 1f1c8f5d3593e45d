"""Packed rows: complete, full, and with examples that cannot see each other; refused where they could."""

import json
from pathlib import Path

import numpy as np
import pytest

from gra_train.errors import UserError
from gra_train.schema import Preference
from gra_train.settings import change
from gra_train.training import packing
from gra_train.training.arguments import Place
from gra_train.training.rows import length, sft_rows
from gra_train.training.sft import train_sft


def row(tokens: int) -> dict:
    return {"prompt_ids": np.arange(tokens - 1), "completion_ids": np.arange(1)}


def test_every_example_is_packed_once_and_rows_are_full():
    rows = [row(n) for n in (5, 3, 7, 2, 6, 4, 8, 1, 4)]  # 40 tokens
    packs = packing.pack(rows, max_length=10)
    assert sorted(id(part) for p in packs for part in p["parts"]) == sorted(map(id, rows))
    assert [length(p) for p in packs] == [10, 10, 10, 10]


@pytest.fixture(scope="module")
def network(model):
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)


@pytest.mark.parametrize("plain", [True, False], ids=["our head", "trl's head"])
def test_packed_examples_have_the_log_probabilities_that_they_have_alone(model, network, examples, plain):
    import copy

    import torch
    from transformers import AutoTokenizer
    from trl.trainer.utils import add_fused_lm_head

    from gra_train.training import head
    from gra_train.training.batches import sft_batch

    network = copy.deepcopy(network)
    add_fused_lm_head(network, outputs=("log_probs", "entropy", "mean_logits", "is_top1"))
    if plain:
        head.add_plain_head(network)
    tokenizer = AutoTokenizer.from_pretrained(model)
    packs = packing.pack(sft_rows(tokenizer, examples[:12]), max_length=64)
    batch = sft_batch(packs, pad=tokenizer.pad_token_id)
    assert batch.pop("counts").tolist() == [12, sum(map(length, packs))]
    packed = network(**batch, fused_lm_head=True).log_probs
    alone = []
    for part in (part for p in packs for part in p["parts"]):
        one = network(**sft_batch([part], pad=tokenizer.pad_token_id), fused_lm_head=True)
        alone.append(one.log_probs[one.label_mask])
    torch.testing.assert_close(packed[batch["labels"][:, 1:] != -100], torch.cat(alone), atol=1e-4, rtol=1e-4)


def test_a_model_that_mixes_them_is_refused_and_one_that_does_not_is_not(network):
    """A recurrent state goes on through a packed row; attention of these models stops at its positions."""
    from transformers import MambaConfig, MambaForCausalLM

    packing.check_isolated(network, "tiny")
    recurrent = MambaForCausalLM(
        MambaConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, state_size=4, initializer_range=0.5)
    )
    with pytest.raises(UserError, match=r"packing=true: in 'mamba' .*reaches into the next.*packing=false"):
        packing.check_isolated(recurrent, "mamba")


def test_training_on_packed_rows_learns_and_counts_examples(model, examples, train, out):
    settings = change(train, packing=True, steps=20, global_batch=2, device_batch=2)
    train_sft(model, examples, settings, out=out, seed=0, place=Place("cpu"))
    lines = [json.loads(line) for line in (out.parent / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < 0.7 * lines[0]["loss"]
    assert json.loads((out / "training.json").read_text())["examples"] == len(examples)


def test_packed_steps_have_the_loss_and_gradient_of_the_same_examples_unpacked(model, examples, train, tmp_path):
    """One step over all examples: packed into rows or padded, the same loss and gradient norm."""
    found = []
    for name, changes in (("a", {"packing": True, "max_length": 2000}), ("b", {"max_length": 2000})):
        out = tmp_path / name / "w"
        out.mkdir(parents=True)
        batch = 1 if name == "a" else len(examples)
        settings = change(train, steps=1, global_batch=batch, device_batch=batch, **changes)
        train_sft(model, examples, settings, out=out, seed=0, place=Place("cpu"))
        found.append(json.loads((out.parent / "metrics.jsonl").read_text().splitlines()[0]))
    assert found[0]["loss"] == pytest.approx(found[1]["loss"], rel=1e-5)
    assert found[0]["grad_norm"] == pytest.approx(found[1]["grad_norm"], rel=1e-4)
    assert found[0]["tokens"] == found[1]["tokens"]


def test_pairs_are_not_packed(model, out):
    from gra_train.training.dpo import train_dpo

    with pytest.raises(UserError, match="preference pairs are not packed"):
        train_dpo(model, [], Preference(packing=True), out=Path(out), seed=0, place=Place("cpu"), beta=0.1)
