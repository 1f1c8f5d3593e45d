"""The comparison as plain data: `table.json` is the truth, every rendering is made from it.

{name, seed, baseline, confidence, resamples, tasks, reviewers, notes,
 rows: [{label, data: {rows, seeds, correct, overlap} or null, scores: {task: ..., average: ...} or null,
         difference: {task: ..., average: ...} or null, flags: [...],
         tests: {task: {won, lost, n, p, adjusted, detectable}, average: ...} or null,
         tally: {wins, ties, losses} or null, quality: quality.json of the training set or null}],
 reports: [{title, columns, rows, note}]}
An estimate is {value, low, high}, in shares of 1; a missing cell is null and stays missing. A row has an average only
where it has every task of the table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gra_train.evaluation.significance import tally, verdicts
from gra_train.evaluation.statistics import AVERAGE, Answers, Estimate, paired_difference
from gra_train.reporting.flags import LEGEND, counts, problems

REVIEWERS = {
    "likelihood": (
        "Reviewers scored by likelihood: a review's scores are computed from the reviewer's own token probabilities "
        "of the text; they are not written by the reviewer."
    ),
    "text": "Reviewers wrote their scores.",
}


def estimate(found: Estimate) -> dict[str, float]:
    return {"value": found.value, "low": found.low, "high": found.high}


def differences(
    answers: Answers, baseline: Answers, *, resamples: int, confidence: float
) -> dict[str, dict[str, float]] | None:
    """Per task and on average, paired over shared questions; None when no task is shared."""
    shared = [task for task in answers if task in baseline]
    if not shared:
        return None
    found = {
        task: paired_difference(
            [{task: answers[task]}], [{task: baseline[task]}], resamples=resamples, confidence=confidence
        )
        for task in shared
    }
    if set(shared) == set(answers) == set(baseline):  # no average over what is not there
        found[AVERAGE] = paired_difference([answers], [baseline], resamples=resamples, confidence=confidence)
    return {task: estimate(value) for task, value in found.items()}


def tested(
    sheets: Mapping[str, Answers], baseline: str, *, resamples: int, confidence: float
) -> dict[str, dict[str, Any]]:
    """label -> {tests, tally} against the baseline, for every other label that shares a task with it."""
    others = {label: sheet for label, sheet in sheets.items() if label != baseline}
    found = verdicts(others, sheets.get(baseline, {}), resamples=resamples, confidence=confidence)
    return {
        label: {
            "tests": {task: _known(one._asdict()) for task, one in of.items()},
            "tally": tally(of, confidence=confidence)._asdict(),
        }
        for label, of in found.items()
        if of
    }


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: None if value != value else value for key, value in values.items()}


def notes(table: Mapping[str, Any]) -> list[str]:
    """How to read the numbers, in sentences."""
    percent = f"{table['confidence']:.0%}"
    questions = sorted(
        {entry["n"] for row in table["rows"] for t, entry in (row["scores"] or {}).items() if t != AVERAGE}
    )
    sizes = "-".join(str(n) for n in dict.fromkeys((questions[0], questions[-1]))) if questions else "no"
    said = [
        f"Scores: percent of {sizes} questions per task answered exactly, with {percent} intervals (Wilson; the "
        "average is the plain mean of the tasks).",
        f"Difference: to `{table['baseline']}`, in points, paired over the same questions ({percent} bootstrap "
        f"interval, {table['resamples']} resamples).",
        "p: McNemar's exact test of a benchmark, a permutation test of the average; corrected (Holm) over all the "
        "table's benchmarks, or over all its averages. Benchmarks are won, tied or lost by their corrected p.",
        "Detectable: the smallest true difference that this comparison would find four times in five (before "
        "correction); a smaller one may well be there unseen.",
        f"One run of seed {table['seed']}: these intervals do not contain what another seed would change "
        "(gra-train run ... -m seed=0,1,2,3,4).",
    ]
    if table["reviewers"] in REVIEWERS:
        said.append(REVIEWERS[table["reviewers"]])
    if any(row["flags"] for row in table["rows"]):
        said.append(LEGEND)
    return said


def flat(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One flat record of numbers per row, None where a cell is missing."""
    records = []
    for row in table["rows"]:
        data, scores, difference = row["data"] or {}, row["scores"] or {}, row["difference"] or {}
        total, against = scores.get(AVERAGE, {}), difference.get(AVERAGE, {})
        records.append(
            {"label": row["label"], "rows": data.get("rows"), "data_correct": (data.get("correct") or {}).get("value")}
            | {task: scores.get(task, {}).get("score") for task in columns(table)}
            | {f"{AVERAGE}_low": total.get("low"), f"{AVERAGE}_high": total.get("high")}
            | {f"difference_{key}": against.get(key) for key in ("value", "low", "high")}
            | {key: (row["tests"] or {}).get(AVERAGE, {}).get(key) for key in ("p", "adjusted", "detectable")}
            | {key: (row["tally"] or {}).get(key) for key in ("wins", "ties", "losses")}
            | counts(scores)
        )
    return records


RECORD = {
    "label": str, "task": str, "score": float, "low": float, "high": float, "n": int, "unparseable": int,
    "truncated": int, "failed": int, "flags": str, "difference": float, "difference_low": float,
    "difference_high": float, "won": int, "lost": int, "p": float, "p_adjusted": float, "detectable": float,
    "data_rows": int, "data_tokens": int, "data_correct": float,
}  # fmt: skip
"""Columns of `records` and their types."""


def records(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One record per row and task (average included) with everything that table.json knows of it; None: missing."""
    found = []
    for row in table["rows"]:
        data, quality = row["data"] or {}, row["quality"] or {}
        for task in columns(table):
            score, difference, test = ((row[part] or {}).get(task, {}) for part in ("scores", "difference", "tests"))
            values = [
                row["label"],
                task,
                *(score.get(key) for key in ("score", "low", "high", "n", "unparseable", "truncated", "failed")),
                "; ".join(problems(score)) if score and task != AVERAGE else None,
                *(difference.get(key) for key in ("value", "low", "high")),
                *(test.get(key) for key in ("won", "lost", "p", "adjusted", "detectable")),
                data.get("rows"),
                quality.get("tokens"),
                (data.get("correct") or {}).get("value"),
            ]
            found.append(dict(zip(RECORD, values, strict=True)))
    return found


def columns(table: Mapping[str, Any]) -> Sequence[str]:
    """Tasks, then the average."""
    return [*table["tasks"], AVERAGE]
