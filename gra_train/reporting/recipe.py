"""table.yaml: what a table shows (rows, baseline, claims, figure), as data. A wrong name is told with the right one.

What is to be run is in runs.yaml, what was printed in published.csv.
"""

from __future__ import annotations

# fmt: off  (one setting, one line: this file reads as a table)
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gra_train.errors import UserError, nearest
from gra_train.reporting.claims import Claim
from gra_train.reporting.measures import NAMES
from gra_train.settings import Section, build, setting


@dataclass(frozen=True)
class Measure(Section):
    """A number of every row beside its accuracy (see measures.py)."""

    name: str = setting(help="its name in measures.json")
    title: str = setting(help="head of its column")
    percent: bool = setting(False, "shown times 100")
    digits: int = setting(1, "decimals shown", min=0, max=4)


@dataclass(frozen=True)
class Miniature(Section):
    """The table's counterpart on the miniature world. Without rows there is none, and `absent` says why."""

    rows: dict[str, str] = setting({}, "label of ours -> the published row that it stands for ('': the paper has none)")
    baseline: str = setting("", "label that the others are set against (default: the comparison's own)")
    baselines: dict[str, str] = setting({}, "label -> another label that this one is set against")
    absent: dict[str, str] = setting({}, "published row (or 'all') -> why it is not in miniature")
    mapping: str = setting("", "what stands for what, in words")
    measures: list[Measure] = setting([], "columns beside accuracy")
    accuracy: bool = setting(True, "show the accuracy of the rows")
    steps: bool = setting(False, "show the synthesis step by step")
    claims: list[Claim] = setting([], "what is to be decided")


@dataclass(frozen=True)
class Published(Section):
    """How published.csv is read."""

    compare: list[str] = setting([], "columns that tell the compared rows apart; their values, joined by /, name a row")
    values: list[str] = setting([], "columns that a difference is the mean of (default: every column of numbers)")
    tasks: dict[str, str] = setting({}, "column -> our name of that benchmark, where they differ")
    averages: list[str] = setting([], "columns that print an average over benchmarks")
    average_of: list[str] = setting([], "our names of those benchmarks: an average over others is not set beside it")
    labels: dict[str, str] = setting({}, "column -> our label in place of the row's (a row whose columns are arms)")
    measures: dict[str, str] = setting({}, "column -> a measure of ours; with any, no score stands beside a number")
    unit: str = setting("percent", "of the numbers", choices=("percent", "tokens", "perplexity", "mixed"))


@dataclass(frozen=True)
class Figure(Section):
    """The figure: one panel of the published numbers, one of the miniature's."""

    kind: str = setting("bars", "bars, lines, or none", choices=("bars", "lines", "none"))
    over: list[str] = setting([], "published: columns that make a group of bars (none: each column of values is one)")
    x: dict[str, float] = setting({}, "lines: place of each label of the miniature")
    x_title: str = setting("", "lines: what the places are")
    measure: str = setting("accuracy", "miniature: accuracy, data, or the name of a measure")


@dataclass(frozen=True)
class Recipe(Section):
    """A table of experiments/."""

    title: str = setting(help="heading of the rendered table")
    source: str = setting(help="paper and number of the table")
    published: Published = setting(Published)
    miniature: Miniature = setting(Miniature)
    figure: Figure = setting(Figure)


@cache
def read_recipe(folder: Path) -> Recipe:
    """table.yaml of a table's folder. Raises UserError that names the file and the setting."""
    import yaml

    file = folder / "table.yaml"
    try:
        data = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{file}: cannot be read ({' '.join(str(error).split())})") from None
    try:
        recipe = build(Recipe, data)
        _check(recipe)
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    return recipe


def _check(recipe: Recipe) -> None:
    mini = recipe.miniature
    if not mini.rows and not mini.absent:
        raise UserError("miniature has no rows: say why in miniature.absent, e.g. {all: needs GPT-4o}")
    if mini.baseline and mini.baseline not in mini.rows:
        raise UserError(f"miniature.baseline={mini.baseline!r} is not among its rows: {', '.join(mini.rows)}")
    for label in (*mini.baselines, *mini.baselines.values()):
        if label not in mini.rows:
            raise UserError(f"miniature.baselines: {label!r} is not among its rows: {', '.join(mini.rows)}")
    for measure in mini.measures:
        if measure.name not in NAMES:
            raise UserError(
                f"there is no measure {measure.name!r}.{nearest(measure.name, list(NAMES))} Known: {', '.join(NAMES)}"
            )
    for name in recipe.published.measures.values():
        if name not in NAMES:
            raise UserError(f"published.measures: there is no {name!r}.{nearest(name, list(NAMES))}")
    known = {"accuracy", "data", "funnel", *(measure.name for measure in mini.measures)}
    choices = ", ".join(sorted(known))
    for claim in mini.claims:
        if claim.measure not in known:
            raise UserError(f"claim {claim.text!r}: measure={claim.measure!r}, expected one of {choices}")
        if claim.times != 1 and claim.measure == "accuracy":
            raise UserError(f"claim {claim.text!r}: times={claim.times:g} is for measures; accuracies are subtracted.")
        for label in (claim.ours, claim.theirs) if claim.measure != "funnel" else ():
            if label not in mini.rows:
                raise UserError(f"claim {claim.text!r}: {label!r} is not among miniature.rows: {', '.join(mini.rows)}")
    if recipe.figure.measure not in known:
        raise UserError(f"figure.measure={recipe.figure.measure!r}, expected one of {choices}")
    if recipe.figure.kind == "lines" and mini.rows and set(recipe.figure.x) - set(mini.rows):
        raise UserError(f"figure.x names what is no row: {', '.join(sorted(set(recipe.figure.x) - set(mini.rows)))}")
