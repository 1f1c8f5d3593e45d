"""How far reviewers agree: Krippendorff's alpha, bias and spread of each as a reviewer, what the adjudicator overturns.

Counted with the funnel in whole numbers (so that shards and rounds add up in any order), rendered at the end. Only
responses that the whole committee has reviewed count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import sqrt
from typing import TYPE_CHECKING, Any, Literal

from gra_train.records import CRITERIA, FLAGS, Fate
from gra_train.synthesis.decide import Decision

if TYPE_CHECKING:
    from gra_train.synthesis.candidate import Candidate

Counts = Counter[tuple[str, ...]]


def count(counts: Counts, candidate: Candidate) -> None:
    """Add one candidate's reviews."""
    flags, reviews = candidate.instruction_reviews, candidate.reviews
    if len(flags) > 1 and len(flags) == len(candidate.reviewers):
        for i, name in enumerate(FLAGS):
            counts["units", "instruction", name, _unit(f.flags[i] for f in flags)] += 1
    if candidate.mu is not None and len(reviews) > 1:
        for i, name in enumerate(CRITERIA):
            counts["units", "response", name, _unit(r.scores[i] for r in reviews)] += 1
        total, size = sum(sum(r.scores) for r in reviews), len(reviews)
        for review in reviews:
            own = size * sum(review.scores)  # as total in units of 1 / (6 * size): whole numbers, none negative
            for what, value in (("number", 1), ("own", own), ("committee", total), ("squares", (own - total) ** 2)):
                counts["offset", review.reviewer, str(size), what] += value
    if (verdict := candidate.adjudication) is not None:
        counts["verdict", verdict.reviewer, "asked"] += 1
        counts["verdict", verdict.reviewer, "overturned"] += candidate.fate is Fate.REJECTED_ADJUDICATOR
    if candidate.weighted_decision is not None and candidate.decision is not None:
        counts["rule", "differ"] += candidate.decision is not candidate.weighted_decision
        for rule, decision in (("plain", candidate.decision), ("weighted", candidate.weighted_decision)):
            counts["rule", rule, decision.value] += 1
            counts["rule", rule, decision.value, "known"] += candidate.correct is not None
            counts["rule", rule, decision.value, "correct"] += candidate.correct is True


def _unit(values: Any) -> str:
    return " ".join(map(str, sorted(values)))


def alpha(units: dict[tuple[int, ...], int], *, level: Literal["nominal", "interval"]) -> float | None:
    """Krippendorff's alpha. units: the values that one unit was given -> how often that happened.

    level: "nominal" or "interval". None where it is not defined: fewer than two different values, or no pairs.
    """
    import numpy as np
    from krippendorff import alpha as krippendorff

    domain = sorted({value for values in units for value in values})
    if len(domain) < 2:
        return None
    table = np.array([[values.count(value) for value in domain] for values in units])
    rows = np.repeat(table, list(units.values()), axis=0)
    found = krippendorff(value_counts=rows, value_domain=domain, level_of_measurement=level)
    return round(float(found), 6)


def render(counts: Counts, models: Sequence[str]) -> dict[str, Any]:
    """The funnel's `agreement`: alphas (flags nominal, scores interval), reviewers, adjudicators.

    bias and spread: mean and standard deviation of a reviewer's mean less its committee's (itself included).
    overturned: share of the disputed responses, all with mu >= T_mean, that an adjudicator rejects.
    """

    def units(part: str, name: str) -> dict[tuple[int, ...], int]:
        found = {k[3]: n for k, n in sorted(counts.items()) if k[:3] == ("units", part, name)}
        return {tuple(map(int, values.split())): n for values, n in found.items()}

    result: dict[str, Any] = {
        "alpha": {
            "instruction": {name: alpha(units("instruction", name), level="nominal") for name in FLAGS},
            "response": {name: alpha(units("response", name), level="interval") for name in CRITERIA},
        },
        "reviewers": {model: _offsets(counts, model) for model in models},
        "adjudicators": {model: _overturned(counts, [model]) for model in models},
        "overturned": _overturned(counts, models)["share"],
    }
    if rules := _rules(counts):
        result["adaptive"] = rules
    return result


def _offsets(counts: Counts, model: str) -> dict[str, Any]:
    sizes = sorted({k[2] for k in counts if k[:2] == ("offset", model)})
    number = sum(counts["offset", model, size, "number"] for size in sizes)
    if not number:
        return {"reviews": 0, "bias": None, "spread": None}
    sums = {s: counts["offset", model, s, "own"] - counts["offset", model, s, "committee"] for s in sizes}
    mean = sum(value / (6 * int(s)) for s, value in sums.items()) / number
    squares = sum(counts["offset", model, s, "squares"] / (6 * int(s)) ** 2 for s in sizes) / number
    return {"reviews": number, "bias": round(mean, 6), "spread": round(sqrt(max(0.0, squares - mean * mean)), 6)}


def _overturned(counts: Counts, models: Sequence[str]) -> dict[str, Any]:
    asked = sum(counts["verdict", model, "asked"] for model in models)
    overturned = sum(counts["verdict", model, "overturned"] for model in models)
    return {"asked": asked, "overturned": overturned, "share": round(overturned / asked, 6) if asked else None}


def _rules(counts: Counts) -> dict[str, Any]:
    """With adaptive roles: what every reviewer counting alike would have decided, and what the weights decided."""
    if not any(key[:2] == ("rule", "plain") for key in counts):
        return {}
    result: dict[str, Any] = {"differ": counts["rule", "differ"]}
    for rule in ("plain", "weighted"):
        result[rule] = {}
        for decision in Decision:
            known = counts["rule", rule, decision.value, "known"]
            right = counts["rule", rule, decision.value, "correct"]
            result[rule][decision.value] = {
                "rows": counts["rule", rule, decision.value],
                "correct_share": round(right / known, 6) if known else None,
            }
    return result
