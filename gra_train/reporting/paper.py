"""The comparison for a paper: LaTeX with booktabs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gra_train.reporting import document
from gra_train.reporting.flags import reasons
from gra_train.reporting.markup import benchmarks, cells, header


def to_latex(table: Mapping[str, Any]) -> str:
    """The comparison, its benchmarks one by one, the further tables, the notes and the flags, to be \\input."""
    name = f"{table['name']}, seed {table['seed']}"
    grids = [(name, header(table), [cells(row, table) for row in table["rows"]])]
    grids.append((f"{name}: benchmark by benchmark", *benchmarks(table)))
    grids += [(f"{name}: {report['title']}", report["columns"], report["rows"]) for report in table["reports"]]
    blocks: list[document.Block] = [document.make_grid(head, rows, caption) for caption, head, rows in grids if rows]
    blocks.append(document.Bullets(tuple(table["notes"])))
    if marks := reasons(table):
        blocks += [document.Paragraph("Flags:"), document.Bullets(tuple(marks))]
    return document.to_latex(blocks, label=table["name"])
