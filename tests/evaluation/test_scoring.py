"""Judging answers that are written: every kind, both protocols, and what the shared data show."""

import json

import pytest

from gra_train.errors import UserError
from gra_train.evaluation import scoring
from gra_train.evaluation.benchmarks import asking, benchmark
from gra_train.evaluation.instructions import tokenizer
from gra_train.evaluation.scoring import How, likeliest, process_results, score
from gra_train.schema import Evaluation


def how(name, protocol):
    found = benchmark(name)
    used = found.protocol(protocol)
    return How(found.kind, tuple(used.patterns), used.take, used.same)


@pytest.mark.parametrize(
    ("name", "gold", "answer", "published", "robust"),
    [
        ("gsm8k", "2,125", "So it is 2,125.\nThe answer is 2,125", (False, "125"), (True, "2125")),
        ("gsm8k", "18", "She makes $18.00. That took 3 days.", (False, "3"), (False, "3")),
        ("gsm8k", "18", "The answer is 18. She has 3 left.", (False, "3"), (True, "18")),
        ("gsm8k", "18", "I cannot say.", (False, None), (False, None)),
        ("math", "\\frac{1}{2}", "Hence $\\boxed{0.5}$.", (False, "0.5"), (True, "0.5")),
        ("math", "\\frac{1}{2}", "Hence $\\boxed{\\dfrac12}$.", (True, "\\dfrac12"), (True, "\\dfrac12")),
        ("bbh", "(A)", "So the answer is (A).", (True, "(A)"), (True, "(A)")),
        ("bbh", "(A)", "I choose:\n(A)", (False, None), (True, "(A)")),
        ("bbh", "(A)", "So the answer is A.", (True, "A"), (True, "A")),
        ("gsm8k", "1000000", "The answer is 1000001.", (False, "1000001"), (False, "1000001")),
        ("bbh", "> ) }", "So the answer is > )}.", (True, "> )}"), (True, "> )}")),
        ("hotpotqa", "The Brontes", "It was the Brontës? The answer is Brontes.", (True, "Brontes"), (True, "Brontes")),
        ("crow", "Yes", "Yes, it is.", (True, "Yes"), (False, "Yes, it is")),
        ("aime", "007", "So $\\boxed{7}$.", (True, "7"), (True, "7")),
    ],
)
def test_protocols_read_differently(name, gold, answer, published, robust):
    for protocol, expected in (("published", published), ("robust", robust)):
        (mark,) = score(how(name, protocol), [{"gold": gold}], [answer])
        assert (mark.correct, mark.extracted) == expected, protocol


CHOICES = ["Paris", "It is big. It is old.", "Rome", "Oslo"]


@pytest.mark.parametrize(
    ("answer", "published", "robust"),
    [
        ("Answer: B", "B", "B"),
        ("The answer is (B).", "B", "B"),
        ("A city is meant.\nAnswer: B", "B", "B"),
        ("A city is meant: B", "A", None),
        ("The answer is: It is big. It is old.", None, "B"),
        ("No idea", None, None),
    ],
)
def test_letters(answer, published, robust):
    for protocol, expected in (("published", published), ("robust", robust)):
        (mark,) = score(how("mmlu", protocol), [{"gold": "B", "choices": CHOICES}], [answer])
        assert (mark.extracted, mark.correct) == (expected, expected == "B"), protocol


def test_programs_pass_their_tests_or_not():
    if reason := scoring.refuse_unsandboxed(How("code", unsandboxed=True)):
        pytest.skip(reason)
    question = {"gold": "", "tests": "assert f(2) == 3", "entry_points": ["f"], "beginning": "def f(x):\n"}
    given = [
        "```python\ndef f(x):\n    return x + 1\n```",
        "    return x + 1",
        "    return None",
        "",
        "```\nexit(0)\n```",
    ]
    marks = score(How("code"), [question] * len(given), given)
    assert [mark.correct for mark in marks] == [True, True, False, False, False]
    assert [mark.extracted is None for mark in marks] == [False, False, False, True, False]
    assert marks[1].guessed, "no fence: the program is what could be one"


def test_a_program_that_cannot_be_run_is_not_marked(monkeypatch):
    """Namespaces that are there when the first program is tried, and not later."""
    from gra_train.evaluation.sandbox import host

    if reason := scoring.refuse_unsandboxed(How("code", unsandboxed=True)):
        pytest.skip(reason)
    monkeypatch.setattr(host, "_PAUSES", (0.01, 0.01))
    monkeypatch.setattr(host.Sandbox, "_command", lambda self: ["false"])
    with pytest.raises(UserError, match=r"could not be run, 3 times"):
        score(How("code"), [{"tests": "assert f() == 1", "entry_points": ["f"]}], ["def f():\n    return 1"])


def test_without_a_sandbox_programs_are_refused_before_anything_is_asked(monkeypatch, tmp_path):
    """A machine without bubblewrap: what `unavailable` says there."""
    from gra_train.evaluation import sandbox

    monkeypatch.setattr(sandbox, "unavailable", lambda: "bubblewrap is not installed")
    with pytest.raises(UserError, match=r"bubblewrap is not installed.*evaluation.unsandboxed=true"):
        asking.asked("humaneval", Evaluation(tasks=["humaneval"]))
    one = asking.asked("humaneval", Evaluation(tasks=["humaneval"], unsandboxed=True))
    (mark,) = score(one.how, [{"tests": "assert f() == 1", "entry_points": ["f"]}], ["def f():\n    return 1"])
    assert mark.correct
    with pytest.raises(UserError, match="cannot be run safely"):
        score(How("code"), [{"tests": "", "entry_points": []}], ["x = 1"])


def test_instructions_are_checked_by_lm_evals_checkers():
    question = {"question_id": "1", "question": "No commas, and two sentences at least.", "gold": ""}
    question["instruction_id_list"] = ["punctuation:no_comma", "length_constraints:number_sentences"]
    question["kwargs"] = [{}, {"relation": "at least", "num_sentences": 2}]
    answers = ["Dr. Who came. He left.", "Dr. Who came and left.", "Well, he came. He left.", " "]
    marks = score(How("ifeval"), [question] * 4, answers)
    assert [mark.correct for mark in marks] == [True, False, False, False]
    assert [mark.extracted for mark in marks] == ["2 of 2, loosely 2", "1 of 2, loosely 1", "1 of 2, loosely 1", None]
    told = asking.asked("ifeval", Evaluation(tasks=["ifeval"])).told("robust")
    assert told["notes"][-1] == f"Sentences and words were counted by {tokenizer()}."


def test_a_choice_by_likelihood():
    results = [(-4.0, False), (-6.0, False)]
    assert likeliest(["ab", "abcdef"], results, per_character=False) == 0
    assert likeliest(["ab", "abcdef"], results, per_character=True) == 1


def test_lm_evals_hook_scores_as_we_do():
    document = {"how": json.dumps(How("number")._asdict()), "question": json.dumps({"gold": "18"})}
    assert process_results(document, ["The answer is 18."]) == {"correct": 1.0}
    assert process_results(document, ["The answer is 19."]) == {"correct": 0.0}
