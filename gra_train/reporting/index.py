"""experiments/README.md: every table with its claim's state and command, made from the rendered tables."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from gra_train.reporting.claims import FAILS, HOLDS, MISSING, OPEN
from gra_train.reporting.markup import grid
from gra_train.reporting.recipe import read_recipe

HEAD = """# The papers' tables

A folder for every table and figure of both papers that this project speaks to: what was printed, with its faults; what
to run; and the result, at the published size where somebody has run it and in miniature.

```bash
gra-train table all plan                                  # every run, which exist, what remains, GPU-hours
gra-train table all run scale=mini                        # the miniatures, five seeds each; killed, it goes on
gra-train table gra_table1 run scale=published on=slurm   # a job for each run; SBATCH_OPTIONS="--gres=gpu:8 ..."
gra-train table all render                                # rendered.md, .tex, .csv, figure.svg (png=yes: PNG too)
```

| file | what it is |
| --- | --- |
| `README.md` | the claim, what to run, hours and hardware, faults of the printed numbers |
| `table.yaml` | what is shown: rows and what they stand for, baseline, claims, figure |
| `runs.yaml` | which runs: experiment and overrides, by scale. Tables share runs: equal work has one identity |
| `published.csv` | numbers as printed; `ours`: the run and row that reproduce them; `flags`: faults, found by code |
| `rendered.*`, `figure.svg` | made by `render`, from run folders and from what is kept of them |
| `results/` | what is kept of finished runs: every answer, scores, measures, run id, date, versions; kilobytes |

A claim *holds* or *does not hold* where the interval over seeds and the one that resamples the questions too both say
so, and so does its p, corrected over the table's claims; otherwise it is *not decided at this n*. A miniature says how
a method behaves on a small closed language with models of 0.3M parameters ([docs/mini.md](../docs/mini.md)); it does
not say what the paper's models do. All miniatures of one seed take 31 minutes of CPU time, those of five seeds 77
minutes on two cores that have nothing else to do (by arithmetic; 107 were measured with tests running beside them).

"""


def index(folders: Sequence[Path]) -> str:
    """The file's text."""
    rows = [_row(folder) for folder in sorted(folders, key=_place)]
    return HEAD + grid(["table", "what it asks", "claims in miniature", "command"], rows)


def _place(folder: Path) -> tuple[str, int]:
    """Table 10 comes after Table 9."""
    return re.sub(r"\d", "", folder.name), int(re.sub(r"\D", "", folder.name) or 0)


def _row(folder: Path) -> list[str]:
    recipe = read_recipe(folder)
    paper, _, question = recipe.title.partition(": ")
    command = f"`gra-train table {folder.name} plan`"
    return [f"[{paper}]({folder.name}/README.md)", f"[{question}]({folder.name}/rendered.md)", state(folder), command]


def state(folder: Path) -> str:
    """`5 seeds: 3 hold, 1 does not hold, 2 not decided`, from rendered.csv; why not, where there is no miniature."""
    recipe = read_recipe(folder)
    if not recipe.miniature.rows:
        return "not in miniature"
    with (folder / "rendered.csv").open(newline="") as file:
        records = [row for row in csv.DictReader(file) if row["part"] in ("mini", "mini claim")]
    if not records:
        return f"missing: `gra-train table {folder.name} run`"
    verdicts = Counter(row["note"].partition(" (")[0] for row in records if row["part"] == "mini claim")
    known = {HOLDS: "hold", FAILS: "do not hold", OPEN: "not decided", MISSING: "missing"}
    said = ", ".join(f"{verdicts[verdict]} {text}" for verdict, text in known.items() if verdicts[verdict])
    return f"{records[0]['n']} seeds: {said or 'measured, nothing is claimed'}"
