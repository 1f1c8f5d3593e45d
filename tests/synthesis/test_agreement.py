"""Agreement statistics: alpha against values computed by hand, bias, spread, overturned verdicts, both decisions."""

from collections import Counter
from dataclasses import replace

import pytest

from gra_train.records import CRITERIA, Fate, InstructionReview, Review
from gra_train.synthesis import agreement
from gra_train.synthesis.candidate import Candidate
from gra_train.synthesis.decide import Decision

MODELS = ("ada", "bea", "cyd", "dot", "eve")


def candidate(*scores, flags=((1, 1, 1),) * 3, fate=Fate.KEPT, **values):
    reviewers = MODELS[: len(scores)]
    return Candidate(
        "r0-000000", 0, 0, "Math", "eve", reviewers, "dot", (), fate=fate, mu=8.0, decision=Decision.ACCEPT,
        instruction_reviews=tuple(InstructionReview(r, f) for r, f in zip(reviewers, flags, strict=False)),
        reviews=tuple(Review(r, (s,) * 6) for r, s in zip(reviewers, scores, strict=True)), **values,
    )  # fmt: skip


def rendered(*candidates):
    counts = Counter()
    for one in candidates:
        agreement.count(counts, one)
    return agreement.render(counts, MODELS)


def test_nominal_alpha_by_hand():
    """Four units, two reviewers: 1 1, 0 0, 1 0, 1 1. Do = 2/8; n1 = 5, n0 = 3: De = 2 * 15 / 56; alpha = 1 - 14/30."""
    assert agreement.alpha({(1, 1): 2, (0, 0): 1, (0, 1): 1}, level="nominal") == pytest.approx(1 - 14 / 30, abs=1e-6)


def test_interval_alpha_by_hand():
    """Units 8 8, 6 8: observed 2 * 4 / 4 = 2. Values 8 8 8 6: expected 2 * 3 * 4 / 12 = 2. alpha = 0."""
    assert agreement.alpha({(8, 8): 1, (6, 8): 1}, level="interval") == pytest.approx(0, abs=1e-6)
    # 9 9 and 1 3: observed 2 * 4 / 4 = 2; expected: pairs (9,1) 64 x2, (9,3) 36 x2, (1,3) 4: 2 * 204 / 12 = 34.
    assert agreement.alpha({(9, 9): 1, (1, 3): 1}, level="interval") == pytest.approx(1 - 2 / 34, abs=1e-6)


def test_three_reviewers_by_hand():
    """Units 1 1 0 and 0 0 0: observed 2 * 2 / 2 of 6 values = 2/6; n0 = 4, n1 = 2: expected 16/30; alpha = 3/8."""
    assert agreement.alpha({(0, 1, 1): 1, (0, 0, 0): 1}, level="nominal") == pytest.approx(3 / 8, abs=1e-6)


def test_alpha_is_not_defined_where_nothing_varies():
    assert agreement.alpha({(1, 1, 1): 9}, level="nominal") is None
    assert agreement.alpha({}, level="interval") is None


def test_a_unit_counts_as_often_as_it_occurs():
    twice = agreement.alpha({(9, 9): 2, (1, 3): 2}, level="interval")
    report = rendered(*[candidate(9, 9), candidate(1, 3)] * 2)
    assert set(report["alpha"]["response"]) == set(CRITERIA)
    assert set(report["alpha"]["response"].values()) == {twice}


def test_bias_and_spread_of_reviewers():
    """Means 10 8 6 and 10 9 8: offsets +2 0 -2 and +1 0 -1."""
    report = rendered(candidate(10, 8, 6), candidate(10, 9, 8))["reviewers"]
    assert report["ada"] == {"reviews": 2, "bias": 1.5, "spread": 0.5}
    assert report["bea"] == {"reviews": 2, "bias": 0.0, "spread": 0.0}
    assert report["cyd"] == {"reviews": 2, "bias": -1.5, "spread": 0.5}
    assert report["dot"] == {"reviews": 0, "bias": None, "spread": None}


def test_only_whole_committees_count():
    cut = replace(candidate(10, 8, 6), mu=None, reviews=candidate(10, 8, 6).reviews[:2])
    one = rendered(cut, candidate(9))
    assert not any(r["reviews"] for r in one["reviewers"].values())
    assert set(one["alpha"]["response"].values()) == {None}


def test_overturned_verdicts():
    disputed = {"decision": Decision.ADJUDICATE, "adjudication": Review("dot", (7,) * 6)}
    kept = replace(candidate(10, 10, 4), **disputed | {"adjudication": Review("dot", (9,) * 6)})
    lost = replace(candidate(10, 10, 4, fate=Fate.REJECTED_ADJUDICATOR), **disputed)
    report = rendered(kept, lost, lost, candidate(9, 9, 9))
    assert report["adjudicators"]["dot"] == {"asked": 3, "overturned": 2, "share": 0.666667}
    assert report["adjudicators"]["ada"]["share"] is None
    assert report["overturned"] == 0.666667


def test_both_decisions_of_adaptive_roles():
    moved = replace(candidate(9, 9, 5), decision=Decision.REJECT, weighted_decision=Decision.ACCEPT, correct=True)
    same = replace(candidate(9, 9, 9), weighted_decision=Decision.ACCEPT, correct=False)
    report = rendered(moved, same)["adaptive"]
    assert report["differ"] == 1
    assert report["plain"]["accept"] == {"rows": 1, "correct_share": 0.0}
    assert report["plain"]["reject"] == {"rows": 1, "correct_share": 1.0}
    assert report["weighted"]["accept"] == {"rows": 2, "correct_share": 0.5}
    assert "adaptive" not in rendered(candidate(9, 9, 9))


def test_shards_add_up_in_any_order():
    rows = [candidate(10, 8, 6), candidate(7, 9, 9, flags=((1, 0, 1), (1, 1, 1), (0, 0, 1))), candidate(3, 4, 4)]
    parts = [Counter(), Counter()]
    for i, row in enumerate(rows):
        agreement.count(parts[i % 2], row)
    assert agreement.render(parts[1] + parts[0], MODELS) == rendered(*rows)
