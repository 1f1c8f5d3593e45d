"""When a training stops and saves by itself: SIGTERM, the end of its time, minutes gone by, a lost loss."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from gra_train.cluster import job_end
from gra_train.errors import UserError
from gra_train.runs import Stopped
from gra_train.settings import change
from gra_train.training import stopping
from gra_train.training.arguments import Place
from gra_train.training.health import WINDOW, Health
from gra_train.training.sft import train_sft
from gra_train.training.stopping import Stopping, deadline


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def ask(stop: Stopping, clock: Clock, seconds: float) -> list[float]:
    clock.now += seconds
    return stop.wishes(first=True)


def test_it_stops_while_a_step_and_a_save_still_fit(tmp_path):
    """Steps of 10 s, saves of 40 s: the guard needs 10 + 1.5 * 40 + 5 = 75 s."""
    clock = Clock()
    stop = Stopping(tmp_path / "w", must_save_by=1200.0, save_minutes=0, save_s=1.0, clock=clock)
    assert ask(stop, clock, 10) == [0, 0, 0, 0]
    clock.now += 40
    stop.saved(40.0)
    assert stop.needed_s() == 75
    assert ask(stop, clock, 10)[2] == 0  # 1060
    while clock.now < 1115:
        assert ask(stop, clock, 10)[2] == 0
    assert ask(stop, clock, 10)[2] == 1  # 1130 + 75 > 1200
    assert stop.wishes(first=False)[2] == 0  # rank 0 speaks for all


def test_the_longest_save_counts_and_the_guess_does_not_once_one_is_measured(tmp_path):
    stop = Stopping(tmp_path / "w", must_save_by=None, save_minutes=0, save_s=500.0, clock=Clock())
    stop.saved(3.0)
    stop.saved(2.0)
    assert stop.save_s == 3.0


def test_a_save_is_due_after_so_many_minutes_without_one(tmp_path):
    clock = Clock()
    stop = Stopping(tmp_path / "w", must_save_by=None, save_minutes=2, save_s=1.0, clock=clock)
    assert ask(stop, clock, 100)[3] == 0
    assert ask(stop, clock, 30)[3] == 1
    stop.saved(1.0)
    assert ask(stop, clock, 60)[3] == 0


def test_deadlines_are_read_from_the_setting_or_from_slurm(monkeypatch):
    assert deadline("off") is None
    assert deadline("2026-01-31T18:00+00:00") == 1769882400
    with pytest.raises(UserError, match=r"must_save_by='tomorrow'.*2026-01-31T18:00"):
        deadline("tomorrow")
    monkeypatch.setenv("SLURM_JOB_END_TIME", "1769882400")
    assert deadline("auto") == 1769882400
    assert job_end({}) is None


@pytest.fixture
def cpu(model, examples, train):
    def run(out: Path, **changes) -> list[dict]:
        out.mkdir(parents=True, exist_ok=True)
        train_sft(model, examples, change(train, **changes), out=out, seed=0, place=Place("cpu"))
        return [json.loads(line) for line in (out.parent / "metrics.jsonl").read_text().splitlines()]

    return run


def test_a_training_whose_time_is_up_saves_and_stops_and_goes_on(cpu, tmp_path):
    past = "2020-01-01T00:00"
    with pytest.raises(Stopped, match=r"step 1 of 8, its time is nearly up"):
        cpu(tmp_path / "cut" / "w", must_save_by=past)
    assert (tmp_path / "cut" / "checkpoints" / "checkpoint-1" / "complete.json").is_file()
    cut, whole = cpu(tmp_path / "cut" / "w"), cpu(tmp_path / "whole" / "w")
    assert [line["loss"] for line in cut] == [line["loss"] for line in whole]


def test_a_wrong_time_is_refused_before_anything_is_loaded(cpu, tmp_path):
    with pytest.raises(UserError, match="must_save_by"):
        cpu(tmp_path / "run" / "w", must_save_by="soon")
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.fixture
def nobody_catches_sigterm():
    """As in a process of its own: a handler that somebody has installed would be left alone."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("nobody_catches_sigterm")
