"""The comparison table as Markdown and CSV, and the cells that every rendering shares."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from gra_train.reporting.flags import MARK, count, counted, counts, is_marked, reasons
from gra_train.reporting.table import AVERAGE, RECORD, columns, records

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
    against = [f"minus {table['baseline']}", "p corrected", "detectable", "won : tied : lost"]
    return ["trained on", "rows", "data correct %", *tasks, *against, *shown_counts(table).values()]


def shown_counts(table: Mapping[str, Any]) -> dict[str, str]:
    """The last columns of a comparison, and their heads."""
    return counted([counts(row["scores"] or {}) for row in table["rows"]])


def scored(scores: Mapping[str, Any] | None, task: str, *, interval: bool = True) -> str:
    """A score as every table shows it: `41.2 [37.0, 45.5]`, with ` !` where it is flagged."""
    text = percent((scores or {}).get(task), key="score", interval=interval)
    return text + MARK if scores and text != MISSING and is_marked(scores, task) else text


def cells(row: Mapping[str, Any], table: Mapping[str, Any], *, brief: bool = False) -> list[str]:
    """The cells of one row. brief (for a terminal): intervals of average and difference only, counts as percent."""
    data, scores, difference = row["data"], row["scores"] or {}, row["difference"] or {}
    test, tally = (row["tests"] or {}).get(AVERAGE, {}), row["tally"]
    shown = [scored(scores, task, interval=not brief or task == AVERAGE) for task in columns(table)]
    return [
        row["label"] + (" !" if row["flags"] else ""),
        _rows(data),
        percent(data["correct"] if data else None, interval=not brief),
        *shown,
        "baseline" if row["label"] == table["baseline"] else percent(difference.get(AVERAGE), sign=True),
        *(["", "", ""] if row["label"] == table["baseline"] else
          [p_value(test.get("adjusted")), points(test.get("detectable")), _tally(tally)]),
        *(_count(counts(scores), what, brief and what != "failed") for what in shown_counts(table)),
    ]  # fmt: skip


def p_value(p: float | None) -> str:
    """Three decimals; `<0.001` below."""
    return MISSING if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


def points(share: float | None) -> str:
    """A share of 1 as points, without a sign."""
    return MISSING if share is None else f"{100 * share:.1f}"


def _tally(tally: Mapping[str, int] | None) -> str:
    return " : ".join(str(tally[key]) for key in ("wins", "ties", "losses")) if tally else MISSING


def _rows(data: Mapping[str, Any] | None) -> str:
    """`100 + 600`: seeds, then the rows beside them."""
    if not data:
        return MISSING
    seeds, others = data["seeds"], data["rows"] - data["seeds"]
    return f"{seeds} + {others}" if seeds and others else str(data["rows"])


def _count(total: Mapping[str, Any], what: str, brief: bool) -> str:
    if not total["n"]:
        return MISSING
    return f"{total[what] / total['n']:.0%}" if brief else count(total, what)


def benchmarks(table: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """(head, rows) of the table benchmark by benchmark: both scores, their difference and what is known of it."""
    baseline = table["baseline"]
    head = ["trained on", "benchmark", "score", baseline, "difference", "won : lost", "p", "p corrected", "detectable"]
    theirs = next((row["scores"] or {} for row in table["rows"] if row["label"] == baseline), {})
    rows = []
    for row in table["rows"]:
        tests = row["tests"] or {}
        for task in columns(table):
            if not (test := tests.get(task)):
                continue
            rows.append(
                [row["label"], task.removeprefix("mini_"), scored(row["scores"], task),
                 scored(theirs, task), percent((row["difference"] or {}).get(task), sign=True),
                 f"{test['won']} : {test['lost']}", p_value(test["p"]), p_value(test["adjusted"]),
                 points(test["detectable"])]
            )  # fmt: skip
    return head, rows


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is left-aligned, the others right. Line breaks and bars are escaped."""
    escape = [[one_line(cell).replace("|", "\\|") for cell in row] for row in (head, *rows)]
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (escape[0], rule, *escape[1:])) + "\n"


def one_line(text: object) -> str:
    """A cell's text without line breaks: names of domains come from data and may have any character."""
    return " ".join(str(text).splitlines())


def to_markdown(table: Mapping[str, Any]) -> str:
    """The whole comparison: table, notes, flags, and the further tables."""
    parts = [
        f"# {table['name']}, seed {table['seed']}\n",
        grid(header(table), [cells(row, table) for row in table["rows"]]),
        "\n".join(f"- {note}" for note in table["notes"]) + "\n",
    ]
    marks = reasons(table)
    parts += ["Flags:\n", "\n".join(f"- {mark}" for mark in marks) + "\n"] if marks else []
    head, rows = benchmarks(table)
    parts += ["## Benchmark by benchmark\n", grid(head, rows)] if rows else []
    for report in table["reports"]:
        parts += [f"## {report['title']}\n", grid(report["columns"], report["rows"])]
        parts += [report["note"] + "\n"] if report["note"] else []
    return "\n".join(parts)


def to_csv(table: Mapping[str, Any]) -> str:
    """`records` of the table, in shares of 1; empty where a cell is missing."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(RECORD)
    writer.writerows(["" if value is None else value for value in record.values()] for record in records(table))
    return text.getvalue()
