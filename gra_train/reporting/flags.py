"""What a reader must know before believing a score: one rule for every table that shows it.

A benchmark is marked `!` where more than 5% of its answers are unparseable or truncated (its protocol measures format
then, not ability), and where a question was not answered at all: a failed call counts as wrong and says nothing of the
model. An average is marked where one of its benchmarks is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gra_train.evaluation.statistics import AVERAGE

TOO_MANY = 0.05
"""Share of unparseable or truncated answers above which a score is flagged."""
MARK = " !"
LEGEND = (
    f"! more than {TOO_MANY:.0%} of the answers unparseable or truncated, questions that were not answered (the call "
    "failed; they count as wrong), or training on test questions."
)
COUNTED = {"unparseable": "unparseable", "truncated": "truncated", "failed": "not answered"}
"""What is counted beside a score, and the head of its column."""

Scores = Mapping[str, Mapping[str, Any]]
"""scores.json: task (and average) -> {score, low, high, n, unparseable, truncated, failed, ...}."""


def problems(entry: Mapping[str, Any]) -> list[str]:
    """Of one score, in words; none where it can be taken as it is."""
    found = [
        f"{entry[what] / entry['n']:.0%} of the answers {what}"
        for what in ("unparseable", "truncated")
        if entry[what] > TOO_MANY * entry["n"]
    ]
    failed = entry.get("failed", 0)
    return [*found, f"{failed} of {entry['n']} questions not answered"] if failed else found


def single(scores: Scores) -> dict[str, Mapping[str, Any]]:
    """The tasks without their average."""
    return {task: entry for task, entry in scores.items() if task != AVERAGE}


def is_marked(scores: Scores, task: str) -> bool:
    of = single(scores) if task == AVERAGE else {task: scores[task]} if task in scores else {}
    return any(problems(entry) for entry in of.values())


def flags(scores: Scores, overlap: int = 0) -> list[str]:
    """What is to be known of a row. overlap: training rows that state a test question."""
    found = [f"{task}: {said}" for task, entry in single(scores).items() for said in problems(entry)]
    return [*found, f"{overlap} training rows state a test question"] if overlap else found


def reasons(table: Mapping[str, Any]) -> list[str]:
    """For the list below a comparison: every flagged row with its flags."""
    return [f"`{row['label']}`: {'; '.join(row['flags'])}" for row in table["rows"] if row["flags"]]


def counts(scores: Scores) -> dict[str, int | None]:
    """n, unparseable, truncated and failed over all tasks of a row; None where there are none."""
    return together(single(scores).values())


def together(entries: Iterable[Mapping[str, Any]]) -> dict[str, int | None]:
    """The counts of several scores, added."""
    known = list(entries)
    return {key: sum(one.get(key, 0) for one in known) if known else None for key in ("n", *COUNTED)}


def counted(of: Iterable[Mapping[str, int | None]]) -> dict[str, str]:
    """The counts that a table shows, with their heads: failed calls only where there are any."""
    return {what: head for what, head in COUNTED.items() if what != "failed" or any(one[what] for one in of)}


def count(total: Mapping[str, int | None], what: str) -> str:
    """`6 of 20`; empty where nothing was asked."""
    return f"{total[what]} of {total['n']}" if total["n"] else ""
