import math

import pytest

from gra_train.collate.data import Task
from gra_train.collate.merit import Merit, mean_per_token
from gra_train.collate.pairs import (
    EQUAL,
    FILTERED,
    KEPT,
    LEAKED,
    LONGER,
    UNJUDGED,
    Rules,
    agreement,
    choose,
    leaks,
    make_pairs,
    statistics,
)


def merit(baseline: float, *candidates: float, tokens: int = 2) -> Merit:
    return Merit("t", tokens, baseline, candidates)


@pytest.mark.parametrize(
    ("texts", "scores", "expected"),
    [
        (["a", "b"], merit(-3, -1, -2), (KEPT, 0, 1)),
        (["a", "b"], merit(-3, -2, -1), (KEPT, 1, 0)),
        (["a", "b", "c"], merit(-3, -2, -1, -5), (KEPT, 1, 2)),
        (["a", "b"], merit(-0.5, -1, -2), (FILTERED, 0, 1)),
        (["a", "b"], merit(-1, -1, -2), (FILTERED, 0, 1)),  # strictly above, as published
        (["a", "b"], merit(-3, -1, -1), (EQUAL, 0, 0)),
        (["a", " a "], merit(-3, -1, -1.000001), (EQUAL, 0, 1)),  # the same words, scored in different batches
        (["a", "b", "c"], merit(-3, -1, -1, -2), (KEPT, 0, 2)),  # the first of the best
        (["a"], merit(-3, -1), (EQUAL, 0, 0)),
        (["a", "b"], merit(-3, -1, -math.inf), (KEPT, 0, 1)),
    ],
)
def test_choice(texts, scores, expected):
    assert choose(texts, scores) == expected


def test_without_the_filter_a_winner_need_not_beat_no_rationale():
    assert choose(["a", "b"], merit(-0.5, -1, -2), Rules(filter=False)) == (KEPT, 0, 1)


def test_choice_does_not_depend_on_length_normalisation():
    """The answer is fixed within a task: dividing all likelihoods by its tokens changes no choice."""
    raw = merit(-3.0, -1.5, -2.5, -1.0)
    per_token = merit(-3.0 / 7, -1.5 / 7, -2.5 / 7, -1.0 / 7)
    assert choose(list("abc"), raw) == choose(list("abc"), per_token)


def test_pairs_and_their_statistics():
    tasks = [Task(str(i), f"q{i}", answer) for i, answer in enumerate(["7", "8", "9", "5"])]
    texts = [["it is 7", "hm"], ["no", "two words"], ["x", "x"], ["a", "b"]]
    merits = [merit(-3, -1, -2), merit(-3, -2.5, -1.5), merit(-3, -1, -1), merit(-0.1, -1, -2)]
    pairs, fates = make_pairs(tasks, texts, merits, [f"Explain: q{i}" for i in range(4)])
    assert fates == [KEPT, KEPT, EQUAL, FILTERED]
    assert [(p.task_id, p.prompt, p.chosen, p.rejected, p.margin) for p in pairs] == [
        ("0", "Explain: q0", "it is 7", "hm", 1.0),
        ("1", "Explain: q1", "two words", "no", 1.0),
    ]
    found = statistics(pairs, fates, {t.id: t.answer for t in tasks}, ["RP_0", "RP_1"])
    assert found["kept_share"] == 0.5
    assert found["dropped"] == {EQUAL: 1, FILTERED: 1}
    assert found["won_share"] == {"RP_0": 0.5, "RP_1": 0.5}
    assert found["margin"] == {"mean": 1.0, "q10": 1.0, "q25": 1.0, "median": 1.0, "q75": 1.0, "q90": 1.0}
    assert (found["winner_words"], found["loser_words"]) == (2.5, 1.0)
    assert (found["winner_leak_rate"], found["loser_leak_rate"]) == (0.5, 0.0)
    assert statistics([], [EQUAL], {}, ["RP_0"])["pairs"] == 0


def test_leak_is_the_whole_answer_as_words():
    assert leaks("so it is 12.", "12")
    assert not leaks("so it is 120", "12")
    assert leaks("then D F K follow", "d f k")
    assert not leaks("anything", "")


def test_mean_per_token_is_a_mean_of_means():
    merits = [merit(-4, -2, tokens=2), merit(-3, -9, tokens=3)]
    assert mean_per_token(merits, None) == pytest.approx((-2 - 1) / 2)
    assert mean_per_token(merits, 0) == pytest.approx((-1 - 3) / 2)


def test_a_judge_chooses_in_place_of_merit():
    scores = merit(-3, -1, -2, -2.5)
    assert choose(list("abc"), scores, points=[1.0, 5.0, 3.0]) == (KEPT, 1, 0)
    assert choose(list("abc"), scores, points=[None, 2.0, 4.0]) == (KEPT, 2, 1)
    assert choose(list("abc"), scores, points=[2.0, 2.0, 2.0]) == (EQUAL, 0, 0)
    assert choose(list("abc"), scores, points=[None, None, 2.0])[0] == UNJUDGED
    # the filter still asks whether the judge's winner helps
    assert choose(list("abc"), merit(-1.5, -1, -2, -3), points=[1.0, 5.0, 3.0])[0] == FILTERED
    assert choose(list("abc"), merit(-1.5, -1, -2, -3), Rules(filter=False), points=[1.0, 5.0, 3.0]) == (KEPT, 1, 0)


def test_rationales_that_state_the_answer_neither_win_nor_lose():
    texts, scores = ["so it is 7", "add them", "hm"], merit(-3, -1, -2, -2.5)
    assert choose(texts, scores, answer="7") == (KEPT, 0, 2)
    assert choose(texts, scores, Rules(leak_filter=True), answer="7") == (KEPT, 1, 2)
    assert choose(texts[:2], merit(-3, -1, -2), Rules(leak_filter=True), answer="7")[0] == LEAKED


def test_a_winner_may_be_held_to_a_length():
    texts = ["one two three four", "one two"]
    assert choose(texts, merit(-3, -1, -2), Rules(max_length_ratio=2.0)) == (KEPT, 0, 1)
    assert choose(texts, merit(-3, -1, -2), Rules(max_length_ratio=1.5))[0] == LONGER
    assert choose(texts, merit(-3, -2, -1), Rules(max_length_ratio=1.5)) == (KEPT, 1, 0)  # a longer loser is no reason


def test_agreement_of_candidates():
    assert agreement([["a b", "a b"], ["a b", "b c"]]) == {"equal": 0.5, "words": pytest.approx((1 + 1 / 3) / 2)}
    assert agreement([["a"]]) == {"equal": 1.0, "words": 1.0}
