"""The printed numbers beside ours at that size: blocks to be rendered, records of numbers, and the figure's panel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from gra_train.evaluation.statistics import AVERAGE
from gra_train.reporting import sweep_view
from gra_train.reporting.document import Block, Bullets, Paragraph, make_grid
from gra_train.reporting.figure import Panel, Point
from gra_train.reporting.finished import Finished
from gra_train.reporting.flags import COUNTED, LEGEND, MARK, is_marked
from gra_train.reporting.markup import MISSING
from gra_train.reporting.measures import SHARES
from gra_train.reporting.published import OURS, number, read
from gra_train.reporting.recipe import Published, Recipe


@dataclass(frozen=True)
class Printed:
    """published.csv, as the recipe says it is to be read."""

    rows: Sequence[dict[str, str]]
    recipe: Recipe

    @classmethod
    def of(cls, folder: Path, recipe: Recipe) -> Printed:
        return cls(read(folder / "published.csv"), recipe)

    @property
    def columns(self) -> list[str]:
        """What is shown: everything that is printed, and notes."""
        return [name for name in self.rows[0] if name not in OURS or name == "note"] if self.rows else []

    @property
    def values(self) -> list[str]:
        """Columns of numbers that are compared."""
        chosen = self.recipe.published.values
        keys = {*self.recipe.published.compare, *self.recipe.figure.over}
        return list(chosen) or [
            name for name in self.columns
            if name not in keys and any(number(row[name]) is not None for row in self.rows)
        ]  # fmt: skip

    def label(self, row: Mapping[str, str]) -> str:
        """What tells a row apart: the values of `compare`, joined by /."""
        return "/".join(row[name] for name in self.recipe.published.compare)

    def group(self, row: Mapping[str, str]) -> tuple[str, ...]:
        """What a compared pair has in common: every other column that is neither number nor note."""
        skip = {*self.recipe.published.compare, *self.values, *OURS}
        return tuple(row[name] for name in self.rows[0] if name not in skip and number(row[name]) is None)

    def difference(self, ours: str, theirs: str) -> tuple[float, int] | None:
        """(mean difference of the values of two rows, pairs of numbers) over all groups that have both."""
        pairs = []
        for row in (r for r in self.rows if self.label(r) == ours):
            for other in (r for r in self.rows if self.label(r) == theirs and self.group(r) == self.group(row)):
                both = [(number(row[name]), number(other[name])) for name in self.values]
                pairs += [a - b for a, b in both if a is not None and b is not None]
        return (fmean(pairs), len(pairs)) if pairs else None


def ours(row: Mapping[str, str], finished: Mapping[str, Finished], recipe: Published) -> dict[str, Mapping[str, Any]]:
    """What we have for a printed row, by its columns: scores as {value, low, high} in percent, with n, counts and
    `marked`; measures as {value}, in percent where they are shares. Empty without a finished run.

    `{column}` in the row's `ours` is each column's name: a run for every column.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for column in row if row.get("ours") else ():
        name, _, label = row["ours"].replace("{column}", column).partition("#")
        result, label = finished.get(name), recipe.labels.get(column, label)
        if recipe.measures:
            measure = recipe.measures.get(column, "")
            value = result.table.get("measures", {}).get(label, {}).get(measure) if result else None
            if value is not None:
                found[column] = {"value": 100 * value if measure in SHARES else value}
            continue
        entry = next((r for r in result.table["rows"] if r["label"] == label), None) if result else None
        scores = (entry or {}).get("scores") or {}
        task = recipe.tasks.get(column, column)
        if column in recipe.averages:  # no average over other benchmarks than the paper's
            task = AVERAGE if set(scores) - {AVERAGE} == set(recipe.average_of) else ""
        if task in scores:
            one = {"value": scores[task]["score"]} | {k: scores[task][k] for k in ("low", "high") if k in scores[task]}
            shown = {key: 100 * value for key, value in one.items()}
            found[column] = {**scores[task], **shown, "marked": is_marked(scores, task)}
    return found


