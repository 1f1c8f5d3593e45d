"""A stored trajectory: loss and gradient norm of 20 steps of SFT and DPO on a shipped model.

It notices what no invariant does: another default, another order, another scaling of the loss. Values differ between
machines and versions by rounding that grows over the steps, hence the tolerance. After a change that is meant, write it
anew and say why in the commit: python tests/training/test_trajectory.py
"""

from __future__ import annotations

import json
import tempfile
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import pytest

from gra_train.mini.data import problems
from gra_train.schema import Preference
from gra_train.training.arguments import Place
from gra_train.training.dpo import train_dpo
from gra_train.training.rows import example, pair
from gra_train.training.sft import train_sft

STORED = Path(__file__).with_name("trajectory.json")
PACKAGES = ("torch", "transformers", "trl", "accelerate", "peft")
RELATIVE, ABSOLUTE = 2e-3, 2e-4
"""Tolerance of every value."""

SETTINGS = Preference(
    steps=20, global_batch=8, device_batch=8, lr=1e-3, schedule="cosine", warmup=0.1, max_length=256, dtype="float32",
    activation_checkpointing=False,
)  # fmt: skip


def measure(method: str, folder: Path) -> dict[str, list[float]]:
    """{"loss": 20 values, "grad_norm": 20 values}."""
    out = folder / method / "work-1"
    out.mkdir(parents=True)
    rows = [(p.instruction, p.response) for p in problems("train", 64, 0)]
    if method == "sft":
        train_sft("mini:wren", [example(*row) for row in rows], SETTINGS, out=out, seed=0, place=Place("cpu"))
    else:
        pairs = [pair(question, right, wrong) for (question, right), (_, wrong) in pairwise(rows)]
        train_dpo("mini:wren", pairs, SETTINGS, out=out, seed=0, place=Place("cpu"), beta=0.1)
    lines = [json.loads(line) for line in (out.parent / "metrics.jsonl").read_text().splitlines()]
    return {name: [line[name] for line in lines] for name in ("loss", "grad_norm")}


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_the_trajectory_is_the_stored_one(method, tmp_path):
    stored = json.loads(STORED.read_text())
    now = {name: version(name) for name in PACKAGES}
    found = measure(method, tmp_path)
    for name, values in stored[method].items():
        assert len(values) == SETTINGS.steps
        message = f"{name}; stored with {stored['versions']}, this is {now}"
        assert found[name] == pytest.approx(values, rel=RELATIVE, abs=ABSOLUTE), message


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as root:
        trajectory = {method: measure(method, Path(root)) for method in ("sft", "dpo")}
    versions = {name: version(name) for name in PACKAGES}
    STORED.write_text(json.dumps({"versions": versions, **trajectory}, indent=1) + "\n")
