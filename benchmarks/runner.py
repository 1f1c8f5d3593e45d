"""Running one client against the server, and what it cost: the processes, the clock and the counts at the server."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import texts
from environments import Unavailable, python_of

HERE = Path(__file__).parent
WORK = HERE / "work" / str(os.getpid())
SAMPLE_S = 0.2
STARTING_S = 1.0
OURS, BARE = "gra_train", "bare aiohttp"
SIDES = {OURS: HERE / "sides" / "ours.py", BARE: HERE / "sides" / "bare.py"}
QUIET = {
    "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONWARNINGS": "ignore",
    "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1",
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """What is asked of a client. rows: of a plain shape one call each, of a GRA shape ten."""

    shape: str
    latency: float
    concurrency: int
    rows: int
    stragglers: float = 0.0

    @property
    def calls(self) -> int:
        return self.rows * (1 if self.shape == "plain" else 10)

    @property
    def ideal(self) -> float:
        """Calls per second if all slots were always full: concurrency over mean latency (stragglers take ten times)."""
        return self.concurrency / (self.latency * (1 + 9 * self.stragglers))

    @property
    def name(self) -> str:
        late = f", {self.stragglers:.0%} stragglers" if self.stragglers else ""
        return f"{'one call' if self.shape == 'plain' else 'GRA'} ({self.latency:g} s, {self.concurrency}){late}"


@dataclass(frozen=True)
class Outcome:
    """One run of one client. failure: why there are no numbers, or "".

    throughput: calls per second from the first request's arrival to the last answer; middle: over the middle half of
    the answers. cpu_ms: of the client per call, without what a framework spends before its first. first_s: from
    the start of the work (after imports) to the first call. peak_mb: resident memory of all the client's processes.
    """

    side: str
    version: str
    rows: int
    lost: int
    calls: int
    throughput: float
    middle: float
    cpu_ms: float
    peak_mb: float
    wall_s: float
    first_s: float
    in_flight: int
    server_cpu: float
    server_late_ms: float
    failure: str = ""


class Server:
    """The stub server's address, and how it is set and asked."""

    def __init__(self, port: int, loop: str) -> None:
        self.base, self.loop = f"http://127.0.0.1:{port}", loop

    def set(self, cell: Cell) -> None:
        self._post("/control", {"latency": cell.latency, "stragglers": cell.stragglers, "slow": 10})

    def stats(self) -> dict[str, Any]:
        return self._post("/stats", None)

    def _post(self, path: str, body: Any) -> dict[str, Any]:
        request = urllib.request.Request(self.base + path, data=None if body is None else json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=30) as response:
            answer: dict[str, Any] = json.load(response)
            return answer


