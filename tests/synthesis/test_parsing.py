"""Every output format on realistic answers written by hand, and the parsers' behaviour around them."""

import json
import re
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("name", PARSERS)
def test_there_are_sixty_different_answers_of_each_format(name):
    answers = [answer for _, _, answer in cases(name)]
    assert len(set(answers)) >= 60
    assert sum(outcome == "bad" for outcome, _, _ in cases(name)) >= 10
