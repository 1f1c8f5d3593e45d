"""`gra-train table NAME plan|run|render [scale=mini|...] [runs_dir=runs] [out=FILE] [more overrides]`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from gra_train.errors import UserError, nearest

VERBS = ("plan", "run", "render")


def main(words: Sequence[str]) -> int:
    """The command behind `gra-train table`. NAME may be `all`. Returns an exit code; raises UserError."""
    from gra_train.reporting import tables

    if not words or words[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if words else 2
    name, verb, *rest = [*words, "plan"] if len(words) == 1 else words
    if verb not in VERBS:
        raise UserError(f"gra-train table {name}: no verb {verb!r}.{nearest(verb, VERBS)} Known: {', '.join(VERBS)}.")
    options = {"scale": "mini", "out": "", "runs_dir": "runs"}
    more = []
    for word in rest:
        key, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"gra-train table: {word!r} is not of the form name=value")
        if key in options:
            options[key] = value
        else:
            more.append(word)
    if options["scale"] not in tables.SCALES:
        raise UserError(f"scale={options['scale']!r}: expected one of {', '.join(tables.SCALES)}")
    runs_dir = Path(options["runs_dir"])
    names = sorted(f.parent.name for f in tables.tables_dir().glob("*/runs.yaml")) if name == "all" else [name]
    for one in names:
        folder = tables.table_folder(one)
        if verb == "plan":
            print(tables.plan(folder, runs_dir, more))
        elif verb == "run":
            execute = partial(_execute, runs_dir)
            if code := tables.run(folder, runs_dir, execute, scale=options["scale"], more=more):
                return code
        else:
            out = Path(options["out"]) if options["out"] else None
            print(tables.render(folder, runs_dir, out=out, more=more))
    return 0


def _execute(runs_dir: Path, experiment: str, overrides: Sequence[str]) -> int:
    from gra_train.compose import compose
    from gra_train.session import run_experiment

    chosen = [f"experiment={experiment}", *overrides, f"runs_dir={runs_dir}"]
    return run_experiment(compose(chosen), overrides=chosen)
