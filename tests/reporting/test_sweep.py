"""Several seeds in one table, and what they decide."""

from __future__ import annotations

import math
from typing import Any

import pytest

from gra_train.errors import UserError
from gra_train.evaluation.statistics import Estimate
from gra_train.reporting.claims import FAILS, HOLDS, MISSING, OPEN, Claim, corrected, verdict
from gra_train.reporting.document import to_markdown
from gra_train.reporting.finished import Finished, from_result
from gra_train.reporting.recipe import Measure, Miniature
from gra_train.reporting.stages import compare
from gra_train.reporting.sweep import aggregate
from gra_train.reporting.sweep_view import blocks
from tests.reporting.conftest import experiment_in

CLAIMS = [
    Claim("kept data are more often correct", "kept", "proposed", "funnel", 0.3),
    Claim("GRA's data are not less correct", "gra", "solo", "data", not_below=True),
    Claim("GRA helps", "gra", "solo"),
]
RECIPE = Miniature(
    rows=dict.fromkeys(["seed", "gra", "solo", "gra + COLLATE M_IFT", "own"], ""), steps=True, claims=CLAIMS
)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Finished]:
    """Five seeds: GRA's student answers 6, 6, 7, 7, 6 of ten per task, the large model's 4 in every seed."""
    made = []
    for seed, right in enumerate((6, 6, 7, 7, 6)):
        folder = tmp_path_factory.mktemp("run") / "work-1"
        folder.mkdir()
        gra = "1" * right + "0" * (10 - right)
        compare(*experiment_in(folder.parent, seed=seed, gra=gra, solo="1111000000"), folder)
        made.append(from_result(folder))
    return made[::-1]


def text_of(result: dict[str, Any], recipe: Miniature = RECIPE) -> str:
    return to_markdown(blocks(result, recipe, "caption"))


def row(result: dict[str, Any], label: str) -> dict[str, Any]:
    return next(r for r in result["rows"] if r["label"] == label)


def test_means_over_seeds_by_hand(found: list[Finished]) -> None:
    result = aggregate(found, RECIPE)
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


def test_claims_of_these_seeds(found: list[Finished]) -> None:
    result = aggregate(found, RECIPE)
    kept, data, helps = result["claims"]
    assert (helps["verdict"], helps["seeds_for"]) == (HOLDS, 5)
    assert helps["p"] == pytest.approx(0.000611, rel=0.01), (
        "t = 0.24 / (0.0548 / sqrt 5) = 9.80 on 4; one test, no Holm"
    )
    assert kept["difference"]["value"] == pytest.approx(0.444444)
    assert (kept["verdict"], kept["p"]) == (HOLDS, None), "the same in every seed: no t"
    assert data["verdict"] == MISSING, "nobody checked the large model's data"
    text = text_of(result)
    assert "| gra ! | 90.0 [90.0, 90.0] | 64.0 | 64.0 | 64.0 [57.2, 70.8] | 60.0 60.0 70.0 70.0 60.0 | +24.0 [" in text
    assert "given what the seeds share: the pool's models" in text
    assert "**holds**" in text
    assert text.index("| proposed (= no review) | 9 |") < text.index("| kept (no duplicate, in the target) | 4 |")
    assert "Reviewers scored by likelihood" in text


def test_a_recipe_chooses_rows_baseline_and_columns(found: list[Finished]) -> None:
    recipe = Miniature(rows={"gra + COLLATE M_IFT": "dss"}, baseline="gra + COLLATE M_IFT")
    result = aggregate(found, recipe)
    text = text_of(result, recipe)
    assert "data correct" not in text
    assert "| gra + COLLATE M_IFT | dss |" in text, "the published row that it stands for"
    assert result["steps"] == []
    words = Measure("rationale_words", "words", digits=1)
    measured = [Finished(f.name, f.table | {"measures": {"gra": {"rationale_words": f.seed + 1.0}}}, f.sheets, f.made)
                for f in found]  # fmt: skip
    claims = [Claim("", "gra", "gra", measure="rationale_words", times=3.0, margin=2.0)]
    recipe = Miniature(rows={"gra": "", "solo": ""}, accuracy=False, measures=[words], claims=claims)
    (claim,) = aggregate(measured, recipe)["claims"]
    assert (claim["difference"]["value"], claim["seeds_for"]) == (6.0, 4), "3 x (1 to 5) less (1 to 5): 2, 4, ... 10"
    assert "| 3 x gra - gra | +6.0 [" in text_of(aggregate(measured, recipe), recipe)
    assert "| gra | 90.0 [90.0, 90.0] | 3.0 [1.0, 5.0] |" in text_of(aggregate(measured, recipe), recipe)
    assert "| solo | n/a | n/a |" in text_of(aggregate(measured, recipe), recipe)


