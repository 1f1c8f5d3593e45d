"""gra_train's evaluation stage on GSM8K-shaped questions: prompts, lm-eval, ledger, HTTP client, judging, the lot."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import Task, measured

import gra_train.evaluation.served  # noqa: F401  (with lm-eval, imported before the clock starts, like everybody's)
from gra_train.chat.http import HttpModel  # noqa: F401
from gra_train.evaluation.stages import evaluate
from gra_train.records import write_jsonl
from gra_train.runs import read_json
from gra_train.schema import DataFile, Evaluation, Model
from gra_train.stages import EvaluateStage


def main() -> None:
    task = Task.read()
    out = task.work / "work-1"
    out.mkdir()
    template = task.prompts["plain"]["user"]
    rows = [{"question": template.replace("{i}", str(i)), "answer": f"So. #### {i}"} for i in range(task.rows)]
    write_jsonl(task.work / "gsm8k.jsonl", rows)
    model = Model(name="stub-0", url=task.url, revision="stub", max_concurrency=task.concurrency, timeout_s=600)
    evaluation = Evaluation(tasks=["gsm8k"], shots=0, sources={"gsm8k": DataFile(path=str(task.work / "gsm8k.jsonl"))})
    os.environ["HF_HOME"] = str(task.work / "hub")
    with measured() as result:
        evaluate(EvaluateStage(0, model, evaluation, "tags", "cpu", str(task.work / "ledger")), {}, out)
        score = read_json(out / "scores.json")["gsm8k"]
        result["rows"] = score["n"] - score["failed"]


if __name__ == "__main__":
    main()
