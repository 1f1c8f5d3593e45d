"""Adapters: kept or merged, trained on, as references, and loaded by everything that reads a model."""

import json
import math
import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from gra_train.errors import UserError
from gra_train.locate import adapter_base
from gra_train.schema import Evaluation, Lora, Model, Preference
from gra_train.settings import change
from gra_train.training import adapters
from gra_train.training.arguments import Place
from gra_train.training.dpo import train_dpo
from gra_train.training.sft import train_sft

CPU = Place("cpu")
KEPT = Lora(r=4, merge=False)
STEPS = Preference(
    steps=6, global_batch=8, device_batch=8, lr=1e-2, max_length=64, dtype="float32", activation_checkpointing=False,
    warmup=0.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def pairs(examples):
    return [
        {"prompt": a["prompt"], "chosen": a["completion"], "rejected": b["completion"]} for a, b in pairwise(examples)
    ]


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out.parent / "metrics.jsonl").read_text().splitlines()]


def reference_of(out: Path, model: str, pairs, settings=STEPS) -> list[float]:
    """Reference log-probabilities that a training from `model` learns against."""
    from gra_train.training import preferences

    seen: list[float] = []
    before = preferences.Dpo.add_references

    def note(self, rows, **more):
        before(self, rows, **more)
        seen.extend(row["ref_chosen"] for row in rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preferences.Dpo, "add_references", note)
        dpo(out, model, pairs, settings)
    return seen


def dpo(out: Path, model: str, pairs, settings=STEPS, **more) -> str:
    out.mkdir(parents=True, exist_ok=True)
    train_dpo(model, pairs, settings, out=out, seed=0, place=CPU, beta=0.1, **more)
    return str(out / "model")


@pytest.fixture(scope="module")
def chain(tmp_path_factory, examples, pairs, model):
    """COLLATE in small: M_IFT, RP(0) an adapter on it, RP(1) that adapter trained on; and what each referred to."""
    runs = tmp_path_factory.mktemp("runs")
    ift = runs / "ift" / "result"
    ift.mkdir(parents=True)
    train_sft(model, examples, change(STEPS, steps=4), out=ift, seed=0, place=CPU)
    kept = change(STEPS, lora=KEPT)
    folders = {"ift": str(ift / "model")}
    references = {}
    for name, start in (("stage2", "ift"), ("stage3", "stage2"), ("stage3b", "stage3")):
        references[name] = reference_of(runs / name / "result", folders[start], pairs, kept)
        folders[name] = str(runs / name / "result" / "model")
    return runs, folders, references


def test_both_stages_start_at_ln_2_and_learn(chain):
    runs, _, _ = chain
    for name in ("stage2", "stage3", "stage3b"):
        found = losses(runs / name / "result")
        assert found[0] == pytest.approx(math.log(2), abs=1e-6)
        assert found[-1] < found[0] - 1e-3


def test_the_reference_of_an_adapter_is_the_adapter_as_it_was(chain, pairs, tmp_path):
    """Stage 2 refers to M_IFT; iteration 2 refers to RP(1), which is not M_IFT."""
    _, folders, references = chain
    alone = change(STEPS, steps=1)
    assert references["stage2"] == pytest.approx(reference_of(tmp_path / "a", folders["ift"], pairs, alone), abs=1e-4)
    merged = reference_of(tmp_path / "b", folders["stage3"], pairs, alone)  # lora.r=0: from merged weights
    assert references["stage3b"] == pytest.approx(merged, abs=1e-3)
    for later in ("stage3", "stage3b"):
        gaps = [abs(a - b) for a, b in zip(references[later], references["stage2"], strict=True)]
        assert max(gaps) > 0.05


def test_a_kept_adapter_stands_on_the_first_base_without_absolute_paths(chain):
    runs, folders, _ = chain
    for name in ("stage2", "stage3", "stage3b"):
        folder = Path(folders[name])
        assert not list(folder.glob("model*.safetensors"))
        assert Path(adapter_base(str(folder))) == Path(folders["ift"])
        for file in folder.glob("*.json"):
            assert str(runs) not in file.read_text()


def test_moved_together_an_adapter_still_finds_its_base(chain, tmp_path):
    runs, _, _ = chain
    shutil.copytree(runs, tmp_path / "elsewhere")
    moved = tmp_path / "elsewhere" / "stage3" / "result" / "model"
    assert Path(adapter_base(str(moved))) == tmp_path / "elsewhere" / "ift" / "result" / "model"


