"""A table over seeds (sweep.aggregate) as blocks to be rendered, and as records of numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gra_train.evaluation.statistics import AVERAGE
from gra_train.reporting.document import Block, Bullets, Paragraph, make_grid
from gra_train.reporting.flags import COUNTED, MARK, count, counted, reasons, single, together
from gra_train.reporting.markup import MISSING, p_value, percent
from gra_train.reporting.recipe import Measure, Miniature

SHARE = Measure("share", "share", percent=True)
"""How accuracies and shares of right rows are shown."""


def blocks(result: Mapping[str, Any], recipe: Miniature, caption: str) -> list[Block]:
    """Rows, notes, flags, claims, and the synthesis step by step."""
    found: list[Block] = [_rows(result, recipe, caption), Bullets(tuple(result["notes"]))]
    if recipe.accuracy and (marks := reasons(result)):
        found += [Paragraph("Flags:"), Bullets(tuple(marks))]
    if result["claims"]:
        found.append(_claims(result, recipe, caption))
    if result["steps"]:
        steps = [[one["step"], f"{one['rows']:.0f}", percent(one["correct"])] for one in result["steps"]]
        found.append(make_grid(["synthesis, step by step", "rows (mean)", "correct %"], steps, f"{caption}: synthesis"))
    return found


def _rows(result: Mapping[str, Any], recipe: Miniature, caption: str) -> Block:
    tasks, against = [*result["tasks"], AVERAGE], {row["baseline"] for row in result["rows"]}
    published = any(recipe.rows.values())
    correct = any(row["data_correct"] for row in result["rows"])
    totals = {row["label"]: together(single(row["counts"]).values()) for row in result["rows"]}
    counts = counted(totals.values()) if recipe.accuracy else {}
    head = ["row", *(["published row"] if published else []), *(["data correct %"] if correct else [])]
    if recipe.accuracy:
        minus = f"minus {against.pop() if len(against) == 1 else 'its baseline'}"
        names = [task.removeprefix("mini_") for task in tasks]
        head += [*names, "average of each seed", minus, "questions resampled too"]
    head += [*counts.values(), *(measure.title for measure in recipe.measures)]
    shown = []
    for row in result["rows"]:
        cells = [row["label"] + (MARK if row["flags"] and recipe.accuracy else "")]
        cells += [recipe.rows[row["label"]]] if published else []
        cells += [percent(row["data_correct"])] if correct else []
        if recipe.accuracy:
            cells += [_score(row, task) for task in tasks]
            cells.append(" ".join(f"{100 * value:.1f}" for value in row["per_seed"]) or MISSING)
            both = [percent(row[key], sign=True) for key in ("difference", "pooled")]
            if row["baseline"] != result["baseline"]:
                both = [f"{text} to {row['baseline']}" for text in both[:1]] + both[1:]
            cells += ["baseline", ""] if row["label"] == row["baseline"] else both
        cells += [count(totals[row["label"]], what) or MISSING for what in counts]
        cells += [number(row["measures"][measure.name], measure) for measure in recipe.measures]
        shown.append(cells)
    return make_grid(head, shown, caption)


def _score(row: Mapping[str, Any], task: str) -> str:
    """A mean over seeds, the average with its interval; marked where it is flagged in one of them."""
    text = percent(row["scores"].get(task), interval=task == AVERAGE)
    return text + MARK if task in row["marked"] else text


def number(found: Mapping[str, float] | None, measure: Measure, *, sign: bool = False) -> str:
    """`12.3 [11.0, 13.6]` in the measure's unit; n/a when it is missing."""
    if found is None:
        return MISSING
    scale, form = 100 if measure.percent else 1, f"{{:{'+' * sign}.{measure.digits}f}}"
    value, low, high = (form.format(scale * found[key]) for key in ("value", "low", "high"))
    return value if found["low"] != found["low"] else f"{value} [{low}, {high}]"


def _claims(result: Mapping[str, Any], recipe: Miniature, caption: str) -> Block:
    named = {measure.name: measure for measure in recipe.measures}
    rows = []
    for claim in result["claims"]:
        measure = named.get(claim["measure"])
        shown = number(claim["difference"], measure, sign=True) if measure else percent(claim["difference"], sign=True)
        limit = _bare(claim["detectable"], measure)
        rows.append([
            claim["text"] + _margin(claim, measure), sides(claim), shown, percent(claim["pooled"], sign=True),
            p_value(claim["p"]), limit, f"{claim['seeds_for']} of {len(result['seeds'])}", f"**{claim['verdict']}**",
        ])  # fmt: skip
    head = ["claim", "difference", "over seeds", "questions resampled too", "p (Holm)", "detectable", "seeds for it",
            "verdict"]  # fmt: skip
    return make_grid(head, rows, f"{caption}: claims")


def _bare(value: float | None, measure: Measure | None) -> str:
    """A size without sign or interval, in points or in the measure's unit."""
    return number({"value": value, "low": math.nan, "high": math.nan} if value is not None else None, measure or SHARE)


def _margin(claim: Mapping[str, Any], measure: Measure | None) -> str:
    """` (margin: 5.0 points)` of a claim that something is not worse."""
    if claim["tolerance"] is None:
        return ""
    unit = " points" if measure is None or measure.percent else ""
    return f" (margin: {_bare(claim['tolerance'], measure)}{unit})"


def sides(claim: Mapping[str, Any]) -> str:
    """`gra - seed`, `9 x solo - gra`."""
    factor = "" if claim["times"] == 1 else f"{claim['times']:g} x "
    return f"{factor}{claim['ours']} - {claim['theirs']}"


def records(result: Mapping[str, Any], scale: str) -> list[dict[str, Any]]:
    """One record per row and quantity, in shares of 1 or the measure's unit."""
    seeds, found = len(result["seeds"]), []
    for row in result["rows"]:
        quantities = dict(row["scores"]) | {"data correct": row["data_correct"], **row["measures"]}
        quantities |= {f"minus {row['baseline']}": row["difference"]}
        for name, value in quantities.items():
            if value:
                found.append({"part": scale, "row": row["label"], "column": name, "n": seeds} | _numbers(value)
                             | counts_of(row["counts"].get(name)))  # fmt: skip
    for claim in result["claims"]:
        value = _numbers(claim["difference"]) if claim["difference"] else {}
        found.append({"part": f"{scale} claim", "row": claim["text"], "column": sides(claim),
                      "n": seeds, "note": claim["verdict"]} | value)  # fmt: skip
    return found


def counts_of(entry: Mapping[str, Any] | None) -> dict[str, Any]:
    """The columns of counts of a score; none of anything else."""
    return {"questions": entry["n"]} | {what: entry.get(what, 0) for what in COUNTED} if entry and "n" in entry else {}


def _numbers(found: Mapping[str, float]) -> dict[str, Any]:
    return {
        name: "" if found[key] != found[key] else round(found[key], 6)
        for name, key in (("ours", "value"), ("low", "low"), ("high", "high"))
    }
