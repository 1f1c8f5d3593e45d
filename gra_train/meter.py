"""What a stage took, by measurement: wall and CPU seconds, GPU-seconds and energy (NVML), energy of the CPUs (RAPL).

Written into the run folder as effort.json, never into a result: it differs each time. What cannot be measured here is
null, never an estimate. A stage that was stopped and goes on adds up; of a killed attempt all but its last seconds
count.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gra_train.runs import read_json, write_json

EVERY_S = 1.0
KEPT_EVERY_S = 5.0
RAPL = Path("/sys/class/powercap")
MEASURES = ("seconds", "cpu_seconds", "gpu_seconds", "gpu_joules", "cpu_joules")


@contextmanager
def measured(file: Path) -> Iterator[None]:
    """Measure this process and its children while the block runs; the sums are in `file`, also if it raises."""
    before = read_json(file) or {}
    meter = Meter()
    stop = threading.Event()

    def keep() -> None:
        with suppress(OSError):  # a full disk is the stage's to report
            write_json(file, added(before, meter.read()))

    def watch() -> None:
        kept = time.monotonic()
        while not stop.wait(EVERY_S):
            meter.sample()
            if time.monotonic() - kept >= KEPT_EVERY_S:
                kept = time.monotonic()
                keep()

    thread = threading.Thread(target=watch, name="meter", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        meter.sample()
        keep()


def added(before: dict[str, Any], now: dict[str, float | None]) -> dict[str, Any]:
    """Sums over attempts; what one attempt did not measure is not known of the whole."""
    attempts = before.get("attempts", 0)
    found: dict[str, Any] = {"attempts": attempts + 1}
    for name in MEASURES:
        value, earlier = now[name], before.get(name) if attempts else 0.0
        found[name] = None if value is None or earlier is None else round(value + earlier, 3)
    return found


class Meter:
    """Counts from its making on."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.cpu = _cpu_seconds()
        self.rapl = Rapl()
        self.gpus = Gpus()

    def sample(self) -> None:
        self.rapl.sample()
        self.gpus.sample()

    def read(self) -> dict[str, float | None]:
        return {
            "seconds": time.monotonic() - self.started,
            "cpu_seconds": _cpu_seconds() - self.cpu,
            "gpu_seconds": self.gpus.seconds,
            "gpu_joules": self.gpus.joules,
            "cpu_joules": self.rapl.joules,
        }


def _cpu_seconds() -> float:
    """Of this process, its ended children and those that run now (servers of ours)."""
    import psutil

    times = os.times()
    total = times.user + times.system + times.children_user + times.children_system
    with suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                found = child.cpu_times()
                total += found.user + found.system
    return total


class Rapl:
    """Energy counters of the CPU packages (Intel and AMD): of the whole machine, whoever uses it. None: no counters."""

    def __init__(self) -> None:
        self.zones = [zone for zone in sorted(RAPL.glob("intel-rapl:*")) if zone.name.count(":") == 1]
        self.last = [self._microjoules(zone) for zone in self.zones]
        self.joules: float | None = 0.0 if self.zones and None not in self.last else None

    def sample(self) -> None:
        if self.joules is None:
            return
        for i, zone in enumerate(self.zones):
            now, before = self._microjoules(zone), self.last[i]
            if now is None or before is None:
                self.joules = None
                return
            more = now - before
            if more < 0:  # the counter began again
                more += int((zone / "max_energy_range_uj").read_text())
            self.last[i] = now
            self.joules += more / 1e6

    @staticmethod
    def _microjoules(zone: Path) -> int | None:
        try:
            return int((zone / "energy_uj").read_text())
        except (OSError, ValueError):
            return None


@dataclass
class Gpus:
    """GPUs that this process or a child of it computes on: how long, and what they took meanwhile. None: no NVML."""

    seconds: float | None = None
    joules: float | None = None
    _nvml: Any = None
    _last: dict[Any, int | None] = field(default_factory=dict)
    _at: float = 0.0

    def __post_init__(self) -> None:
        try:
            import pynvml

            pynvml.nvmlInit()
            handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        except Exception:  # no library, no driver, no permission: not measured
            return
        self._nvml, self.seconds, self.joules, self._at = pynvml, 0.0, 0.0, time.monotonic()
        self._last = {pynvml.nvmlDeviceGetUUID(handle): self._millijoules(handle) for handle in handles}

    def sample(self) -> None:
        if self._nvml is None or self.seconds is None:
            return
        now = time.monotonic()
        passed, self._at = now - self._at, now
        used = self._used()
        for uuid, before in self._last.items():
            energy = self._millijoules(self._nvml.nvmlDeviceGetHandleByUUID(uuid))
            self._last[uuid] = energy
            if _plain(uuid) not in used:
                continue
            self.seconds += passed
            known = energy is not None and before is not None and self.joules is not None
            self.joules = self.joules + (energy - before) / 1e3 if known else None  # type: ignore[operator]

    def _used(self) -> set[str]:
        """UUIDs of the GPUs that torch holds memory on here, or on which NVML sees us or a child of ours."""
        import psutil

        used = set()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            for i in range(torch.cuda.device_count()):
                if torch.cuda.memory_reserved(i):
                    used.add(_plain(str(torch.cuda.get_device_properties(i).uuid)))
        ours = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
        for uuid in self._last:
            with suppress(self._nvml.NVMLError):
                running = self._nvml.nvmlDeviceGetComputeRunningProcesses(self._nvml.nvmlDeviceGetHandleByUUID(uuid))
                if ours & {process.pid for process in running}:
                    used.add(_plain(uuid))
        return used

    def _millijoules(self, handle: Any) -> int | None:
        try:
            return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(handle))
        except self._nvml.NVMLError:  # older than Volta
            return None


def _plain(uuid: str) -> str:
    return uuid.removeprefix("GPU-").lower()
