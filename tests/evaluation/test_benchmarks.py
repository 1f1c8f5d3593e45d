"""Our benchmarks: loading, prompts, and a run of a real model end to end."""

import json
from pathlib import Path

from gra_train.evaluation import stages
from gra_train.schema import Evaluation, Model
from gra_train.settings import change
from gra_train.stages import EvaluateStage

SMALL = Evaluation(limit=4, shots=0, max_tokens=16, batch_size=4)


def evaluate(folder: Path, evaluation: Evaluation, result: Path | None = None):
    import pyarrow.parquet as pq

    out = folder / "work-1"
    out.mkdir(parents=True)
    config = EvaluateStage(0, Model(path="mini:wren"), evaluation, "tags", "cpu")
    stages.evaluate(config, {"model": result} if result else {}, out)
    return pq.read_table(out / "questions.parquet").to_pylist(), json.loads((out / "scores.json").read_text())


def test_gsm8k_and_humaneval_end_to_end(data_dir, tmp_path):
    rows, scores = evaluate(tmp_path, change(SMALL, tasks=["gsm8k", "humaneval"], data_dir=str(data_dir)))
    assert set(scores) == {"gsm8k", "humaneval", "average"}
    assert [scores[task]["n"] for task in ("gsm8k", "humaneval", "average")] == [4, 4, 8]
    assert [row["gold"] for row in rows[:3]] == ["18", "3", "70000"]
    assert [row["question_id"] for row in rows[4:]] == [f"HumanEval/{i}" for i in range(4)]
    assert all(row["prompt"].startswith("<s><|user|>Question: Janet") for row in rows[:1])
    assert all(0 < row["tokens"] <= 16 for row in rows)
