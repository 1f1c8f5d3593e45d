"""Warm workers, real processes: kept for the next experiment, or ended."""

import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from gra_train import warm
from gra_train.launch import Executor


@pytest.fixture(autouse=True)
def none_left():
    warm.close_idle_workers()
    yield
    warm.close_idle_workers()


@pytest.fixture
def job(tmp_path):
    """A job that fails at once, in its way: it needs no imports."""
    (tmp_path / "config.yaml").write_text("stage: none")

    def run(worker):
        assert worker.run(tmp_path, tmp_path / "work-1")["kind"] == "bug"
        return worker.process

    return run


def test_a_worker_is_kept_for_the_next_experiment_though_its_thread_ended(job):
    seen = []

    def experiment():
        with warm.warm_worker(1) as worker:
            seen.append(job(worker))

    for _ in range(2):
        (thread := threading.Thread(target=experiment)).start()
        thread.join()
    assert seen[0] is seen[1]
    assert seen[0].poll() is None
    warm.close_idle_workers()
    assert seen[0].poll() is not None


def test_one_with_another_environment_makes_room(job, monkeypatch):
    with warm.warm_worker(1) as worker:
        first = job(worker)
    monkeypatch.setenv("WANDB_SERVICE", "left by W&B between two runs of a sweep")
    with warm.warm_worker(1) as worker:
        assert job(worker) is first
    with warm.warm_worker(2) as worker:
        assert first.poll() is not None
        assert job(worker) is not first


def test_after_an_exception_or_on_a_gpu_it_is_ended(job):
    with pytest.raises(RuntimeError), warm.warm_worker(1) as worker:  # noqa: PT012
        process = job(worker)
        raise RuntimeError
    assert process.poll() is not None
    with warm.warm_worker(1) as worker:
        process = job(worker)
        worker.on_gpu = True
    assert process.poll() is not None


def test_workers_die_with_their_launcher(tmp_path):
    (tmp_path / "config.yaml").write_text("stage: none")
    program = (
        "import os, signal\nfrom pathlib import Path\nfrom gra_train import warm\n"
        f"with warm.warm_worker(1) as worker:\n    worker.run(Path({str(tmp_path)!r}), Path({str(tmp_path / 'w')!r}))\n"
        "    print(worker.process.pid, flush=True)\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    pid, deadline = int(done.stdout), time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(pid)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_failure_is_told_before_its_worker_is_ended(monkeypatch):
    """Others would begin another stage, perhaps of hours, while a large process is taken down."""
    events = []

    class Slow(warm.Worker):
        def close(self):
            events.append("ended")
            time.sleep(0.5)

    def run(self, node, worker):
        events.append(node.run_id)
        if node.run_id == "bad":
            raise RuntimeError("bad")
        time.sleep(0.2)

    monkeypatch.setattr(warm, "Worker", Slow)
    monkeypatch.setattr(Executor, "_run", run)
    nodes = [SimpleNamespace(run_id=name, inputs={}) for name in ("bad", "short", "late")]
    config = SimpleNamespace(runs_dir="runs", resources=SimpleNamespace(workers=2, threads=1))
    with pytest.raises(RuntimeError, match="bad"):
        Executor(nodes, config, SimpleNamespace(running={})).execute()
    assert "late" not in events
    assert "ended" in events
