"""Checkpoints: complete or not, broken, of other data, too many, and on a full disk."""

import json
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from gra_train.errors import UserError
from gra_train.runs import Stopped
from gra_train.settings import change
from gra_train.training import checkpoints, stopping
from gra_train.training.arguments import Place
from gra_train.training.rows import example
from gra_train.training.sft import train_sft

FACTS = {"data": "d", "settings": "s"}


def make(folder: Path, step: int, **facts) -> Path:
    written = folder / checkpoints.UNFINISHED / f"checkpoint-{step}"
    written.mkdir(parents=True)
    (written / "weights").write_text(f"weights of {step}")
    return checkpoints.publish(folder, step=step, ranks=1, **(FACTS | facts))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def latest(folder: Path) -> Path | None:
    return checkpoints.latest(folder, ranks=1, facts=FACTS)


def test_what_was_cut_off_is_not_found_and_goes(tmp_path):
    good = make(tmp_path, 9)
    (tmp_path / "checkpoint-10").mkdir()
    (tmp_path / checkpoints.UNFINISHED / "checkpoint-11").mkdir(parents=True)
    assert latest(tmp_path) == good
    checkpoints.clean(tmp_path, good)
    assert names(tmp_path) == {"checkpoint-9"}


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda file: file.unlink(), "weights is missing"),
        (lambda file: file.write_text("wei"), "3 bytes, 12 were written"),
        (lambda file: file.write_text("WEIGHTS of 3"), "the content of weights has changed"),
    ],
)
def test_a_broken_one_gives_way_to_the_one_before_with_a_message(tmp_path, caplog, damage, why):
    before, last = make(tmp_path, 2), make(tmp_path, 3)
    damage(last / "weights")
    assert latest(tmp_path) == before
    assert why in caplog.text
    checkpoints.clean(tmp_path, before)
    assert names(tmp_path) == {"checkpoint-2"}
    damage(before / "weights")
    with pytest.raises(UserError, match=r"is broken.*There is no other: delete"):
        latest(tmp_path)


def test_the_last_and_the_best_are_kept(tmp_path):
    for step, loss in ((1, 3.0), (2, 1.0), (3, 2.0), (4, 1.5), (5, 1.4)):
        make(tmp_path, step, loss=loss)
        checkpoints.keep(tmp_path, 2)
    assert names(tmp_path) == {"checkpoint-2", "checkpoint-4", "checkpoint-5"}


def test_of_other_data_or_settings_it_is_refused(tmp_path):
    make(tmp_path, 1)
    for changed in ("data", "settings"):
        with pytest.raises(UserError, match=rf"the {changed} changed since .*checkpoint-1 was written"):
            checkpoints.latest(tmp_path, ranks=1, facts=FACTS | {changed: "x"})


def test_room_is_asked_for_before_anything_is_written(tmp_path):
    make(tmp_path, 4)
    with pytest.raises(UserError, match=r"needs 3 MB, 1 MB are free; checkpoint-4 is kept"):
        checkpoints.check_room(tmp_path, 3 * 2**20, disk=lambda _: SimpleNamespace(free=2**20))
    checkpoints.check_room(tmp_path, 2**20, disk=lambda _: SimpleNamespace(free=2**20))


@pytest.fixture
def cut(model, examples, train, out, monkeypatch):
    """A training of 8 steps, stopped at its fifth, with checkpoints at 2, 4 and 5."""
    settings = change(train, save_steps=2)
    polls = iter(range(1, 100))
    with monkeypatch.context() as patch:
        patch.setattr(stopping, "stop_requested", lambda _: next(polls) == 5)
        with pytest.raises(Stopped, match=r"step 5 of 8, asked by a STOP file"):
            train_sft(model, examples, settings, out=out, seed=0, place=Place("cpu"))
    return settings


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out.parent / "metrics.jsonl").read_text().splitlines()]


def test_a_training_goes_on_from_the_one_before_a_broken_one(cut, model, examples, out, tmp_path):
    assert names(out.parent / "checkpoints") == {"checkpoint-4", "checkpoint-5"}
    torn = out.parent / "checkpoints" / "checkpoint-5" / "optimizer.pt"
    torn.write_bytes(torn.read_bytes()[:1000])
    train_sft(model, examples, cut, out=out, seed=0, place=Place("cpu"))
    whole = tmp_path / "whole" / "w"
    whole.mkdir(parents=True)
    train_sft(model, examples, cut, out=whole, seed=0, place=Place("cpu"))
    assert losses(out) == losses(whole)


def test_a_training_whose_data_changed_is_not_continued(cut, model, examples, out):
    with pytest.raises(UserError, match="the data changed since"):
        train_sft(model, [*examples, example("w1", "w2")], cut, out=out, seed=0, place=Place("cpu"))
    assert names(out.parent / "checkpoints") == {"checkpoint-4", "checkpoint-5"}
    train_sft(model, examples, cut, out=out, seed=0, place=Place("cpu"))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here (needs root)")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)  # a failed write may hold it open


def test_a_disk_that_fills_up_leaves_the_checkpoint_before(model, examples, train, small_disk, monkeypatch):
    """A real small disk. First it is seen to be too full before anything is written; then, with that check off, the
    disk fills up in the middle of a save."""
    out = small_disk / "run" / "w"
    out.mkdir(parents=True)
    settings = change(train, save_steps=2, keep_checkpoints=9)
    seen = r"the disk of .* is full: a save needs .*checkpoint-\d is kept and will be resumed from.*Make room"
    for checked in (True, False):
        if not checked:
            monkeypatch.setattr(checkpoints, "check_room", lambda folder, need: None)
        with pytest.raises(UserError, match=seen):
            train_sft(model, examples, settings, out=out, seed=0, place=Place("cpu"))
        kept = checkpoints.complete(out.parent / "checkpoints")
        assert kept
        assert not (out.parent / "checkpoints" / checkpoints.UNFINISHED / f"checkpoint-{len(kept) * 2 + 2}").exists()
        assert checkpoints.latest(out.parent / "checkpoints", ranks=1, facts={}) == kept[-1]


def test_a_disk_that_is_full_when_the_model_is_saved_is_said(model, examples, train, small_disk, monkeypatch):
    """The last save, too: before it, and in its middle; once there is room, the training ends as ever."""
    out = small_disk / "run" / "w"
    out.mkdir(parents=True)
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * (shutil.disk_usage(small_disk).free - 60_000))  # the tiny model takes 100 kB
    for checked in (True, False):
        if not checked:
            monkeypatch.setattr(checkpoints, "check_room", lambda folder, need: None)
        with pytest.raises(UserError, match=r"the disk of .* is full: a save needs .*there is no earlier one"):
            train_sft(model, examples, train, out=out, seed=0, place=Place("cpu"))
        assert list(out.iterdir()) == []
    ballast.unlink()
    train_sft(model, examples, train, out=out, seed=0, place=Place("cpu"))
    assert (out / "model" / "model.safetensors").is_file()
