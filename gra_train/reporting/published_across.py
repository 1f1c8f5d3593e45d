"""What the papers' tables say of each other: cells that should be equal and are not, and differences worth knowing.

Every sentence is computed from the published.csv files; `notes(name)` are those of one table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import fmean

from gra_train.reporting.published import number, read, scores

Rows = Sequence[Mapping[str, str]]
Where = Mapping[str, str]
CHOICE = ("hellaswag", "arc_challenge", "gpqa_diamond", "bbh", "mmlu")
"""Benchmarks of GRA's Table 1 whose answer is picked from a list or cut short; the others are written out."""

SAME: tuple[tuple[str, Where, str, Where], ...] = (
    ("collate_table4", {"distinct_providers": "yes", "likelihood_selection": "yes", "sample_filter": "yes"},
     "collate_table1", {"method": "collate"}),
    ("collate_table9", {"iteration": "2"}, "collate_table1", {"method": "collate"}),
    ("collate_table10", {"providers": "2"}, "collate_table1", {"method": "collate"}),
    ("collate_table3", {"model": "open-llama-v2-7b", "method": "collate"}, "collate_table1", {"method": "collate"}),
    ("collate_table3", {"model": "open-llama-v2-7b", "method": "distilling_step_by_step"},
     "collate_table1", {"method": "distilling_step_by_step"}),
    ("collate_table5", {"method": "collate"}, "collate_table3", {"model": "llama3-8b", "method": "collate"}),
    ("collate_table5", {"method": "distilling_step_by_step"},
     "collate_table3", {"model": "llama3-8b", "method": "distilling_step_by_step"}),
)  # fmt: skip
"""Rows of two tables that describe the same model, so that their cells should be equal."""


@cache
def printed(tables: Path) -> dict[str, Rows]:
    """published.csv of every table, by name."""
    return {file.parent.name: read(file) for file in sorted(tables.glob("*/published.csv"))}


def notes(name: str, tables: Path) -> list[str]:
    """What the other tables (and sums within this one) say of a table's numbers. Empty: nothing found."""
    every = printed(tables)
    said = [text for one, text in _unequal(every) if one == name]
    return said + [text for check in CHECKS.get(name, ()) for text in check(every)]


def _pick(rows: Rows, where: Where) -> Mapping[str, str] | None:
    return next((row for row in rows if all(row[key] == value for key, value in where.items())), None)


def _unequal(every: Mapping[str, Rows]) -> list[tuple[str, str]]:
    found = []
    for table, where, other, there in SAME:
        one, two = _pick(every.get(table, ()), where), _pick(every.get(other, ()), there)
        for column in [c for c in one if c in two and number(one[c]) is not None] if one and two else []:
            if one and two and number(one[column]) != number(two[column]) and column not in where:
                row = " ".join(f"{k}={v}" for k, v in where.items())
                found.append((table, f"{row}: {column} is {one[column]} here and {two[column]} in {other}"))
    return found


def _best_round(every: Mapping[str, Rows]) -> list[str]:
    """GRA rows of Table 1 that are the best of Table 3's rounds, chosen by the very scores that are printed."""
    best, total = 0, 0
    for row in [r for r in every["gra_table1"] if r["train_data"] == "gra"]:
        rounds = [r for r in every["gra_table3"] if all(r[k] == row[k] for k in ("student", "seed_data"))]
        top = max(rounds, key=lambda r: float(r["avg_printed"]))
        total += 1
        best += scores(top) == scores(row)
    said = (
        f"{best} of {total} GRA rows are the best of five rounds (Table 3), chosen by these test scores; the rows that "
        "they are compared with had no such choice"
    )
    return [said] if best else []


def _where_the_lead_lies(every: Mapping[str, Rows]) -> list[str]:
    def side(data: str, choice: bool) -> float:
        rows = [r for r in every["gra_table1"] if (r["student"], r["train_data"]) == ("qwen2.5-7b", data)]
        return fmean(v for r in rows for task, v in scores(r).items() if (task in CHOICE) == choice)

    return [
        f"the Qwen student's mean on {', '.join(CHOICE)} is {side('gra', True):.2f} with GRA's data and "
        f"{side('qwen2.5-72b', True):.2f} with the 72B model's; on the other five {side('gra', False):.2f} and "
        f"{side('qwen2.5-72b', False):.2f}: the lead lies in the former alone"
    ]


