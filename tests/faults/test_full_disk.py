"""A disk that fills up in the middle of a synthesis: a clear end, everything kept, and with more room the same data."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import MODELS, WINDOW, wait_for

pytestmark = [pytest.mark.faults, pytest.mark.mount]
SEED = 20260515


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    folder = tmp_path / "client"
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=220m", "none", folder], capture_output=True, text=True)
    if mount.returncode:
        pytest.skip(f"no small disk can be mounted here: {mount.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(file: Path) -> None:
    with file.open("wb", buffering=0) as ballast:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    ballast.write(b"\1" * size)
            except OSError:
                continue


@pytest.mark.slow
def test_full_disk(disk, server, client, calm):
    rng, run = random.Random(SEED), client(server.url)
    server.control(latency=0.2)
    run.start()
    wait_for(server, 0.4 * calm["calls"], run)
    time.sleep(delay := rng.uniform(0, 0.15))
    fill(disk / "ballast")
    print(f"seed {SEED}: the disk is full {delay:.3f} s after 40% of {calm['calls']} calls")
    code, said = run.end()
    assert code in (1, 2), said
    assert "No space left" in said or "is full" in said
    assert "make room" in said
    assert "Traceback" not in said
    (disk / "ballast").unlink()
    kept, sent = run.recorded(), server.stats()
    assert kept >= 0.4 * calm["calls"] - MODELS * WINDOW
    run.complete()
    assert run.results() == calm["results"]
    assert (
        server.stats()["again"] <= sent["requests"] - kept <= 2 * MODELS * WINDOW
    )  # in flight, and waiting for a retry