def blocks(printed: Printed, finished: Mapping[str, Finished], across: Sequence[str], caption: str) -> list[Block]:
    """The table, and what can be said against it."""
    shown, detail, count = [], [], 0
    for row in printed.rows:
        mine = ours(row, finished, printed.recipe.published)
        count += bool(mine)
        detail += [[_key(printed, row, mine), column, *_detail(one)] for column, one in mine.items()]
        cells = [_cell(row[column], mine.get(column)) for column in printed.columns]
        state = "run" if mine else MISSING if row.get("ours") else "no recipe"
        shown.append([*cells, state, row.get("flags", "")])
    rows = f"{count} of {len(printed.rows)} rows"
    said = f"Printed numbers; in brackets ours with its interval and the difference, where a run exists ({rows})."
    found: list[Block] = [Paragraph(said)]
    found.append(make_grid([*printed.columns, "ours", "faults of the printed numbers"], shown, caption))
    if detail:
        found.append(make_grid(["ours", "column", "value", "questions", *COUNTED.values()], detail, f"{caption}: ours"))
    if any(text.endswith(MARK) for _, _, text, *_ in detail):
        found.append(Bullets((LEGEND,)))
    if across:
        found += [Paragraph("Found by setting the paper's tables side by side:"), Bullets(tuple(across))]
    return found


def _cell(text: str, mine: Mapping[str, Any] | None) -> str:
    """`60.12 (61.00 [58.30, 63.60], +0.88)`: printed, ours with its interval and the difference; ` !` where flagged."""
    if mine is None:
        return text
    printed = number(text)
    gap = "" if printed is None else f", {mine['value'] - printed:+.2f}"
    return f"{text} ({_value(mine)}{gap}){MARK if mine.get('marked') else ''}".lstrip()


def _value(mine: Mapping[str, Any]) -> str:
    bounds = f" [{mine['low']:.2f}, {mine['high']:.2f}]" if mine.get("low") is not None else ""
    return f"{mine['value']:.2f}{bounds}"


def _detail(mine: Mapping[str, Any]) -> list[str]:
    counts = [str(mine[key]) if key in mine else MISSING for key in ("n", *COUNTED)]
    return [_value(mine) + (MARK if mine.get("marked") else ""), *counts]


def _key(printed: Printed, row: Mapping[str, str], mine: Mapping[str, Any]) -> str:
    """What is printed in a row beside its numbers."""
    numbers = {name for name in printed.columns if number(row[name]) is not None} | set(mine)
    return " ".join(row[name] for name in printed.columns if name not in numbers and name != "note")


def records(printed: Printed, finished: Mapping[str, Finished]) -> list[dict[str, Any]]:
    """One record for each number that is printed or ours."""
    found = []
    for row in printed.rows:
        mine = ours(row, finished, printed.recipe.published)
        for name in printed.columns:
            own, text = mine.get(name), number(row[name])
            if own is None and text is None:
                continue
            record = {"part": "published", "row": _key(printed, row, mine), "column": name, "published": row[name]}
            if own:
                record |= {"ours": round(own["value"], 4), "n": 1} | sweep_view.counts_of(own)
                record |= {key: round(own[key], 4) for key in ("low", "high") if own.get(key) is not None}
                record |= {} if text is None else {"difference": round(own["value"] - text, 4)}
            found.append(record | {"note": row.get("flags", "")})
    return found


def panel(printed: Printed, title: str) -> Panel:
    """The printed numbers as the recipe's figure shows them."""
    figure, values = printed.recipe.figure, printed.values
    if figure.kind == "lines":
        lines = {"/".join(printed.group(row)) or printed.label(row): [
            Point(float(row[name]), x=float(name)) for name in values if number(row[name]) is not None
        ] for row in printed.rows}  # fmt: skip
        return Panel(title, (), lines, lines=True, x_title=figure.x_title)
    if figure.over:
        groups = tuple(dict.fromkeys("/".join(row[name] for name in figure.over) for row in printed.rows))
        series: dict[str, list[Point | None]] = {}
        for row in printed.rows:
            place = groups.index("/".join(row[name] for name in figure.over))
            known = [v for v in (number(row[name]) for name in values) if v is not None]
            points = series.setdefault(printed.label(row), [None] * len(groups))
            points[place] = Point(fmean(known)) if known else None
        return Panel(title, groups, series)
    bars: dict[str, list[Point | None]] = {}
    several = len({printed.group(row) for row in printed.rows}) > 1
    for row in printed.rows:
        numbers = [number(row[name]) for name in values]
        bars["/".join(p for p in (*(printed.group(row) if several else ()), printed.label(row)) if p)] = [
            None if v is None else Point(v) for v in numbers
        ]
    return Panel(title, tuple(values), bars)
