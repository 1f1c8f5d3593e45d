"""What the papers claim of each other's rows, as data (table.yaml); and how several seeds decide a claim.

A claim compares two labels of the comparison (or two steps of the funnel). It *holds* when every interval of the
difference lies above the margin, *does not hold* when every one lies below, and is *not decided at this n* otherwise.
A `not_below` claim is a test of non-inferiority: it holds when every interval lies above the margin less a tolerance
that was stated before, and does not hold when every one lies below the margin. Wide intervals decide nothing.

A table has many claims, so what intervals of one claim say must also stand after Holm's correction over all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gra_train.evaluation.statistics import Estimate
from gra_train.settings import Section, setting

HOLDS, FAILS, OPEN, MISSING = "holds", "does not hold", "not decided at this n", "missing"


@dataclass(frozen=True)
class Claim(Section):
    """`ours` against `theirs`: a difference that should be above the margin."""

    text: str = setting(help="what is claimed, in words")
    ours: str = setting(help="label (or funnel step) that should be ahead")
    theirs: str = setting(help="label (or funnel step) that it is set against")
    measure: str = setting(
        "accuracy", "accuracy; data: correctness of training sets; funnel: of its steps; or the name of a measure"
    )
    margin: float = setting(0.0, "the difference must be above this (shares of 1, or the measure's unit)")
    not_below: bool = setting(
        False, "the weaker claim (non-inferiority): not below the margin by the tolerance or more"
    )
    tolerance: float = setting(
        0.05, "not_below: so much less counts as no worse (shares of 1, or the measure's unit)", min=0
    )
    times: float = setting(1.0, "ours is multiplied by this (not of accuracy)", min=0)

    @property
    def bound(self) -> float:
        """What the difference must be shown to be above."""
        return self.margin - self.tolerance if self.not_below else self.margin


def verdict(claim: Claim, intervals: Sequence[Estimate]) -> str:
    """What intervals of the same difference say together (nan bounds, as of a single seed, say nothing)."""
    if not intervals:
        return MISSING
    below = all(found.high < claim.margin for found in intervals)
    above = all(found.low > claim.bound for found in intervals)
    return HOLDS if above else FAILS if below else OPEN


def corrected(said: str, p: float | None, confidence: float) -> str:
    """The verdict after correction. said: by intervals alone; p: corrected, None where seeds do not differ at all."""
    if said not in (HOLDS, FAILS) or p is None or p <= 1 - confidence:
        return said
    return f"{OPEN} (uncorrected: {said})"


def values(claim: Claim, table: Mapping[str, Any]) -> tuple[float, float] | None:
    """The two values of a claim that is not about accuracy, in one table; None when one of them is missing."""
    ours, theirs = (value_of(claim.measure, name, table) for name in (claim.ours, claim.theirs))
    return None if ours is None or theirs is None else (claim.times * ours, theirs)


def value_of(measure: str, name: str, table: Mapping[str, Any]) -> float | None:
    """A measure of a label (or of a funnel step) in one comparison; None when it is missing."""
    if measure == "funnel":
        return ((table.get("funnel") or {}).get(name) or {}).get("correct_share")
    row = next((row for row in table["rows"] if row["label"] == name), None)
    if measure == "data":
        return (((row or {}).get("data") or {}).get("correct") or {}).get("value")
    return ((table.get("measures") or {}).get(name) or {}).get(measure)
