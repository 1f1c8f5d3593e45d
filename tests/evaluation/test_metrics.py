"""The metrics load offline through `evaluate`, and count right."""

import itertools
import math
import os
import subprocess
import sys

import pytest

from gra_train.errors import UserError
from gra_train.evaluation import metrics


def test_exact_answer():
    metric = metrics.load("exact_answer")
    found = metric.compute(
        predictions=["#### 18", "so 3 and then 4", "none", "#### 1,000"], references=["18", "4", "5", "1001"]
    )
    assert found == {"exact_answer": 0.5, "n": 4, "unparseable": 1, "guessed": 1}
    assert metric.compute(predictions=["(B)", "A"], references=["B", "C"], kind="letter")["exact_answer"] == 0.5
    formulas = metric.compute(predictions=[r"\boxed{0.5}", "$x$"], references=[r"\frac12", "y"], kind="formula")
    assert formulas["exact_answer"] == 0.5
    with pytest.raises(ValueError, match="expected number"):
        metric.compute(predictions=["1"], references=["1"], kind="word")


def test_pass_at_k_is_the_mean_over_all_choices():
    passed = [[True, False, False, True, False], [False] * 5, [True] * 5, [False, False, False, False, True]]
    found = metrics.load("pass_at_k").compute(predictions=passed, k=[1, 2, 3])
    for k in (1, 2, 3):
        by_hand = [[any(chosen) for chosen in itertools.combinations(one, k)] for one in passed]
        assert found[f"pass@{k}"] == pytest.approx(sum(sum(b) / len(b) for b in by_hand) / 4)
    assert found["n"] == 4
    with pytest.raises(ValueError, match="k=6: expected 1 to 5"):
        metrics.load("pass_at_k").compute(predictions=passed, k=6)


def test_unparseable_rate():
    found = metrics.load("unparseable_rate").compute(predictions=["#### 3", "eh", "3 or 4"])
    assert found == pytest.approx({"unparseable_rate": 1 / 3, "guessed_rate": 1 / 3, "n": 3})


def test_answer_likelihood():
    found = metrics.load("answer_likelihood").compute(predictions=[[math.log(0.5)] * 2, [math.log(0.25)]])
    assert found["mean_log_likelihood"] == pytest.approx(math.log(0.25))
    assert found["perplexity"] == pytest.approx(0.5 ** (-4 / 3))
    with pytest.raises(ValueError, match="answer 1 has no tokens"):
        metrics.load("answer_likelihood").compute(predictions=[[-1.0], []])


def test_wrong_name():
    with pytest.raises(UserError, match="Did you mean 'pass_at_k'"):
        metrics.load("pass_k")


def test_outside_of_the_package(tmp_path):
    """By path with nothing but `evaluate`, with no network."""
    script = (
        f"import evaluate; print(evaluate.load({str(metrics.FOLDER / 'pass_at_k')!r}).compute(predictions=[[True]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
    )  # fmt: skip
    assert "'pass@1': 1.0" in done.stdout
