import json
import math
from itertools import pairwise
from pathlib import Path

import pytest

from gra_train.errors import UserError
from gra_train.runs import Stopped
from gra_train.schema import Lora, Preference
from gra_train.schema.training import LOSSES
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
        train_dpo(start, data, train, out=out, seed=0, place=Place("cpu"), beta=more.pop("beta", 0.1), **more)
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


BEGINS = {"sigmoid": math.log(2), "hinge": 1.0, "ipo": 25.0, "kto": 0.5}
"""First loss where policy and reference are one (beta 0.1): ln 2, 1, (1 / (2 beta))^2, 1 - sigmoid(0)."""


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_begins_where_it_must_and_learns(tune, settings, out, loss):
    beta = 2.0 if loss == "simpo" else 0.1
    lines = tune(change(settings, steps=30, sft_weight=0.5), out, loss=loss, beta=beta)
    if loss in BEGINS:
        assert lines[0]["loss"] == pytest.approx(BEGINS[loss], rel=1e-5)
    assert lines[-1]["loss"] < 0.9 * lines[0]["loss"]
    averages = [line["rewards/margins"] for line in lines if "rewards/margins" in line]
    assert averages[-1] > max(0.0, averages[0])
    assert (out / "model" / "model.safetensors").exists()


def test_the_sft_term_has_its_weight(tune, settings, tmp_path):
    one = change(settings, steps=1)
    bare, half, whole = (
        tune(change(one, sft_weight=w), tmp_path / str(w) / "w", loss="sigmoid+sft")[0]["loss"] for w in (0.0, 0.5, 1.0)
    )
    assert bare == pytest.approx(math.log(2), abs=1e-6)
    assert whole - bare == pytest.approx(2 * (half - bare), rel=1e-5)
    assert whole > bare + 1


def test_simpo_keeps_its_margin(tune, settings, tmp_path):
    """-ln sigmoid(beta * difference - gamma) of the mean log-probabilities grows with gamma."""
    one = change(settings, steps=1)
    found = [
        tune(change(one, simpo_gamma=g), tmp_path / str(g) / "w", loss="simpo", beta=2.0)[0]["loss"] for g in (0.0, 1.0)
    ]
    assert found[0] < found[1] < found[0] + 1


@pytest.mark.parametrize("loss", ["simpo", "orpo", "kto", "sigmoid+sft"])
def test_accumulation_changes_no_loss_but_by_rounding(tune, settings, tmp_path, loss):
    """KTO's divergence and the SFT term's mean over tokens are of a batch, so these two differ a little."""
    small, large = (tune(change(settings, steps=3, device_batch=d), tmp_path / str(d) / "w", loss=loss) for d in (4, 8))
    for one, other in zip(small, large, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4 if loss == "simpo" else 0.05)


def test_kto_needs_a_batch_and_losses_without_a_reference_take_none(tune, settings, out):
    with pytest.raises(UserError, match=r"loss=kto.*device_batch=2"):
        tune(change(settings, device_batch=1), out, loss="kto")
    with pytest.raises(UserError, match=r"compares with no reference"):
        tune(settings, out, loss="simpo", reference="mini:chick")


@pytest.fixture
def computed(monkeypatch) -> list[int]:
    """Rows that a reference model scored."""
    from gra_train.training.preferences import Dpo

    before, seen = Dpo._score, []

    def score(self, rows, reference):
        seen.append(len(rows))
        return before(self, rows, reference)

    monkeypatch.setattr(Dpo, "_score", score)
    return seen


def test_references_are_computed_once_for_the_same_model_and_rows(tune, settings, pairs, tmp_path, computed, model):
    first = tune(settings, tmp_path / "a" / "w")
    again = tune(settings, tmp_path / "b" / "w")
    assert computed == [len(pairs)]
    assert [line["loss"] for line in again] == [line["loss"] for line in first]
    tune(change(settings, steps=1), tmp_path / "c" / "w", data=pairs[1:])
    tune(change(settings, steps=1), tmp_path / "d" / "w", start=str(tmp_path / "a" / "w" / "model"))
    assert computed == [len(pairs), len(pairs) - 1, len(pairs)]


def test_a_missing_or_broken_reference_is_an_error_that_names_it(tune, settings, tmp_path, computed):
    import numpy as np

    from gra_train.training import references

    tune(change(settings, steps=1), tmp_path / "a" / "w")
    [file] = (tmp_path / "references").iterdir()
    table = references.read(file)
    references.write(file, {name: np.delete(values, 7) for name, values in table.items()})
    with pytest.raises(
        UserError, match=rf"{file.name} has no reference log-probability for pair 7 \(tokens {table['digests'][7]}"
    ):
        tune(change(settings, steps=1), tmp_path / "b" / "w")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match=r"is broken.*delete it"):
        tune(change(settings, steps=1), tmp_path / "b" / "w")


def test_references_of_a_quantised_policy_are_kept_apart(model, pairs, settings, tmp_path):
    from trl import DPOConfig

    from gra_train.training import models, references, rows
    from gra_train.training.arguments import preference_arguments
    from gra_train.training.preferences import Dpo

    arguments = preference_arguments(settings, Place("cpu"), folder=tmp_path, seed=0, beta=0.1, loss="sigmoid")
    network, tokenizer = models.load(model)
    trainer = Dpo(network, tokenizer, DPOConfig(**arguments))
    names = []
    for quantized in (False, True):
        data = rows.dpo_rows(tokenizer, pairs[:4])
        trainer.add_references(data, digest="d", folder=tmp_path / str(quantized), quantized=quantized)
        names += [file.name for file in (tmp_path / str(quantized)).iterdir()]
    how = {"columns": Dpo.columns, "batch": 32, "device": "cpu", "bf16": False, "fp16": False}
    known = references.key("d", [references.row_digest(row) for row in rows.dpo_rows(tokenizer, pairs[:4])], how)
    assert names[0] == f"{known}.npz"  # as ever
    assert names[1] != names[0]


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
    from gra_train.training.arguments import preference_arguments
    from gra_train.training.preferences import Dpo

    place = Place("cpu")
    arguments = preference_arguments(settings, place, folder=tmp_path, seed=0, beta=0.1, loss="sigmoid")
    network, tokenizer = models.load(model)
    ours = Dpo(network, tokenizer, DPOConfig(**arguments))
    data = rows.dpo_rows(tokenizer, pairs)
    ours.add_references(data, folder=tmp_path)
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
    from gra_train.training import stopping

    whole = tune(settings, tmp_path / "whole" / "w")
    polls = iter(range(1, 100))
    monkeypatch.setattr(stopping, "stop_requested", lambda _: next(polls) == 6)
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
