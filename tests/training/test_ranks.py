"""Several ranks under torchrun, with and without DeepSpeed: real processes, gloo on a CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

CONF = Path(__file__).parents[2] / "conf" / "deepspeed"
RUNNER = """
import json, os, sys
from pathlib import Path
from gra_train import settings
from gra_train.runs import Stopped
from gra_train.schema import Train
from gra_train.training.arguments import Place
from gra_train.training.dpo import train_dpo
from gra_train.training.sft import train_sft

given = json.loads(Path(sys.argv[1]).read_text())
place = Place("cpu", int(os.environ["WORLD_SIZE"]), given["deepspeed"])
train = settings.build(Train, given["train"])
for job in given["jobs"]:
    common = {"out": Path(job["out"]), "seed": 0, "place": place}
    try:
        if job["method"] == "sft":
            train_sft(given["model"], given["examples"], train, **common)
        else:
            train_dpo(given["model"], given["pairs"], train, beta=0.1, **common)
        assert not job["stop"]
    except Stopped:
        assert job["stop"]
    (common["out"].parent / "STOP").unlink(missing_ok=True)
"""
TRAIN = {"steps": 5, "global_batch": 8, "device_batch": 2, "lr": 3e-3, "max_length": 64, "dtype": "float32",
         "activation_checkpointing": False, "warmup": 0.0}  # fmt: skip


@pytest.fixture(scope="module")
def pairs(examples) -> list[dict]:
    return [
        {"prompt": e["prompt"], "chosen": e["completion"], "rejected": examples[-i]["completion"]}
        for i, e in enumerate(examples)
    ]


@pytest.fixture(scope="module")
def torchrun(tmp_path_factory, model, examples, pairs):
    """Run jobs (name, method, stop) one after another on two ranks; the folder that holds <name>/w."""

    def run(deepspeed: str, *jobs: tuple[str, str, bool]) -> Path:
        root = tmp_path_factory.mktemp(deepspeed)
        (root / "runner.py").write_text(RUNNER)
        given = {"model": model, "train": TRAIN, "examples": examples, "pairs": pairs,
                 "deepspeed": yaml.safe_load((CONF / f"{deepspeed}.yaml").read_text()),
                 "jobs": [{"out": str(root / n / "w"), "method": m, "stop": stop} for n, m, stop in jobs]}  # fmt: skip
        (root / "jobs.json").write_text(json.dumps(given))
        for name, _, stop in jobs:
            (root / name / "w").mkdir(parents=True, exist_ok=True)
            if stop:
                (root / name / "STOP").touch()
        done = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
             str(root / "runner.py"), str(root / "jobs.json")],
            env=os.environ | {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"},
            capture_output=True, text=True, timeout=500, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-4000:]
        return root

    return run


@pytest.fixture(scope="module")
def plain(torchrun) -> Path:
    """Without DeepSpeed: SFT at once, SFT stopped after its first step and resumed, DPO."""
    return torchrun("none", ("sft", "sft", False), ("cut", "sft", True), ("cut", "sft", False), ("dpo", "dpo", False))


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def weights(run: Path) -> bytes:
    return (run / "w" / "model" / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_two_ranks_equal_one(plain, tmp_path, model, examples, pairs):
    """The global batch is what counts, not how it is shared out."""
    from gra_train.schema import Train
    from gra_train.training.arguments import Place
    from gra_train.training.dpo import train_dpo
    from gra_train.training.sft import train_sft

    for name in ("sft", "dpo"):
        (tmp_path / name / "w").mkdir(parents=True)
    common = {"seed": 0, "place": Place("cpu")}
    train_sft(model, examples, Train(**TRAIN), out=tmp_path / "sft" / "w", **common)
    train_dpo(model, pairs, Train(**TRAIN), out=tmp_path / "dpo" / "w", beta=0.1, **common)
    for name in ("sft", "dpo"):
        assert losses(plain / name) == pytest.approx(losses(tmp_path / name), rel=1e-4)


@pytest.mark.slow
def test_both_ranks_stop_at_the_same_step_and_resume_exactly(plain):
    assert (plain / "cut" / "checkpoints" / "checkpoint-1" / "complete.json").exists()
    assert losses(plain / "cut") == losses(plain / "sft")
    assert weights(plain / "cut") == weights(plain / "sft")


@pytest.mark.slow
@pytest.mark.compiler
@pytest.mark.parametrize("stage", ["zero2", "zero3"])
def test_zero_equals_plain_pytorch_and_saves_a_loadable_model(torchrun, plain, stage):
    """`fit` itself checks that the wrapped model is a DeepSpeedEngine."""
    from transformers import AutoModelForCausalLM

    sharded = torchrun(stage, ("sft", "sft", False), ("dpo", "dpo", False))
    for name in ("sft", "dpo"):
        assert losses(sharded / name) == pytest.approx(losses(plain / name), rel=1e-3)
        network = AutoModelForCausalLM.from_pretrained(sharded / name / "w" / "model")
        assert sum(p.numel() for p in network.parameters()) > 1000