def test_sigterm_saves_and_stops_and_the_handler_goes(cpu, tmp_path, monkeypatch):
    before = stopping.stop_requested

    def signalled(out):
        os.kill(os.getpid(), signal.SIGTERM)
        return before(out)

    with monkeypatch.context() as patch:
        patch.setattr(stopping, "stop_requested", signalled)
        with pytest.raises(Stopped, match=r"step 1 of 8, asked by SIGTERM"):
            cpu(tmp_path / "cut" / "w")
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    cut, whole = cpu(tmp_path / "cut" / "w"), cpu(tmp_path / "whole" / "w")
    assert [line["loss"] for line in cut] == [line["loss"] for line in whole]


def test_a_save_every_so_many_minutes(cpu, tmp_path, monkeypatch):
    """A clock on which every look is a minute later: with save_minutes=3 a checkpoint every few steps."""
    looks = iter(range(10**6))
    monkeypatch.setattr(time, "time", lambda: 60.0 * next(looks))
    monkeypatch.setattr(stopping.Stopping.__init__, "__kwdefaults__", {"clock": lambda: 60.0 * next(looks)})
    cpu(tmp_path / "run" / "w", save_minutes=3.0, steps=12, keep_checkpoints=9)
    saved = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert len(saved) >= 2
    assert "checkpoint-12" not in saved


def test_a_loss_far_above_its_beginning_ends_the_training(tmp_path):
    health = Health(tmp_path, 3.0)
    for step in range(1, WINDOW + 1):
        health.check(step, 1.0, 1.0, scaled=False)
    for step in range(WINDOW + 1, WINDOW + 6):
        health.check(step, 9.0, 1.0, scaled=False)  # five nines among fifteen ones: 3.0
    with pytest.raises(UserError, match=r"the loss diverges.*max_loss_ratio=3\.0.*no checkpoint yet"):
        health.check(WINDOW + 6, 9.0, 1.0, scaled=False)
    free = Health(tmp_path, 0.0, [1.0] * WINDOW)
    for step in range(WINDOW + 1, 4 * WINDOW):
        free.check(step, 99.0, 1.0, scaled=False)


def test_the_best_checkpoint_is_known_by_the_same_losses_after_a_resumption(tmp_path):
    """Not by the few steps since: a lucky batch would make a checkpoint the best of all."""
    losses = [2.0] * WINDOW + [1.0, 3.0] * WINDOW
    whole, resumed = Health(tmp_path, 0.0), Health(tmp_path, 0.0)
    for step, loss in enumerate(losses, 1):
        if step == 30:
            facts = resumed.facts()
            resumed = Health(tmp_path, 0.0, facts["first_losses"], facts["recent_losses"])
        for health in (whole, resumed):
            health.check(step, loss, 1.0, scaled=False)
        assert resumed.facts() == whole.facts()
    older = Health(tmp_path, 0.0, [2.0] * WINDOW)  # of a checkpoint that does not say
    older.check(40, 0.1, 1.0, scaled=False)
    assert older.loss is None


def test_a_gradient_that_is_not_finite_ends_it_unless_the_loss_is_scaled(tmp_path):
    Health(tmp_path, 3.0).check(1, 1.0, float("inf"), scaled=True)
    with pytest.raises(UserError, match=r"gradient norm inf"):
        Health(tmp_path, 3.0).check(1, 1.0, float("inf"), scaled=False)


def test_a_diverging_training_keeps_its_good_checkpoints(cpu, tmp_path):
    """A real one: learns for a while at a bearable rate, then gets one that no model bears."""
    with pytest.raises(UserError, match=r"the loss diverges.*Good checkpoints are kept: checkpoint-"):
        cpu(
            tmp_path / "run" / "w", steps=200, lr=3.0, warmup=0.5, save_steps=10, keep_checkpoints=2, max_loss_ratio=1.5
        )
