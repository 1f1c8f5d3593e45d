"""A table rendered: rendered.md, rendered.tex, rendered.csv, figure.svg (and figure.png), from what is finished.

Rendering reads run folders and the results kept beside the tables; runs that are missing are shown as missing. What it
was made from is kept (finished.py), so that the same tables can be rendered where the run folders are not.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gra_train.errors import UserError
from gra_train.reporting import published_view, sweep_view
from gra_train.reporting.document import Block, Bullets, Heading, Paragraph, Picture, make_grid, to_latex, to_markdown
from gra_train.reporting.figure import Panel, Point, figure
from gra_train.reporting.finished import Finished, keep
from gra_train.reporting.index import index
from gra_train.reporting.published_across import notes
from gra_train.reporting.recipe import Figure, Recipe, read_recipe
from gra_train.reporting.sweep import aggregate
from gra_train.reporting.table import AVERAGE
from gra_train.reporting.tables import MINIATURE, RESULTS, Planned, names, runs, tables_dir, unfinished

CSV = (
    "part", "row", "column", "published", "ours", "low", "high", "difference",
    "n", "questions", "unparseable", "truncated", "failed", "note",
)  # fmt: skip
"""Columns of rendered.csv. n: seeds; questions and what is counted of them: of all seeds together."""
FILES = ("rendered.md", "rendered.tex", "rendered.csv", "figure.svg")


def render(folder: Path, runs_dir: Path, *, out: Path | None = None, more: Sequence[str] = ()) -> Path:
    """Write the table into its folder, or into `out`/<its name>, and keep what it was made from. -> rendered.md

    Raises UserError for a folder that cannot be written, or results that cannot be put together.
    """
    results = tables_dir() / RESULTS
    planned = runs(folder, more, composed=runs_dir.is_dir())
    found = [(one, one.finished(runs_dir, results)) for one in planned]
    place = out / folder.name if out else folder
    try:
        place.mkdir(parents=True, exist_ok=True)
        for name, text in contents(folder, found).items():
            (place / name).write_text(text)
    except OSError as error:
        raise UserError(f"cannot write into {place}: {error.strerror}. Give another place: out=FOLDER") from None
    for _, finished in found:
        if finished and not more:
            keep(finished, out / RESULTS if out else results)
    return place / "rendered.md"


def write_index() -> Path:
    """experiments/README.md, from the tables as they were rendered last."""
    path = tables_dir() / "README.md"
    path.write_text(index([tables_dir() / name for name in names()]))
    return path


def contents(folder: Path, found: Sequence[tuple[Planned, Finished | None]]) -> dict[str, str]:
    """The text of each file."""
    recipe = read_recipe(folder)
    printed = published_view.Printed.of(folder, recipe)
    finished = {one.name: result for one, result in found if result}
    blocks: list[Block] = [
        Heading(recipe.title, 1),
        Paragraph(f"{recipe.source}. Made by `gra-train table {folder.name} render`; how to read it: README.md."),
    ]
    records: list[dict[str, Any]] = []
    panels = [published_view.panel(printed, "as published")]
    there = [scale for scale in MINIATURE if any(one.scale == scale for one, _ in found)]
    for scale in there:
        own = [(one, result) for one, result in found if one.scale == scale]
        more, result = _miniature(folder.name, recipe, printed, own)
        blocks += [Heading(MINIATURE[scale][0]), *more]
        records += sweep_view.records(result, scale) if result else []
        if scale == "mini":
            panels.append(_panel(recipe, result))
    if not there or not recipe.miniature.rows:
        blocks += [Heading(MINIATURE["mini"][0]), Paragraph("Not in miniature.")]
    if absent := recipe.miniature.absent:
        blocks.append(Bullets(tuple(f"not in miniature: {row}: {why}" for row, why in absent.items())))
    blocks.append(Heading("As published, and ours at that size"))
    across = notes(folder.name, folder.parent)
    blocks += published_view.blocks(printed, finished, across, f"{recipe.title}, as published")
    if recipe.figure.kind != "none":
        blocks.append(Picture("figure", recipe.title))
    records += published_view.records(printed, finished)
    files = {
        "rendered.md": to_markdown(blocks),
        "rendered.tex": to_latex(blocks, label=f"tab:{folder.name}"),
        "rendered.csv": _csv(records),
    }
    return files | ({"figure.svg": figure(panels)} if recipe.figure.kind != "none" else {})


def _miniature(
    name: str, recipe: Recipe, printed: published_view.Printed, found: Sequence[tuple[Planned, Finished | None]]
) -> tuple[list[Block], dict[str, Any] | None]:
    mini, scale = recipe.miniature, found[0][0].scale
    blocks: list[Block] = [Paragraph(mini.mapping)] if mini.mapping and scale == "mini" else []
    if missing := unfinished(found):
        text = f"Missing: {', '.join(missing)}. `gra-train table {name} run scale={scale}` makes them."
        blocks.append(Paragraph(text))
    results = [result for _, result in found if result]
    if not results or not mini.rows:
        return blocks, None
    result = aggregate(results, mini, shared=MINIATURE[scale][1])
    blocks += sweep_view.blocks(result, mini, f"{recipe.title}, in miniature")
    if scale == "mini" and (sides := _sides(recipe, printed, result)):
        blocks.append(sides)
    return [*blocks, Paragraph(_made_from(results))], result


def _sides(recipe: Recipe, printed: published_view.Printed, result: Mapping[str, Any]) -> Block | None:
    """The paper's difference beside the miniature's, for each claim whose rows both have."""
    rows, shown = recipe.miniature.rows, []
    for claim in result["claims"]:
        pair = [rows.get(claim[side], "") for side in ("ours", "theirs")]
        found = printed.difference(*pair) if all(pair) else None
        if found and claim["measure"] not in ("data", "funnel"):
            percent = 100 if claim["measure"] == "accuracy" else 1
            own = claim["difference"]
            shown.append([
                claim["text"], f"{pair[0]} - {pair[1]}", f"{found[0]:+.2f} ({found[1]} pairs of cells)",
                f"{percent * own['value']:+.2f}" if own else "missing", claim["verdict"],
            ])  # fmt: skip
    head = ["claim", "published rows", "published difference", "in miniature", "verdict in miniature"]
    return make_grid(head, shown, f"{recipe.title}: published and miniature") if shown else None


def _made_from(results: Sequence[Finished]) -> str:
    said = [f"{one.made['run']} ({one.made['date']})" for one in results]
    versions = dict.fromkeys(_versions(one.made) for one in results)
    return f"Made from: {', '.join(said)}. {'; '.join(versions)}."


def _versions(made: Mapping[str, Any]) -> str:
    """In one order, whether it is read from a run folder or from what is kept."""
    known = sorted(made["versions"].items())
    return ", ".join([f"revision {made['revision'] or 'unknown'}", *(f"{name} {version}" for name, version in known)])


def _panel(recipe: Recipe, result: Mapping[str, Any] | None) -> Panel:
    """The miniature's panel; without a result, every row is missing."""
    own: Figure = recipe.figure
    rows = {row["label"]: row for row in result["rows"]} if result else {}
    points = {label: _point(own.measure, rows.get(label)) for label in recipe.miniature.rows}
    if own.kind == "lines":
        known = [Point(p.value, p.low, p.high, own.x[label]) for label, p in points.items() if p and label in own.x]
        return Panel("in miniature", (), {"mean over seeds": known}, lines=True, x_title=own.x_title)
    return Panel("in miniature", ("mean over seeds",), {label: [point] for label, point in points.items()})


def _point(measure: str, row: Mapping[str, Any] | None) -> Point | None:
    found = None
    if row:
        found = {"accuracy": row["scores"].get(AVERAGE), "data": row["data_correct"]}.get(measure)
        found = found or row["measures"].get(measure)
    if not found:
        return None
    scale = 100 if measure in ("accuracy", "data") else 1
    value, low, high = (scale * found[key] for key in ("value", "low", "high"))
    return Point(value) if low != low else Point(value, low, high)  # a single seed has no interval


def _csv(records: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()
