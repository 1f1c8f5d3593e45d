"""Rounds of shards on real SLURM daemons, then curated: the data set of one undisturbed process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slurm
ROOT = Path(__file__).parents[2]
TINY = ("experiment=mini", "debug=tiny", "tracking=off", "synthesis.block=8", "synthesis.margin=9")


def data(folder: Path) -> bytes:
    (file,) = folder.glob("synthesize-gra-*/result/data.jsonl")
    return file.read_bytes()


def computed(run: Path) -> dict[str, int]:
    """Calls that a run made itself, by purpose."""
    usage = json.loads((run / "usage.json").read_text())
    counts: dict[str, int] = {}
    for purposes in usage["by_model"].values():
        for purpose, count in purposes.items():
            counts[purpose] = counts.get(purpose, 0) + count["asked"] - count["from_ledger"]
    return {purpose: count for purpose, count in counts.items() if count}


@pytest.mark.timeout(1200)  # seven jobs, one after another on a busy machine
def test_two_rounds_of_two_shards_make_what_one_process_makes(slurm, tmp_path):
    gra_train = str(Path(sys.executable).parent / "gra-train")
    command = [ROOT / "slurm" / "synthesize_array.sh", "2", *TINY, f"runs_dir={tmp_path / 'sharded'}"]
    environ = slurm.environ | {"GRA_TRAIN": gra_train, "SBATCH_OPTIONS": "--cpus-per-task=1"}
    done = subprocess.run(command, cwd=slurm.folder, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    one = subprocess.run(
        [gra_train, "synthesize", *TINY, f"runs_dir={tmp_path / 'whole'}"],
        env=os.environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert one.returncode == 0, one.stderr
    state = slurm.wait(done.stdout.strip(), seconds=600)
    assert state["JobState"] == "COMPLETED", slurm.output()
    assert data(tmp_path / "sharded") == data(tmp_path / "whole")
    shards = sorted(path.parent.parent.name for path in (tmp_path / "sharded").glob("shard-*/result/shard.json"))
    assert [name[:17] for name in shards] == [f"shard-round{r}-{i}of2" for r in (1, 2) for i in (1, 2)]
    (curation,) = (tmp_path / "sharded").glob("synthesize-gra-*")
    # in process a batch of summaries depends on who is kept: that is the one thing shards cannot make
    assert set(computed(curation)) <= {"annotator/summary"}
