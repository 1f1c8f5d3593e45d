"""The papers' tables: what to run, which of it exists, and the result beside the published numbers.

A folder of experiments/ holds README.md, runs.yaml ({scale: [{experiment, overrides}]}), published.csv (numbers as
printed; `ours`: the run and row that reproduce them, `flags`: faults computed by published.flag_rows) and rendered.md.
Rendering reads run folders only, and works with runs missing: missing is shown as missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from gra_train.errors import UserError, nearest
from gra_train.experiment import Node
from gra_train.experiment import plan as graph
from gra_train.reporting import published
from gra_train.reporting.markup import MISSING, grid, sweep_to_markdown
from gra_train.reporting.stages import read_table
from gra_train.reporting.sweep import SHARED, aggregate
from gra_train.reporting.table import AVERAGE

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
COLLATE = " + COLLATE "
KEEP: dict[str, tuple[Callable[[str], bool], str]] = {
    "gra_table1": (lambda label: COLLATE not in label, "solo"),
    "collate_table1": (lambda label: COLLATE in label, "gra + COLLATE M_IFT"),
}
"""Which rows of the miniature's comparison a table shows, and against which one."""


@dataclass(frozen=True)
class Planned:
    """A run of a table: the nodes of its graph (none where they cannot be planned here, and why)."""

    scale: str
    experiment: str
    overrides: tuple[str, ...]
    nodes: tuple[Node, ...]
    needs: str = ""
    problem: str = ""

    @property
    def name(self) -> str:
        return " ".join([self.experiment, *self.overrides])

    def result(self, runs_dir: Path) -> Path | None:
        """The comparison's result folder, if it is finished."""
        run = self.nodes[-1].run(runs_dir) if self.nodes else None
        return run.result if run and run.is_done() else None


def tables_dir() -> Path:
    """experiments/: inside an installed package, or beside it in a checkout."""
    here = Path(__file__).parents[1]
    return next((f for f in (here / "experiments", here.parent / "experiments") if f.is_dir()), here / "experiments")


def table_folder(name: str) -> Path:
    """The folder of a table. Raises UserError for a name that is none."""
    known = sorted(f.name for f in tables_dir().glob("*") if (f / "runs.yaml").is_file())
    if name not in known:
        raise UserError(f"there is no table {name!r}.{nearest(name, known)} Known: {', '.join(known) or 'none'}.")
    return tables_dir() / name


def runs(folder: Path, more: Sequence[str] = ()) -> list[Planned]:
    """The runs of a table, with overrides of one's own added to each (debug=tiny, for example)."""
    return list(_runs(folder, tuple(more)))


@cache
def _runs(folder: Path, more: tuple[str, ...]) -> tuple[Planned, ...]:
    import yaml

    from gra_train.compose import compose

    found = []
    for scale, entries in yaml.safe_load((folder / "runs.yaml").read_text()).items():
        for entry in entries:
            overrides = tuple(entry["overrides"])
            try:
                config = compose([f"experiment={entry['experiment']}", *overrides, *more])
                nodes, needs, problem = tuple(graph(config)), config.resources.needs, ""
            except UserError as error:
                nodes, needs, problem = (), "", str(error)
            found.append(Planned(scale, entry["experiment"], overrides, nodes, needs, problem))
    return tuple(found)


def plan(folder: Path, runs_dir: Path, more: Sequence[str] = ()) -> str:
    """What the table is made of, and how much of it exists."""
    planned = runs(folder, more)
    lines = [f"{folder.name}: {len(planned)} runs; results in {runs_dir}"]
    seen: set[str] = set()
    for scale in dict.fromkeys(run.scale for run in planned):
        lines.append(f"\n{scale} (gra-train table {folder.name} run scale={scale})")
        for run in (r for r in planned if r.scale == scale):
            done = [node for node in run.nodes if node.run(runs_dir).is_done()]
            shared = sum(node.run_id in seen for node in run.nodes if node not in done)
            seen |= {node.run_id for node in run.nodes}
            state = f"{len(done)} of {len(run.nodes)} stages done"
            state += f", {shared} shared with runs above" if shared else ""
            state = f"cannot be planned here: {run.problem}" if run.problem else state
            lines.append(f"  {run.name}\n      {state}")
            lines += [f"      needs: {run.needs}"] if run.needs and len(done) < len(run.nodes) else []
        if scale == "pools":
            lines.append("  build the pools first: gra-train mini build --out pools/1 --seed 1, and so for 2 and 3")
    return "\n".join(lines)


