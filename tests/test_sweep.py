"""Sweeps on this machine: the launchers of conf/sweep, jobs that share a stage."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from gra_train.compose import conf_dir

TINY = ("experiment=mini", "debug=tiny", "tracking=off")
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("launcher", ["basic", "joblib", "submitit_local"])
def test_jobs_build_what_they_share_once(launcher, tmp_path):
    command = [sys.executable, "-m", "gra_train.cli", "synthesize", *TINY, f"runs_dir={tmp_path}", f"sweep={launcher}"]
    done = subprocess.run(
        [*command, "-m", "synthesis.T_std=1.0,2.0"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    made = [path.name.split("-")[0] for path in tmp_path.iterdir() if (path / "result").is_dir()]
    assert sorted(made) == ["seeds", "synthesize", "synthesize"]
    shown = done.stdout + "".join(file.read_text() for file in tmp_path.rglob("*_log.out"))
    computed = [int(n) for n in re.findall(r"\((\d+) of 2 stages computed", shown)]
    assert sorted(computed) == [1, 2], shown


def test_a_sweep_over_seeds_ends_with_means_and_intervals(tmp_path):
    words = ["experiment=mini/rounds", "debug=tiny", "tracking=off", f"runs_dir={tmp_path}", "-m", "seed=0,1"]
    command = [sys.executable, "-m", "gra_train.cli", "run", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    text = (tmp_path / "mini-rounds-over-seeds.md").read_text()
    assert text in done.stdout
    assert text.startswith("# mini-rounds over 2 seeds")
    assert "## GRA, Table 3" in text
    assert re.search(r"\d\.\d \[\d+\.\d, \d+\.\d\]", text)
    assert re.search(r"\*\*(holds|does not hold|not decided).*\*\*", text)


def test_every_launcher_has_its_own_file():
    """Options of one launcher are unknown to the others: each file names its launcher (a pure grid names none)."""
    for file in conf_dir().glob("sweep/*.yaml"):
        text = file.read_text()
        assert "# @package _global_" in text.splitlines()[0]
        if "  launcher:" in text:
            assert f"override /hydra/launcher: {Path(file).stem}" in text
