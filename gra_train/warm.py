"""Warm workers: processes that keep their imports from one stage to the next, and from one experiment of a sweep to the
next. They run `gra_train.worker` and die with this process, whatever kills it."""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any


class Worker:
    """A warm worker process; started at the first job, restarted if it died."""

    def __init__(self, environ: dict[str, str]) -> None:
        self.environ = environ
        self.process: subprocess.Popen[str] | None = None
        self.on_gpu = False

    def run(self, folder: Path, out: Path) -> dict[str, Any]:
        if self.process is None or self.process.poll() is not None:
            self.process = _starter().start_worker(partial(self._start, folder / "log.txt"))
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            job = {"folder": str(folder), "out": str(out), "launcher": os.getpid()}
            print(json.dumps(job), file=self.process.stdin, flush=True)
            reply = self.process.stdout.readline()
        except BrokenPipeError:
            reply = ""
        if reply:
            outcome: dict[str, Any] = json.loads(reply)
            self.on_gpu = outcome.pop("on_gpu")
            return outcome
        return {"ok": False, "kind": "died", "message": f"its process ended ({describe_exit(self.process.wait())})"}

    def close(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _start(self, log: Path) -> subprocess.Popen[str]:
        with log.open("ab") as errors:
            return subprocess.Popen(
                [sys.executable, "-m", "gra_train.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=errors, text=True, env=self.environ,
            )  # fmt: skip


class Starter(threading.Thread):
    """Starts all workers: they die with the thread that started them (leash.py), and this one lives as long as we."""

    def __init__(self) -> None:
        super().__init__(name="starter", daemon=True)
        self._orders: SimpleQueue[tuple[Callable[[], subprocess.Popen[str]], Future[subprocess.Popen[str]]]]
        self._orders = SimpleQueue()

    def run(self) -> None:
        while True:
            start, process = self._orders.get()
            try:
                process.set_result(start())
            except BaseException as error:
                process.set_exception(error)

    def start_worker(self, start: Callable[[], subprocess.Popen[str]]) -> subprocess.Popen[str]:
        process: Future[subprocess.Popen[str]] = Future()
        self._orders.put((start, process))
        return process.result()


@cache
def _starter() -> Starter:
    starter = Starter()
    starter.start()
    return starter


_idle: list[Worker] = []
"""Workers that the last experiment left, for the next one of a sweep: imports take longer than many a stage."""
_idle_lock = threading.Lock()


@contextmanager
def warm_worker(threads: int) -> Iterator[Worker]:
    """A worker with `threads` threads, perhaps of an earlier experiment.

    It is kept for a later one unless an exception comes, or it holds memory of a GPU: the next experiment's stages
    would find that taken, and be charged for it.
    """
    environ = environment(threads)
    with _idle_lock:
        for other in [one for one in _idle if one.environ != environ]:
            _idle.remove(other)
            other.close()
        worker = _idle.pop() if _idle else Worker(environ)
    try:
        yield worker
    except BaseException:
        worker.close()
        raise
    if worker.on_gpu:
        worker.close()
        return
    with _idle_lock:
        _idle.append(worker)


@atexit.register
def close_idle_workers() -> None:
    while _idle:
        _idle.pop().close()


def environment(threads: int) -> dict[str, str]:
    """The environment of a worker: one place that sets threads, silences the hub, lets DeepSpeed find ninja, and keeps
    threads from holding memory of their own. What W&B leaves there for its own processes is no business of theirs."""
    inherited = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    return {
        "MALLOC_ARENA_MAX": "2",
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        **inherited,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
    }


def describe_exit(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return f"killed by {name}" + (", perhaps out of memory" if name == "SIGKILL" else "")
