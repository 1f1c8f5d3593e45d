"""SIGKILL from outside at seeded random moments: what was answered is not asked again, and the end is the same."""

from __future__ import annotations

import json
import multiprocessing
import random
import signal
import time
from pathlib import Path

from gra_train.chat.ledger import Ledger

from . import child

FORK = multiprocessing.get_context("fork")  # a fresh interpreter would spend most of its time importing torch


def start(*arguments) -> multiprocessing.process.BaseProcess:
    process = FORK.Process(target=child.main, args=arguments)
    process.start()
    return process


def finish(*arguments) -> dict:
    process = start(*arguments)
    process.join(timeout=120)
    assert process.exitcode == 0
    return json.loads(arguments[1].read_text())


def kill_at(size: float, ledger: Path, *arguments) -> None:
    """Start a child and kill it once it has recorded that many bytes."""
    before = _size(ledger)
    process = start(ledger, *arguments)
    while _size(ledger) - before < size and process.is_alive():
        time.sleep(0.002)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL, "it had ended before it was killed"


def _size(ledger: Path) -> int:
    return sum(f.stat().st_size for f in ledger.glob("*.seg"))


def records(ledger: Path) -> int:
    with Ledger(ledger) as opened:
        return len(opened)


def test_in_process(tmp_path, model_dir, other_dir):
    members = {"a": str(model_dir), "b": str(other_dir)}
    whole = finish(tmp_path / "whole", tmp_path / "whole.json", 24, members)
    total, size = records(tmp_path / "whole"), _size(tmp_path / "whole")
    rng, ledger = random.Random(5), tmp_path / "killed"
    kill_at(rng.uniform(0.1, 0.8) * size, ledger, tmp_path / "killed.json", 24, members)
    print(f"seed 5: killed with {records(ledger)} of {total} records")
    before = records(ledger)
    again = finish(ledger, tmp_path / "again.json", 24, members)
    assert again["results"] == whole["results"]
    assert records(ledger) == total  # each batch was recorded once, so none was computed twice
    assert 0 < before < total
    assert 0 < again["usage"]["computed"] < whole["usage"]["computed"]


def test_over_http(tmp_path, server, stats):
    members = {"a": server, "b": server}
    whole = finish(tmp_path / "whole", tmp_path / "whole.json", 200, members)
    ledger, rng, asked = tmp_path / "killed", random.Random(6), sum(stats()["requests"].values())
    for _ in range(2):
        kill_at(rng.uniform(0.05, 0.4) * _size(tmp_path / "whole"), ledger, tmp_path / "killed.json", 200, members)
        print(f"seed 6: killed with {records(ledger)} of 800 records")
    assert records(ledger) < 800
    assert finish(ledger, tmp_path / "again.json", 200, members)["results"] == whole["results"]
    assert asked == 800
    assert sum(stats()["requests"].values()) - asked <= 800 + 2 * 8  # at most the window was in flight at each kill
