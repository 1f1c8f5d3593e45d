"""The worker process: it answers its launcher, and nobody who has taken over its orphan."""

import json
import os
import re
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


def test_what_a_stage_warns_of_is_told_to_the_person(tmp_path):
    """Annotations that no model could give: in the log, and on the terminal."""
    seeds = tmp_path / "seeds.jsonl"
    rows = [{"instruction": f"Say hello to guest {i}.", "response": f"Hello, guest {i}."} for i in range(3)]
    seeds.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["synthesize", "experiment=mini", "debug=tiny", f"seeds.path={seeds}", "synthesis.prompts=tags",
             "synthesis.max_candidates=1", "synthesis.max_tokens=8", f"runs_dir={tmp_path}"]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "gra_train.cli", *words], capture_output=True, text=True, timeout=300, check=False
    )
    assert re.search(r"warning: \d of 9 annotations could not be read", done.stderr)


def test_a_data_file_that_changed_since_the_run_was_planned_is_refused(tmp_path):
    from gra_train.errors import UserError
    from gra_train.graph import Node
    from gra_train.launch import freeze
    from gra_train.runs import Run
    from gra_train.schema import DataFile
    from gra_train.stages import DatasetStage
    from gra_train.worker import run_stage

    data = tmp_path / "mine.jsonl"
    row = json.dumps({"instruction": "Take d f k. Reverse it. What is left?", "response": "Reverse: k f d. #### k f d"})
    data.write_text(row + "\n")
    node = Node("dataset", "own", DatasetStage(0, DataFile(path=str(data)), None, "mini"))
    run = Run(tmp_path / "runs" / node.run_id)
    (run.folder / "work-1").mkdir(parents=True)
    freeze(node, run)
    run_stage(run.folder, run.folder / "work-1")
    data.write_text(f"{row}\n{row}\n")
    with pytest.raises(UserError, match=r"mine\.jsonl has changed since this run was planned"):
        run_stage(run.folder, run.folder / "work-1")
