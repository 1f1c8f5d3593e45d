"""The comparison table for a person at a terminal: rich with one, plain text without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gra_train.reporting.markup import cells, header, shown_counts

PLAIN_WIDTH = 160
"""Columns when nobody's terminal decides."""


HEADS = {
    "unparseable": "unpar-\nseable",
    "truncated": "trun-\ncated",
    "not answered": "not an-\nswered",
    "won : tied : lost": "won : tied\n: lost",
}


def show(result: Path) -> None:
    """Print the comparison in `result` (the folder with table.json)."""
    from rich.console import Console

    from gra_train.reporting.stages import read_table

    console = Console(highlight=False)
    draw(read_table(result), console if console.is_terminal else Console(width=PLAIN_WIDTH, highlight=False))


def draw(table: Mapping[str, Any], console: Any) -> None:
    """Draw the table, the first further table that fits, and the notes on a rich Console; the rest is in table.md."""
    title = f"{table['name']}, seed {table['seed']}: the student's accuracy in percent"
    head = [HEADS.get(name, name.replace(" ", "\n")) for name in header(table)]
    head[0] = header(table)[0]
    rows = [cells(row, table, brief=True) for row in table["rows"]]
    tasks, counts, doubt = slice(3, 3 + len(table["tasks"])), slice(-len(shown_counts(table)), None), slice(-2, None)
    for hidden in (slice(0, 0), tasks, counts, doubt):  # what a narrow terminal leaves out is in table.md
        for row in (head, *rows):
            del row[hidden]
        if _width(head, rows) <= console.width:
            break
    console.print(_grid(title, head, rows))
    reports = table["reports"]
    first = next((one for one in reports if _width(one["columns"], one["rows"]) <= console.width), None)
    others = [one for one in reports if one is not first]
    if first:
        console.print(_grid(first["title"], first["columns"], first["rows"]))
        console.print(first["note"] + "\n", markup=False)
    for note in table["notes"]:
        console.print(f"- {note}", markup=False, soft_wrap=not console.is_terminal)
    if others:
        console.print(f"- Also in table.md: {'; '.join(report['title'] for report in others)}.", markup=False)


def _width(head: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Columns that a grid needs: the first column wraps, the others do not."""
    columns = list(zip(head, *rows, strict=True))[1:]
    return 18 + sum(max(len(line) for cell in column for line in cell.split("\n")) + 2 for column in columns)


def _grid(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(title=Text(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for index, column in enumerate(head):
        made.add_column(column, justify="right" if index else "left", no_wrap=bool(index), min_width=16 * (not index))
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    return made
