"""Tables of COLLATE's baselines: from the files of their stages to the cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gra_train.reporting.reports import gather
from gra_train.runs import write_json


def result(folder: Path, name: str, file: str, values: dict[str, Any]) -> Path:
    out = folder / name
    out.mkdir()
    write_json(out / file, values)
    return out


def test_what_was_learned_from_and_what_it_cost(tmp_path: Path) -> None:
    counts = {"tasks": 4, "kept_share": 0.5, "shares": {"first": 0.25, "hinted": 0.25}}
    vote = {"questions": 3, "calls_per_question": 32.0, "truncated_per_question": 0.5, "mean_agreement": 0.75}
    inputs = {
        "baseline.gra + STaR.1": result(tmp_path, "star1", "statistics.json", counts),
        "baseline.gra + STaR.2": result(tmp_path, "star2", "statistics.json", counts | {"kept_share": 0.75}),
        "collate.gra.1": result(tmp_path, "merit", "statistics.json", {"pairs": 7}),
        "gra + self-consistency.scores": result(tmp_path, "sc", "effort.json", vote),
        "gra + CoT.scores": result(tmp_path, "cot", "effort.json", {"questions": 3, "calls_per_question": 2.0}),
        "gra.scores": result(tmp_path, "plain", "scores.json", {}),
    }
    star, collate, efforts = gather(inputs)
    assert star["title"] == "gra + STaR: what it learned from"
    assert star["columns"] == ["", "iteration 1", "iteration 2"]
    assert ["kept share", "0.5", "0.75"] in star["rows"]
    assert ["shares: hinted", "0.25", "0.25"] in star["rows"]
    assert collate["title"] == "COLLATE on gra: rationales and their merit"
    assert efforts["columns"] == ["", "calls", "cut", "agreement"]
    assert efforts["rows"] == [["gra + self-consistency", "32", "0.5", "0.75"], ["gra + CoT", "2", "n/a", "n/a"]]
    assert gather({}) == []
