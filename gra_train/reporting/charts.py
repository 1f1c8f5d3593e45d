"""Charts as plain geometry, which the page's template draws as inline SVG: nothing is escaped or styled here.

Every chart is a list of lines of text with a mark each, on a common scale. Lengths are SVG units; the y axis points
down.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gra_train.reporting.markup import MISSING, p_value, percent
from gra_train.reporting.reports import STEPS
from gra_train.reporting.table import AVERAGE, columns

LINE, TOP = 24.0, 30.0
"""Height of a line, room for the axis."""


class Shape(NamedTuple):
    """Of a chart: whole width, room for labels on the left and for numbers on the right."""

    width: float
    left: float
    right: float


WIDE, NARROW = Shape(960, 250, 190), Shape(500, 130, 90)


@dataclass
class Line:
    """One line: a label, a number in words, and a mark from `start` to `end` with a whisker from `low` to `high`.

    kind: the class that the template colours it by. heading: a line of text alone. None: not drawn.
    """

    label: str
    y: float
    said: str = ""
    kind: str = ""
    heading: bool = False
    start: float | None = None
    end: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass
class Chart:
    """title and about: what a screen reader says. ticks: (x, text). zero: x of the zero line."""

    title: str
    about: str
    lines: list[Line] = field(default_factory=list)
    ticks: list[tuple[float, str]] = field(default_factory=list)
    zero: float = WIDE.left
    dots: bool = False
    shape: Shape = WIDE

    @property
    def longest(self) -> int:
        """Characters of a label that there is room for."""
        return int(self.shape.left / 7)

    @property
    def height(self) -> float:
        return TOP + LINE * len(self.lines) + 8


class Scale:
    """Values to x, between the labels and the numbers."""

    def __init__(self, low: float, high: float, shape: Shape = WIDE) -> None:
        self.low, self.high, self.shape = low, high if high > low else low + 1, shape

    def __call__(self, value: float) -> float:
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        width, left, right = self.shape
        return round(left + share * (width - left - right), 1)

    def ticks(self, form: str, about: int = 5) -> list[tuple[float, str]]:
        """Round numbers within the scale."""
        raw = (self.high - self.low) / about
        power = 10 ** math.floor(math.log10(raw))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [(self(i * step), form.format(i * step) if i else "0") for i in range(first, last + 1)]


def forest(table: Mapping[str, Any]) -> Chart | None:
    """Differences to the baseline with their intervals, the average first, then benchmark by benchmark."""
    rows = [(row, task, row["difference"][task]) for row in table["rows"] for task in row["difference"] or {}]
    if not rows:
        return None
    bounds = [100 * found[key] for _, _, found in rows for key in ("value", "low", "high")]
    scale = Scale(min(0.0, *bounds) - 1, max(0.0, *bounds) + 1)
    about = f"Differences to {table['baseline']} in points with {table['confidence']:.0%} intervals, as in the tables."
    chart = Chart("Difference to the baseline", about, ticks=scale.ticks("{:+.0f}"), zero=scale(0), dots=True)
    for task in (AVERAGE, *table["tasks"]):
        of = [(row, found) for row, of_task, found in rows if of_task == task]
        if not of:
            continue
        _heading(chart, task)
        for row, found in of:
            test = (row["tests"] or {}).get(task, {})
            said = f"{100 * found['value']:+.1f}, p {_p(test.get('adjusted'))}"
            line = _line(chart, row["label"], said, _decided(test, table["confidence"]))
            line.end, line.low, line.high = (scale(100 * found[key]) for key in ("value", "low", "high"))
    return chart


def accuracy(table: Mapping[str, Any]) -> Chart | None:
    """The average score of each row, with its interval."""
    scored = [(row, row["scores"][AVERAGE]) for row in table["rows"] if (row["scores"] or {}).get(AVERAGE)]
    if not scored:
        return None
    scale = Scale(0, 100 * max(entry["high"] for _, entry in scored))
    about = f"Average of {', '.join(columns(table)[:-1])} in percent with {table['confidence']:.0%} intervals."
    chart = Chart("Accuracy", about, ticks=scale.ticks("{:.0f}"))
    for row, entry in scored:
        kind = "baseline" if row["label"] == table["baseline"] else "ours"
        line = _line(chart, row["label"], percent(entry, key="score"), kind)
        line.start, line.end = scale(0), scale(100 * entry["score"])
        line.low, line.high = scale(100 * entry["low"]), scale(100 * entry["high"])
    return chart


def funnel(table: Mapping[str, Any]) -> Chart | None:
    """How many candidates came how far, and how many of those are right where that can be known."""
    steps = {step: table["funnel"][step] for step in STEPS if step in (table["funnel"] or {})}
    if not steps:
        return None
    scale = Scale(0, max(counts["rows"] for counts in steps.values()))
    chart = Chart("Synthesis, step by step", "Rows at each step of the synthesis.", ticks=scale.ticks("{:,.0f}"))
    for step, counts in steps.items():
        correct = counts.get("correct_share")
        said = f"{counts['rows']:,}" + (f", {100 * correct:.0f}% right" if correct is not None else "")
        line = _line(chart, STEPS[step], said, "ours" if step == "kept" else "step")
        line.start, line.end = scale(0), scale(counts["rows"])
    return chart


def cost(title: str, values: Sequence[tuple[str, float | None, str]], baseline: str) -> Chart | None:
    """One cost per kept sample: (label, value, value in words) of each training set."""
    known = [value for _, value, _ in values if value is not None]
    if not known or max(known) <= 0:
        return None
    scale = Scale(0, max(known), NARROW)
    ticks = scale.ticks("{:,.6g}", 4)
    chart = Chart(title, f"{title} for each kept sample.", ticks=ticks, zero=scale(0), shape=NARROW)
    for label, value, said in values:
        line = _line(chart, label, said, "baseline" if label == baseline else "ours")
        if value is not None:
            line.start, line.end = scale(0), scale(value)
    return chart


def _line(chart: Chart, label: str, said: str, kind: str) -> Line:
    chart.lines.append(Line(label, TOP + LINE * (len(chart.lines) + 0.5), said, kind))
    return chart.lines[-1]


def _heading(chart: Chart, task: str) -> None:
    _line(chart, task.removeprefix("mini_"), "", "").heading = True


def _decided(test: Mapping[str, Any], confidence: float) -> str:
    """better, worse or open, by the corrected p."""
    p = test.get("adjusted")
    if p is None or p > 1 - confidence or test["won"] == test["lost"]:
        return "open"
    return "better" if test["won"] > test["lost"] else "worse"


def _p(p: float | None) -> str:
    return MISSING if p is None else p_value(p)
