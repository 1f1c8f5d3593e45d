"""Several ranks under torchrun, with and without DeepSpeed: real processes, gloo on a CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from gra_train.schema import Preference
from gra_train.settings import build
from gra_train.training.arguments import Place
from gra_train.training.dpo import train_dpo
from gra_train.training.sft import train_sft

pytestmark = pytest.mark.xdist_group("ranks")  # on one worker: what they share takes as long as they do
CONF = Path(__file__).parents[2] / "conf" / "deepspeed"
REST = ("zero0", "zero1", "zero2_offload", "zero3_offload")
"""Configurations that CI leaves to the nightly run; zero2 and zero3 stand for them."""
RUNNER = """
import json, os, signal, sys
from pathlib import Path
from gra_train import settings
from gra_train.runs import Stopped
from gra_train.schema import Preference
from gra_train.training import checkpoints, references, stopping
from gra_train.training.arguments import Place
from gra_train.training.dpo import train_dpo
from gra_train.training.sft import train_sft

given = json.loads(Path(sys.argv[1]).read_text())
rank = int(os.environ["RANK"])
place = Place("cpu", int(os.environ["WORLD_SIZE"]), given["deepspeed"])
ask = stopping.Stopping.wishes


def looked(*_, **__):
    raise AssertionError("a rank looked at the disk for itself")


if rank:  # what is there may change between two looks: rank 0 looks, and all go on from what it saw
    checkpoints.latest = references.read = looked
