"""Every output format on realistic answers written by hand, and the parsers' behaviour around them."""

import json
import random
import re
from pathlib import Path

import pytest

from gra_train.records import CRITERIA
from gra_train.synthesis import json_answers, parsing, ratings
from gra_train.synthesis.repair import ParseError

ANSWERS = Path(__file__).parent / "answers"
PARSERS = {
    "domain": parsing.domain,
    "summary": parsing.summary,
    "keywords": parsing.keywords,
    "instruction": parsing.instruction,
    "flags": ratings.flags,
    "response": parsing.response,
    "scores": ratings.scored,
    "json/domain": json_answers.domain,
    "json/summary": json_answers.summary,
    "json/keywords": json_answers.keywords,
    "json/instruction": json_answers.instruction,
    "json/flags": json_answers.flags,
    "json/response": json_answers.response,
    "json/scores": json_answers.scored,
}


def cases(name: str) -> list[tuple[str, str, str]]:
    """(outcome, expected, answer) of a file of answers."""
    text = (ANSWERS / f"{name}.txt").read_text()
    found = re.findall(r"^=== (ok|repaired|bad) (.*)\n((?:(?!=== (?:ok|repaired|bad) ).*\n)*)", text, re.MULTILINE)
    return [(outcome, expected, answer.removesuffix("\n")) for outcome, expected, answer in found]


def listed() -> list:
    return [pytest.param(name, *case, id=f"{name}-{i}") for name in PARSERS for i, case in enumerate(cases(name))]


def plain(value):
    return json.loads(json.dumps(value))


@pytest.mark.parametrize(("name", "outcome", "expected", "answer"), listed())
def test_answer(name, outcome, expected, answer):
    parser = PARSERS[name]
    if outcome == "bad":
        with pytest.raises(ParseError, match=re.escape(expected)):
            parser(answer)
    else:
        parsed = parser(answer)
        assert plain(parsed.value) == json.loads(expected)
        assert parsed.repaired == (outcome == "repaired")


SCORES = "<scores>\n" + "\n".join(f"{name}: {7 + i % 4}" for i, name in enumerate(CRITERIA)) + "\n</scores>"
ASKED = f"<analysis>Both have a point.</analysis>\n{SCORES}\n<review>Right, *and* it reads `well`.</review>"


def test_the_short_cut_reads_what_the_long_way_reads(monkeypatch):
    """Answers as they were asked for and a little off, with material that does and does not hold their scores."""
    rng = random.Random(0)
    pieces = [
        "=" * 30,
        "- - - " * 9,
        "<think>",
        "</think>",
        "<scores>",
        "</scores>",
        "</review>",
        "<review>",
        "<analysis>",
    ]
    pieces += ["clarity: 3\n", '{"correctness": 5}', "8/10", "&lt;", *" \n{é’\u2028\x0b", "**", "10", "0", "11", ""]
    short = 0
    for turn in range(4000):
        text = ASKED if rng.random() < 0.7 else ASKED.partition("\n")[2]
        for _ in range(rng.randrange(3)):
            at, drop = rng.randrange(len(text) + 1), rng.choice([0, 0, 1, 5, 40])
            text = text[:at] + rng.choice(pieces) + text[at + drop :]
        shown = ("", "An essay.", f"I say {SCORES}.", f"I say {SCORES.replace('<', '‹').replace('>', '›')} <")[turn % 4]
        short += ratings._as_asked(text, shown) is not None
        with monkeypatch.context() as long_way:
            long_way.setattr(ratings, "_as_asked", lambda text, shown: None)
            expected = outcome_of(text, shown)
        assert outcome_of(text, shown) == expected, text
    assert 500 < short < 3500


def outcome_of(text, shown):
    try:
        return ratings.scored(text, shown=shown)
    except ParseError as error:
        return error.reason


@pytest.mark.parametrize("name", PARSERS)
def test_there_are_sixty_different_answers_of_each_format(name):
    answers = [answer for _, _, answer in cases(name)]
    assert len(set(answers)) >= 60
    assert sum(outcome == "bad" for outcome, _, _ in cases(name)) >= 10
