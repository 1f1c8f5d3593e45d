"""The command that starts several ranks."""

import subprocess

import pytest

from gra_train.cluster import torchrun
from gra_train.errors import UserError


def test_ranks_on_this_machine(tmp_path):
    script = tmp_path / "rank.py"
    script.write_text(
        f"import os, pathlib; pathlib.Path({str(tmp_path)!r}, os.environ['RANK']).write_text(os.environ['WORLD_SIZE'])"
    )
    subprocess.run([*torchrun(2), str(script)], check=True, capture_output=True)
    assert (tmp_path / "0").read_text() == (tmp_path / "1").read_text() == "2"


def test_ranks_are_shared_among_the_tasks_of_an_allocation():
    command = torchrun(16, kind="slurm", environ={"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2"})
    assert command[:2] == ["srun", "--ntasks=2"]
    assert {"--nnodes=2", "--nproc_per_node=8", "--rdzv_id=7"} <= set(command)


def test_uneven_ranks_are_refused():
    with pytest.raises(UserError, match=r"resources.ranks=3 cannot be shared among the 2 tasks"):
        torchrun(3, kind="slurm", environ={"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2"})


def test_outside_of_an_allocation_it_says_how_to_submit():
    with pytest.raises(UserError, match="sbatch slurm/train"):
        torchrun(2, kind="slurm", environ={})
