"""Run folders: identity, lock, fencing, takeover after a kill, tampering, publication."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from gra_train.errors import FencedError, LockedError, UserError
from gra_train.runs import Run, content_hash, lease, log_metrics, stop_requested


def make(folder, text="data"):
    run = Run(folder)
    with lease(run) as held:
        (held.out / "data.jsonl").write_text(text)
        held.finish(1.0)
    return run


def test_a_finished_run_is_done_and_has_its_result(tmp_path):
    run = make(tmp_path / "a")
    assert run.is_done()
    assert (run.result / "data.jsonl").read_text() == "data"
    assert not list(run.folder.glob("work-*"))


def test_a_changed_result_is_refused(tmp_path):
    run = make(tmp_path / "a")
    (run.result / "data.jsonl").write_text("dat4")
    with pytest.raises(UserError, match="changed or removed after run a had finished"):
        run.is_done()


def test_a_second_owner_is_refused_while_the_first_lives(tmp_path):
    run = Run(tmp_path / "a")
    with lease(run), pytest.raises(LockedError, match=f"process {os.getpid()}"), lease(run, wait=False):
        pass


def test_the_lock_is_free_after_an_error(tmp_path):
    run = Run(tmp_path / "a")
    with pytest.raises(RuntimeError), lease(run):
        raise RuntimeError
    with lease(run, wait=False) as held:
        assert held.token == 2


CHILD = """
    import sys, time
    from pathlib import Path
    from gra_train.runs import Run, lease
    with lease(Run(Path(sys.argv[1]))) as held:
        (held.out / "half").write_text("half")
        print("owned", flush=True)
        time.sleep(60)
"""


def child(folder):
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "owned\n"
    return process


def test_a_killed_owner_is_taken_over_with_its_work(tmp_path):
    process = child(tmp_path / "a")
    process.send_signal(signal.SIGKILL)
    process.wait()
    with lease(Run(tmp_path / "a"), wait=False) as held:
        assert held.token == 2
        assert (held.out / "half").read_text() == "half"


def test_waiting_ends_when_the_owner_dies(tmp_path):
    process = child(tmp_path / "a")
    seen = []

    def kill(owner):
        seen.append(owner["pid"])
        process.send_signal(signal.SIGKILL)
        process.wait()

    with lease(Run(tmp_path / "a"), on_wait=kill) as held:
        assert held.token == 2
    assert seen == [process.pid]


def test_an_owner_that_slept_through_its_takeover_cannot_publish(tmp_path):
    run = Run(tmp_path / "a")
    with lease(run) as sleeper:
        lock = run.folder / "lock.1"
        owner = json.loads(lock.read_text())
        lock.write_text(json.dumps({**owner, "host": "elsewhere"}))  # another machine's owner ...
        os.utime(lock, (time.time() - 600,) * 2)  # ... that has not given a sign of life for ten minutes
        with lease(run, wait=False) as thief:
            (thief.out / "data.jsonl").write_text("thief")
            with pytest.raises(FencedError):
                sleeper.finish(1.0)
            with pytest.raises(FencedError):
                sleeper.mark("failed")
            thief.finish(1.0)
    assert (run.result / "data.jsonl").read_text() == "thief"
    assert run.is_done()


def test_a_crash_between_rename_and_mark_is_not_done(tmp_path):
    run = make(tmp_path / "a")
    (run.folder / "status.json").unlink()
    assert not run.is_done()
    with lease(run) as held:
        assert (held.out / "data.jsonl").exists()
        assert not run.result.exists()


def test_a_stale_stop_request_is_removed_and_a_new_one_is_seen(tmp_path, monkeypatch):
    run = Run(tmp_path / "a")
    run.folder.mkdir()
    (run.folder / "STOP").touch()
    with lease(run) as held:
        assert not stop_requested(held.out)
        (run.folder / "STOP").touch()
        assert stop_requested(held.out)
        (run.folder / "STOP").unlink()
        monkeypatch.setenv("GRA_STOP_FILE", str(tmp_path / "all"))
        assert not stop_requested(held.out)
        (tmp_path / "all").touch()
        assert stop_requested(held.out)


def test_an_unwritable_place_is_said(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(UserError, match="runs_dir"), lease(Run(blocker / "a")):
        pass


def test_metrics_are_lines(tmp_path):
    out = tmp_path / "work-1"
    log_metrics(out, {"step": 1, "loss": 2.0})
    log_metrics(out, {"step": 2, "loss": 1.0})
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").open()] == [1, 2]


def test_content_hash_ignores_order():
    assert content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1}) != content_hash({"a": 1, "b": 3})
