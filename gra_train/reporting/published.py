"""The faults of published numbers that can be computed from the numbers themselves.

experiments/*/published.csv holds the numbers as printed; its `flags` column is made by `flag_rows` (a test compares).
What two tables of a paper say of each other is in published_across.py.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

SIZES = {
    "gsm8k": 1319, "math": 5000, "humaneval": 164, "mbpp": 500, "hellaswag": 10042, "arc_challenge": 295,
    "gpqa_diamond": 198, "mmlu": 14042,
}  # fmt: skip
"""Questions of a benchmark, where a score must be a whole number of them (IFEval mixes four measures, BBH averages)."""

CHANCE = {"hellaswag": (0.25, 10042), "arc_challenge": (0.25, 295), "gpqa_diamond": (0.25, 198), "mmlu": (0.25, 14042),
          "winogrande": (0.5, 1767), "piqa": (0.5, 3084), "commonsense_qa": (0.2, 1221)}  # fmt: skip
"""Share that guessing gets, and the number of questions (COLLATE gives its sizes rounded: the sets' own are taken)."""

LEVEL = 0.05
OURS = ("ours", "flags", "avg_recomputed", "note")
"""Columns of published.csv that are not numbers of the paper."""


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def number(text: str) -> float | None:
    """A printed number; None for anything else."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


def flag_rows(rows: Sequence[Mapping[str, str]], unit: str = "percent") -> list[str]:
    """One text per row: wrong average, impossible score, score that guessing would beat or equal. Empty: none found.

    unit: of the numbers; what is no percentage of questions has none of these faults.
    """
    if unit != "percent":
        return [""] * len(rows)
    return ["; ".join([*_average(row), *_impossible(row), *_guessing(row)]) for row in rows]


def scores(row: Mapping[str, str]) -> dict[str, float]:
    """The benchmarks' scores of a row."""
    return {task: float(row[task]) for task in (*SIZES, *CHANCE, "bbh", "ifeval") if row.get(task)}


def mean(row: Mapping[str, str]) -> float | None:
    """The plain mean of a row's scores; None where it has none."""
    found = scores(row)
    return math.fsum(found.values()) / len(found) if found else None


def _average(row: Mapping[str, str]) -> list[str]:
    if not row.get("avg_printed"):
        return []
    own, printed = mean(row), float(row["avg_printed"])
    if own is None or abs(own - printed) <= 0.00501:
        return []
    return [f"average printed {printed:.2f}, of its row {own:.2f}"]


def _impossible(row: Mapping[str, str]) -> list[str]:
    """Scores of which no whole number of right answers rounds, or is cut, to the two printed decimals."""
    found = []
    for task, score in scores(row).items():
        if n := SIZES.get(task):
            near = round(score * n / 100)
            exact = [100 * k / n for k in (near - 1, near, near + 1)]
            if not any(
                abs(e - score) <= 0.00501 or abs(math.floor(100 * e + 1e-9) / 100 - score) < 1e-6 for e in exact
            ):
                found.append(f"{task} {score:.2f} is not k of {n}")
    return found


def _guessing(row: Mapping[str, str]) -> list[str]:
    """Choice benchmarks whose score is below chance, or cannot be told from it (binomial test, 5%, one-sided)."""
    from scipy.stats import binomtest

    found = []
    for task, score in scores(row).items():
        if task in CHANCE:
            chance, n = CHANCE[task]
            k = round(score * n / 100)
            if binomtest(k, n, chance, alternative="less").pvalue < LEVEL:
                found.append(f"{task} {score:.2f} is below chance")
            elif binomtest(k, n, chance, alternative="greater").pvalue >= LEVEL:
                found.append(f"{task} {score:.2f} is no better than chance")
    return found
