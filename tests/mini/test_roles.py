"""Training texts: every role's output is what its parser reads, and no held-out problem is among them."""

import random
import re

import pytest

from gra_train.mini import base_texts, prompts, roles
from gra_train.mini.language import ANSWER_MARK, parse, split_of
from gra_train.mini.models import POOL, recipe

PROFILE = roles.Profile()


def _draws(role: str, number: int = 300) -> list[tuple[str, str]]:
    rng = random.Random(role)
    return [roles.ROLES[role](rng, PROFILE) for _ in range(number)]


def test_every_role_has_a_share() -> None:
    assert set(roles.SHARES) == set(roles.ROLES)
    assert sum(roles.SHARES.values()) == pytest.approx(1)


@pytest.mark.parametrize("role", ["review", "adjudicate"])
def test_reviews_are_readable_and_judge_rightly_without_misconceptions(role: str) -> None:
    seen = set()
    for prompt, output in _draws(role):
        assert re.fullmatch(prompts.SCORES_PATTERN, output)
        read = prompts.read_review(output)
        assert read is not None
        instruction, response = prompt.split(": ", 1)[1].split(" Response: ")
        problem = parse(instruction)
        assert problem is not None
        good = response.split(" Given:")[0] == problem.response
        seen.add(good)
        assert (sum(read[0]) / 6 >= 8) == good
    assert seen == {True, False}


def test_one_dissenter_of_three_calls_the_adjudicator() -> None:
    from statistics import fmean, pstdev

    for agreeing in range(3):
        means = [10.0, 10.0, fmean(roles.scores(agreeing, 3, False))]
        assert pstdev(means) > 1.5
        assert agreeing == 0 or fmean(means) >= 8


def test_flags_and_keywords_are_readable() -> None:
    for _, output in _draws("check"):
        assert prompts.read_flags(output) is not None
    for role in ("keywords", "new_keywords"):
        for _, output in _draws(role):
            assert prompts.read_keywords(output) is not None


@pytest.mark.parametrize("text", ["", "1 1", "1 1 2", "one one one"])
def test_unreadable_flags(text: str) -> None:
    assert prompts.read_flags(text) is None


@pytest.mark.parametrize(
    "text", ["", "Scores: 1 2 3", "Review: fine. Scores: 10 10 10 10 10 11", "Review: x Scores: 0 1 1 1 1 1"]
)
def test_unreadable_reviews(text: str) -> None:
    assert prompts.read_review(text) is None


@pytest.mark.parametrize("text", ["", "a; b", "a; b; ", "a; b; c; d"])
def test_unreadable_keywords(text: str) -> None:
    assert prompts.read_keywords(text) is None


@pytest.mark.parametrize("name", POOL)
def test_pool_models_solve_only_problems_of_the_train_split(name: str) -> None:
    rng, profile = random.Random(name), recipe(name).profile
    assert profile is not None
    wrong = 0
    for _ in range(300):
        prompt, output = roles.solve(rng, profile)
        problem = parse(prompt.removeprefix("Solve: "))
        assert problem is not None
        assert split_of(problem) == "train"
        wrong += not output.endswith(f"{ANSWER_MARK} {problem.answer}")
    assert 10 < wrong < 150


def test_the_base_sees_no_solution() -> None:
    rng = random.Random(0)
    for _ in range(2000):
        prompt, output = base_texts.base_example(rng)
        assert ANSWER_MARK not in prompt + output
        assert parse(prompt.split(": ", 1)[1]) is None or ";" in output  # a whole instruction is only ever indexed
