"""The papers' tables: which runs they are made of, which of these exist, and running what is missing.

A folder of experiments/ holds README.md, table.yaml (what is shown: recipe.py), runs.yaml ({scale: [{experiment,
overrides}]}), published.csv (numbers as printed; `ours`: the run and row that reproduce them, `flags`: faults computed
by published.flag_rows) and what render.py makes of it. Tables share runs: equal work has one identity.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from gra_train.errors import UserError, nearest
from gra_train.experiment import Node
from gra_train.experiment import plan as graph
from gra_train.reporting.finished import Finished, completed, from_run, kept, slug
from gra_train.reporting.hours import ASSUMED, Hours, hours, measured_seconds
from gra_train.reporting.sweep import SHARED
from gra_train.runs import read_json
from gra_train.schema import Config
from gra_train.settings import change

MINIATURE = {
    "mini": ("In miniature", SHARED),
    "first": ("In miniature: the first seeds, one of which had been looked at while settings were chosen", SHARED),
    "pools": (
        "In miniature: three pools built again from nothing, each with a seed of its own",
        "the base student and the test questions",
    ),
}
"""Scales that are shown as a table over seeds: the heading, and what the seeds share."""
SCALES = (*MINIATURE, "published")
RESULTS = "results"
"""The folder of experiments/ in which finished results are kept (see finished.py)."""


@dataclass(frozen=True)
class Planned:
    """A run of a table: its configuration and the nodes of its graph (none where it cannot be planned, and why)."""

    scale: str
    experiment: str
    overrides: tuple[str, ...]
    config: Config | None = None
    nodes: tuple[Node, ...] = ()
    problem: str = ""

    @property
    def name(self) -> str:
        return " ".join([self.experiment, *self.overrides])

    @property
    def needs(self) -> str:
        return self.config.resources.needs if self.config else ""

    def finished(self, runs_dir: Path, results: Path) -> Finished | None:
        """From the run folders; else what is kept of an earlier run."""
        found, earlier = from_run(self.name, self.nodes, runs_dir), kept(self.name, results)
        return completed(found, earlier) if found else earlier

    def is_done(self, runs_dir: Path) -> bool:
        return bool(self.nodes) and self.nodes[-1].run(runs_dir).is_done()


def tables_dir() -> Path:
    """experiments/: inside an installed package, or beside it in a checkout."""
    here = Path(__file__).parents[1]
    return next((f for f in (here / "experiments", here.parent / "experiments") if f.is_dir()), here / "experiments")


def names() -> list[str]:
    """Every table's name."""
    return sorted(file.parent.name for file in tables_dir().glob("*/runs.yaml"))


def table_folder(name: str) -> Path:
    """The folder of a table. Raises UserError for a name that is none."""
    if name not in names():
        raise UserError(f"there is no table {name!r}.{nearest(name, names())} Known: {', '.join(names()) or 'none'}.")
    return tables_dir() / name


def listed(folder: Path) -> list[tuple[str, str, tuple[str, ...]]]:
    """(scale, experiment, overrides) of runs.yaml, not composed. Raises UserError for anything else in the file."""
    import yaml

    file = folder / "runs.yaml"
    data = yaml.safe_load(file.read_text()) or {}
    if not isinstance(data, dict) or set(data) - set(SCALES):
        raise UserError(f"{file}: expected lists of runs under {', '.join(SCALES)}")
    found = []
    for scale, entries in data.items():
        for entry in entries or []:
            if not isinstance(entry, dict) or set(entry) != {"experiment", "overrides"}:
                raise UserError(f"{file}: {scale}: {entry!r}: expected {{experiment: ..., overrides: [...]}}")
            found.append((scale, str(entry["experiment"]), tuple(map(str, entry["overrides"]))))
    return found


def runs(folder: Path, more: Sequence[str] = (), *, scale: str = "", composed: bool = True) -> list[Planned]:
    """The runs of a table (of one scale), with overrides of one's own added to each (debug=tiny, for example).

    composed=False: names alone, which is enough to find what is kept, and takes no time.
    """
    wanted = [one for one in listed(folder) if scale in ("", one[0])]
    if not composed:
        return [Planned(*one) for one in wanted]
    return [Planned(one[0], one[1], one[2], *_composed(one[1], one[2], tuple(more))) for one in wanted]


