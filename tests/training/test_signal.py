"""SIGTERM to one rank of two of a stage that gra-train has started: saved, said, and gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gra_train.runs import EXIT_STOPPED, read_json

WORDS = ["sft", "seeds=mini", "pool=mini", "synthesis=mini", "student=mini", "sft=mini", "evaluation=mini",
         "debug=tiny", "data=own", "compare.baseline=own", "resources=cpu2", "sft.steps=120",
         "sft.global_batch=4", "sft.device_batch=2", "tracking=off"]  # fmt: skip


@pytest.fixture
def own(tmp_path):
    """A data set of eight rows."""
    row = {"instruction": "Take d f k. Reverse it. What is left?", "response": "Reverse: k f d. #### k f d"}
    (file := tmp_path / "own.jsonl").write_text((json.dumps(row) + "\n") * 8)
    return file


def start(runs: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "gra_train.cli", *WORDS, *words, f"runs_dir={runs}"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def rank_one(folder: Path) -> int | None:
    """The process of rank 1 that works on a run folder."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            environ = (process / "environ").read_bytes()
        except OSError:
            continue
        if b"gra_train.worker" in command and str(folder).encode() in command and b"\0RANK=1\0" in environ:
            return int(process.name)
    return None


@pytest.mark.slow
@pytest.mark.compiler
def test_one_rank_is_told_to_end_and_all_save(tmp_path, own):
    words = [f"data.path={own}", "deepspeed=zero2"]
    runs = tmp_path / "runs"
    process = start(runs, *words)
    try:
        folder = None
        while process.poll() is None and folder is None:
            time.sleep(0.1)
            running = [
                file.parent for file in runs.glob("sft-*/metrics.jsonl") if len(file.read_text().split("\n")) > 5
            ]
            folder = running[0] if running else None
        assert folder, process.communicate()[1][-2000:]
        pid = rank_one(folder)
        assert pid, "rank 1 is not there"
        os.kill(pid, signal.SIGTERM)
        _, errors = process.communicate(timeout=200)
    finally:
        if process.poll() is None:
            process.kill()
    assert process.returncode == EXIT_STOPPED, errors[-2000:]
    status = read_json(folder / "status.json")
    assert status["state"] == "stopped"
    assert "asked by SIGTERM" in status["error"]
    [checkpoint] = (folder / "checkpoints").glob("checkpoint-*")
    step = int(checkpoint.name.split("-")[1])
    assert 5 <= step < 120
    process = start(runs, *words)
    _, errors = process.communicate(timeout=400)
    assert process.returncode == 0, errors[-2000:]
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 121))


def processes_of(folder: Path) -> list[int]:
    """torchrun and its ranks that work on a run folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            state = (process / "stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if b"gra_train.worker" in command and str(folder).encode() in command and state != "Z":
            found.append(int(process.name))
    return found


@pytest.mark.slow
def test_a_launcher_that_is_killed_takes_torchrun_and_its_ranks_along(tmp_path, own):
    """kill -9, as by the out-of-memory killer: or a second run would find the first one's ranks in its folder."""
    process = start(tmp_path / "runs", f"data.path={own}", "sft.steps=100000")
    try:
        deadline = time.monotonic() + 300
        working: list[int] = []
        while process.poll() is None and time.monotonic() < deadline:
            for metrics in tmp_path.glob("runs/sft-*/metrics.jsonl"):
                working = processes_of(metrics.parent) if metrics.stat().st_size else []
            if len(working) == 3:
                break
            time.sleep(0.1)
        assert len(working) == 3, process.communicate()[1][-3000:] if process.poll() is not None else working
        process.send_signal(signal.SIGKILL)
        process.wait()
        deadline = time.monotonic() + 120
        while (left := processes_of(tmp_path)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert left == []
    finally:
        process.kill()
        for number in processes_of(tmp_path):
            os.kill(number, signal.SIGKILL)