def test_comparisons_of_one_seed_stand_side_by_side(found: list[Finished]) -> None:
    """Tables whose rows come from several experiments: the rows of each seed together; what a seed lacks is missing."""
    other = [
        Finished(
            "b",
            f.table | {"name": "b", "rows": [r | {"label": "spin"} for r in f.table["rows"] if r["label"] == "gra"]},
            {"spin": f.sheets["gra"]},
            f.made,
        )
        for f in found
    ]
    recipe = Miniature(rows={"gra": "", "spin": ""}, baseline="gra", claims=[Claim("", "spin", "gra")])
    each = Miniature(rows={"gra": "", "spin": "", "solo": ""}, baseline="solo", baselines={"spin": "gra", "gra": "gra"})
    text = text_of(aggregate([*found, *other], each), each)
    assert "| minus its baseline |" in text
    assert "+0.0 [+0.0, +0.0] to gra |" in text
    assert text.count("| baseline |") == 2
    both = aggregate([*found, *other], recipe)
    assert both["seeds"] == [0, 1, 2, 3, 4]
    assert row(both, "spin")["difference"]["value"] == 0.0
    lacking = aggregate([*found, *other[:4]], recipe)
    assert row(lacking, "spin")["scores"] == {}
    assert lacking["claims"][0]["verdict"] == MISSING


def test_verdicts() -> None:
    claim, weak = Claim("", "a", "b"), Claim("", "a", "b", not_below=True)
    up, down, both = Estimate(0.2, 0.1, 0.3), Estimate(-0.2, -0.3, -0.1), Estimate(0.1, -0.1, 0.3)
    single = Estimate(0.2, math.nan, math.nan)
    assert [verdict(claim, [x]) for x in (up, down, both, single)] == [HOLDS, FAILS, OPEN, OPEN]
    assert [verdict(weak, [x]) for x in (up, down, both, single)] == [HOLDS, FAILS, OPEN, OPEN]
    assert verdict(claim, [up, both]) == OPEN, "both intervals must say so"
    assert verdict(claim, []) == MISSING
    assert verdict(Claim("", "a", "b", margin=0.3), [up]) == OPEN
    assert verdict(Claim("", "a", "b", margin=0.3), [Estimate(0.1, 0.0, 0.29)]) == FAILS


def test_not_worse_is_not_shown_by_a_wide_interval() -> None:
    """Non-inferiority with the stated margin of five points, or another that the claim names."""
    weak = Claim("", "a", "b", not_below=True)
    assert verdict(weak, [Estimate(-0.1, -0.25, 0.05)]) == OPEN, "it may be 25 points worse"
    assert verdict(weak, [Estimate(-0.01, -0.04, 0.02)]) == HOLDS
    assert verdict(weak, [Estimate(-0.02, -0.03, -0.01)]) == HOLDS, "worse, by less than the margin"
    assert verdict(weak, [Estimate(-0.04, -0.07, -0.01)]) == FAILS
    assert verdict(weak, [Estimate(-0.01, -0.04, 0.02), Estimate(-0.01, -0.06, 0.04)]) == OPEN
    assert verdict(Claim("", "a", "b", not_below=True, tolerance=0.3), [Estimate(-0.1, -0.25, 0.05)]) == HOLDS


def measured(found: list[Finished], **values: list[float]) -> list[Finished]:
    """The comparisons with a measure of `gra`, one value per seed, and zero for `solo`."""
    own = {name: dict(zip(range(5), each, strict=True)) for name, each in values.items()}
    return [
        Finished(f.name, f.table | {"measures": {"gra": {name: each[f.seed] for name, each in own.items()},
                                                 "solo": dict.fromkeys(own, 0.0)}}, f.sheets, f.made)
        for f in found
    ]  # fmt: skip


