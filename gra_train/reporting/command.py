"""`gra-train table NAME plan|run|render [option=value ...] [more overrides]`; NAME may be `all`.

  plan     the runs, which of them exist, what remains and what it will take    [scale=mini|first|pools|published]
  run      what is missing at a scale (default: mini), here or as SLURM jobs    [scale=...] [on=here|slurm|print]
           on=slurm: sbatch slurm/run.sbatch for each run, with the words of $SBATCH_OPTIONS; on=print: only say how
  render   rendered.md, .tex, .csv and figure.svg from what is there            [out=FOLDER] [png=yes]

runs_dir=runs is where the runs are. Anything else is handed to every run, e.g. debug=tiny.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from gra_train.errors import UserError, nearest

VERBS = ("plan", "run", "render")
CHOICES = {"on": ("here", "slurm", "print"), "png": ("no", "yes")}


def main(words: Sequence[str]) -> int:
    """The command behind `gra-train table`. Returns an exit code; raises UserError."""
    from gra_train.reporting import tables

    if not words or words[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if words else 2
    name, verb, *rest = [*words, "plan"] if len(words) == 1 else words
    if verb not in VERBS:
        raise UserError(f"gra-train table {name}: no verb {verb!r}.{nearest(verb, VERBS)} Known: {', '.join(VERBS)}.")
    options, more = _sorted(rest)
    runs_dir = Path(options["runs_dir"])
    folders = [tables.table_folder(one) for one in (tables.names() if name == "all" else [name])]
    if verb == "plan":
        print(tables.plan(folders, runs_dir, more, scale=options["scale"]))
        return 0
    if verb == "run":
        execute = partial({"here": _here, "slurm": _submit, "print": _say}[options["on"]], runs_dir)
        return tables.run(folders, runs_dir, execute, scale=options["scale"] or "mini", more=more)
    return _render(folders, runs_dir, options, more)


def _sorted(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """(our options, overrides of the runs)."""
    from gra_train.reporting.tables import SCALES

    options = {"scale": "", "out": "", "runs_dir": "runs", "on": "here", "png": "no"}
    more = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"gra-train table: {word!r} is not of the form name=value")
        if key in options:
            options[key] = value
        else:
            more.append(word)
    for key, known in {"scale": ("", *SCALES), **CHOICES}.items():
        if options[key] not in known:
            raise UserError(f"{key}={options[key]!r}: expected one of {', '.join(k for k in known if k)}")
    return options, more


def _render(folders: Sequence[Path], runs_dir: Path, options: dict[str, str], more: Sequence[str]) -> int:
    from gra_train.reporting.picture import to_png
    from gra_train.reporting.render import render, write_index

    for folder in folders:
        path = render(folder, runs_dir, out=Path(options["out"]) if options["out"] else None, more=more)
        print(path)
        svg = path.with_name("figure.svg")
        if options["png"] == "yes" and svg.is_file():
            print(to_png(svg) or f"no PNG of {svg}: none of rsvg-convert, inkscape and chromium did it")
    if len(folders) > 1 and not options["out"]:
        write_index()
    return 0


def _words(runs_dir: Path, experiment: str, overrides: Sequence[str]) -> list[str]:
    return [f"experiment={experiment}", *overrides, f"runs_dir={runs_dir}"]


def _here(runs_dir: Path, experiment: str, overrides: Sequence[str]) -> int:
    from gra_train.compose import compose
    from gra_train.session import run_experiment

    chosen = _words(runs_dir, experiment, overrides)
    return run_experiment(compose(chosen), overrides=chosen)


def _say(runs_dir: Path, experiment: str, overrides: Sequence[str]) -> int:
    print(shlex.join(["sbatch", *_sbatch_options(), *_job(runs_dir, experiment, overrides)]))
    return 0


def _submit(runs_dir: Path, experiment: str, overrides: Sequence[str]) -> int:
    """One SLURM job for a run: requeued when its time is up, it goes on; jobs that share stages wait for each other."""
    command = ["sbatch", "--parsable", *_sbatch_options(), *_job(runs_dir, experiment, overrides)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise UserError("on=slurm: there is no sbatch on the PATH. on=print says what it would be asked.") from None
    if done.returncode:
        raise UserError(f"sbatch refused {experiment} {' '.join(overrides)}: {done.stderr.strip()}")
    print(f"job {done.stdout.strip()}: {experiment} {' '.join(overrides)}")
    return 0


def _sbatch_options() -> list[str]:
    return shlex.split(os.environ.get("SBATCH_OPTIONS", ""))


def _job(runs_dir: Path, experiment: str, overrides: Sequence[str]) -> list[str]:
    script = Path(os.environ.get("GRA_HOME", ".")) / "slurm" / "run.sbatch"
    if not script.is_file():
        raise UserError(f"{script} is not there: call this in the checkout, or name it with GRA_HOME.")
    return [str(script), *_words(runs_dir, experiment, overrides)]