for job in given["jobs"]:
    train = settings.build(Preference, given["train"] | job.get("train", {}))
    out = Path(job["out"])
    steps = iter(range(1, 1000))

    def wishes(self, *, first):
        step = next(steps)
        if step == job.get("stop") and first:
            (out.parent / "STOP").touch()
        if step == job.get("term") and rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        if step == job.get("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        return ask(self, first=first)

    stopping.Stopping.wishes = wishes
    common = {"out": out, "seed": 0, "place": place}
    try:
        if job["method"] == "sft":
            train_sft(given["model"], given["examples"], train, **common)
        else:
            train_dpo(given["model"], given["pairs"], train, beta=0.1, **common)
        assert not job.get("stop") and not job.get("term"), "it was to stop"
    except Stopped as stopped:
        assert ("STOP file" in str(stopped)) == bool(job.get("stop")), stopped
        assert ("SIGTERM" in str(stopped)) == bool(job.get("term")), stopped
    (out.parent / "STOP").unlink(missing_ok=True)
"""
TRAIN = {"steps": 6, "global_batch": 8, "device_batch": 2, "lr": 3e-3, "max_length": 64, "dtype": "float32",
         "activation_checkpointing": False, "warmup": 0.0, "save_steps": 2}  # fmt: skip


@pytest.fixture(scope="module")
def pairs(examples) -> list[dict]:
    return [
        {"prompt": e["prompt"], "chosen": e["completion"], "rejected": examples[-i]["completion"]}
        for i, e in enumerate(examples)
    ]


def two_ranks(root: Path, deepspeed: str, data: dict, *jobs: dict, dies: bool = False) -> Path:
    """Run jobs (name, method, and how they end) one after another on two ranks; the folder that holds <name>/w."""
    (root / "runner.py").write_text(RUNNER)
    config = yaml.safe_load((CONF / f"{deepspeed}.yaml").read_text())
    given = data | {"train": TRAIN, "deepspeed": config}
    given["jobs"] = [{"out": str(root / job["name"] / "w"), **job} for job in jobs]
    (root / "jobs.json").write_text(json.dumps(given))
    for job in jobs:
        (root / job["name"] / "w").mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
         str(root / "runner.py"), str(root / "jobs.json")],
        env=os.environ | {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert (done.returncode != 0) == dies, done.stderr[-4000:]
    return root


@pytest.fixture(scope="module")
def data(model, examples, pairs) -> dict:
    return {"model": model, "examples": examples, "pairs": pairs}


@pytest.fixture(scope="module")
def plain(tmp_path_factory, data) -> Path:
    """Without DeepSpeed: SFT and DPO, each at once; SFT stopped by a STOP file and resumed."""
    root = tmp_path_factory.mktemp("plain")
    cut = [{"name": "cut", "method": "sft", "stop": 1}, {"name": "cut", "method": "sft"}]
    once = ("sft", "dpo", "dpo-again")
    return two_ranks(root, "none", data, *({"name": m, "method": m[:3]} for m in once), *cut)


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def weights(run: Path) -> bytes:
    return (run / "w" / "model" / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_two_ranks_equal_one(plain, tmp_path, data):
    """The global batch is what counts, not how it is shared out."""
    for name in ("sft", "dpo"):
        (tmp_path / name / "w").mkdir(parents=True)
    common = {"seed": 0, "place": Place("cpu")}
    train = build(Preference, TRAIN)
    train_sft(data["model"], data["examples"], train, out=tmp_path / "sft" / "w", **common)
    train_dpo(data["model"], data["pairs"], train, out=tmp_path / "dpo" / "w", beta=0.1, **common)
    for name in ("sft", "dpo"):
        assert losses(plain / name) == pytest.approx(losses(tmp_path / name), rel=1e-4)


@pytest.mark.slow
def test_ranks_share_the_reference_log_probabilities_that_one_of_them_finds(plain):
    assert len(list((plain / "references").iterdir())) == 1
    assert losses(plain / "dpo-again") == losses(plain / "dpo")


@pytest.mark.slow
def test_both_ranks_stop_at_the_same_step_and_resume_exactly(plain):
    assert losses(plain / "cut") == losses(plain / "sft")
    assert weights(plain / "cut") == weights(plain / "sft")


@pytest.mark.slow
@pytest.mark.compiler
@pytest.mark.timeout(900)
def test_zero2_stopped_signalled_or_killed_resumes_exactly(tmp_path_factory, data, plain):
    """SFT and DPO: a STOP file, SIGTERM to one of two ranks, kill -9 of all; the losses and the weights are those of an
    undisturbed training, bit for bit; and those of plain PyTorch up to rounding."""
    root = tmp_path_factory.mktemp("zero2")
    methods = ("sft", "dpo")
    for method in methods:
        two_ranks(root, "zero2", data, {"name": f"{method}-kill", "method": method, "kill": 4}, dies=True)
        assert (root / f"{method}-kill" / "checkpoints" / "checkpoint-2" / "complete.json").is_file()
    jobs = [{"name": method, "method": method} for method in methods]
    for method in methods:
        for name, how in (("stop", {"stop": 3}), ("term", {"term": 3}), ("kill", None)):
            job = {"name": f"{method}-{name}", "method": method}
            jobs += [job | how, job] if how else [job]
    two_ranks(root, "zero2", data, *jobs)
    for method in methods:
        assert losses(root / method) == pytest.approx(losses(plain / method), rel=1e-3)
        for name in ("stop", "term", "kill"):
            assert losses(root / f"{method}-{name}") == losses(root / method), name
            assert weights(root / f"{method}-{name}") == weights(root / method), name


@pytest.mark.slow
@pytest.mark.compiler
@pytest.mark.parametrize("config", ["zero3", *(pytest.param(name, marks=pytest.mark.nightly) for name in REST)])
def test_every_configuration_equals_plain_pytorch_and_saves_a_loadable_model(tmp_path, data, plain, config):
    """`fit` itself checks that the wrapped model is a DeepSpeedEngine."""
    from transformers import AutoModelForCausalLM

    methods = ("sft", "dpo") if config == "zero3" else ("sft",)
    two_ranks(tmp_path, config, data, *({"name": m, "method": m} for m in methods))
    for name in methods:
        assert losses(tmp_path / name) == pytest.approx(losses(plain / name), rel=2e-3)
        network = AutoModelForCausalLM.from_pretrained(tmp_path / name / "w" / "model")
        assert sum(p.numel() for p in network.parameters()) > 1000


@pytest.mark.slow
@pytest.mark.compiler
@pytest.mark.parametrize("config", ["zero2", pytest.param("zero3", marks=pytest.mark.nightly)])
def test_adapters_under_deepspeed_are_kept_or_merged(tmp_path, data, config):
    """What two sharded ranks train is what one process trains; merged, it is the model that the kept adapter makes."""
    import torch

    from gra_train.training import models

    kept, merged = {"lora": {"r": 4, "merge": False}}, {"lora": {"r": 4}}
    jobs = [{"name": "kept", "method": "dpo", "train": kept}, {"name": "merged", "method": "dpo", "train": merged}]
    two_ranks(tmp_path, config, data, *jobs)
    (tmp_path / "one" / "w").mkdir(parents=True)
    train = build(Preference, TRAIN | merged)
    train_dpo(data["model"], data["pairs"], train, beta=0.1, out=tmp_path / "one" / "w", seed=0, place=Place("cpu"))
    assert losses(tmp_path / "kept") == pytest.approx(losses(tmp_path / "one"), rel=1e-3)
    ids = torch.tensor([[2, 50, 51, 5, 35, 6, 3]])
    kept_logits, merged_logits, one_logits = (
        models.load(str(tmp_path / name / "w" / "model"))[0](ids).logits for name in ("kept", "merged", "one")
    )
    torch.testing.assert_close(merged_logits, kept_logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(merged_logits, one_logits, atol=2e-2, rtol=2e-2)
