"""Data of the miniature: deterministic, disjoint, and of the form that the stages expect."""

import pytest

from gra_train.mini import data
from gra_train.mini.language import DOMAINS, is_correct, parse, split_of


def test_splits_share_no_problem() -> None:
    keys = {split: {p.key for p in data.problems(split, 400, 3)} for split in ("train", "validation", "test")}
    assert all(len(k) == 400 for k in keys.values())
    assert not keys["train"] & keys["test"]
    assert not keys["train"] & keys["validation"]
    assert not keys["validation"] & keys["test"]
    assert all(split_of(p) == "test" for p in data.problems("test", 100, 8, "Coding"))


def test_draws_are_deterministic_and_grow_by_appending() -> None:
    assert data.seed_rows(30, 1) == data.seed_rows(60, 1)[:30]
    assert data.seed_rows(30, 1) != data.seed_rows(30, 2)


def test_seeds_are_correct_and_balanced() -> None:
    rows = data.seed_rows(99, 0)
    assert all(is_correct(row["instruction"], row["response"]) for row in rows)
    domains = [p.domain for p in data.problems("train", 99, 0)]
    assert [domains.count(d) for d in DOMAINS] == [33, 33, 33]


def test_half_of_the_gold_rationales_are_vague() -> None:
    rows = data.rationale_rows(400, 0)
    vague = [row for row in rows if row["rationale"].startswith("Think about")]
    assert 150 < len(vague) < 250
    assert all("#" not in row["rationale"] for row in rows)


def test_task_rows_have_no_rationale_and_can_avoid_the_rationale_rows() -> None:
    tasks, taken = data.task_rows(50, 0, skip=50), {row["instruction"] for row in data.rationale_rows(50, 0)}
    assert all(set(row) == {"instruction", "answer", "domain"} for row in tasks)
    assert not taken & {row["instruction"] for row in tasks}


def test_question_rows_carry_gold() -> None:
    for row in data.question_rows("validation", 30, 0):
        problem = parse(row["instruction"])
        assert problem is not None
        assert (row["answer"], row["response"], row["domain"]) == (problem.answer, problem.response, problem.domain)


def test_unknown_domain() -> None:
    with pytest.raises(KeyError):
        data.problems("train", 1, 0, "Cooking")