@contextmanager
def server(python: Path | None = None) -> Iterator[Server]:
    """The stub server as a process of its own (of `python`, or in its own environment), with this run's texts."""
    if python is None:
        try:
            python = python_of("stub")
        except Unavailable as error:
            say(f"the server goes without uvloop: {error}")
            python = Path(sys.executable)
    WORK.mkdir(parents=True, exist_ok=True)
    (WORK / "answers.json").write_text(json.dumps(texts.answers()))
    (WORK / "prompts.json").write_text(json.dumps(texts.prompts()))
    command = [str(python), str(HERE / "stub.py"), "--answers", str(WORK / "answers.json")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield Server(**json.loads(process.stdout.readline()))
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(WORK, ignore_errors=True)


class Watch(threading.Thread):
    """Samples CPU time and resident memory of a process and its descendants until it ends."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._root = psutil.Process(pid)
        self.samples: list[tuple[float, float, float]] = []
        """(time, CPU seconds, resident bytes)"""

    def run(self) -> None:
        while self._root.is_running() and self._root.status() != psutil.STATUS_ZOMBIE:
            cpu = memory = 0.0
            try:
                for process in (self._root, *self._root.children(recursive=True)):
                    with process.oneshot():
                        cpu += sum(process.cpu_times()[:4])
                        memory += process.memory_info().rss
            except psutil.Error:
                continue
            finally:
                time.sleep(SAMPLE_S)
            self.samples.append((time.perf_counter(), cpu, memory))
            self.sampled()

    def sampled(self) -> None:
        """Told after each sample."""

    def cpu_at(self, moment: float) -> float:
        """CPU seconds spent by `moment`, between two samples in proportion."""
        before = (0.0, 0.0, 0.0)
        for sample in self.samples:
            if sample[0] >= moment:
                share = (moment - before[0]) / (sample[0] - before[0]) if before[0] else 1.0
                return before[1] + share * (sample[1] - before[1])
            before = sample
        return before[1]


def run(
    side: str,
    python: Path,
    script: Path,
    cell: Cell,
    at: Server,
    *,
    limit_s: float,
    watch: Callable[[int], Watch] = Watch,
) -> Outcome:
    """Start the client, wait for it, and put together what it says with what the server counted."""
    folder = WORK / "run"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    task = {
        "url": f"{at.base}/v1", "shape": cell.shape, "rows": cell.rows, "concurrency": cell.concurrency,
        "work": str(folder), "prompts": str(WORK / "prompts.json"),
    }  # fmt: skip
    environment = {**os.environ, **QUIET, "PYTHONPATH": str(HERE.parent) if side == OURS else "", "HOME": str(folder)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    at.set(cell)
    with (folder / "errors.txt").open("wb") as errors:
        process = subprocess.Popen([str(python), str(script), json.dumps(task)], stdout=subprocess.PIPE, stderr=errors,
                                   env=environment, cwd=folder, start_new_session=True)  # fmt: skip
        watching = watch(process.pid)
        watching.start()
        try:
            output, _ = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            end(process)
            return _failed(side, cell, f"not done after {limit_s:.0f} s ({at.stats()['calls']} calls)")
        except BaseException:
            end(process)
            raise
    watching.join()
    try:
        said = json.loads(output.strip().splitlines()[-1])
    except (ValueError, IndexError):
        lines = (folder / "errors.txt").read_text(errors="replace").strip().splitlines() or ["no output"]
        say("\n".join(lines[-30:]))
        named = [line for line in lines if re.match(r"\w*(Error|Exception|Exit)\b", line)]
        return _failed(side, cell, (named or lines)[-1][:200])
    return _outcome(side, cell, said, at.stats(), watching)


def _outcome(side: str, cell: Cell, said: dict[str, Any], counted: dict[str, Any], watch: Watch) -> Outcome:
    first_s = counted["first"] - said["started"]
    starting = max(0.0, watch.cpu_at(counted["first"]) - said["cpu_before_s"]) if first_s > STARTING_S else 0.0
    return Outcome(
        side=side, version=said.get("version", ""), rows=said["rows"], lost=cell.rows - said["rows"],
        calls=counted["calls"], throughput=counted["answered"] / counted["window_s"],
        middle=0.5 * counted["answered"] / max(counted["middle_s"], 1e-9),
        cpu_ms=1e3 * (said["cpu_s"] - starting) / counted["calls"],
        peak_mb=max((memory for *_, memory in watch.samples), default=0.0) / 1e6,
        wall_s=said["wall_s"], first_s=first_s, in_flight=counted["most_in_flight"],
        server_cpu=counted["cpu_s"] / counted["window_s"], server_late_ms=counted["late_ms"]["mean"],
    )  # fmt: skip


def _failed(side: str, cell: Cell, why: str) -> Outcome:
    return Outcome(side, "", 0, cell.rows, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, why)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a client and all that it started."""
    try:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for member in family:
        if member.is_running():
            member.kill()
    process.communicate()


def as_json(cell: Cell, outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    return [asdict(cell) | asdict(outcome) for outcome in outcomes]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
