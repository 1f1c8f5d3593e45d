import json
import math
from itertools import pairwise
from pathlib import Path

import pytest

from gra_train.errors import UserError
from gra_train.runs import Stopped
from gra_train.schema import Lora, Preference
from gra_train.settings import change
from gra_train.training.arguments import Place
from gra_train.training.dpo import train_dpo


@pytest.fixture
def settings() -> Preference:
    return Preference(
        steps=9, global_batch=8, device_batch=4, lr=3e-3, max_length=64, dtype="float32",
        activation_checkpointing=False, warmup=0.0,
    )  # fmt: skip


@pytest.fixture
def pairs(examples) -> list[dict]:
    """Chosen: the right sum; rejected: another row's."""
    return [
        {"prompt": a["prompt"], "chosen": a["completion"], "rejected": b["completion"]} for a, b in pairwise(examples)
    ]


@pytest.fixture
def tune(model, pairs):
    def run(train: Preference, out: Path, **more) -> list[dict]:
        out.mkdir(parents=True, exist_ok=True)
        start, data = more.pop("start", model), more.pop("data", pairs)
        train_dpo(start, data, train, out=out, seed=0, place=Place("cpu"), beta=0.1, **more)
        return [json.loads(line) for line in (out.parent / "metrics.jsonl").read_text().splitlines()]

    return run


def test_starts_at_ln_2_and_learns(tune, settings, out):
    lines = tune(change(settings, steps=30), out)
    assert lines[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert lines[-1]["loss"] < 0.4
    assert lines[-1]["rewards/margins"] > 0
    assert (out / "model" / "model.safetensors").exists()


def test_ipo_starts_at_a_quarter_over_beta_squared(tune, settings, out):
    assert tune(change(settings, steps=1), out, loss="ipo")[0]["loss"] == pytest.approx(1 / (2 * 0.1) ** 2, rel=1e-5)


def test_another_reference_is_another_start(tune, settings, model, out, tmp_path):
    """From a tuned policy with the first model as reference the loss does not start at ln 2; with itself it does."""
    tune(settings, out)
    tuned = str(out / "model")
    first = change(settings, steps=1)
    assert tune(first, tmp_path / "a" / "w", start=tuned)[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    other = tune(first, tmp_path / "b" / "w", start=tuned, reference=model)[0]["loss"]
    assert abs(other - math.log(2)) > 0.02


def test_references_computed_before_equal_those_of_a_reference_in_memory(model, pairs, settings, tmp_path):
    """Our precomputed log-probabilities against TRL's own, computed in its loss from a second copy of the model."""
    import datasets
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    from gra_train.training import models, rows
    from gra_train.training.arguments import dpo_arguments
    from gra_train.training.trainers import Dpo

    place = Place("cpu")
    arguments = dpo_arguments(settings, place, folder=tmp_path, seed=0, beta=0.1, loss="sigmoid")
    network, tokenizer = models.load(model)
    ours = Dpo(network, tokenizer, DPOConfig(**arguments))
    data = rows.dpo_rows(tokenizer, pairs)
    ours.add_references(data, batch=5)
    theirs = DPOTrainer(
        AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        args=DPOConfig(**(arguments | {"precompute_ref_log_probs": False})),
        train_dataset=datasets.Dataset.from_list(pairs),
        processing_class=AutoTokenizer.from_pretrained(model),
    )
    batch = theirs.data_collator([theirs.train_dataset[i] for i in range(len(pairs))])
    chosen, rejected = theirs.compute_ref_log_probs(theirs.ref_model, batch)
    assert [row["ref_chosen"] for row in data] == pytest.approx(chosen.tolist(), abs=1e-4)
    assert [row["ref_rejected"] for row in data] == pytest.approx(rejected.tolist(), abs=1e-4)


def test_stopped_and_resumed_equals_undisturbed(tune, settings, tmp_path, monkeypatch):
    from gra_train.training import callbacks

    whole = tune(settings, tmp_path / "whole" / "w")
    polls = iter(range(1, 100))
    monkeypatch.setattr(callbacks, "stop_requested", lambda _: next(polls) == 6)
    with pytest.raises(Stopped):
        tune(settings, tmp_path / "cut" / "w")
    again = tune(settings, tmp_path / "cut" / "w")
    assert [line["loss"] for line in again] == [line["loss"] for line in whole]
    one, other = ((tmp_path / name / "w" / "model" / "model.safetensors").read_bytes() for name in ("whole", "cut"))
    assert one == other


def test_adapters_take_the_base_as_reference(tune, settings, out):
    lines = tune(change(settings, lora=Lora(r=4), lr=1e-2), out)
    assert lines[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert lines[-1]["loss"] < lines[0]["loss"]


def test_empty_pairs(tune, settings, out):
    with pytest.raises(UserError, match="no rows"):
        tune(settings, out, data=[])
