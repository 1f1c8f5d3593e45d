"""How a stage with several ranks is started: torchrun on this machine, or srun + torchrun inside a SLURM allocation."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime

from gra_train.errors import UserError

SQUEUE_S = 20.0
TORCHRUN = (sys.executable, "-m", "torch.distributed.run")


def torchrun(ranks: int, *, kind: str = "local", environ: Mapping[str, str] = os.environ) -> list[str]:
    """The command that starts `ranks` processes; append `-m MODULE ARGUMENTS`.

    kind=slurm: one torchrun for every task of the allocation (usually one per node), each with an equal share of the
    ranks. This runs in the batch step, so this machine is the first node and the place to meet.
    Raises UserError outside of an allocation, and when the ranks cannot be shared out evenly.
    """
    if kind == "local":
        return [*TORCHRUN, "--standalone", f"--nproc_per_node={ranks}"]
    job = environ.get("SLURM_JOB_ID")
    if not job:
        raise UserError(
            "cluster=slurm starts ranks by srun, and this is no SLURM allocation. "
            "Submit it with: sbatch slurm/train.sbatch sft ..., or use cluster=local."
        )
    tasks = int(environ.get("SLURM_NTASKS") or environ.get("SLURM_NNODES") or 1)
    if ranks % tasks:
        raise UserError(
            f"resources.ranks={ranks} cannot be shared among the {tasks} tasks of this allocation: "
            f"give a multiple of {tasks}, or other --nodes and --ntasks-per-node."
        )
    meet = f"{socket.gethostname()}:{29500 + int(job) % 10000}"
    return [
        *("srun", f"--ntasks={tasks}", "--kill-on-bad-exit=1", "--cpu-bind=none"),
        *TORCHRUN,
        *(f"--nnodes={tasks}", f"--nproc_per_node={ranks // tasks}"),
        *("--rdzv_backend=c10d", f"--rdzv_id={job}", f"--rdzv_endpoint={meet}"),
    ]


def job_end(environ: Mapping[str, str] = os.environ) -> float | None:
    """Unix time at which SLURM ends this job; None outside of one, or where SLURM does not say."""
    if environ.get("SLURM_JOB_END_TIME", "").isdigit():
        return float(environ["SLURM_JOB_END_TIME"])
    job = environ.get("SLURM_JOB_ID")
    if not job or not shutil.which("squeue"):
        return None
    with suppress(OSError, subprocess.SubprocessError, ValueError):
        asked = subprocess.run(
            ["squeue", "--noheader", f"--job={job}", "--format=%e"],
            capture_output=True, text=True, timeout=SQUEUE_S, check=True,
        )  # fmt: skip
        return datetime.fromisoformat(asked.stdout.strip()).timestamp()  # the controller's local time; N/A: no limit
    return None
