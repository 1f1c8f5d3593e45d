"""Benchmarks of ours as the baselines meet them: their text is the instruction, their readers and judges mark."""

from __future__ import annotations

from pathlib import Path

import pytest

from gra_train.collate.baselines.answers import Questions
from gra_train.errors import UserError
from gra_train.schema import Evaluation


def test_a_benchmark_brings_its_reader_and_its_judge(data_dir: Path) -> None:
    asked = Questions.of(Evaluation(tasks=["mini_math", "gsm8k", "commonsense_qa"], limit=2, data_dir=str(data_dir)))
    assert [row["task"] for row in asked.rows] == ["mini_math"] * 2 + ["gsm8k"] * 2 + ["commonsense_qa"] * 2
    mini, _, sums, _, choice, _ = asked.rows
    assert asked.reader(sums)(f"So the answer is {sums['gold']}.") == str(sums["gold"])
    assert asked.reader(sums)("I do not know") is None
    assert asked.reader(choice)(f"({choice['gold']})") == choice["gold"]
    assert asked.reader(mini)(" 12 ") == "12"
    right = [str(row["gold"]) for row in asked.rows]
    assert all(mark.correct for mark in asked.mark(right))
    assert [mark.correct for mark in asked.mark(["0 0 0", *right[1:5], "hm"])] == [False, *[True] * 4, False]


def test_tasks_without_instructions_are_refused() -> None:
    with pytest.raises(UserError, match="triviaqa cannot be answered by COLLATE's baselines"):
        Questions.of(Evaluation(tasks=["triviaqa"]))