def test_a_claim_must_stand_after_holms_correction(found: list[Finished]) -> None:
    """Mean 1, t = 2.83 on four: p = 0.047, decided alone and not beside another of its kind. The intervals alone
    decided before, beside a corrected p that said otherwise."""
    near = [0.0, 0.5, 1.0, 1.5, 2.0]
    measures = measured(found, ifd=near, spread=[-x for x in near], distinct_2=[9.0, 9.5, 10.0, 10.5, 11.0])
    own = [Measure(name, name) for name in ("ifd", "spread", "distinct_2")]

    def decided(*names: str) -> list[tuple[str, float]]:
        claims = [Claim("c", "gra", "solo", measure=name) for name in names]
        recipe = Miniature(rows={"gra": "", "solo": ""}, accuracy=False, measures=own, claims=claims)
        return [(one["verdict"], one["p"]) for one in aggregate(measures, recipe)["claims"]]

    alone = decided("ifd")
    assert alone == [(HOLDS, pytest.approx(0.0474, abs=1e-4))]
    assert decided("ifd", "spread", "distinct_2") == [
        ("not decided at this n (uncorrected: holds)", pytest.approx(2 * 0.0474, abs=2e-4)),
        ("not decided at this n (uncorrected: does not hold)", pytest.approx(2 * 0.0474, abs=2e-4)),
        (HOLDS, pytest.approx(2.79e-05, rel=0.01)),
    ], "the strong one comes first in Holm's order, the two others then count twice"
    assert corrected(HOLDS, None, 0.95) == HOLDS, "the same in every seed: no p"
    assert corrected(OPEN, 0.9, 0.95) == OPEN


def test_not_worse_is_tested_at_its_margin_and_says_what_could_be_seen(found: list[Finished]) -> None:
    """Differences of mean -1 with a margin of 3: t = (-1 + 3) / (0.79 / sqrt 5) = 5.66 on four, p = 0.0048. A true
    difference of 1.68 standard deviations is found with a power of 80% (Cohen's table for five pairs)."""
    recipe = Miniature(
        rows={"gra": "", "solo": ""}, accuracy=False, measures=[Measure("ifd", "IFD")],
        claims=[Claim("no worse", "gra", "solo", measure="ifd", not_below=True, tolerance=3.0)],
    )  # fmt: skip
    result = aggregate(measured(found, ifd=[-2.0, -1.5, -1.0, -0.5, 0.0]), recipe)
    (claim,) = result["claims"]
    assert (claim["verdict"], claim["seeds_for"]) == (HOLDS, 5)
    assert claim["p"] == pytest.approx(0.00481, rel=0.01)
    assert claim["detectable"] == pytest.approx(1.682 * math.sqrt(0.625), rel=1e-3)
    assert "| no worse (margin: 3.0) | gra - solo | -1.0 [-2.0, -0.0] | n/a | 0.005 | 1.3 | 5 of 5 | **holds** |" in (
        text_of(result, recipe)
    )
    shares = Miniature(rows=RECIPE.rows, claims=[Claim("no worse", "gra", "solo", not_below=True)])
    text = text_of(aggregate(found, shares), shares)
    assert "no worse (margin: 5.0 points)" in text
    assert "tested as non-inferiority" in text


def test_what_cannot_be_put_together_is_refused(found: list[Finished]) -> None:
    with pytest.raises(UserError, match="same seed"):
        aggregate([found[0], found[0]], RECIPE)
    with pytest.raises(UserError, match="no finished comparison"):
        aggregate([], RECIPE)
    other = Finished("x", found[1].table | {"reviewers": "text"}, found[1].sheets, {})
    with pytest.raises(UserError, match="differ in their reviewers"):
        aggregate([found[0], other], RECIPE)


def test_one_seed_decides_nothing(found: list[Finished]) -> None:
    result = aggregate(found[:1], RECIPE)
    assert {claim["verdict"] for claim in result["claims"]} <= {OPEN, MISSING}
    assert "One seed (4)" in text_of(result)
