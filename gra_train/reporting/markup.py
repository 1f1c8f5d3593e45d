"""The comparison table as Markdown and CSV, and the cells that every rendering shares."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from gra_train.reporting.table import AVERAGE, columns

MISSING = "n/a"


def percent(found: Mapping[str, Any] | None, *, interval: bool = True, key: str = "value", sign: bool = False) -> str:
    """`41.2 [37.0, 45.5]`; `n/a` when it is missing."""
    if not found or found.get(key) is None:
        return MISSING
    value = f"{100 * found[key]:+.1f}" if sign else f"{100 * found[key]:.1f}"
    if not interval or found.get("low") is None or found["low"] != found["low"]:
        return value
    form = "{:+.1f}" if sign else "{:.1f}"
    return f"{value} [{form.format(100 * found['low'])}, {form.format(100 * found['high'])}]"


def header(table: Mapping[str, Any]) -> list[str]:
    tasks = [task.removeprefix("mini_") for task in columns(table)]
    return ["trained on", "rows", "data correct %", *tasks, f"minus {table['baseline']}", "unparseable", "truncated"]


def cells(row: Mapping[str, Any], table: Mapping[str, Any], *, brief: bool = False) -> list[str]:
    """The cells of one row. brief (for a terminal): intervals of average and difference only, counts as percent."""
    data, scores, difference = row["data"], row["scores"] or {}, row["difference"] or {}
    total = scores.get(AVERAGE)
    shown = [percent(scores.get(task), key="score", interval=not brief or task == AVERAGE) for task in columns(table)]
    return [
        row["label"] + (" !" if row["flags"] else ""),
        _rows(data),
        percent(data["correct"] if data else None, interval=not brief),
        *shown,
        "baseline" if row["label"] == table["baseline"] else percent(difference.get(AVERAGE), sign=True),
        _count(total, "unparseable", brief),
        _count(total, "truncated", brief),
    ]


def _rows(data: Mapping[str, Any] | None) -> str:
    """`100 + 600`: seeds, then the rows beside them."""
    if not data:
        return MISSING
    seeds, others = data["seeds"], data["rows"] - data["seeds"]
    return f"{seeds} + {others}" if seeds and others else str(data["rows"])


def _count(total: Mapping[str, Any] | None, what: str, brief: bool) -> str:
    if total and brief:
        return f"{total[what] / total['n']:.0%}"
    return f"{total[what]} of {total['n']}" if total else MISSING


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is left-aligned, the others right."""
    escape = [[str(cell).replace("|", "\\|") for cell in row] for row in (head, *rows)]
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (escape[0], rule, *escape[1:])) + "\n"


def to_markdown(table: Mapping[str, Any]) -> str:
    """The whole comparison: table, notes, flags, and the further tables."""
    parts = [
        f"# {table['name']}, seed {table['seed']}\n",
        grid(header(table), [cells(row, table) for row in table["rows"]]),
        "\n".join(f"- {note}" for note in table["notes"]) + "\n",
    ]
    marks = [f"- `{row['label']}`: {'; '.join(row['flags'])}" for row in table["rows"] if row["flags"]]
    parts += ["Flags:\n", "\n".join(marks) + "\n"] if marks else []
    for report in table["reports"]:
        parts += [f"## {report['title']}\n", grid(report["columns"], report["rows"])]
        parts += [report["note"] + "\n"] if report["note"] else []
    return "\n".join(parts)


def to_csv(table: Mapping[str, Any]) -> str:
    """One line per row and task (average included), in shares of 1, with everything that table.json knows of it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["label", "task", "score", "low", "high", "n", "unparseable", "truncated", "difference",
                     "difference_low", "difference_high", "data_rows", "data_correct"])  # fmt: skip
    for row in table["rows"]:
        for task in columns(table):
            score = (row["scores"] or {}).get(task, {})
            difference = (row["difference"] or {}).get(task, {})
            data = row["data"] or {}
            writer.writerow(
                [row["label"], task]
                + [score.get(key, "") for key in ("score", "low", "high", "n", "unparseable", "truncated")]
                + [difference.get(key, "") for key in ("value", "low", "high")]
                + [data.get("rows", ""), (data.get("correct") or {}).get("value", "")]
            )
    return text.getvalue()
