"""The worker process: it answers its launcher, and nobody who has taken over its orphan."""

import json
import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("alive", [True, False], ids=["launcher alive", "launcher gone"])
def test_a_job_of_a_launcher_that_is_gone_is_not_done(tmp_path, alive):
    """Killed right after it sent a job, a launcher leaves a worker that is still starting and does not hear of it."""
    (tmp_path / "config.yaml").write_text("stage: none")
    job = {"folder": str(tmp_path), "out": str(tmp_path / "work-1"), "launcher": os.getpid() if alive else 1}
    done = subprocess.run(
        [sys.executable, "-m", "gra_train.worker"], input=json.dumps(job) + "\n", capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert (tmp_path / "log.txt").exists() is alive
    assert bool(done.stdout) is alive  # "no such stage", in its way
