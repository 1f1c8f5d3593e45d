"""Numbers that are read from the run folders behind a comparison, checked by hand; what is not there is left out."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from gra_train.compose import compose
from gra_train.experiment import plan
from gra_train.graph import Node
from gra_train.reporting.cost import of_stage
from gra_train.reporting.finished import Finished, completed
from gra_train.reporting.measures import measures, of_training_sets
from gra_train.runs import write_json
from gra_train.settings import change

USAGE = {"asked": 700, "from_ledger": 0, "prompt_tokens": 1000, "completion_tokens": 350, "scored_tokens": 50}


@pytest.fixture
def nodes() -> list[Node]:
    return plan(compose(["experiment=mini"]))


def put(node: Node, runs_dir: Path, **files: Any) -> None:
    """Files of a run folder: usage and status beside the result, the rest in it."""
    folder = runs_dir / node.run_id
    (folder / "result").mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        where = folder if name in ("usage", "status") else folder / "result"
        write_json(where / f"{name}.json", value)


def of(nodes: list[Node], stage: str, label: str) -> Node:
    return next(node for node in nodes if (node.stage, node.label) == (stage, label))


def test_what_a_row_cost(nodes: list[Node], tmp_path: Path) -> None:
    put(of(nodes, "synthesize", "gra"), tmp_path, usage={"total": USAGE}, status={"state": "done", "seconds": 35.0})
    put(
        of(nodes, "dataset", "gra"), tmp_path, statistics={"rows": 800, "seeds": {"rows": 100}, "source": {"rows": 700}}
    )
    assert measures(nodes, tmp_path)["gra"] == {
        "calls_per_row": 1.0, "tokens_per_row": 2.0, "written_per_row": 0.5, "seconds_per_row": 0.05,
    }  # fmt: skip
    put(of(nodes, "synthesize", "gra"), tmp_path, usage={"total": USAGE | {"from_ledger": 1}})
    assert "seconds_per_row" not in measures(nodes, tmp_path)["gra"], "somebody else waited for that answer"
    assert "seed" not in measures(nodes, tmp_path), "nobody made the seeds"


def test_gpus_and_energy_of_a_row_are_what_was_metered(nodes: list[Node], tmp_path: Path) -> None:
    """From effort.json beside the result. Without a meter, behind servers of others, or with answers out of the ledger,
    there is no such number: none is estimated."""
    node = of(nodes, "synthesize", "gra")
    put(of(nodes, "dataset", "gra"), tmp_path, statistics={"rows": 700, "seeds": {"rows": 0}, "source": {"rows": 700}})
    effort = {"attempts": 1, "seconds": 35.0, "gpu_seconds": 14.0, "gpu_joules": 2100.0, "cpu_joules": None}

    def metered(**changes: Any) -> dict[str, float]:
        put(node, tmp_path, usage={"total": USAGE | changes})
        write_json(tmp_path / node.run_id / "effort.json", effort)
        return {
            name: value for name, value in measures(nodes, tmp_path)["gra"].items() if "gpu" in name or "cpu" in name
        }

    assert metered() == {"gpu_seconds_per_row": 0.02, "gpu_joules_per_row": 3.0}
    assert metered(from_ledger=1) == {}
    first, *others = node.config.pool.models
    served = change(node.config, pool=change(node.config.pool, models=[change(first, url="http://x/v1"), *others]))
    assert of_stage(dataclasses.replace(node, config=served), tmp_path)["elsewhere"]


def test_rationales_and_gold_answers(nodes: list[Node], tmp_path: Path) -> None:
    first, last = (of(nodes, "rationales", f"gra-{step}") for step in ("M_IFT", "iteration 2"))
    means = {"RP_0": math.log(0.5), "RP_1": math.log(0.25), "none": math.log(0.1)}
    put(first, tmp_path, pick={"pick": "RP_0", "mean_log_likelihood_per_token": means})
    put(last, tmp_path, pick={"pick": "RP_1", "mean_log_likelihood_per_token": means})
    rows = [{"rationale": "one two"}, {"rationale": "one two three four"}]
    (last.run(tmp_path).result / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = measures(nodes, tmp_path)
    assert found["gra + COLLATE M_IFT"] == {"gold_perplexity": 2.0}
    assert found["gra + COLLATE iteration 2"] == {"gold_perplexity": 4.0, "rationale_words": 3.0}
    assert found["gra + COLLATE answerer"] == found["gra + COLLATE iteration 2"], "its rationales are the same"
    assert found["gra"] == {"gold_perplexity": 10.0}, "the same scorer without a rationale"


def test_what_a_question_cost(nodes: list[Node], tmp_path: Path) -> None:
    """Of methods that answer questions themselves: effort.json beside their scores."""
    put(
        of(nodes, "evaluate", "gra"),
        tmp_path,
        effort={"calls_per_question": 2.0, "completion_tokens_per_question": 31.5},
    )
    assert measures(nodes, tmp_path) == {"gra": {"written_per_question": 31.5}}


def test_what_a_comparison_says_of_its_training_sets() -> None:
    quality = {
        "ifd": {"scorer": "s", "mean": {"value": 0.7, "low": 0.6, "high": 0.8}},
        "judge": {"above": 8, "share_above": {"value": 0.9, "low": 0.8, "high": 1.0}},
        "distinct": {"instruction": {"1": 0.1, "2": 0.25}},
        "spread": {"encoder": "e", "mean": 0.5, "nearest": 0.2},
    }
    rows = [{"label": "gra", "quality": quality}, {"label": "seed", "quality": {"ifd": None}}, {"label": "old"}]
    assert of_training_sets(rows) == {"gra": {"ifd": 0.7, "judge_share": 0.9, "distinct_2": 0.25, "spread": 0.5}}


def test_without_run_folders_nothing_is_measured(nodes: list[Node], tmp_path: Path) -> None:
    assert measures(nodes, tmp_path) == {}


def test_what_an_earlier_rendering_measured_of_the_same_run_stays() -> None:
    """Run folders behind a comparison may have been removed since."""

    def finished(run: str, **found: dict[str, float]) -> Finished:
        return Finished("e", {"measures": found}, {}, {"run": run, "stages": {"sft-a": 3.0 * ("b" in found)}})

    new, old = finished("r1", a={"x": 1.0}), finished("r1", a={"x": 9.0, "y": 2.0}, b={"x": 3.0})
    both = completed(new, old)
    assert both.table["measures"] == {"a": {"x": 1.0, "y": 2.0}, "b": {"x": 3.0}}
    assert both.made["stages"] == {"sft-a": 3.0}
    assert completed(new, finished("r2", b={"x": 3.0})) is new
