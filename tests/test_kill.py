"""SIGKILL from another process at seeded random moments in every stage: it ends well and nothing is asked twice.

The undisturbed run and the killed one have folders of their own; afterwards every result file that is data (not a
record of effort) is the same byte for byte.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from gra_train.chat import segments
from gra_train.compose import compose
from gra_train.experiment import plan
from gra_train.runs import read_json

SEED = 20250612
KILLS = int(os.environ.get("GRA_KILLS", "1"))
"""Kills in each kind of stage; the nightly run uses three."""
OVERRIDES = ["debug=tiny", "tracking=off", "resources.workers=1"]
"""One stage at a time: two that ask the same at once both compute it, which is no repetition of something finished."""
EVERY = None
"""Every kind of stage that an experiment has."""
SOME = ("seeds", "synthesize", "sft", "rationales", "tune", "evaluate", "compare")
"""Kinds that stand for the others in CI: each calls models, trains, scores or writes tables in a way of its own."""


def start(runs_dir, experiment):
    command = [
        sys.executable, "-m", "gra_train.cli", "run", f"experiment={experiment}", *OVERRIDES, f"runs_dir={runs_dir}"
    ]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def complete(runs_dir, experiment):
    process = start(runs_dir, experiment)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    return errors


def running(runs_dir, stage, launcher):
    """A run of this kind of stage that this launcher is computing now."""
    for status in Path(runs_dir).glob(f"{stage}-*/status.json"):
        token = (read_json(status) or {}).get("token")
        owner = read_json(status.parent / f"lock.{token}") or {}
        if owner.get("pid") == launcher and not owner.get("released") and read_json(status)["state"] == "running":
            return status.parent
    return None


def seconds(runs_dir, stage):
    """How long the longest run of this kind of stage took, undisturbed."""
    return max(read_json(status)["seconds"] for status in Path(runs_dir).glob(f"{stage}-*/status.json"))


def kill_during(runs_dir, experiment, stage, delay):
    """Start the experiment and SIGKILL its launcher `delay` seconds into a stage. False: the stage was never seen."""
    process = start(runs_dir, experiment)
    try:
        deadline = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < deadline:
            if running(runs_dir, stage, process.pid):
                time.sleep(delay)
                process.send_signal(signal.SIGKILL)
                process.wait()
                return True
            time.sleep(0.01)
        return False
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def results(runs_dir):
    """Every file of every result, by run and name; records of effort aside."""
    effort = {"usage.json"}
    return {
        str(file.relative_to(runs_dir)): file.read_bytes()
        for file in sorted(Path(runs_dir).glob("*/result/**/*"))
        if file.is_file() and file.name not in effort
    }


def recorded(runs_dir):
    """How often each key was written to the ledger, over all segments."""
    return Counter(
        body[: segments.KEY]
        for segment in (Path(runs_dir) / "ledger").glob("*.seg")
        for _, _, body in segments.scan(segment)
        if body is not None and not segments.is_end(body)
    )


@pytest.mark.timeout(2400)
@pytest.mark.parametrize(
    ("experiment", "kinds"),
    [
        pytest.param("mini", SOME, marks=pytest.mark.slow),
        pytest.param("mini", EVERY, marks=pytest.mark.nightly),
        pytest.param("mini/baselines", ("direct", "cot", "self_consistency", "tot", "eot", "star", "spin",
                                        "self_rewarding", "answers"), marks=pytest.mark.nightly),
        pytest.param("mini/compare", ("cut",), marks=pytest.mark.nightly),
        pytest.param("mini/refine", ("refine",), marks=pytest.mark.nightly),
    ],
)  # fmt: skip
def test_killed_anywhere_it_goes_on_to_the_same_result(tmp_path, experiment, kinds):
    rng = random.Random(SEED)
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    complete(calm, experiment)
    words = [f"experiment={experiment}", *OVERRIDES, f"runs_dir={calm}"]
    has = dict.fromkeys(node.stage for node in plan(compose(words)))
    stages = [*has] if kinds is EVERY else [*kinds]
    assert not set(stages) - set(has), "a kind of stage that this experiment has not"
    print(f"seed {SEED}")
    for stage in stages:
        for _ in range(KILLS):
            delay = round(rng.uniform(0, seconds(calm, stage)), 2)
            for finished in killed.glob(f"{stage}-*"):
                if (read_json(finished / "status.json") or {}).get("state") == "done":
                    shutil.rmtree(finished)  # an earlier pass got through it: make it again, under fire this time
            assert kill_during(killed, experiment, stage, delay), f"{stage} was never seen running"
            print(f"killed {delay:.2f} s into {stage}")
    complete(killed, experiment)

    expected, found = results(calm), results(killed)
    assert expected.keys() == found.keys()
    different = [name for name in expected if expected[name] != found[name]]
    assert not different
    assert recorded(calm).keys() == recorded(killed).keys(), "other questions were asked"
    twice = [key for key, n in recorded(killed).items() if n > 1]
    assert not twice, f"{len(twice)} finished completions were asked for again"


@pytest.mark.slow
def test_running_again_computes_nothing(tmp_path):
    complete(tmp_path, "mini")
    before = results(tmp_path)
    started = time.monotonic()
    process = subprocess.run(
        [sys.executable, "-m", "gra_train.cli", "run", "experiment=mini", *OVERRIDES, f"runs_dir={tmp_path}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert time.monotonic() - started < 20
    assert "0 of" in process.stdout
    assert "calls to models: 0 made" in process.stdout
    assert results(tmp_path) == before