def _composed(
    experiment: str, overrides: tuple[str, ...], more: tuple[str, ...]
) -> tuple[Config | None, tuple[Node, ...], str]:
    """(configuration, nodes, problem). Composing takes a fifth of a second, so seeds of one experiment share it."""
    seeds = [word for word in overrides if re.fullmatch(r"seed=\d+", word)]
    config, problem = _configuration(experiment, tuple(w for w in (*overrides, *more) if w not in seeds))
    if config is None:
        return None, (), problem
    config = change(config, seed=int(seeds[-1].removeprefix("seed="))) if seeds else config
    try:
        return config, tuple(graph(config)), ""
    except UserError as error:
        return None, (), str(error)


@cache
def _configuration(experiment: str, overrides: tuple[str, ...]) -> tuple[Config | None, str]:
    from gra_train.compose import compose

    try:
        return compose([f"experiment={experiment}", *overrides]), ""
    except UserError as error:
        return None, str(error)


def plan(folders: Sequence[Path], runs_dir: Path, more: Sequence[str] = (), *, scale: str = "") -> str:
    """What the tables are made of, how much of it exists, and what the rest will take."""
    results = tables_dir() / RESULTS
    measured, lines, seen = measured_seconds(results), [], set[str]()
    totals: dict[str, Hours] = {}
    for folder in folders:
        planned = runs(folder, more, scale=scale)
        lines.append(f"{folder.name}: {len(planned)} runs; results in {runs_dir}")
        for name in dict.fromkeys(run.scale for run in planned):
            lines.append(f"\n{name} (gra-train table {folder.name} run scale={name})")
            here = Hours()
            for run in (r for r in planned if r.scale == name):
                text, needed = _state(run, runs_dir, results, seen, measured)
                lines += text
                here += needed
            lines.append(f"  to run: {here}")
            totals[name] = totals.get(name, Hours()) + here
            if name == "pools":
                lines.append("  build the pools first: gra-train mini build --out pools/1 --seed 1, and so for 2 and 3")
        lines.append("")
    if len(folders) > 1:
        lines += [f"all, {name}: {total}" for name, total in totals.items()]
    lines.append(f"GPU-hours are estimates ({ASSUMED}; served models as `gra-train validate` says).")
    lines.append("Minutes are those of results that are kept.")
    return "\n".join(lines)


def _state(
    run: Planned, runs_dir: Path, results: Path, seen: set[str], measured: dict[str, float]
) -> tuple[list[str], Hours]:
    """A run's lines in the plan, and what remains of it that no run above does."""
    if run.problem or run.config is None:
        return [f"  {run.name}", f"      cannot be planned here: {run.problem}"], Hours()
    left = [node for node in run.nodes if not node.run(runs_dir).is_done()]
    mine = [node for node in left if node.run_id not in seen]
    seen |= {node.run_id for node in run.nodes}
    state = f"{len(run.nodes) - len(left)} of {len(run.nodes)} stages done"
    state += f", {len(left) - len(mine)} shared with runs above" * (len(mine) < len(left))
    needed = hours(run.config, mine, measured) if mine else Hours()
    state += f"; to run: {needed}" if mine else ""
    lines = [f"  {run.name}", f"      {state}"]
    if made := read_json(results / slug(run.name) / "made.json"):
        lines.append(f"      kept: {made['run']} of {made['date']}")
        if made["run"] != (today := run.nodes[-1].run_id):
            lines[-1] += f" (of today's code and configuration: {today})"
    return lines + ([f"      needs: {run.needs}"] if run.needs and left else []), needed


def run(
    folders: Sequence[Path],
    runs_dir: Path,
    execute: Callable[[str, Sequence[str]], int],
    *,
    scale: str = "mini",
    more: Sequence[str] = (),
) -> int:
    """Run what is missing at one scale by `execute(experiment, overrides)`; returns the first exit code but 0.

    A run that several tables share is handed over once.
    """
    planned = {run.name: run for folder in folders for run in runs(folder, more, scale=scale)}
    if not planned:
        which = ", ".join(folder.name for folder in folders)
        known = ", ".join(SCALES)
        raise UserError(f"{which}: no runs at scale={scale}. Known: {known}; not every table has all of them.")
    for one in planned.values():
        if one.problem:
            raise UserError(f"{one.name}: {one.problem}")
    for one in planned.values():
        if not one.is_done(runs_dir) and (code := execute(one.experiment, [*one.overrides, *more])):
            return code
    return 0


def unfinished(found: Sequence[tuple[Planned, Any]]) -> list[str]:
    """Names of the runs without a result."""
    return [one.name for one, result in found if result is None]
