"""What `validate` says of benchmarks: counted where a file has them, and programs only where a sandbox starts."""

import gzip

import pytest

from gra_train.compose import compose
from gra_train.evaluation import readiness
from gra_train.evaluation.readiness import evaluations
from gra_train.experiment import plan


def said(folder, *words):
    config = compose(["experiment=mini", f"evaluation.data_dir={folder}", *words])
    return [(f.state, f.topic, f.text) for f in evaluations(plan(config))]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "gsm8k").mkdir()
    with gzip.open(tmp_path / "gsm8k" / "test.jsonl.gz", "wt") as file:
        file.write('{"question": "2 + 3?", "answer": "#### 5"}\n' * 3)
    (tmp_path / "programs.jsonl").write_text('{"q": "Write f.", "a": "def f(): pass", "t": "assert f() is None"}\n')
    (tmp_path / "programs.yaml").write_text(
        "about: programs\nkind: code\nquestions: {file: programs.jsonl, rows: {question: q, gold: a, tests: t}}\n"
        "prompt: '{{ question }}'\npublished: {max_tokens: 8}\nrobust: {max_tokens: 8}\n"
    )
    return tmp_path


def test_questions_are_counted_or_named_with_their_place(folder):
    assert said(folder) == []  # the miniature's own tasks need nothing
    found = said(folder, f"evaluation.tasks=[gsm8k,piqa,{folder}/programs.yaml]", "evaluation.limit=2")
    (file, hub) = [text for _, topic, text in found if topic == "evaluation"]
    assert file.endswith("from files: gsm8k 2, programs 1")
    assert "from the Hub" in hub
    assert "piqa (" in hub


def test_a_benchmark_whose_questions_cannot_be_read_is_a_problem(folder):
    (folder / "programs.jsonl").write_text('{"q": "no tests"}\n')
    [(state, topic, text)] = said(folder, f"evaluation.tasks=[{folder}/programs.yaml]")
    assert (state, topic) == ("problem", "evaluation")
    assert "programs.jsonl" in text


@pytest.mark.parametrize(
    ("why", "unsandboxed", "state"),
    [("", "false", "ok"), ("no bubblewrap", "true", "note"), ("no bubblewrap", "false", "problem")],
)
def test_programs_need_a_sandbox_or_a_word(folder, monkeypatch, why, unsandboxed, state):
    monkeypatch.setattr(readiness, "unavailable", lambda: why)
    words = [f"evaluation.tasks=[{folder}/programs.yaml]", f"evaluation.unsandboxed={unsandboxed}"]
    [found] = [(s, text) for s, topic, text in said(folder, *words) if topic == "sandbox"]
    assert found[0] == state
    assert why in found[1]
