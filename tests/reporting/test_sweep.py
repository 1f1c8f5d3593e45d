"""Several seeds in one table, and what they decide."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gra_train.errors import UserError
from gra_train.evaluation.statistics import Estimate
from gra_train.reporting.claims import FAILS, HOLDS, MISSING, OPEN, Claim, claims_of, verdict
from gra_train.reporting.markup import sweep_to_markdown
from gra_train.reporting.stages import compare
from gra_train.reporting.sweep import aggregate


@pytest.fixture
def folders(experiment: Callable[..., Any], tmp_path: Path) -> list[Path]:
    """Five seeds: GRA's student answers 6, 6, 7, 7, 6 of ten per task, the large model's 4 in every seed."""
    made = []
    for seed, right in enumerate((6, 6, 7, 7, 6)):
        folder = tmp_path / f"run{seed}" / "work-1"
        folder.mkdir(parents=True)
        compare(*experiment(seed=seed, gra="1" * right + "0" * (10 - right), solo="1111000000"), folder)
        made.append(folder)
    return made[::-1]


def row(result: dict[str, Any], label: str) -> dict[str, Any]:
    return next(r for r in result["rows"] if r["label"] == label)


def test_means_over_seeds_by_hand(folders: list[Path]) -> None:
    result = aggregate(folders)
    gra = row(result, "gra")
    assert result["seeds"] == [0, 1, 2, 3, 4]
    assert gra["per_seed"] == [0.6, 0.6, 0.7, 0.7, 0.6]
    half = 2.776445 * math.sqrt(0.003) / math.sqrt(5)  # sample variance of the five: 0.012 / 4
    assert gra["scores"]["average"] == pytest.approx({"value": 0.64, "low": 0.64 - half, "high": 0.64 + half})
    assert gra["difference"]["value"] == pytest.approx(0.24)
    assert gra["difference"]["low"] == pytest.approx(0.24 - half)
    assert gra["pooled"]["low"] < gra["difference"]["low"], "twenty questions leave more doubt than five seeds"
    assert row(result, "solo")["scores"]["average"] == {"value": 0.4, "low": 0.4, "high": 0.4}
    assert row(result, "own")["scores"] == {}
    assert row(result, "gra + COLLATE M_IFT")["difference"] is None, "it was asked other tasks"


def test_claims_of_these_seeds(folders: list[Path]) -> None:
    result = aggregate(folders)
    found = {(claim["ours"], claim["theirs"]): claim for claim in result["claims"]}
    assert set(found) == {("kept", "proposed"), ("gra", "solo")}
    assert found["gra", "solo"]["verdict"] == HOLDS
    assert found["gra", "solo"]["seeds_for"] == 5
    assert found["kept", "proposed"]["difference"]["value"] == pytest.approx(0.444444)
    assert found["kept", "proposed"]["verdict"] == HOLDS
    data = [claim for claim in result["claims"] if claim["text"].startswith("GRA's data are not less correct")]
    assert [claim["verdict"] for claim in data] == [MISSING], "nobody checked the large model's data"
    text = sweep_to_markdown(result)
    assert "| gra ! | 90.0 [90.0, 90.0] | 64.0 | 64.0 | 64.0 [57.2, 70.8] | 60.0 60.0 70.0 70.0 60.0 | +24.0 [" in text
    assert "given what the seeds share: the pool's models" in text
    assert "**holds**" in text
    assert text.index("| proposed (= no review) | 9 |") < text.index("| kept (no duplicate, in the target) | 4 |")
    collate = aggregate(folders, keep=lambda label: "COLLATE" in label, baseline="gra + COLLATE M_IFT")
    assert "data correct" not in sweep_to_markdown(collate)
    assert collate["steps"] == []
    assert "Reviewers scored by likelihood" in text


def test_verdicts() -> None:
    claim, weak = Claim("", "a", "b"), Claim("", "a", "b", not_below=True)
    up, down, both = Estimate(0.2, 0.1, 0.3), Estimate(-0.2, -0.3, -0.1), Estimate(0.1, -0.1, 0.3)
    single = Estimate(0.2, math.nan, math.nan)
    assert [verdict(claim, [x]) for x in (up, down, both, single)] == [HOLDS, FAILS, OPEN, OPEN]
    assert [verdict(weak, [x]) for x in (up, down, both, single)] == [HOLDS, FAILS, HOLDS, OPEN]
    assert verdict(claim, [up, both]) == OPEN, "both intervals must say so"
    assert verdict(claim, []) == MISSING
    assert verdict(Claim("", "a", "b", margin=0.3), [up]) == OPEN
    assert verdict(Claim("", "a", "b", margin=0.3), [Estimate(0.1, 0.0, 0.29)]) == FAILS


def test_claims_speak_of_labels_that_are_there() -> None:
    steps = ("M_IFT", "stage 2", "iteration 1", "iteration 2", "M_IFT rationales, answerer", "answerer")
    labels = ["seed", "gra", *(f"gra + COLLATE {step}" for step in steps)]
    pairs = [(claim.ours, claim.theirs) for claim in claims_of(labels)][1:]
    assert pairs == [
        ("gra + COLLATE stage 2", "gra + COLLATE M_IFT"),
        ("gra + COLLATE iteration 1", "gra + COLLATE stage 2"),
        ("gra + COLLATE iteration 2", "gra + COLLATE M_IFT"),
        ("gra + COLLATE answerer", "gra + COLLATE M_IFT rationales, answerer"),
    ]


def test_what_cannot_be_put_together_is_refused(folders: list[Path]) -> None:
    with pytest.raises(UserError, match="same seed"):
        aggregate([folders[0], folders[0]])
    with pytest.raises(UserError, match="no finished comparison"):
        aggregate([])
    file = folders[1] / "table.json"
    file.write_text(file.read_text().replace('"baseline": "solo"', '"baseline": "gold"'))
    with pytest.raises(UserError, match="differ in their baseline"):
        aggregate(folders)


def test_one_seed_decides_nothing(folders: list[Path]) -> None:
    result = aggregate(folders[:1])
    assert {claim["verdict"] for claim in result["claims"]} <= {OPEN, MISSING}
    assert "One seed (4)" in sweep_to_markdown(result)
