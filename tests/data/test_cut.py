"""As many tokens as another arm's set: counted by hand with the student's own tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gra_train.data.cut import cut
from gra_train.data.tokens import count_tokens
from gra_train.errors import UserError
from gra_train.records import Sample, read_samples, write_samples
from gra_train.runs import write_json
from gra_train.schema import Model
from gra_train.stages import CutStage

CHICK = Model(name="chick", path="mini:chick")


def made(folder: Path, seeds: int, words: list[int]) -> Path:
    """A training set: `seeds` rows, then one row for each number of words."""
    folder.mkdir()
    rows = [Sample(f"s{i}", "Mia has 2 pens.", "#### 2") for i in range(seeds)]
    rows += [Sample(str(i), f"Mia has {i} pens.", " ".join(["2"] * n)) for i, n in enumerate(words)]
    write_samples(folder, rows)
    write_json(folder / "statistics.json", {"seeds": {"rows": seeds}, "source": {"rows": len(words)}})
    return folder


def run(tmp_path: Path, data: Path, like: Path, seed: int = 0) -> tuple[list[Sample], dict]:
    out = tmp_path / f"out{seed}"
    out.mkdir()
    cut(CutStage(seed, CHICK, "none"), {"data": data, "like": like}, out)
    return read_samples(out), json.loads((out / "statistics.json").read_text())


def test_rows_are_drawn_until_one_more_would_be_too_much(tmp_path: Path) -> None:
    data, like = made(tmp_path / "data", 3, [20] * 10), made(tmp_path / "like", 1, [20] * 4)
    rows, statistics = run(tmp_path, data, like)
    assert [row.id for row in rows[:3]] == ["s0", "s1", "s2"], "the seeds stay"
    assert len(rows) == 3 + 4
    assert [row.id for row in rows[3:]] == sorted(row.id for row in rows[3:]), "in their order"
    assert statistics["tokens"]["beside_seeds"] == statistics["tokens"]["most"] == sum(count_tokens(CHICK, rows[3:]))
    assert statistics["removed"] == {"cut": 6}
    assert {row.id for row in run(tmp_path, data, like, seed=1)[0]} != {row.id for row in rows}


def test_fewer_tokens_than_asked_for_are_all_there_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows, statistics = run(tmp_path, made(tmp_path / "data", 0, [3, 4]), made(tmp_path / "like", 0, [90]))
    assert len(rows) == 2
    assert statistics["tokens"]["beside_seeds"] < statistics["tokens"]["most"]
    assert "tokens were asked for" in caplog.text


def test_no_row_fits(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no row fits"):
        run(tmp_path, made(tmp_path / "data", 0, [90]), made(tmp_path / "like", 0, [1]))
