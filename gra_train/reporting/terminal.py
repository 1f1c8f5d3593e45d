"""The comparison table for a person at a terminal: rich with one, plain text without."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

PLAIN_WIDTH = 160
"""Columns when nobody's terminal decides."""


def show(result: Path) -> None:
    """Print the comparison in `result` (the folder with table.json)."""
    from rich.console import Console

    from gra_train.reporting.stages import read_table

    console = Console(highlight=False)
    draw(read_table(result), console if console.is_terminal else Console(width=PLAIN_WIDTH, highlight=False))


def draw(table: Mapping[str, Any], console: Any) -> None:
    """Draw the table, the further tables and the notes on a rich Console."""
    from rich import box
    from rich.table import Table

    from gra_train.reporting.markup import cells, header

    def grid(title: str, columns: list[str], rows: list[list[str]]) -> Table:
        made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for index, column in enumerate(columns):
            made.add_column(column, justify="right" if index else "left", no_wrap=not index)
        for row in rows:
            made.add_row(*map(str, row))
        return made

    title = f"{table['name']}, seed {table['seed']}: the student's accuracy in percent"
    console.print(
        grid(title, header(table), [cells(row, table, intervals=False) for row in table["rows"]]), markup=False
    )
    for report in table["reports"]:
        console.print(grid(report["title"], report["columns"], report["rows"]), markup=False)
        if report["note"]:
            console.print(report["note"], markup=False)
    for note in table["notes"]:
        console.print(f"- {note}", markup=False, soft_wrap=not console.is_terminal)
