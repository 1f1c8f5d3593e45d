"""What a sweep over seeds comes to: after `gra-train run experiment=E -m seed=0,1,2`, means and intervals over them.

Shown are the papers' tables that E is a part of, with the rows that E has; for an experiment of one's own, its rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gra_train.compose import compose, conf_dir
from gra_train.experiment import plan
from gra_train.reporting import sweep_view
from gra_train.reporting.document import Block, Bullets, Heading, Paragraph, to_markdown
from gra_train.reporting.finished import Finished, from_run
from gra_train.reporting.recipe import Miniature, read_recipe
from gra_train.reporting.sweep import aggregate
from gra_train.reporting.tables import MINIATURE, listed, names, table_folder

LAUNCHING = ("sweep=", "hydra.", "hydra/")
"""Overrides that say how jobs are started."""
FEWEST = 3
"""Rows of a paper's table that an experiment must have for the table to say something of it."""


def write_over_seeds(overrides: Sequence[str]) -> Path | None:
    """Write <runs_dir>/<experiment>-over-seeds.md for the sweep that `overrides` describe; None if it is not one over
    two seeds or more, and nothing else, of a comparison."""
    found, folder = [], Path()
    for words in _jobs(overrides):
        config = compose([word for word in words if not word.startswith(LAUNCHING)])
        folder = Path(config.runs_dir)
        found += [one] if (one := from_run(" ".join(words), plan(config), folder)) else []
    if len(found) < 2:
        return None
    experiment = next((word.partition("=")[2] for word in overrides if word.startswith("experiment=")), "")
    name = found[0].table["name"]
    path = folder / f"{name}-over-seeds.md"
    path.write_text(to_markdown([Heading(f"{name} over {len(found)} seeds", 1), *_blocks(experiment, found)]))
    return path


def _jobs(overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of each job of a sweep over `seed` alone; none for another sweep."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    overrides = [*overrides, *_grids(overrides)]
    parsed = OverridesParser.create().parse_overrides(overrides)
    swept = [one for one in parsed if one.is_sweep_override()]
    if [one.key_or_group for one in swept] != ["seed"]:
        return []
    fixed = [text for text, one in zip(overrides, parsed, strict=True) if not one.is_sweep_override()]
    return [[*fixed, f"seed={seed}"] for seed in swept[0].sweep_string_iterator()]


def _grids(overrides: Sequence[str]) -> Iterator[str]:
    """What the files of conf/sweep that are chosen sweep over (sweep=seeds5)."""
    import yaml

    chosen = next((word.partition("=")[2] for word in overrides if word.startswith("sweep=")), "")
    for name in filter(None, chosen.strip("[]").split(",")):
        data = yaml.safe_load((conf_dir() / "sweep" / f"{name.strip()}.yaml").read_text()) or {}
        params = data.get("hydra", {}).get("sweeper", {}).get("params") or {}
        yield from (f"{key}={value}" for key, value in params.items())


def _blocks(experiment: str, found: Sequence[Finished]) -> Iterator[Block]:
    """The experiment's part of each paper's table, or all its rows."""
    labels = [row["label"] for row in found[0].table["rows"]]
    shown = False
    for name in names():
        folder = table_folder(name)
        if experiment not in {one for scale, one, _ in listed(folder) if scale in MINIATURE}:
            continue
        recipe = read_recipe(folder)
        if part := _part(recipe.miniature, labels):
            left_out = [row for row in recipe.miniature.rows if row not in part.rows]
            yield from _table(recipe.title, part, found)
            if left_out:
                text = f"Rows of other experiments ({len(left_out)}): gra-train table {name} run, and render."
                yield Paragraph(text)
            shown = True
    if not shown:
        yield from _table("All rows", Miniature(rows=dict.fromkeys(labels, "")), found)


def _part(mini: Miniature, labels: Sequence[str]) -> Miniature | None:
    """What a table says of the rows that are there; None if they are too few."""
    rows = {label: row for label, row in mini.rows.items() if label in labels}
    if len(rows) < min(FEWEST, len(mini.rows)) or not rows:
        return None
    against = {label: other for label, other in mini.baselines.items() if label in rows and other in rows}
    baseline = mini.baseline if mini.baseline in rows else next(iter([*against.values(), *rows]))
    claims = [c for c in mini.claims if c.measure == "funnel" or {c.ours, c.theirs} <= set(rows)]
    return replace(mini, rows=rows, baseline=baseline, baselines=against, claims=claims)


def _table(title: str, part: Miniature, found: Sequence[Finished]) -> Iterator[Block]:
    result: dict[str, Any] = aggregate(found, part)
    yield Heading(title)
    if part.mapping:
        yield Paragraph(part.mapping)
    yield from sweep_view.blocks(result, part, title)
    against = [claim for claim in result["claims"] if claim["verdict"] != "holds"]
    if against:
        yield Bullets(tuple(f"{claim['text']}: {claim['verdict']}" for claim in against))
