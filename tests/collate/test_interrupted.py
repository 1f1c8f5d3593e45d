"""COLLATE's stages, interrupted between any two batches of calls, go on to the same bytes and ask nothing twice.

tests/test_kill.py ends real processes; here every place in every phase is tried: writing, scoring, judging, refining.
"""

import hashlib
from pathlib import Path

import pytest

from gra_train.chat.local import LocalModel
from gra_train.collate.graph import READS
from gra_train.runs import read_json
from gra_train.settings import change, only
from gra_train.stages import STAGES


class Interrupted(BaseException):
    """As a kill: nothing in the package catches it."""


@pytest.fixture
def batches(monkeypatch):
    """Counts batches, and stops before the one at `stop`."""

    class Count:
        done, stop = 0, -1

    real = LocalModel.answer_batch

    def counted(self, prepared):
        if Count.done == Count.stop:
            raise Interrupted
        Count.done += 1
        return real(self, prepared)

    monkeypatch.setattr(LocalModel, "answer_batch", counted)
    return Count


def digest(folder: Path) -> dict[str, str]:
    files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def work(name, config, inputs, folder: Path) -> Path:
    out = folder / "result"
    out.mkdir(parents=True, exist_ok=True)
    as_planned = change(config, collate=only(config.collate, *READS[name]))
    STAGES[name].load()(as_planned, inputs, out)
    return out


def everywhere(name, config, inputs, batches, tmp_path) -> int:
    """The stage once undisturbed, then once with a stop before each of its batches. -> the number of batches."""
    batches.done = 0
    calm = work(name, change(config, ledger=str(tmp_path / "calm-ledger")), inputs, tmp_path / "calm" / name)
    needed = batches.done
    again = change(config, ledger=str(tmp_path / "ledger"))
    batches.done = 0
    for stop in range(needed):
        batches.stop = stop
        with pytest.raises(Interrupted):
            work(name, again, inputs, tmp_path / "stopped" / name)
    batches.stop = -1
    resumed = work(name, again, inputs, tmp_path / "stopped" / name)
    assert digest(resumed) == digest(calm)
    assert batches.done == needed, "a finished batch was asked for again"
    return needed


def test_writing_scoring_judging_and_refining(config, batches, tmp_path):
    ift = work("ift", config, {}, tmp_path / "ift")
    method = change(config.collate, candidates=2, selection="judge", judging="likelihood", refine=True, block=8,
                    filter=False)  # fmt: skip
    given = change(config, collate=method, iteration=1)
    inputs = {"ift": ift, "provider_0": ift, "provider_1": ift}
    assert everywhere("merit", given, inputs, batches, tmp_path) >= 8
    usage = read_json(tmp_path / "calm" / "merit" / "usage.json")  # of all the pools that the stage opened
    assert usage["total"]["asked"] >= usage["total"]["computed"] > 0
    assert {purpose for of in usage["by_model"].values() for purpose in of} >= {"provider/rationales", "scorer/merit"}
    assert everywhere("rationales", config, inputs, batches, tmp_path) >= 4


def test_own_rationales_and_losses(config, batches, tmp_path):
    short = change(config, collate=change(config.collate, ift=change(config.collate.ift, steps=2), block=8))
    assert everywhere("ift", short, {}, batches, tmp_path) >= 2
    assert everywhere("distinct", short, {"ift": tmp_path / "calm" / "ift" / "result"}, batches, tmp_path) >= 1