def test_chat_and_evaluation_load_what_training_merges(chain, pairs, examples, tmp_path):
    """The adapter kept, and the same training with the adapter merged: one model to everything that reads it."""
    import torch

    from gra_train.chat.local import LocalModel
    from gra_train.evaluation.stages import _load
    from gra_train.stages import EvaluateStage
    from gra_train.training import models

    _, folders, _ = chain
    merged = dpo(tmp_path / "m" / "w", folders["ift"], pairs, change(STEPS, lora=change(KEPT, merge=True)))
    ids = torch.tensor([[2, 50, 51, 5, 35, 6, 3]])
    evaluation = EvaluateStage(0, Model(name="x", path=""), Evaluation(), "tags", "cpu")
    expected = models.load(merged)[0](ids).logits
    found = [
        LocalModel(Model(name="x", path=folders["stage2"], dtype="float32"), device="cpu").network(ids).logits,
        _load(evaluation, Path(folders["stage2"]).parent)[0](ids).logits,
        models.load(folders["stage2"])[0](ids).logits,
    ]
    for logits in found:
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


def test_the_same_training_writes_the_same_adapter(chain, pairs, tmp_path):
    runs, folders, _ = chain
    shutil.copytree(runs / "ift", tmp_path / "ift")
    dpo(tmp_path / "again" / "result", str(tmp_path / "ift" / "result" / "model"), pairs, change(STEPS, lora=KEPT))
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        one, other = Path(folders["stage2"]) / name, tmp_path / "again" / "result" / "model" / name
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("start", ["ift", "stage2"])
def test_a_stopped_adapter_resumes_exactly(chain, pairs, tmp_path, monkeypatch, start):
    from gra_train.runs import Stopped
    from gra_train.training import stopping

    _, folders, _ = chain
    settings = change(STEPS, lora=KEPT)
    dpo(tmp_path / "whole" / "w", folders[start], pairs, settings)
    polls = iter(range(1, 100))
    monkeypatch.setattr(stopping, "stop_requested", lambda _: next(polls) == 3)
    with pytest.raises(Stopped):
        dpo(tmp_path / "cut" / "w", folders[start], pairs, settings)
    dpo(tmp_path / "cut" / "w", folders[start], pairs, settings)
    assert losses(tmp_path / "cut" / "w") == losses(tmp_path / "whole" / "w")
    one, other = (tmp_path / n / "w" / "model" / "adapter_model.safetensors" for n in ("whole", "cut"))
    assert one.read_bytes() == other.read_bytes()


def test_dora_learns_and_merges(model, examples, tmp_path):
    from transformers import AutoModelForCausalLM

    out = tmp_path / "run" / "w"
    out.mkdir(parents=True)
    train_sft(model, examples, change(STEPS, lora=Lora(r=4, dora=True), steps=20), out=out, seed=0, place=CPU)
    assert losses(out)[-1] < losses(out)[0]
    AutoModelForCausalLM.from_pretrained(out / "model")


def test_what_cannot_work_is_refused_before_anything_is_loaded(model, chain):
    _, folders, _ = chain
    zero3 = Place("cpu", 2, {"zero_optimization": {"stage": 3}})
    cases = [
        (model, Lora(r=0, dora=True), CPU, r"lora\.dora=true is about adapters.*lora\.r=0"),
        (model, Lora(r=0, merge=False), CPU, r"lora\.merge=false is about adapters"),
        (model, Lora(r=4, dora=True), zero3, r"deepspeed=zero3.*zero2"),
        (folders["stage2"], Lora(r=8, merge=False), CPU, r"adapter with r=4, the settings say r=8"),
    ]
    for path, lora, place, message in cases:
        with pytest.raises(UserError, match=message):
            adapters.check(path, lora, place)


def test_qlora_needs_bitsandbytes_and_a_gpu(model, monkeypatch):
    wanted = Lora(r=4, quantize=True)
    for found, message in ((None, r"bitsandbytes, which is not installed"), (object(), "needs a GPU")):
        monkeypatch.setattr(adapters.importlib.util, "find_spec", lambda name, found=found: found)
        with pytest.raises(UserError, match=message):
            adapters.check(model, wanted, CPU)
