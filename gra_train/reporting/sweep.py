"""Several finished comparisons of one experiment, which differ in their seed, as one table.

The intervals are over seeds, *given* what the seeds share: the base student, the test questions, and usually the pool.
Differences are also shown with the questions resampled (see statistics.paired_difference); a claim needs both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gra_train.errors import UserError
from gra_train.evaluation.statistics import Answers, Estimate, over_seeds, paired_difference
from gra_train.reporting.claims import Claim, claims_of, values, verdict
from gra_train.reporting.reports import STEPS
from gra_train.reporting.stages import read_table
from gra_train.reporting.table import AVERAGE, REVIEWERS, columns, estimate

SHARED = "the pool's models, the base student and the test questions"


def aggregate(
    folders: Sequence[Path],
    *,
    keep: Callable[[str], bool] = lambda label: True,
    baseline: str = "",
    shared: str = SHARED,
) -> dict[str, Any]:
    """One table of several comparisons (folders with table.json and answers.parquet), ordered by seed.

    keep: which rows, by label. baseline: which row the others are set against (default: the comparisons' own).
    shared: what the seeds have in common, in words, for the note below the table.

    {name, seeds, baseline, confidence, tasks, rows: [{label, data_correct, scores: {task: estimate}, per_seed,
    difference, pooled}], steps: [{step, rows, correct}], claims: [{text, ours, theirs, difference, pooled, verdict,
    seeds_for}], notes}. Raises UserError for comparisons that cannot be put together.
    """
    found = sorted(((read_table(folder), _answers(folder)) for folder in folders), key=lambda pair: pair[0]["seed"])
    if not found:
        raise UserError("no finished comparison to aggregate")
    tables, sheets = [table for table, _ in found], [sheet for _, sheet in found]
    first = tables[0]
    seeds = [table["seed"] for table in tables]
    if len(set(seeds)) < len(seeds):
        raise UserError(f"two comparisons have the same seed ({seeds}): give one folder for each seed")
    for table in tables[1:]:
        for key in ("tasks", "baseline", "reviewers"):
            if table[key] != first[key]:
                raise UserError(f"these comparisons differ in their {key}: {first[key]} and {table[key]}")
    labels = [row["label"] for row in first["rows"] if keep(row["label"])]
    for table in tables if baseline in labels else []:
        table["baseline"] = baseline
    rows = [_row(label, tables, sheets) for label in labels]
    result = {key: first[key] for key in ("name", "baseline", "confidence", "tasks", "reviewers")}
    result |= {"seeds": seeds, "rows": rows, "steps": _steps(tables) if "gra" in labels else []}
    result["claims"] = [_claim(claim, tables, sheets) for claim in claims_of(labels)]
    result["notes"] = _notes(result, shared)
    return result


def _row(label: str, tables: Sequence[dict[str, Any]], sheets: Sequence[Mapping[str, Answers]]) -> dict[str, Any]:
    first, confidence = tables[0], tables[0]["confidence"]
    entries = [next((row for row in table["rows"] if row["label"] == label), None) for table in tables]
    scored = [entry["scores"] for entry in entries if entry and entry["scores"]]
    correct = [
        entry["data"]["correct"]["value"] for entry in entries if entry and entry["data"] and entry["data"]["correct"]
    ]
    complete = len(scored) == len(tables)
    scores = {
        task: _share([one[task]["score"] for one in scored], confidence)
        for task in columns(first)
        if complete and all(task in one for one in scored)
    }
    against = None if label == first["baseline"] else _difference(label, first["baseline"], tables, sheets)
    return {
        "label": label,
        "data_correct": _share(correct, confidence) if len(correct) == len(tables) else None,
        "scores": scores,
        "per_seed": [one[AVERAGE]["score"] for one in scored],
        "difference": estimate(against[0]) if against else None,
        "pooled": estimate(against[1]) if against else None,
        "flagged": sum(bool(entry and entry["flags"]) for entry in entries),
    }


def _share(values: Sequence[float], confidence: float) -> dict[str, float]:
    """A share over seeds; what Student's t puts outside 0 to 1 is cut off."""
    found = over_seeds(values, confidence)
    return estimate(Estimate(found.value, max(found.low, 0.0), min(found.high, 1.0)))


def _difference(
    ours: str, theirs: str, tables: Sequence[dict[str, Any]], sheets: Sequence[Mapping[str, Answers]]
) -> tuple[Estimate, Estimate, list[float]] | None:
    """(over seeds, over seeds and questions, one per seed) of the difference of averages; None if a seed lacks one."""
    tasks = set(tables[0]["tasks"])
    pairs = [(sheet.get(ours, {}), sheet.get(theirs, {})) for sheet in sheets]
    if any(set(a) != tasks or set(b) != tasks for a, b in pairs):
        return None
    confidence, resamples = tables[0]["confidence"], tables[0]["resamples"]
    each = [paired_difference([a], [b], resamples=1).value for a, b in pairs]
    pooled = paired_difference([a for a, _ in pairs], [b for _, b in pairs], resamples=resamples, confidence=confidence)
    return over_seeds(each, confidence), pooled, each


def _claim(claim: Claim, tables: Sequence[dict[str, Any]], sheets: Sequence[Mapping[str, Answers]]) -> dict[str, Any]:
    difference: Estimate | None = None
    pooled: Estimate | None = None
    each: list[float] = []
    if claim.measure == "accuracy":
        if found := _difference(claim.ours, claim.theirs, tables, sheets):
            difference, pooled, each = found
    else:
        pairs = [values(claim, table) for table in tables]
        if all(pairs):
            each = [pair[0] - pair[1] for pair in pairs if pair]
            difference = over_seeds(each, tables[0]["confidence"])
    return {
        "text": claim.text,
        "ours": claim.ours,
        "theirs": claim.theirs,
        "difference": estimate(difference) if difference else None,
        "pooled": estimate(pooled) if pooled else None,
        "verdict": verdict(claim, [found for found in (difference, pooled) if found]),
        "seeds_for": sum(value >= claim.margin if claim.not_below else value > claim.margin for value in each),
    }


def _steps(tables: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The funnel over seeds, where every seed has one: mean rows and mean share correct."""
    if not all(table["funnel"] for table in tables):
        return []
    found = []
    for step, title in STEPS.items():
        if not all(step in table["funnel"] for table in tables):
            continue
        counts = [table["funnel"][step] for table in tables]
        shares = [one.get("correct_share") for one in counts]
        known = [value for value in shares if value is not None]
        correct = _share(known, tables[0]["confidence"]) if len(known) == len(shares) else None
        rows = sum(one["rows"] for one in counts) / len(counts)
        found.append({"step": title, "rows": rows, "correct": correct})
    return found


def _notes(result: Mapping[str, Any], shared: str) -> list[str]:
    percent = f"{result['confidence']:.0%}"
    said = [
        f"Means over seeds {', '.join(map(str, result['seeds']))} with {percent} intervals over seeds (Student's t), "
        f"given what the seeds share: {shared}.",
        f"Differences: paired by seed and question; the second interval resamples the questions too ({percent}, "
        "bootstrap on two levels). A claim holds, or does not, only where both intervals say so.",
    ]
    if len(result["seeds"]) == 1:
        said[0] = f"One seed ({result['seeds'][0]}): there are no intervals over seeds, and no claim is decided."
    if result["reviewers"] in REVIEWERS:
        said.append(REVIEWERS[result["reviewers"]])
    if any(row["flagged"] for row in result["rows"]):
        said.append(
            "! flagged in at least one seed: over 5% of the answers unparseable or truncated, or training on test "
            "questions."
        )
    return said


def _answers(folder: Path) -> dict[str, dict[str, dict[str, bool]]]:
    """label -> task -> question -> correct."""
    import pyarrow.parquet as pq

    sheets: dict[str, dict[str, dict[str, bool]]] = {}
    for row in pq.read_table(folder / "answers.parquet").to_pylist():
        sheets.setdefault(row["label"], {}).setdefault(row["task"], {})[row["question_id"]] = row["correct"]
    return sheets