def _printed_against_recomputed(every: Mapping[str, Rows]) -> list[str]:
    """Pairs of GRA and 72B averages whose order turns when the averages are computed from their rows."""
    found = []
    rows = {(r["student"], r["seed_data"], r["train_data"]): r for r in every["gra_table1"]}
    for (student, seeds, data), row in rows.items():
        if data == "gra" and (large := rows.get((student, seeds, "qwen2.5-72b"))):
            as_printed = float(row["avg_printed"]) - float(large["avg_printed"])
            computed = float(row["avg_recomputed"]) - float(large["avg_recomputed"])
            if as_printed * computed < 0:
                both = f"{as_printed:+.2f} as printed and {computed:+.2f} from the rows"
                found.append(f"{student}/{seeds}: GRA minus 72B is {both}")
    return found


def _headline(every: Mapping[str, Rows]) -> list[str]:
    """The abstract's differences, from Table 1's rows."""

    def lead(student: str, data: str, column: str) -> float:
        own = [r for r in every["gra_table1"] if r["student"] == student]
        rows = {(r["seed_data"], r["train_data"]): float(r[column]) for r in own}
        return fmean(rows[seeds, "gra"] - rows[seeds, data] for seeds in ("alpaca", "wizardlm", "condor"))

    claimed = {("qwen2.5-7b", "seed"): 11.81, ("llama3.1-8b", "seed"): 6.18, ("qwen2.5-7b", "qwen2.5-72b"): 8.83,
               ("llama3.1-8b", "qwen2.5-72b"): -0.59}  # fmt: skip
    return [
        f"{student}: GRA minus {data} is claimed to be {said:+.2f}; the printed averages give "
        f"{lead(student, data, 'avg_printed'):+.2f}, the rows {lead(student, data, 'avg_recomputed'):+.2f}"
        for (student, data), said in claimed.items()
        if abs(said - lead(student, data, "avg_recomputed")) > 0.05
    ]


def _table2(every: Mapping[str, Rows]) -> list[str]:
    """GRA cells of Table 2 against Table 1's averages."""
    found = []
    for row in [r for r in every["gra_table2"] if r["train_data"] == "gra"]:
        for seeds in ("alpaca", "wizardlm", "condor"):
            one = _pick(every["gra_table1"], {"student": row["student"], "seed_data": seeds, "train_data": "gra"})
            if one and abs(float(row[seeds]) - float(one["avg_printed"])) > 0.0151:
                there = one["avg_printed"]
                found.append(f"{row['student']}/{seeds}: GRA is {row[seeds]} here and {there} in gra_table1")
    return found


def _figure3(every: Mapping[str, Rows]) -> list[str]:
    """Points of Figure 3 against the averages of Table 3's rows."""
    found = []
    for row in every["gra_figure3"]:
        for size in ("10000", "20000", "30000", "40000", "50000"):
            where = {"student": row["student"], "seed_data": row["seed_data"], "samples": size}
            one = _pick(every["gra_table3"], where)
            if one and abs(float(row[size]) - float(one["avg_recomputed"])) > 0.0151:
                line, own = f"{row['student']}/{row['seed_data']}", one["avg_recomputed"]
                found.append(f"{line} at {size}: {row[size]}; Table 3's row gives {own}")
    return found


def _equal_to_self_rewarding(every: Mapping[str, Rows]) -> list[str]:
    """Rows of the ablation that another method's row of Table 1 repeats in every cell."""
    return [
        f"row {place} equals collate_table1's {other['method']} in every cell"
        for place, row in enumerate(every["collate_table4"], 1)
        for other in every["collate_table1"]
        if scores(row) == scores(other) and other["method"] != "collate"
    ]


def _before_tuning(every: Mapping[str, Rows]) -> list[str]:
    """What of the lead over Distilling Step-by-Step is there before any task-guided tuning."""
    first, last = (_pick(every["collate_table9"], {"iteration": i}) for i in ("0", "2"))
    plain = _pick(every["collate_table1"], {"method": "distilling_step_by_step"})
    if not (first and last and plain):
        return []
    early, whole = (float(row["gsm8k"]) - float(plain["gsm8k"]) for row in (first, last))
    return [
        f"GSM8K: {early:+.2f} of the {whole:+.2f} over Distilling Step-by-Step comes from stage 2 (gold rationales), "
        "before any task-guided tuning"
    ]


Check = Callable[[Mapping[str, Rows]], list[str]]
CHECKS: Mapping[str, tuple[Check, ...]] = {
    "gra_table1": (_printed_against_recomputed, _best_round, _where_the_lead_lies, _headline),
    "gra_table2": (_table2,),
    "gra_figure3": (_figure3,),
    "collate_table1": (_before_tuning,),
    "collate_table4": (_equal_to_self_rewarding,),
    "collate_table9": (_before_tuning,),
}
