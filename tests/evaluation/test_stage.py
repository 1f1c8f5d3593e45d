"""The evaluation stage on a real model whose answers are known, through lm-eval."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gra_train.errors import UserError
from gra_train.evaluation import lm_names, stages
from gra_train.evaluation.harness import ask, local
from gra_train.evaluation.lm_tasks import task_manager
from gra_train.evaluation.questions import questions
from gra_train.mini.language import is_correct
from gra_train.schema import Evaluation, Model
from gra_train.settings import change
from gra_train.stages import EvaluateStage
from tests.evaluation.conftest import CAP, EVALUATION, behaviour


def config(**changes: Any) -> EvaluateStage:
    return EvaluateStage(seed=0, model=Model(), evaluation=change(EVALUATION, **changes), prompts="mini", device="cpu")


def run(result: Path, folder: Path, **changes: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    import pyarrow.parquet as pq

    out = folder / "work-1"
    out.mkdir(parents=True)
    stages.evaluate(config(**changes), {"model": result}, out)
    return pq.read_table(out / "questions.parquet").to_pylist(), json.loads((out / "scores.json").read_text())


def test_every_question_is_scored_and_counted(taught: Path, tmp_path: Path) -> None:
    rows, scores = run(taught, tmp_path)
    assert len(rows) == 12
    for row in rows:
        index = int(row["question_id"][-4:])
        assert row["correct"] == (index == 0)
        assert row["unparseable"] == (index >= 2)
        assert row["truncated"] == (index == 3)
        assert row["extracted"] == (row["gold"], "99 99", None, None)[index]
        assert row["answer"] == (behaviour(index, row["gold"]) if index < 3 else " ".join(["is"] * CAP))
        assert row["tokens"] == CAP if index == 3 else 0 < row["tokens"] < CAP
        assert row["prompt"].startswith("<s><|user|>")
        assert row["prompt"].endswith("<|assistant|>")
    assert {entry["score"] for entry in scores.values()} == {0.25}
    assert scores["average"] | {"low": 0, "high": 0} == {
        "score": 0.25, "n": 12, "unparseable": 6, "truncated": 3, "guessed": 0, "failed": 0, "low": 0, "high": 0,
    }  # fmt: skip
    assert 0.04 < scores["mini_math"]["low"] < 0.25 < scores["mini_math"]["high"] < 0.75
    assert scores["average"]["low"] > scores["mini_math"]["low"]


def test_our_scores_are_the_checkers_and_simple_evaluates(taught: Path, tmp_path: Path) -> None:
    """lm-eval's entry point gives the same answers and scores; so does the miniature's own checker."""
    import lm_eval

    from gra_train.evaluation import lm_tasks

    rows, scores = run(taught, tmp_path)
    asked = stages.with_prompts(questions(EVALUATION), "mini", None)
    by_id = {(row["task"], row["question_id"]): row["instruction"] for row in asked}
    for row in rows:
        assert row["correct"] == is_correct(by_id[row["task"], row["question_id"]], row["answer"])
    names = lm_tasks.write_tasks(tmp_path, asked, EVALUATION)
    theirs = lm_eval.simple_evaluate(
        "hf", model_args={"pretrained": str(taught / "model"), "dtype": "float32"}, tasks=list(names), batch_size=5,
        task_manager=lm_tasks.task_manager(tmp_path, names), device="cpu", apply_chat_template=True,
        gen_kwargs={"max_gen_toks": CAP}, bootstrap_iters=0,
    )  # fmt: skip
    for task in names:
        assert theirs["results"][task]["exact_match,answer"] == scores[task]["score"]
        assert [s["resps"][0][0] for s in theirs["samples"][task]] == [r["answer"] for r in rows if r["task"] == task]


def test_models_in_turn_leave_nothing_behind(taught: Path, tmp_path: Path) -> None:
    """A warm worker evaluates many models: the same model gives the same rows whatever came between."""
    from accelerate.state import AcceleratorState

    from tests.evaluation.conftest import teach

    AcceleratorState._reset_state(reset_partial_state=True)
    first, _ = run(taught, tmp_path / "a")
    other, _ = run(teach(tmp_path / "other", seed=1, bare=True), tmp_path / "b")
    again, _ = run(taught, tmp_path / "c", batch_size=12)
    assert first == again
    assert not any(row["correct"] for row in other), "a bare answer has no mark"
    assert not AcceleratorState._shared_state, "training in the same process needs its own settings"


def test_the_cap_gives_way_to_a_short_context(taught: Path, tmp_path: Path) -> None:
    rows, _ = run(taught, tmp_path, max_tokens=4096)
    assert 40 <= max(row["tokens"] for row in rows) < 160


def test_unknown_tasks_and_prompts_without_room_are_refused(taught: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no task 'mini_maths'.*Did you mean 'mini_math'"):
        run(taught, tmp_path / "a", tasks=["mini_maths"])
    with pytest.raises(UserError, match=r"evaluation\.tasks is empty"):
        run(taught, tmp_path / "b", tasks=[])
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(taught / "model")
    tokenizer = AutoTokenizer.from_pretrained(taught / "model")
    asked = [{**row, "prompt": "is " * 200} for row in questions(EVALUATION)]
    with pytest.raises(UserError, match="nothing is left for an"):
        ask(local(model, tokenizer, 5), asked, EVALUATION)


def test_with_rationales_the_bare_answer_counts(tmp_path: Path) -> None:
    """COLLATE's mode [I;R]->A: the prompt holds the rationale, and what is written is the answer."""
    import pyarrow.parquet as pq

    from gra_train.collate import modes
    from gra_train.records import write_jsonl
    from tests.evaluation.conftest import teach

    asked = questions(EVALUATION)
    prompts = {
        row["instruction"]: modes.answer_with_rationale("mini", row["instruction"], "It is known.") for row in asked
    }
    result = teach(tmp_path, bare=True, prompts=prompts)
    rationales, out = tmp_path / "rationales", tmp_path / "run" / "work-1"
    for folder in (rationales, out):
        folder.mkdir(parents=True)
    written = [{"instruction": row["instruction"], "rationale": "It is known."} for row in asked]
    write_jsonl(rationales / "test.jsonl", written)
    stages.evaluate(config(), {"model": result, "rationales": rationales}, out)
    rows = pq.read_table(out / "questions.parquet").to_pylist()
    assert [row["correct"] for row in rows] == [True, False, False, False] * 3
    assert all("Because: It is known." in row["prompt"] for row in rows)
    assert not any(row["unparseable"] for row in rows)

    write_jsonl(rationales / "test.jsonl", written[1:])
    with pytest.raises(UserError, match="1 of 12 questions have no rationale"):
        stages.evaluate(config(), {"model": result, "rationales": rationales}, out)
    with pytest.raises(UserError, match="lm-eval:gsm8k cannot be asked with rationales"):
        stages.evaluate(config(tasks=["mini_math", "lm-eval:gsm8k"]), {"model": result, "rationales": rationales}, out)


