"""The runs of a paper's table as SLURM jobs: one for each that is missing, none for what is done."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slurm
ROOT = Path(__file__).parents[2]
GRA_TRAIN = str(Path(sys.executable).parent / "gra-train")


def test_what_is_missing_of_a_table_becomes_jobs(slurm, tmp_path):
    """The published run of a table, walked at the miniature's smallest size."""
    words = [GRA_TRAIN, "table", "gra_roles", "run", "scale=published", "on=slurm", "debug=mini", "tracking=off"]
    words.append(f"runs_dir={tmp_path / 'runs'}")
    environ = {"GRA_HOME": str(ROOT), "GRA_TRAIN": GRA_TRAIN, "SBATCH_OPTIONS": "--cpus-per-task=1 --time=20"}
    said = slurm.run(*words, **environ)
    (job,) = re.findall(r"^job (\d+): gra/ablation-roles debug=mini", said, re.MULTILINE)
    assert slurm.wait(job, seconds=400)["JobState"] == "COMPLETED", slurm.output()
    assert len(list((tmp_path / "runs").glob("compare-*/result/table.json"))) == 1
    assert slurm.run(*words, **environ) == "", "nothing is left to submit"
