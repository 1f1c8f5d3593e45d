"""Where the questions of a benchmark are, so that training data can be kept apart from them.

A benchmark is named by what `evaluation.tasks` calls it, by the name of its file in the folder of data sets
(`synthesis.decontaminate.folder`, else $GRA_DATA_DIR), or by the path of a file of one's own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gra_train.data.files import ENDINGS, read_rows
from gra_train.errors import UserError, nearest
from gra_train.locate import MINI
from gra_train.schema import DataFile, Decontaminate, Evaluation

EVALUATION = "evaluation"
LM_EVAL = "lm-eval:"


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a benchmark, without its choices. id: unique within the benchmark."""

    benchmark: str
    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Known:
    """A benchmark of the folder of data sets: its file there, the column of the question, which rows are the test."""

    file: str
    column: str
    test: Callable[[Mapping[str, Any]], bool] = lambda row: True


KNOWN = {
    "aqua": Known("aqua/test.jsonl.gz", "question"),
    "arc_challenge": Known("arc/challenge_test.jsonl.gz", "query"),
    "arc_easy": Known("arc/easy_test.jsonl.gz", "query"),
    "bbh": Known("bbh/bbh.jsonl.gz", "input"),
    "commonsense_qa": Known("commonsense_qa/dev_4choice.jsonl.gz", "query"),
    "gsm8k": Known("gsm8k/test.jsonl.gz", "question"),
    "hellaswag": Known("hellaswag/val_1000.jsonl.gz", "ctx"),  # 1,000 of the 10,042
    "humaneval": Known("humaneval/HumanEval.jsonl.gz", "prompt"),
    "ifeval": Known("ifeval/input_data.jsonl.gz", "prompt"),
    "math": Known("math/math_test.jsonl.gz", "problem"),
    "mbpp": Known("mbpp/mbpp.jsonl.gz", "text", lambda row: 11 <= row["task_id"] <= 510),
    "mmlu": Known("mmlu/test.jsonl.gz", "question"),
    "openbookqa": Known("openbookqa/test.jsonl.gz", "query"),
    "piqa": Known("piqa/dev.jsonl.gz", "query"),
    "winogrande": Known("winogrande/dev.jsonl.gz", "sentence"),
}
TASKS = {
    "agieval_aqua_rat": "aqua", "bbh_cot_fewshot": "bbh", "bbh_cot_zeroshot": "bbh", "bbh_fewshot": "bbh",
    "bbh_zeroshot": "bbh", "gsm8k_cot": "gsm8k", "gsm8k_cot_zeroshot": "gsm8k", "hendrycks_math": "math",
    "hendrycks_math500": "math", "humaneval_instruct": "humaneval", "mbpp_instruct": "mbpp", "minerva_math": "math",
    "minerva_math500": "math", "mmlu_generative": "mmlu",
}  # fmt: skip
"""lm-eval's other names of the same questions."""

COLUMNS = ("question", "query", "problem", "prompt", "instruction", "text", "ctx", "sentence", "input")
"""Of a file of one's own: the question is the first of these columns."""


def benchmarks(settings: Decontaminate, evaluation: Evaluation) -> dict[str, DataFile]:
    """Where the questions of every benchmark of `settings.against` are, by name; an empty path: nowhere (missing=skip).

    Raises UserError for what is not known, or not at hand (missing=stop).
    """
    wanted: list[str] = []
    for name in settings.against:
        wanted += evaluation.tasks if name == EVALUATION else [name]
    if settings.against and not wanted:
        raise UserError(
            f"synthesis.decontaminate.against=[{EVALUATION}]: evaluation.tasks names nothing to keep apart from; "
            "set evaluation.tasks, or name benchmarks or files."
        )
    return dict(_place(name, settings, evaluation) for name in dict.fromkeys(wanted))


