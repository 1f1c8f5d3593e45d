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

job = json.loads(Path(sys.argv[1]).read_text())
place = Place("cpu", int(os.environ["WORLD_SIZE"]), job["deepspeed"])
train = settings.build(Train, job["train"])
out = Path(job["out"])
try:
    if job["method"] == "sft":
        train_sft(job["model"], job["examples"], train, out=out, seed=0, place=place)
    else:
        train_dpo(job["model"], job["examples"], train, out=out, seed=0, place=place, beta=0.1)
except Stopped as stopped:
    print(stopped)
    sys.exit(75)
"""


@pytest.fixture
def torchrun(tmp_path, model, examples):
    script = tmp_path / "runner.py"
    script.write_text(RUNNER)

    def run(
        name: str, *, method: str = "sft", deepspeed: str = "none", ranks: int = 2, stop: bool = False
    ) -> list[dict]:
        out = tmp_path / name / "w"
        out.mkdir(parents=True, exist_ok=True)
        pairs = [
            {"prompt": e["prompt"], "chosen": e["completion"], "rejected": examples[-i]["completion"]}
            for i, e in enumerate(examples)
        ]
        train = {"steps": 5, "global_batch": 8, "device_batch": 2, "lr": 3e-3, "max_length": 64, "dtype": "float32",
                 "activation_checkpointing": False, "warmup": 0.0}  # fmt: skip
        job = {"model": model, "out": str(out), "train": train, "method": method,
               "deepspeed": yaml.safe_load((CONF / f"{deepspeed}.yaml").read_text()),
               "examples": examples if method == "sft" else pairs}  # fmt: skip
        (tmp_path / "job.json").write_text(json.dumps(job))
        if stop:
            (out.parent / "STOP").touch()
        else:
            (out.parent / "STOP").unlink(missing_ok=True)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]
        done = subprocess.run(
            [*command, str(script), str(tmp_path / "job.json")],
            env=os.environ | {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
        assert (done.returncode != 0) == stop, done.stderr[-4000:]
        return [json.loads(line) for line in (out.parent / "metrics.jsonl").read_text().splitlines()]

    return run


def losses(lines: list[dict]) -> list[float]:
    return [line["loss"] for line in lines]


@pytest.mark.slow
def test_two_ranks_equal_one_and_resume_exactly(torchrun, tmp_path):
    """The global batch is what counts; a STOP is heard by both ranks at the same step, and resuming is exact."""
    one = torchrun("one", ranks=1)
    two = torchrun("two")
    assert losses(two) == pytest.approx(losses(one), rel=1e-4)
    assert len(torchrun("cut", stop=True)) == 1
    assert losses(torchrun("cut")) == losses(two)
    saved = [(tmp_path / name / "w" / "model" / "model.safetensors").read_bytes() for name in ("two", "cut")]
    assert saved[0] == saved[1]


@pytest.mark.slow
@pytest.mark.compiler
@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_zero2_equals_plain_pytorch(torchrun, tmp_path, method):
    """`fit` itself checks that the wrapped model is a DeepSpeedEngine."""
    from transformers import AutoModelForCausalLM

    plain = torchrun("plain", method=method)
    sharded = torchrun("sharded", method=method, deepspeed="zero2")
    assert losses(sharded) == pytest.approx(losses(plain), rel=1e-4)
    AutoModelForCausalLM.from_pretrained(tmp_path / "sharded" / "w" / "model")


@pytest.mark.slow
@pytest.mark.compiler
def test_zero3_saves_a_loadable_model(torchrun, tmp_path):
    from transformers import AutoModelForCausalLM

    plain = torchrun("plain", method="dpo")
    sharded = torchrun("sharded", method="dpo", deepspeed="zero3")
    assert losses(sharded) == pytest.approx(losses(plain), rel=1e-3)
    network = AutoModelForCausalLM.from_pretrained(tmp_path / "sharded" / "w" / "model")
    assert sum(p.numel() for p in network.parameters()) > 1000