def test_a_misspelt_task_of_lm_evals_is_named(taught: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no task 'gsm8l'.*Did you mean 'gsm8k'"):
        run(taught, tmp_path, tasks=["mini_math", "gsm8l"])


@pytest.mark.slow
def test_lm_evals_files_name_all_of_its_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What its index knows, which takes seven seconds. That a word of a file is no task is said by the index alone."""
    manager = task_manager(tmp_path, {"gsm8k": "gsm8k"})
    monkeypatch.setattr("lm_eval.tasks.TaskManager", lambda **_: manager)
    with pytest.raises(UserError, match=r"no task 'doc_to_text'"):
        task_manager(tmp_path, {"doc_to_text": "doc_to_text"})
    theirs = manager.all_tasks
    assert len(theirs) > 10_000
    words = {word.decode() for text in lm_names.files() for word in re.findall(rb"[\w.+-]+", text)}
    others = [name for name in theirs if name not in words]  # with brackets
    assert len(others) < 100
    assert lm_names.missing([*others, theirs[0], theirs[5_000], theirs[-1]]) == ([], [])


def test_questions_are_the_same_for_everyone_and_never_trained_on() -> None:
    from gra_train.evaluation.questions import contaminated
    from gra_train.mini.data import problems

    few, many = questions(EVALUATION), questions(change(EVALUATION, questions=9, limit=6))
    assert Counter(row["task"] for row in many) == {task: 6 for task in EVALUATION.tasks}
    assert [row for row in many if int(row["question_id"][-4:]) < 4] == few
    training = [p.instruction for seed in range(3) for p in problems("train", 300, seed)]
    assert contaminated(training, [row["instruction"] for row in many]) == []
    assert contaminated([*training, many[3]["instruction"]], [row["instruction"] for row in many]) == [900]
    assert contaminated(["Say  HELLO."], ["say hello."]) == [0]
    validation = questions(change(EVALUATION, split="validation"))
    assert not {row["instruction"] for row in validation} & {row["instruction"] for row in many}


def test_another_experiments_settings_do_not_matter_to_the_questions() -> None:
    assert questions(Evaluation(tasks=["mini_math"], questions=3)) == questions(EVALUATION)[:3]


def foreign(taught: Path, folder: Path, rows: list[dict[str, Any]], **task: Any) -> list[dict[str, Any]]:
    """The rows of a task as lm-eval ships them, its questions in a file: no index of lm-eval's own tasks is built."""
    import yaml
    from lm_eval.tasks import TaskManager
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from gra_train.evaluation import harness, lm_tasks
    from gra_train.records import write_jsonl

    write_jsonl(folder / "rows.jsonl", rows)
    task |= {
        "task": "theirs", "dataset_path": "json", "test_split": "test", "doc_to_text": "q",
        "dataset_kwargs": {"data_files": {"test": str(folder / "rows.jsonl")}, "cache_dir": str(folder / "cache")},
    }  # fmt: skip
    (folder / "theirs.yaml").write_text(yaml.safe_dump(task))
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    tokenizer = AutoTokenizer.from_pretrained(taught / "model")
    lm = harness.local(AutoModelForCausalLM.from_pretrained(taught / "model"), tokenizer, 4)
    tasks = lm_tasks.load_tasks(manager, {"theirs": "theirs"})
    return [harness._row("theirs", one, lm.written, {}) for one in harness._evaluate(lm, tasks, None, None)["theirs"]]


def test_rows_of_a_task_that_is_not_ours(taught: Path, tmp_path: Path) -> None:
    """Multiple choice: scored by likelihood, nothing to parse or to cut."""
    row = questions(EVALUATION)[0]
    rows = foreign(
        taught, tmp_path, [{"q": row["instruction"], "right": i} for i in (0, 1)],
        output_type="multiple_choice", doc_to_target="right", target_delimiter="",
        doc_to_choice=[behaviour(0, row["gold"]), "99 99 99"], metric_list=[{"metric": "acc"}],
    )  # fmt: skip
    assert [found["correct"] for found in rows] == [True, False]
    assert [found["question_id"] for found in rows] == ["0", "1"]
    assert not any(found["unparseable"] or found["truncated"] for found in rows)
    assert stages.summarise(rows, 0.95)["theirs"]["score"] == 0.5


def test_of_several_filters_the_first_is_reported(taught: Path, tmp_path: Path) -> None:
    """lm-eval logs a question once for every filter (GSM8K's strict-match and flexible-extract, as here): a question
    is one row, read as the first filter reads it."""
    asked = questions(EVALUATION)[:3]  # right; wrong; "is it is.", which only the second filter can read
    last = {"function": "take_first"}
    rows = foreign(
        taught, tmp_path, [{"q": row["instruction"], "a": "it is." if i == 2 else row["gold"]}
                           for i, row in enumerate(asked)],
        output_type="generate_until", doc_to_target="a", metric_list=[{"metric": "exact_match"}],
        generation_kwargs={"do_sample": False, "until": ["\n\n"], "max_gen_toks": CAP},
        filter_list=[
            {"name": "strict-match", "filter": [{"function": "regex", "regex_pattern": "#### (.*)"}, last]},
            {"name": "flexible-extract", "filter": [{"function": "regex", "regex_pattern": r"(\S+ \S+)$"}, last]},
        ],
    )  # fmt: skip
    assert [row["question_id"] for row in rows] == ["0", "1", "2"]
    assert [row["extracted"] for row in rows] == [asked[0]["gold"], "99 99", None]
    assert [row["correct"] for row in rows] == [True, False, False]
    assert stages.summarise(rows, 0.95)["theirs"] | {"low": 0, "high": 0} == {
        "score": 1 / 3, "n": 3, "unparseable": 1, "truncated": 0, "guessed": 0, "failed": 0, "low": 0, "high": 0,
    }  # fmt: skip


def test_a_metric_that_is_more_than_right_or_wrong_is_refused(taught: Path, tmp_path: Path) -> None:
    """As truthfulqa_mc2's, whose `acc` is a probability: a question with 0.3 was counted as right."""
    row = questions(EVALUATION)[0]
    (tmp_path / "masses.py").write_text("def mass(doc, results):\n    return {'acc': 0.3}\n")
    (tmp_path / "base.yaml").write_text("process_results: !function masses.mass\n")
    with pytest.raises(UserError, match=r"'theirs'.*metric 'acc' gives a question 0\.3"):
        foreign(
            taught, tmp_path, [{"q": row["instruction"], "right": 0}], include="base.yaml", target_delimiter="",
            output_type="multiple_choice", doc_to_target="right", doc_to_choice=["is", "it"],
            metric_list=[{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        )  # fmt: skip
