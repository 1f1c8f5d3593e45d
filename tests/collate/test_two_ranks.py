"""`gra-train collate` with two ranks under DeepSpeed: SFT, both stages of DPO, from the command line."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest

from gra_train.runs import read_json

WORDS = ["seeds=mini", "pool=mini", "synthesis=mini", "student=mini", "sft=mini", "collate=mini", "evaluation=mini",
         "debug=tiny", "data=own", "compare.baseline=own", "arms.own.method=collate", "collate.providers=1",
         "collate.candidates=2", "collate.iterations=1", "resources=cpu2", "tracking=off"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.compiler
@pytest.mark.timeout(900)
@pytest.mark.parametrize("zero", ["zero2", pytest.param("zero3", marks=pytest.mark.nightly)])
def test_collate_trains_on_two_ranks(tmp_path, zero):
    """Stage 1 scores two models after its training, on one rank: under zero3 they must not be sharded."""
    own, runs = tmp_path / "own.jsonl", tmp_path / "runs"
    row = {"instruction": "Take d f k. Reverse it. What is left?", "response": "Reverse: k f d. #### k f d"}
    own.write_text((json.dumps(row) + "\n") * 8)
    words = [*WORDS, f"deepspeed={zero}", f"data.path={own}", f"runs_dir={runs}"]
    command = [sys.executable, "-m", "gra_train.cli", "collate", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=800)
    assert done.returncode == 0, done.stderr[-3000:]
    for stage in ("ift", "distinct", "tune"):
        [folder] = runs.glob(f"{stage}-*")
        assert read_json(folder / "status.json")["state"] == "done"
        assert "ranks: 2" in (folder / "config.yaml").read_text()
        said = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        steps = [one for one in said if "step" in one]
        assert [one["step"] for one in steps] == [1, 2]
    assert steps[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)  # policy = reference, whatever the ranks
