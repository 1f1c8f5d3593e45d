"""The funnel: how many candidates came how far, who made and judged them, and, where it can be known, who was right.

Counted round by round into one flat counter (so that no candidate need stay in memory), rendered once at the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

from gra_train.records import Fate
from gra_train.synthesis import agreement
from gra_train.synthesis.calls import REPAIRED, SCORED
from gra_train.synthesis.candidate import Candidate
from gra_train.synthesis.decide import Decision
from gra_train.synthesis.prompts import KINDS

STEPS = (
    "proposed", "passed_instruction_review", "reviewed", "accepted", "sent_to_adjudicator", "kept_by_adjudicator",
    "good", "kept",
)  # fmt: skip
"""proposed: has an instruction (readable). accepted: without the adjudicator (or without any review). good: accepted or
kept by the adjudicator, before curation. kept: in the data set."""

Counts = Counter[tuple[str, ...]]


def count(candidates: Iterable[Candidate], *, T_mean: float) -> Counts:
    """What one round contributes. T_mean: a reviewer's mean from here on counts as a vote for the response."""
    counts: Counts = Counter()
    for candidate in candidates:
        counts["fate", candidate.fate.value] += 1
        if candidate.failed_at:
            counts["failed_at", candidate.fate.value, candidate.failed_at] += 1
        for step in _steps(candidate):
            _judged(counts, ("step", step), candidate.correct)
        _count_people(counts, candidate, T_mean)
        agreement.count(counts, candidate)
        for attempt in candidate.attempts:
            if attempt.outcome == SCORED:  # nothing was written, so there was nothing to read
                continue
            for key in (("prompt", attempt.prompt), ("model", attempt.model)):
                counts[*key, "answers"] += 1
                counts[*key, "unparseable"] += attempt.failed
                counts[*key, "truncated"] += attempt.truncated
                counts[*key, "repaired"] += attempt.outcome == REPAIRED
            if attempt.failed:
                counts["reason", attempt.prompt, attempt.outcome] += 1
    return counts


def _steps(candidate: Candidate) -> list[str]:
    """The steps that the candidate reached."""
    good, decision = candidate.good, candidate.decided
    reached = {
        "proposed": bool(candidate.instruction),
        "passed_instruction_review": good
        or (bool(candidate.instruction_reviews) and candidate.failed_at != "instruction_review"),
        "reviewed": candidate.mu is not None,
        "accepted": decision is Decision.ACCEPT or (good and decision is None),
        "sent_to_adjudicator": decision is Decision.ADJUDICATE,
        "kept_by_adjudicator": decision is Decision.ADJUDICATE and good,
        "good": good,
        "kept": candidate.fate is Fate.KEPT,
    }  # fmt: skip
    return [step for step in STEPS if reached[step]]


def _judged(counts: Counts, key: tuple[str, ...], correct: bool | None) -> None:
    counts[*key, "rows"] += 1
    counts[*key, "unknown" if correct is None else "correct" if correct else "wrong"] += 1


def _count_people(counts: Counts, candidate: Candidate, T_mean: float) -> None:
    good = candidate.good
    counts["generator", candidate.generator, "proposed"] += 1
    counts["generator", candidate.generator, "good"] += good
    for flags in candidate.instruction_reviews:
        counts["reviewer", flags.reviewer, "instructions"] += 1
        counts["reviewer", flags.reviewer, "instructions_passed"] += flags.passes
    for review in candidate.reviews:
        counts["reviewer", review.reviewer, "responses"] += 1
        counts["reviewer", review.reviewer, "score_sum"] += sum(review.scores)
        if candidate.correct is not None:
            _vote(counts, ("reviewer", review.reviewer), round(review.mean, 9) >= T_mean, candidate.correct)
    if candidate.mu is not None and candidate.correct is not None:
        _vote(counts, ("decision",), good, candidate.correct)
    if candidate.adjudication is not None and candidate.correct is not None:
        _vote(counts, ("adjudicator",), good, candidate.correct)


def _vote(counts: Counts, key: tuple[str, ...], vote: bool, correct: bool) -> None:
    counts[*key, ("true" if vote == correct else "false") + ("_for" if vote else "_against")] += 1


def ratio(part: float, whole: float) -> float | None:
    """part / whole, or None (not known) of nothing."""
    return round(part / whole, 6) if whole else None


def _agreement(counts: Counts, key: tuple[str, ...]) -> dict[str, Any]:
    """How votes agree with true correctness. precision: of those voted for, the share that is correct; recall: of the
    correct, the share voted for; balanced: mean of recall and of the share of the wrong that is voted against."""
    right, wrong = counts[*key, "true_for"], counts[*key, "false_for"]
    missed, caught = counts[*key, "false_against"], counts[*key, "true_against"]
    recall, specificity = ratio(right, right + missed), ratio(caught, caught + wrong)
    return {
        "votes": right + wrong + missed + caught,
        "precision": ratio(right, right + wrong),
        "recall": recall,
        "balanced": None if recall is None or specificity is None else round(fmean([recall, specificity]), 6),
    }


def _answers(counts: Counts, key: tuple[str, ...]) -> dict[str, int]:
    return {name: counts[*key, name] for name in ("answers", "repaired", "unparseable", "truncated")}


def render(
    counts: Counts, *, models: Sequence[str], rounds: Sequence[dict[str, Any]], scoring: str, checked: bool
) -> dict[str, Any]:
    """funnel.json. Shares of correct rows are over rows of known correctness; without a checker there are none."""
    steps: dict[str, Any] = {}
    for step in STEPS:
        rows, correct = counts["step", step, "rows"], counts["step", step, "correct"]
        steps[step] = {"rows": rows}
        if checked:
            unknown = counts["step", step, "unknown"]
            steps[step] |= {"correct": correct, "unknown": unknown, "correct_share": ratio(correct, rows - unknown)}
    people: dict[str, Any] = {}
    for model in models:
        proposed, good = counts["generator", model, "proposed"], counts["generator", model, "good"]
        instructions, responses = counts["reviewer", model, "instructions"], counts["reviewer", model, "responses"]
        people[model] = {
            "generator": {"proposed": proposed, "good": good, "acceptance": ratio(good, proposed)},
            "reviewer": {
                "instructions": instructions,
                "passed": ratio(counts["reviewer", model, "instructions_passed"], instructions),
                "responses": responses,
                "mean_score": ratio(counts["reviewer", model, "score_sum"], 6 * responses),
                **(_agreement(counts, ("reviewer", model)) if checked else {}),
            },
            "answers": _answers(counts, ("model", model)),
        }
    result: dict[str, Any] = {
        "candidates": sum(counts["fate", fate.value] for fate in Fate),
        "scoring": scoring,
        "rounds": list(rounds),
        "fates": {fate.value: counts["fate", fate.value] for fate in Fate},
        "failed_at": {
            fate: {key[2]: n for key, n in sorted(counts.items()) if key[:2] == ("failed_at", fate)}
            for fate in sorted({key[1] for key in counts if key[0] == "failed_at"})
        },
        "steps": steps,
        "models": people,
        "agreement": agreement.render(counts, models),
        "prompts": {kind: _answers(counts, ("prompt", kind)) for kind in KINDS if counts["prompt", kind, "answers"]},
        "reasons": {
            kind: {key[2]: n for key, n in sorted(counts.items()) if key[:2] == ("reason", kind)}
            for kind in KINDS
            if any(key[:2] == ("reason", kind) for key in counts)
        },
    }
    if checked:
        result |= {"decision": _agreement(counts, ("decision",)), "adjudicator": _agreement(counts, ("adjudicator",))}
    return result