def _place(name: str, settings: Decontaminate, evaluation: Evaluation) -> tuple[str, DataFile]:
    if name.startswith("mini_"):
        count = min(evaluation.questions, evaluation.limit or evaluation.questions)
        return name, DataFile(path=MINI + name, split=evaluation.split, limit=count)
    if name.endswith((*ENDINGS, ".gz")):
        if not Path(name).expanduser().is_file():
            raise UserError(f"synthesis.decontaminate.against: there is no file {name!r} of questions.")
        return Path(name).name, DataFile(path=name)
    known = KNOWN.get(TASKS.get(name, name))
    folder = settings.folder or os.environ.get("GRA_DATA_DIR", "")
    if known and folder and (Path(folder) / known.file).is_file():
        return name, DataFile(path=str(Path(folder) / known.file))
    if settings.missing == "load":
        return name, DataFile(path=LM_EVAL + name)
    if settings.missing == "skip":
        return name, DataFile()
    if known:
        where = f"{folder} has no {known.file}" if folder else "no folder of data sets is named"
    else:
        where = f"no such benchmark is known.{nearest(name, list(KNOWN))} Known: {', '.join(KNOWN)}"
    raise UserError(
        f"synthesis.decontaminate: the questions of {name!r} are not at hand: {where}. Name a folder "
        "(synthesis.decontaminate.folder, or $GRA_DATA_DIR) or a file of questions in its place, or set "
        "synthesis.decontaminate.missing=load (lm-eval's own, from the Hub) or skip (leave it out, and say so)."
    )


def questions(name: str, file: DataFile) -> list[Question]:
    """The questions of a benchmark that `benchmarks` found. Raises UserError where they cannot be read or loaded."""
    if not file.path:
        return []
    if file.path.startswith(MINI):
        from gra_train.evaluation.questions import questions as ours

        asked = ours(Evaluation(tasks=[name], split=file.split, questions=file.limit or 1))
        return [Question(name, row["question_id"], row["instruction"]) for row in asked]
    if file.path.startswith(LM_EVAL):
        return lm_eval_questions(name, _load_tasks(name))
    known = KNOWN.get(TASKS.get(name, name))
    found = []
    for row in read_rows(file):
        if row.problem or row.values is None:
            raise UserError(f"{file.path}, {row.place}: {row.problem}; expected a question in every row.")
        if known and not known.test(row.values):
            continue
        column = known.column if known else next((c for c in COLUMNS if isinstance(row.values.get(c), str)), "")
        if not isinstance(row.values.get(column), str):
            raise UserError(
                f"{file.path}, {row.place}: no question; expected a text in one of the columns {', '.join(COLUMNS)}."
            )
        found.append(Question(name, str(row.number), row.values[column]))
    return found


def _load_tasks(name: str) -> Iterable[Any]:
    """The tasks of lm-eval that a name stands for, with their data sets (from the Hub, or its cache)."""
    from lm_eval.tasks import TaskManager

    manager = TaskManager()
    if name not in manager.all_tasks:
        raise UserError(f"synthesis.decontaminate: lm-eval has no task {name!r}.{nearest(name, manager.all_tasks)}")
    try:
        tasks: Mapping[str, Any] = manager.load([name])["tasks"]
    except Exception as error:  # the library raises whatever its network layer raises
        raise UserError(
            f"synthesis.decontaminate: the questions of {name!r} cannot be loaded by lm-eval "
            f"({type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}). Check the network, or name a "
            "folder with its file (synthesis.decontaminate.folder)."
        ) from None
    return tasks.values()


def lm_eval_questions(name: str, tasks: Iterable[Any]) -> list[Question]:
    """The test questions (where there are none, the validation questions) of tasks of lm-eval."""
    found = []
    for task in tasks:
        docs = task.test_docs() if task.has_test_docs() else task.validation_docs()
        for number, doc in enumerate(docs):
            text = task.doc_to_decontamination_query(doc) if task.should_decontaminate() else task.doc_to_text(doc)
            if not isinstance(text, str):  # a cloze (winogrande): the question is in the choices
                text = " ".join(value for value in doc.values() if isinstance(value, str))
            found.append(Question(name, f"{task.config.task}/{number}", text))
    return found
