"""slurm/lib.sh with a small command in the place of gra-train: stopping by file and requeueing, on real daemons.

The command stands for any program that keeps the contract (STOP file, exit code 75); the real one runs in test_jobs.py.
"""

from pathlib import Path

import pytest

pytestmark = pytest.mark.slurm

COUNTER = """#!/usr/bin/env bash
# Counts to the number given, one step every 0.2 s, goes on where it was; keeps gra-train's contract.
done=$(cat "$COUNT" 2>/dev/null || echo 0)
echo "from $done"
while [ "$done" -lt "$2" ]; do
    [ -e "$GRA_STOP_FILE" ] && exit 75
    sleep 0.2
    done=$((done + 1))
    echo "$done" >"$COUNT"
done
"""


@pytest.fixture
def counter(slurm, tmp_path) -> dict[str, str]:
    program = tmp_path / "counter"
    program.write_text(COUNTER)
    program.chmod(0o755)
    return {"GRA_TRAIN": str(program), "COUNT": str(tmp_path / "count")}


def log(slurm, job: str) -> str:
    return (slurm.folder / "jobs" / job / "log.txt").read_text()


def script(name: str) -> str:
    return str(Path(__file__).parents[2] / "slurm" / name)


def test_job_completes_and_logs_into_its_folder(slurm, counter):
    job = slurm.sbatch(script("run.sbatch"), "3", **counter)
    assert slurm.wait(job)["JobState"] == "COMPLETED"
    assert "from 0" in log(slurm, job)
    assert f"log: {slurm.folder}/jobs/{job}/log.txt" in (slurm.folder / f"slurm-{job}.out").read_text()


def test_usr1_saves_requeues_and_goes_on(slurm, counter):
    job = slurm.sbatch(script("run.sbatch"), "60", **counter)
    slurm.wait(job, until=lambda _: Path(counter["COUNT"]).exists())
    slurm.run("scancel", "--batch", "--signal=USR1", job)
    state = slurm.wait(job)
    assert (state["JobState"], state["Restarts"]) == ("COMPLETED", "1"), slurm.output()
    starts = [line for line in log(slurm, job).splitlines() if line.startswith("from")]
    assert len(starts) == 2
    assert int(starts[1].split()[1]) > 0, "the second start went on from where the first one stopped"
    assert Path(counter["COUNT"]).read_text() == "60\n"


def test_term_saves_and_ends(slurm, counter):
    job = slurm.sbatch(script("run.sbatch"), "600", **counter)
    slurm.wait(job, until=lambda _: Path(counter["COUNT"]).exists())
    slurm.run("scancel", "--batch", "--signal=TERM", job)
    state = slurm.wait(job)
    assert (state["JobState"], state["ExitCode"], state["Restarts"]) == ("FAILED", "75:0", "0")


def test_without_gra_train_the_job_says_what_to_do(slurm, tmp_path):
    (tmp_path / "slurm").symlink_to(Path(script("lib.sh")).parent)
    job = slurm.sbatch(
        script("run.sbatch"), "1", GRA_HOME=str(tmp_path), GRA_TRAIN="no-such-command", PATH="/usr/bin:/bin"
    )
    assert slurm.wait(job)["JobState"] == "FAILED"
    assert "make venv" in (slurm.folder / f"slurm-{job}.out").read_text()
