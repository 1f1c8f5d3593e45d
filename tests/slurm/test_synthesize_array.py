"""Rounds of shards on real SLURM daemons, then curated: the data set of one undisturbed process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import Client, Server

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1200)]  # seven jobs, one after another on a busy machine
ROOT = Path(__file__).parents[2]
GRA_TRAIN = str(Path(sys.executable).parent / "gra-train")
BLOCKS = ["synthesis.block=8", "synthesis.margin=9"]


@pytest.fixture
def server(tmp_path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.kill()


def array(slurm, words: list[str], runs: Path) -> None:
    """Two rounds of two shards, submitted and waited for."""
    command = [ROOT / "slurm" / "synthesize_array.sh", "2", *words, f"runs_dir={runs}"]
    environ = slurm.environ | {"GRA_TRAIN": GRA_TRAIN, "SBATCH_OPTIONS": "--cpus-per-task=1"}
    done = subprocess.run(command, cwd=slurm.folder, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    state = slurm.wait(done.stdout.strip(), seconds=600)
    assert state["JobState"] == "COMPLETED", slurm.output()
    shards = sorted(path.parent.parent.name for path in runs.glob("shard-*/result/shard.json"))
    assert [name[:17] for name in shards] == [f"shard-round{r}-{i}of2" for r in (1, 2) for i in (1, 2)]


def whole(words: list[str], runs: Path) -> None:
    """The same in one process."""
    command = [GRA_TRAIN, "synthesize", *words, f"runs_dir={runs}"]
    one = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False)
    assert one.returncode == 0, one.stderr


def data(runs: Path) -> bytes:
    (file,) = runs.glob("synthesize-gra-*/result/data.jsonl")
    return file.read_bytes()


def computed(runs: Path) -> dict[str, int]:
    """Calls that the curation made itself, by purpose."""
    (run,) = runs.glob("synthesize-gra-*")
    usage = json.loads((run / "usage.json").read_text())
    counts: dict[str, int] = {}
    for purposes in usage["by_model"].values():
        for purpose, count in purposes.items():
            counts[purpose] = counts.get(purpose, 0) + count["asked"] - count["from_ledger"]
    return {purpose: count for purpose, count in counts.items() if count}


def test_two_rounds_of_two_shards_make_what_one_process_makes(slurm, server, tmp_path):
    """Models behind servers: each job starts without torch. In process: below, and without SLURM test_shards.py."""
    words = [word for word in Client(tmp_path, server.url, *BLOCKS).words[1:] if not word.startswith("runs_dir=")]
    array(slurm, words, tmp_path / "sharded")
    stats = server.stats()
    assert stats["received"] == stats["requests"], "two jobs asked for the same"
    assert computed(tmp_path / "sharded") == {}, "curation finds every answer in the ledger"
    whole(words, tmp_path / "whole")
    assert data(tmp_path / "sharded") == data(tmp_path / "whole")


@pytest.mark.nightly
def test_shards_of_models_in_process(slurm, tmp_path):
    words = ["experiment=mini", "debug=tiny", "tracking=off", *BLOCKS]
    array(slurm, words, tmp_path / "sharded")
    whole(words, tmp_path / "whole")
    assert data(tmp_path / "sharded") == data(tmp_path / "whole")
    # a batch of summaries depends on who is kept: that is the one thing shards cannot make
    assert set(computed(tmp_path / "sharded")) <= {"annotator/summary"}
