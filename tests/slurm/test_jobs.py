"""gra-train on real SLURM daemons: an experiment in one allocation, requeueing, two tasks, a sweep."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slurm
ROOT = Path(__file__).parents[2]
TINY = ("experiment=mini", "debug=tiny", "tracking=off")


def gra_train() -> str:
    return str(Path(sys.executable).parent / "gra-train")


def runs(folder: Path, stage: str) -> list[Path]:
    return sorted(path for path in folder.glob(f"{stage}-*") if (path / "result").is_dir())


def results(folder: Path) -> dict[str, bytes]:
    """Data sets and tables, by run and name."""
    names = ("data.jsonl", "table.json", "table.csv")
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for run in folder.iterdir()
        for file in (run / "result").glob("*")
        if file.name in names
    }


def test_experiment_in_one_allocation_stopped_midway_ends_as_if_undisturbed(slurm, tmp_path):
    """One job runs undisturbed; another is asked to save and requeue (USR1) once, in the middle of its stages."""
    calm, stirred = tmp_path / "calm", tmp_path / "stirred"
    script = str(ROOT / "slurm" / "run.sbatch")
    first = slurm.sbatch("--cpus-per-task=1", script, *TINY, f"runs_dir={calm}", GRA_TRAIN=gra_train())
    second = slurm.sbatch("--cpus-per-task=1", script, *TINY, f"runs_dir={stirred}", GRA_TRAIN=gra_train())
    slurm.wait(second, seconds=200, until=lambda _: bool(runs(stirred, "synthesize")))
    slurm.run("scancel", "--batch", "--signal=USR1", second)
    state = slurm.wait(second, seconds=400)
    assert (state["JobState"], state["Restarts"]) == ("COMPLETED", "1"), slurm.output()
    assert slurm.wait(first, seconds=300)["JobState"] == "COMPLETED", slurm.output()
    log = (slurm.folder / "jobs" / second / "log.txt").read_text()
    assert "gra-train ended with exit code 75" in log
    assert results(stirred) == results(calm)
    assert len(runs(calm, "compare")) == 1


def test_a_stage_with_two_tasks(slurm, tmp_path):
    """srun starts two torchrun agents of one rank each: one model."""
    data = tmp_path / "data.jsonl"
    rows = [{"instruction": f"add {i} and 1", "response": f"{i + 1}"} for i in range(8)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    job = slurm.sbatch(
        "--ntasks-per-node=2",
        str(ROOT / "slurm" / "train.sbatch"),
        *("sft", f"data={data}", "+arms.own={data:own,with_seeds:false}", "compare.baseline=own"),
        *("student=mini", "sft=mini", "debug=tiny", "tracking=off", "resources=cpu2", f"runs_dir={tmp_path / 'runs'}"),
        GRA_TRAIN=gra_train(),
    )
    assert slurm.wait(job, seconds=300)["JobState"] == "COMPLETED", slurm.output()
    trained = runs(tmp_path / "runs", "sft")
    assert trained
    assert (trained[0] / "result" / "model" / "config.json").is_file()
    slurmd = (slurm.folder / "log" / "slurmd.log").read_text()
    assert f"launch task StepId={job}.0" in slurmd, "srun started it; each torchrun then waits for the other"


def test_sweep_builds_what_its_jobs_share_once(slurm, tmp_path):
    command = [gra_train(), "synthesize", *TINY, f"runs_dir={tmp_path}", "sweep=submitit_slurm"]
    command += ["hydra.launcher.cpus_per_task=1", "-m", "synthesis.T_std=1.0,2.0"]
    done = subprocess.run(command, env=slurm.environ, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr + slurm.output()
    assert len(runs(tmp_path, "seeds")) == 1
    assert len(runs(tmp_path, "synthesize")) == 2
    logs = [file.read_text() for file in tmp_path.rglob("*_log.out")]
    computed = [int(n) for log in logs for n in re.findall(r"\((\d+) of 2 stages computed", log)]
    assert sorted(computed) == [1, 2], logs
