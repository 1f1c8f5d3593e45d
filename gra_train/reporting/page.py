"""The comparison as one HTML page: self-contained, without scripts or network, everything from models escaped.

It is written into the experiment's own folder, beside the results: it also shows what the data cost, which was measured
in time and differs from run to run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gra_train.graph import Node
from gra_train.reporting import charts, cost
from gra_train.reporting.markup import benchmarks, cells, header, p_value, percent, points
from gra_train.reporting.stages import read_table
from gra_train.reporting.table import AVERAGE
from gra_train.runs import write_json

NAME = "page.html"
SAMPLES = 25
"""Rows shown of each training set."""
LONGEST = 4000
"""Characters shown of a text."""
COST_CHARTS = ("calls", "answer_tokens", "seconds", "gpu_seconds", "gpu_joules", "cpu_joules")


def write_page(folder: Path, compare: Node, runs_dir: Path) -> Path:
    """Write page.html and cost.json into the experiment's folder from its finished comparison; returns the page."""
    result = compare.run(runs_dir).result
    found = cost.costs(compare, runs_dir)
    write_json(folder / "cost.json", found)
    text = render(read_table(result), found, samples(compare, runs_dir), compare.run_id)
    temporary = folder / f".{NAME}.tmp"
    temporary.write_text(text, encoding="utf-8", errors="replace")
    temporary.replace(folder / NAME)
    return folder / NAME


def render(
    table: Mapping[str, Any], costs: list[dict[str, Any]], rows: Mapping[str, list[dict[str, Any]]], run_id: str
) -> str:
    """The page's text. rows: label -> samples of its training set."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    head, per_task = benchmarks(table)
    costing = cost.report(costs)
    return environment.get_template("page.html.jinja").render(
        table=table,
        headline=headline(table),
        main={"columns": header(table), "rows": [cells(row, table, brief=True) for row in table["rows"]]},
        flags=[(row["label"], row["flags"]) for row in table["rows"] if row["flags"]],
        benchmarks={"columns": head, "rows": per_task},
        reports=table["reports"],
        costing=costing,
        forest=charts.forest(table),
        accuracy=charts.accuracy(table),
        funnel=charts.funnel(table),
        costs=_cost_charts(costs, table["baseline"]) if costing else [],
        samples=rows,
        longest=LONGEST,
        run_id=run_id,
        top=charts.TOP,
    )


def headline(table: Mapping[str, Any]) -> list[dict[str, str]]:
    """For each row with an average difference: its label, verdict and the sentence that carries its doubt."""
    found = []
    for row in table["rows"]:
        test, difference = (row["tests"] or {}).get(AVERAGE), (row["difference"] or {}).get(AVERAGE)
        if not test or not difference:
            continue
        decided = test["adjusted"] <= 1 - table["confidence"]
        verdict = ("better" if difference["value"] > 0 else "worse") if decided else "not decided"
        p = p_value(test["adjusted"])
        text = f"{percent(difference, sign=True)} points, corrected p {p if p[0] == '<' else '= ' + p}"
        if not decided and test["detectable"] is not None:
            text += f"; a true difference below {points(test['detectable'])} points may well go unseen"
        found.append({"label": row["label"], "verdict": verdict, "text": text})
    return found


def samples(compare: Node, runs_dir: Path) -> dict[str, list[dict[str, Any]]]:
    """Of each training set some rows from all over it (the columns of the quality stage's rows.parquet)."""
    import pyarrow.parquet as pq

    found = {}
    for name, node in compare.inputs.items():
        label, _, kind = name.rpartition(".")
        file = node.run(runs_dir).result / "rows.parquet"
        if kind == "quality" and file.is_file():
            rows = pq.read_table(file)
            step = max(1, rows.num_rows // SAMPLES)
            found[label] = rows.take(list(range(0, rows.num_rows, step))[:SAMPLES]).to_pylist()
    return found


def _cost_charts(costs: list[dict[str, Any]], baseline: str) -> list[charts.Chart]:
    made = [record for record in costs if record["kept"]]
    found = []
    for key, title, digits in cost.SHOWN:
        if key in COST_CHARTS:
            values = [(r["label"], cost.per_sample(r, key), cost.cell(r, key, digits)) for r in made]
            if chart := charts.cost(title[0].upper() + title[1:], values, baseline):
                found.append(chart)
    return found
