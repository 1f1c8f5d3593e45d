"""An evaluation behind a server, question by question: what its rows say follows from what the server answered."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from gra_train.errors import UserError
from gra_train.evaluation import sandbox, stages
from gra_train.evaluation.engine import answering, planned
from gra_train.records import write_jsonl
from gra_train.schema import DataFile, Evaluation, Model
from gra_train.settings import change
from gra_train.stages import EvaluateStage
from tests.evaluation import answering as stub

NUMBERS = (4, 11, 180, 2048, 7)
PROGRAM = 'def twice(x: int) -> int:\n    """Twice x, {i}."""\n'
CHECK = "def check(candidate):\n    assert candidate(4) == 8\n    assert candidate(0) == 0\n"


def written(folder: Path) -> Evaluation:
    """Five questions of GSM8K and three of HumanEval, of our own in their schemas."""
    folder.mkdir(parents=True, exist_ok=True)
    questions = [
        {"question": f"Ann has {n - 1} apples and buys one. How many has she? ({i})", "answer": f"She has. #### {n}"}
        for i, n in enumerate(NUMBERS)
    ]
    write_jsonl(folder / "gsm8k.jsonl", questions)
    write_jsonl(
        folder / "humaneval.jsonl",
        [
            {"task_id": f"HumanEval/{i}", "prompt": PROGRAM.format(i=i), "canonical_solution": "    return 2 * x\n",
             "entry_point": "twice", "test": CHECK}
            for i in range(3)
        ],
    )  # fmt: skip
    sources = {name: DataFile(path=str(folder / f"{name}.jsonl")) for name in ("gsm8k", "humaneval")}
    return Evaluation(
        tasks=["gsm8k", "humaneval"], sources=sources, shots=0, max_tokens=64, batch_size=4,
        unsandboxed=bool(sandbox.unavailable()),
    )  # fmt: skip


def evaluate(config: EvaluateStage, folder: Path, **inputs: Path) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """(rows by question, scores)."""
    (out := folder / "work-1").mkdir(parents=True)
    stages.evaluate(config, inputs, out)
    rows = pq.read_table(out / "questions.parquet").to_pylist()
    found = {f"{row['task']}/{row['question_id']}": row for row in rows}
    assert len(found) == len(rows)
    return found, json.loads((out / "scores.json").read_text())


def say(prompt: str) -> tuple[str, str] | None:
    """Right, wrong, without a number, cut, and refused; a right program, a wrong one, none."""
    if found := re.search(r"\((\d)\)", prompt):
        right = f"One more makes {NUMBERS[int(found[1])]:,}. The answer is {NUMBERS[int(found[1])]:,}."
        return [(right, "stop"), ("It is 99.", "stop"), ("She has some.", "stop"), (right, "length"), None][
            int(found[1])
        ]
    found = re.search(r"Twice x, (\d)", prompt)
    assert found
    body = ("    return x + x\n", "    return x * x\n", "")[int(found[1])]
    return (f"```python\n{PROGRAM.format(i=found[1])}{body}```" if body else "I cannot."), "stop"


def test_every_row_is_right(tmp_path: Path) -> None:
    with stub.answering(say) as (url, bodies):
        model = Model(name="student", url=url, revision="1", max_concurrency=3, retries=0)
        config = EvaluateStage(0, model, written(tmp_path), "tags", "cpu", str(tmp_path / "ledger"))
        rows, scores = evaluate(config, tmp_path / "a")
        asked = len(bodies)
        again, _ = evaluate(config, tmp_path / "b")
        assert (again, len(bodies)) == (rows, asked), "the second time everything is in the ledger"
    assert (tmp_path / "a/work-1/questions.parquet").read_bytes() == (
        tmp_path / "b/work-1/questions.parquet"
    ).read_bytes()
    expected = {  # extracted, correct, truncated, failed
        "gsm8k/0": ("4", True, False, False),
        "gsm8k/1": ("99", False, False, False),
        "gsm8k/2": (None, False, False, False),
        "gsm8k/3": ("2048", True, True, False),
        "gsm8k/4": (None, False, False, True),
    }
    for name, (extracted, correct, truncated, failed) in expected.items():
        row = rows[name]
        assert (row["extracted"], row["unparseable"]) == (extracted, extracted is None)
        assert (row["correct"], row["truncated"], row["failed"]) == (correct, truncated, failed)
        assert row["tokens"] == len(row["answer"].split()), "as the server counts"
        assert json.loads(row["prompt"])[-1]["content"].startswith("Question: Ann has")
    assert [rows[f"humaneval/HumanEval/{i}"]["correct"] for i in range(3)] == [True, False, False]
    assert scores["gsm8k"] | {"score": 0.4, "n": 5, "unparseable": 1, "truncated": 1, "failed": 1} == scores["gsm8k"]
    assert scores["humaneval"]["score"] == pytest.approx(1 / 3)
    assert {body["temperature"] for body in bodies} == {0.0}
    assert {body["max_tokens"] for body in bodies} == {64}
    usage = json.loads((tmp_path / "b/usage.json").read_text())["total"]
    assert (usage["asked"], usage["computed"], usage["failed"]) == (8, 0, 1)


def test_how_a_student_is_reached(tmp_path: Path) -> None:
    """engine: here, here through the ledger, or behind a server that is started for it; url: the base at its server."""
    config = EvaluateStage(0, Model(path="mini:wren", revision="abc"), Evaluation(dtype="bfloat16"), "tags", "cpu")
    assert answering(config) is None

    def of(engine: str, result: Path | None, **changes: Any) -> Model | None:
        model = change(config.model, **changes)
        stage = change(config, model=model, evaluation=Evaluation(engine=engine, dtype="bfloat16"))
        return answering(stage, str(result / "model") if result else "")

    result = tmp_path / "result"
    (result / "model").mkdir(parents=True)
    (result / "model" / "config.json").write_text("{}")
    here = of("chat", result)
    assert here
    assert (here.path, here.revision, here.dtype, here.serve) == (str(result / "model"), "", "bfloat16", {})
    base = of("vllm", None, url="http://127.0.0.1:9/v1", revision="abc")
    assert base
    assert (base.url, base.revision, base.serve) == ("http://127.0.0.1:9/v1", "abc", {})
    trained = of("vllm", result, url="http://127.0.0.1:9/v1", served_name="base")
    assert trained
    assert (trained.url, trained.served_name, trained.path) == ("", "", str(result / "model"))
    assert trained.serve["engine"] == "vllm"
    assert of("hf", result, url="http://127.0.0.1:9/v1") is None
    before = planned(change(config, evaluation=Evaluation(engine="vllm")), trained=True)
    assert before
    assert (before.path, before.serve["engine"]) == ("mini:wren", "vllm")

    wrong = change(config, evaluation=Evaluation(engine="vllm", serve={"pyton": "x"}))
    with pytest.raises(UserError, match=r"evaluation\.serve\.pyton.*Did you mean 'evaluation\.serve\.python'"):
        answering(wrong)
    with pytest.raises(UserError, match="engine=hf starts none"):
        answering(change(config, evaluation=Evaluation(serve={"port": 8000})))
    for name, under in (("one", "result/model"), ("two", "one")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text(
            json.dumps({"base_model_name_or_path": str(tmp_path / under)})
        )
    with pytest.raises(UserError, match="an adapter on an adapter"):
        of("transformers", None, path=str(tmp_path / "two"))


def test_only_what_changes_answers_counts_for_the_run_name(tmp_path: Path) -> None:
    from gra_train.graph import Node

    def name(**changes: Any) -> str:
        return Node("evaluate", "x", EvaluateStage(0, Model(), Evaluation(**changes), "tags", "cpu", "a")).run_id

    assert name(engine="vllm", serve={"python": "/a", "gpus": [1]}) == name(engine="vllm", serve={"port": 8000})
    assert name(engine="vllm") != name(engine="vllm", serve={"arguments": ["--max-model-len", "512"]})
    assert len({name(engine=engine) for engine in ("hf", "chat", "vllm", "transformers")}) == 4
