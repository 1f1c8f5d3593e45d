"""What data cost: from the run folders of the stages that made them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gra_train.compose import compose
from gra_train.experiment import plan
from gra_train.graph import Node
from gra_train.reporting.cost import costs, per_sample, report
from gra_train.runs import write_json

POOL = "pool.models.0.url=http://far.example/v1"


def made(runs: Path, *overrides: str, gpu: float | None = None) -> Node:
    """An experiment whose making stages ran: the seeds took 10 calls and 2 s, every synthesis 100 calls and 20 s."""
    compare = plan(compose(["experiment=mini/compare", *overrides]))[-1]
    nodes = {node.run_id: node for node in plan(compose(["experiment=mini/compare", *overrides]))}
    for run_id, node in nodes.items():
        if node.stage not in ("seeds", "synthesize"):
            continue
        share = 1 if node.stage == "seeds" else 10
        (runs / run_id / "result").mkdir(parents=True)
        (runs / run_id / "result" / "data.jsonl").write_text("{}\n" * 50)
        total = {"asked": 10 * share, "from_ledger": 5 if node.label == "solo" else 0, "prompt_tokens": 100 * share,
                 "completion_tokens": 20 * share, "scored_tokens": 0}  # fmt: skip
        write_json(runs / run_id / "usage.json", {"total": total, "cost": {"total": None}})
        effort = {"attempts": 1, "seconds": 2.0 * share, "cpu_seconds": 1.0 * share, "gpu_seconds": gpu,
                  "gpu_joules": None, "cpu_joules": 50.0 * share}  # fmt: skip
        write_json(runs / run_id / "effort.json", effort)
    return compare


def by_label(records: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {record["label"]: record for record in records}


def test_everything_from_the_seeds_on_is_counted(tmp_path: Path) -> None:
    found = by_label(costs(made(tmp_path), tmp_path))
    assert list(found) == ["seed", "gra", "solo", "solo_tokens"]
    gra = found["gra"]
    assert (gra["kept"], gra["calls"], gra["seconds"], gra["cpu_joules"]) == (50, 110, 22.0, 550.0)
    assert per_sample(gra, "calls") == pytest.approx(2.2)
    assert gra["money"] is None, "no prices"
    assert gra["gpu_seconds"] is None, "no GPU was measured"
    assert found["seed"]["kept"] is None
    same = {key: value for key, value in found["solo_tokens"].items() if key != "label"}
    assert same == {key: value for key, value in found["solo"].items() if key != "label"}, "it is cut from the same"


def test_what_is_not_known_is_said(tmp_path: Path) -> None:
    shown = report(costs(made(tmp_path), tmp_path))
    assert shown is not None
    rows = {row[0]: dict(zip(shown["columns"], row, strict=True)) for row in shown["rows"]}
    assert rows["gra"]["seconds"] == "0.440"
    assert rows["solo"]["seconds"] == "≥ 0.440", "5 of its answers were made by another run"
    assert rows["solo"]["calls"] == "2.2"
    assert rows["gra"]["GPU energy, J"] == rows["gra"]["money"] == "n/a"
    assert "seed" not in rows
    assert "another run had paid" in shown["note"]
    assert report([]) is None


def test_gpus_of_servers_elsewhere_are_not_measured_from_here(tmp_path: Path) -> None:
    far = "{name: heron72, url: 'http://far.example/v1', served_name: x, revision: y}"
    found = by_label(costs(made(tmp_path, f"pool.large={far}", gpu=3.0), tmp_path))
    assert found["gra"]["gpu_seconds"] == 6.0
    assert found["solo"]["elsewhere"]
    assert found["solo"]["gpu_seconds"] is None
