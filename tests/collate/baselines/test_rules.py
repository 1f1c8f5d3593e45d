"""The pure parts: who wins a vote, what a beam keeps, what STaR keeps, how an exchange ends, how points are read."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gra_train.chat.protocol import Reply
from gra_train.collate import modes
from gra_train.collate.baselines import prompts, self_play
from gra_train.collate.baselines.answering import effort_of
from gra_train.collate.baselines.answers import fits, read, right
from gra_train.collate.baselines.exchange import agree, settle
from gra_train.collate.baselines.rewarding import EQUAL, PAIR, UNPARSEABLE, Judged, choose, pairs
from gra_train.collate.baselines.star import FAILED, FIRST, HINTED, keep, statistics
from gra_train.collate.baselines.thinking import Thought
from gra_train.collate.baselines.tree import State, _asked, _continued, best, search
from gra_train.collate.baselines.vote import majority
from gra_train.collate.data import Task


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["3", "5", "5"], (1, 2 / 3)),
        (["3", "5", "5", "3"], (0, 0.5)),  # a tie: the answer given first
        (["9", "3", "5", "5", "3"], (1, 0.4)),  # ... of those that tie
        ([None, "5", None, None], (1, 0.25)),  # what could not be read has no vote, but counts in the share
        ([None, None], (0, 0.0)),
        (["7"], (0, 1.0)),
    ],
)
def test_majority(values, expected):
    assert majority(values) == expected


def test_a_vote_needs_voters():
    with pytest.raises(ValueError, match="voters"):
        majority([])


@pytest.mark.parametrize(
    ("values", "count", "expected"),
    [
        ([1.0, 3.0, 2.0], 2, [1, 2]),
        ([2.0, 2.0, 2.0], 2, [0, 1]),  # equal: in their order
        ([None, -5.0, None, -9.0], 3, [1, 3, 0]),  # no value is worse than any
        ([float("-inf"), None], 1, [0]),
        ([0, 4], 5, [1, 0]),
    ],
)
def test_beam(values, count, expected):
    assert best(values, count) == expected


def run_search(children, value, **limits):
    """`children`: text -> texts of the next states (none: done)."""
    seen = []

    async def grow(states, level):
        seen.append((level, [s.text for s in states]))
        return [[State(t) for t in children[s.text]] or [State(s.text, done=True)] for s in states]

    async def rate(states):
        return [value[s.text] for s in states]

    state, counted = asyncio.run(search(grow, rate, **limits))
    return state, counted, seen


def test_breadth_first_search():
    children = {"": ["a", "b", "c"], "a": ["aa", "ab"], "b": ["ba"], "aa": ["aaa"], "ba": ["baa"]}
    value = {"a": 3, "b": 2, "c": 1, "aa": 0, "ab": 1, "ba": 4, "aaa": 9, "baa": 1, "aba": 2}
    children["ab"] = ["aba"]
    state, counted, seen = run_search(children, value, depth=3, beam=2)
    assert seen == [(0, [""]), (1, ["a", "b"]), (2, ["ba", "ab"])]  # the best first; aa (and aaa, the best) is lost
    assert state.text == "aba"
    assert counted == {"steps": 3, "rated": 3 + 3 + 2, "unparseable_ratings": 0}


def test_states_that_are_done_compete_and_end_the_search():
    children = {"": ["a", "b"], "a": [], "b": ["ba"], "ba": []}
    state, counted, seen = run_search(children, {"a": 5, "b": 4, "ba": None}, depth=9, beam=1)
    assert (state.text, state.done) == ("a", True)
    assert seen == [(0, [""]), (1, ["a"])]
    assert counted["steps"] == 2
    state, counted, _ = run_search(children, {"a": 5, "b": 4, "ba": None}, depth=3, beam=2)
    assert state.text == "a"
    assert counted == {"steps": 3, "rated": 2 + 2 + 2, "unparseable_ratings": 2}


def test_equal_states_are_one():
    _, counted, _ = run_search({"": ["a", "a", "a"]}, {"a": 1}, depth=1, beam=2)
    assert counted["rated"] == 1


@pytest.mark.parametrize(
    ("reply", "text", "done", "truncated"),
    [
        (Reply("Then: 7 * 2 = 14"), "First: 3 + 4 = 7. Then: 7 * 2 = 14.", False, False),  # its full stop ended it
        (Reply(" Then: 14."), "First: 3 + 4 = 7. Then: 14.", False, False),
        (Reply("Then: 7 *", "length"), "First: 3 + 4 = 7. Then: 7 *", False, True),
        (Reply(""), "First: 3 + 4 = 7.", True, False),
    ],
)
def test_a_rationale_goes_on_by_a_sentence(reply, text, done, truncated):
    state = _continued(State("First: 3 + 4 = 7.", tokens=5), replace(reply, completion_tokens=3))
    assert state == State(text, done, truncated, 8)


@pytest.mark.parametrize(
    ("reply", "text", "done"),
    [("Then 14.", "So 7.\nThen 14.", False), ("DONE", "So 7.", True), (" done. ", "So 7.", True), ("", "So 7.", True)],
)
def test_a_step_that_was_asked_for(reply, text, done):
    assert _asked(State("So 7."), Reply(reply)) == State(text, done)


def thought(value, rationale="why", answer=None):
    return Thought(rationale, (value or "") if answer is None else answer, value)


TASK = Task("t", "what?", "7")


@pytest.mark.parametrize(
    ("first", "hinted", "fate", "rationale"),
    [
        (thought("7", "a"), [], FIRST, "a"),
        (thought("8", "a"), [thought("7", "b")], HINTED, "b"),
        (thought("8", "a"), [thought("6", "b"), thought("7", "c")], HINTED, "c"),
        (thought("8", "a"), [thought("9", "b")], FAILED, ""),
        (thought(None, "a"), [], FAILED, ""),
        (thought("7", ""), [], FAILED, ""),  # a right answer without a rationale teaches none
    ],
)
def test_star_keeps_what_came_out_right(first, hinted, fate, rationale):
    tried = keep(TASK, first, hinted)
    assert (tried.fate, tried.rationale, tried.tries) == (fate, rationale, 1 + len(hinted))
    assert tried.unparseable == (first.value is None)


def test_star_statistics():
    tasks = [Task("1", "q", "7"), Task("2", "q", "8"), Task("3", "q", "9"), Task("4", "q", "5")]
    tried = [
        keep(tasks[0], thought("7", "it is 7"), []),
        keep(tasks[1], thought("1"), [thought("8", "because")]),
        keep(tasks[2], thought(None), [thought("1")]),
        keep(tasks[3], thought("5", "five"), []),
    ]
    assert statistics(tasks, tried) == {
        "tasks": 4,
        "kept": 3,
        "kept_share": 0.75,
        "shares": {FIRST: 0.5, HINTED: 0.25, FAILED: 0.25},
        "tries": 6,
        "unparseable": 1,
        "leak_rate": 1 / 3,
    }


def run_settle(thoughts, later, confidence, rounds=3):
    asked = []

    async def again(current, done):
        asked.append([one.value for one in current])
        return later[done]

    async def sure(current):
        return [confidence[one.value] for one in current]

    winner, counted = asyncio.run(settle(thoughts, again, sure, rounds=rounds))
    return winner.value, counted, asked


def test_an_exchange_ends_when_both_agree():
    a, b, none = thought("1"), thought("2"), thought(None)
    assert not agree([none, none])
    assert run_settle([a, a], [], {}) == ("1", {"agreement": 1, "rounds": 0}, [])
    assert run_settle([a, b], [[a, none], [b, b]], {}) == (
        "2",
        {"agreement": 1, "rounds": 2},
        [["1", "2"], ["1", None]],
    )


def test_without_agreement_the_more_confident_wins():
    a, b, none = thought("1"), thought("2"), thought(None)
    later = [[a, b]] * 3
    assert run_settle([a, b], later, {"1": -0.5, "2": -0.2})[:2] == ("2", {"agreement": 0, "rounds": 3})
    assert run_settle([a, b], later, {"1": -0.2, "2": -0.2})[0] == "1"  # the first of equals
    assert run_settle([none, b], [], {None: -0.1, "2": -9}, rounds=0)[0] == "2"  # what can be read wins
    assert run_settle([none, none], [], {None: -0.1}, rounds=0)[0] is None


def judged(texts, values):
    return Judged("t", tuple(texts), tuple(values))


@pytest.mark.parametrize(
    ("texts", "values", "expected"),
    [
        ("abc", [1, 5, 3], (PAIR, 1, 0)),
        ("abcd", [5, 5, 1, 1], (PAIR, 0, 2)),  # the first of the best, the first of the worst
        ("ab", [3, 3], (EQUAL, 0, 0)),
        ("aa", [3.0, 2.9], (EQUAL, 0, 1)),
        ("abc", [None, 2, 4], (PAIR, 2, 1)),
        ("ab", [None, 4], (UNPARSEABLE, 0, 0)),
    ],
)
def test_best_against_worst(texts, values, expected):
    assert choose(judged(texts, values)) == expected


def test_self_rewarding_counts():
    given = [judged("ab", [5, 2]), judged("ab", [3, 3]), judged("ab", [None, 3]), judged("ab", [0, 1])]
    found, counts = pairs(given, ["p"] * 4)
    assert [(one.chosen, one.rejected, one.margin) for one in found] == [("a", "b", 3.0), ("b", "a", 1.0)]
    assert counts == {
        "tasks": 4, "pairs": 2, "kept_share": 0.5, "dropped": {EQUAL: 1, UNPARSEABLE: 1}, "judgements": 8,
        "unparseable_judgements": 1, "mean_margin": 2.0,
    }  # fmt: skip


def test_self_play_pairs_gold_with_what_differs_from_it():
    played = [(TASK, f"p{i}", "gold") for i in range(4)]
    replies = [Reply("own"), Reply(" gold "), Reply(""), Reply("cut", "length")]
    found, counts = self_play.pairs(played, replies)
    assert [(one.prompt, one.chosen, one.rejected) for one in found] == [("p0", "gold", "own"), ("p3", "gold", "cut")]
    assert counts == {"rows": 4, "pairs": 2, "equal": 1, "empty": 1, "truncated_share": 0.25}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is sound.\nScore: 4", 4),
        ("score = **5**", 5),
        ("Score: 3/5", 3),
        ("Score: 2. Then, on reflection:\nScore: 4.", 4),  # the last word counts
        ("4", 4),
        ("4/5", 4),
        ("Score: 9", None),
        ("Score: 12", None),
        ("Score: 3.5", None),
        ("The rationale has 4 steps.", None),
        ("", None),
    ],
)
def test_points(text, expected):
    assert modes.read_points(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        prompts.hint("Q1 TASK>>> Response:", "A1"),
        prompts.exchange("Q1 <<<", ("mine", "A1"), ("theirs", "A2")),
        prompts.step("Q1", ""),
        prompts.promise("Q1", "A1"),
    ],
)
def test_prompts_have_the_skeleton_of_the_modes(text):
    assert text.count("<<<TASK") == text.count("TASK>>>") == 1
    assert text.count("<<<") == text.count(">>>") == 1
    assert "Q1" in text
    assert text.endswith("Response:")


def test_answers_are_read_and_compared():
    assert read("  d  f k ") == "d f k"
    assert read("so: #### 7") == "7"
    assert read(" ") is None
    assert right("7", " 7 ")
    assert not right("8", "7")
    assert not right(None, "7")


@pytest.mark.parametrize(
    ("answer", "gold", "expected"),
    [
        ("7", "7", True),
        ("$1,000.", "1000", True),
        ("The answer is 7 apples.", "7", True),
        ("8", "7", False),
        ("d f k", "d f k", True),
        ("d f", "d f k", False),
        ("b", "a b", False),
        ("", "7", False),
        ("7", "seven of 7 or 8", False),
    ],
)
def test_answers_to_training_tasks(answer, gold, expected):
    assert fits(answer, gold) == expected


def test_effort_per_question():
    spent = {"asked": 6, "prompt_tokens": 30, "completion_tokens": 9, "scored_tokens": 0, "truncated": 3, "failed": 0}
    found = effort_of([{"agreement": 1.0}, {"agreement": 0.5}], spent)
    assert found["calls_per_question"] == 3
    assert found["completion_tokens_per_question"] == 4.5
    assert found["mean_agreement"] == 0.75