def run(
    folder: Path,
    runs_dir: Path,
    execute: Callable[[str, Sequence[str]], int],
    *,
    scale: str = "mini",
    more: Sequence[str] = (),
) -> int:
    """Run what is missing at one scale by `execute(experiment, overrides)`; returns the first exit code but 0."""
    planned = [one for one in runs(folder, more) if one.scale == scale]
    if not planned:
        raise UserError(f"{folder.name} has no runs at scale={scale}; known: {', '.join(SCALES)}")
    for one in planned:
        if one.problem:
            raise UserError(one.problem)
        if one.result(runs_dir) is None and (code := execute(one.experiment, [*one.overrides, *more])):
            return code
    return 0


def render(folder: Path, runs_dir: Path, *, out: Path | None = None, more: Sequence[str] = ()) -> Path:
    """Write rendered.md (into the table's folder, or as `out`) from the run folders that are there."""
    planned = runs(folder, more)
    parts = [
        f"# {folder.name}\n",
        "Rendered by `gra-train table`; how to read it is in README.md.\n",
        *(
            f"## {heading}\n\n{_miniature(folder.name, there, runs_dir, shared)}"
            for scale, (heading, shared) in MINIATURE.items()
            if (there := [one for one in planned if one.scale == scale])
        ),
        "## As published, and ours at that size\n",
        _published(folder, planned, runs_dir),
    ]
    path = out or folder / "rendered.md"
    try:
        path.write_text("\n".join(parts))
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}. Give another place: out=FILE") from None
    return path


def _miniature(name: str, planned: Sequence[Planned], runs_dir: Path, shared: str) -> str:
    finished = [(one, one.result(runs_dir)) for one in planned]
    missing = [one.name for one, result in finished if result is None]
    parts = (
        [f"Missing: {', '.join(missing)}. `gra-train table {name} run scale={planned[0].scale}` makes them.\n"]
        if missing
        else []
    )
    folders = [result for _, result in finished if result]
    if folders:
        keep, baseline = KEEP.get(name, (lambda label: True, ""))
        parts.append(sweep_to_markdown(aggregate(folders, keep=keep, baseline=baseline, shared=shared)))
        parts.append(f"Made from: {', '.join(result.parent.name for result in folders)}.\n")
    return "\n".join(parts)


def _published(folder: Path, planned: Sequence[Planned], runs_dir: Path) -> str:
    """The printed numbers, ours where a run exists, and the faults. Averages over other tasks than the paper's are not
    set beside the paper's average: only tasks of the same name are compared."""
    rows = published.read(folder / "published.csv")
    results = {one.name: one.result(runs_dir) for one in planned}
    columns = [name for name in rows[0] if name not in ("ours", "flags", "avg_recomputed")]
    shown, finished = [], 0
    for row in rows:
        name, _, label = row["ours"].partition("#")
        result = results.get(name)
        scores = _scores(result, label) if result else {}
        finished += bool(scores)
        cells = [
            f"{row[c]} ({100 * scores[c]['score']:.2f})" if c in scores and c != AVERAGE else row[c] for c in columns
        ]
        state = "run" if scores else MISSING if row["ours"] else "no recipe"
        shown.append([*cells, state, row["flags"]])
    lines = [f"Printed numbers; ours in brackets where a run exists ({finished} of {len(rows)} rows).\n"]
    return "\n".join([*lines, grid([*columns, "ours", "faults of the printed numbers"], shown)])


def _scores(result: Path, label: str) -> dict[str, Any]:
    rows = read_table(result)["rows"]
    return next((row["scores"] or {} for row in rows if row["label"] == label), {})
