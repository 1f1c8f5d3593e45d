"""What the papers claim of each other's rows, as data; and how several seeds decide a claim.

A claim compares two labels of the comparison (or two steps of the funnel). It *holds* when every interval of the
difference lies above the margin, *does not hold* when every one lies below, and is *not decided* otherwise. A
`not_below` claim holds unless every interval lies below: that is the weaker thing it says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gra_train.evaluation.statistics import Estimate

HOLDS, FAILS, OPEN, MISSING = "holds", "does not hold", "not decided", "missing"


@dataclass(frozen=True)
class Claim:
    """`ours` against `theirs`. measure: accuracy, data (correctness of training sets) or funnel (of its steps)."""

    text: str
    ours: str
    theirs: str
    measure: str = "accuracy"
    margin: float = 0.0
    not_below: bool = False


def claims_of(labels: Sequence[str]) -> list[Claim]:
    """The claims that a comparison with these labels can speak to."""
    found = (
        []
        if "gra" not in labels
        else [
            Claim(
                "kept data are at least 30 points more often correct than proposals", "kept", "proposed", "funnel", 0.3
            ),
            Claim("GRA's data are not less correct than the large model's", "gra", "solo", "data", not_below=True),
            Claim("data of small models help, even unreviewed", "unreviewed", "seed"),
            Claim("the review helps the student", "gra", "unreviewed"),
            Claim("GRA's data are not worse for the student than the large model's", "gra", "solo", not_below=True),
        ]
    )
    for arm in dict.fromkeys(label.split(" + COLLATE ")[0] for label in labels if " + COLLATE " in label):
        step = f"{arm} + COLLATE "
        iterations = [label for label in labels if label.startswith(f"{step}iteration ")]
        found.append(Claim("stage 2 improves on M_IFT's own rationales", f"{step}stage 2", f"{step}M_IFT"))
        if iterations:
            found.append(Claim("iteration 1 improves on stage 2", iterations[0], f"{step}stage 2"))
            found.append(Claim("the last iteration improves on M_IFT's own rationales", iterations[-1], f"{step}M_IFT"))
        found.append(
            Claim("a student trained on the last iteration's rationales beats one trained on M_IFT's",
                  f"{step}answerer", f"{step}M_IFT rationales, answerer")
        )  # fmt: skip
    known = {*labels, "kept", "proposed"}
    return [claim for claim in found if {claim.ours, claim.theirs} <= known]


def verdict(claim: Claim, intervals: Sequence[Estimate]) -> str:
    """What intervals of the same difference say together (nan bounds, as of a single seed, say nothing)."""
    if not intervals:
        return MISSING
    below = all(found.high < claim.margin for found in intervals)
    above = all(found.low > claim.margin for found in intervals)
    if claim.not_below:
        known = all(found.high == found.high for found in intervals)
        return FAILS if below else HOLDS if known else OPEN
    return HOLDS if above else FAILS if below else OPEN


def values(claim: Claim, table: Mapping[str, Any]) -> tuple[float, float] | None:
    """The two values of a data or funnel claim in one table; None when one of them is missing."""
    if claim.measure == "funnel":
        steps = table["funnel"] or {}
        pair = [steps.get(step, {}).get("correct_share") for step in (claim.ours, claim.theirs)]
    else:
        data = {row["label"]: (row["data"] or {}).get("correct") or {} for row in table["rows"]}
        pair = [data.get(label, {}).get("value") for label in (claim.ours, claim.theirs)]
    return (pair[0], pair[1]) if None not in pair else None
