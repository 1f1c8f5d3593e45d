"""What a stage took: real seconds of this process; counters of energy as the kernel and NVML give them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gra_train import meter
from gra_train.meter import MEASURES, Gpus, Rapl, added, measured


def test_seconds_of_a_block_add_up_over_attempts(tmp_path: Path) -> None:
    file = tmp_path / "effort.json"
    with measured(file):
        subprocess.run([sys.executable, "-c", "sum(i * i for i in range(2_000_000))"], check=True)
    first = json.loads(file.read_text())
    assert first["attempts"] == 1
    assert first["cpu_seconds"] > 0, "children count"
    assert first["seconds"] > 0
    with pytest.raises(ZeroDivisionError), measured(file):
        1 / 0  # noqa: B018
    second = json.loads(file.read_text())
    assert second["attempts"] == 2
    assert second["seconds"] >= first["seconds"]


def test_what_one_attempt_did_not_measure_is_not_known_of_the_whole() -> None:
    one = dict.fromkeys(MEASURES, 1.0)
    once = added({}, {**one, "gpu_joules": None})
    assert once == {"attempts": 1, **one, "gpu_joules": None}
    assert added(once, one) == {"attempts": 2, **dict.fromkeys(MEASURES, 2.0), "gpu_joules": None}


def test_rapl_counts_packages_and_survives_the_end_of_a_counter(tmp_path: Path, monkeypatch: Any) -> None:
    """Two packages; the parts inside of one do not count twice."""
    monkeypatch.setattr(meter, "RAPL", tmp_path)

    def say(zone: str, microjoules: int) -> None:
        (tmp_path / zone).mkdir(exist_ok=True)
        (tmp_path / zone / "energy_uj").write_text(f"{microjoules}\n")
        (tmp_path / zone / "max_energy_range_uj").write_text("10000000\n")

    say("intel-rapl:0", 1_000_000)
    say("intel-rapl:0:0", 0)
    say("intel-rapl:1", 9_000_000)
    rapl = Rapl()
    say("intel-rapl:0", 3_000_000)
    say("intel-rapl:0:0", 5_000_000)
    say("intel-rapl:1", 500_000)  # began again at 10 J
    rapl.sample()
    assert rapl.joules == pytest.approx(2 + 1.5)
    (tmp_path / "intel-rapl:1" / "energy_uj").unlink()
    rapl.sample()
    assert rapl.joules is None


def test_no_meter_no_number(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(meter, "RAPL", tmp_path)
    assert Rapl().joules is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    found = Gpus()
    found.sample()
    assert (found.seconds, found.joules) == (None, None)


def test_only_gpus_that_we_compute_on_count(monkeypatch: Any) -> None:
    """A stand-in for NVML with two GPUs, one of them in use by a process of ours: no GPU is needed for this test."""
    import os

    energy = {"GPU-a": 1000, "GPU-b": 5000}
    nvml = SimpleNamespace(
        NVMLError=RuntimeError,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda i: ["GPU-a", "GPU-b"][i],
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetUUID=lambda handle: handle,
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: energy[handle],
        nvmlDeviceGetComputeRunningProcesses=lambda handle: (
            [SimpleNamespace(pid=os.getpid())] if handle == "GPU-a" else [SimpleNamespace(pid=1)]
        ),
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    gpus = Gpus()
    energy |= {"GPU-a": 4000, "GPU-b": 50_000}
    gpus._at -= 2.0
    gpus.sample()
    assert gpus.joules == 3.0
    assert gpus.seconds is not None
    assert gpus.seconds >= 2.0
