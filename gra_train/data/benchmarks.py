"""Where the questions of a benchmark are, so that training data can be kept apart from them.

A benchmark is one of gra_train/evaluation/benchmarks, by its name, an alias (lm-eval's names of the same questions) or
the path of a definition of one's own; or the path of a file of questions. What is evaluated and what training data are
kept apart from come from the same place: a file of the folder of data sets (`synthesis.decontaminate.folder`, else
`evaluation.data_dir`, else $GRA_DATA_DIR), or the Hub.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gra_train.data.files import ENDINGS, read_rows
from gra_train.errors import UserError, nearest
from gra_train.evaluation import lm_names
from gra_train.evaluation.benchmarks import LM_EVAL, Benchmark, benchmark, named, names
from gra_train.evaluation.benchmarks.rows import HUB, data_dir, question_texts
from gra_train.locate import MINI
from gra_train.schema import DataFile, Decontaminate, Evaluation

EVALUATION = "evaluation"


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a benchmark, without its choices. id: unique within the benchmark."""

    benchmark: str
    id: str
    text: str


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
    known = _known(name)
    folder = settings.folder or data_dir(evaluation)
    if known and folder and (Path(folder).expanduser() / known.questions.file).is_file():
        return name, DataFile(path=str(Path(folder).expanduser() / known.questions.file))
    if settings.missing == "load":
        if known and known.questions.hub:
            return name, DataFile(path=HUB + known.questions.hub, split=known.questions.split)
        return name, DataFile(path=LM_EVAL + name.removeprefix(LM_EVAL))
    if settings.missing == "skip":
        return name, DataFile()
    if known:
        where = f"{folder} has no {known.questions.file}" if folder else "no folder of data sets is named"
    else:
        where = f"no such benchmark is known.{nearest(name, names())} Known: {', '.join(names())}"
    raise UserError(
        f"synthesis.decontaminate: the questions of {name!r} are not at hand: {where}. Name a folder "
        "(synthesis.decontaminate.folder, or $GRA_DATA_DIR) or a file of questions in its place, or set "
        "synthesis.decontaminate.missing=load (from the Hub, or lm-eval's own) or skip (leave it out, and say so)."
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
    if known := _known(name):
        return [Question(name, number, text) for number, text in question_texts(known, file)]
    found = []
    for row in read_rows(file):
        if row.problem or row.values is None:
            raise UserError(f"{file.path}, {row.place}: {row.problem}; expected a question in every row.")
        column = next((c for c in COLUMNS if isinstance(row.values.get(c), str)), "")
        if not column:
            raise UserError(
                f"{file.path}, {row.place}: no question; expected a text in one of the columns {', '.join(COLUMNS)}."
            )
        found.append(Question(name, str(row.number), row.values[column]))
    return found


def _known(name: str) -> Benchmark | None:
    """The benchmark of a name, an alias or a definition of one's own; None: a file of questions, or lm-eval's."""
    task = named(name.removeprefix(LM_EVAL))
    return benchmark(task) if task else None


def _load_tasks(name: str) -> Iterable[Any]:
    """The tasks of lm-eval that a name stands for, with their data sets (from the Hub, or its cache)."""
    missing, given = lm_names.missing([name])
    if missing:
        raise _no_task(name, given)
    from lm_eval.tasks import TaskManager

    manager = TaskManager()
    if name not in manager.all_tasks:
        raise _no_task(name, manager.all_tasks)
    try:
        tasks: Mapping[str, Any] = manager.load([name])["tasks"]
    except Exception as error:  # the library raises whatever its network layer raises
        raise UserError(
            f"synthesis.decontaminate: the questions of {name!r} cannot be loaded by lm-eval "
            f"({type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}). Check the network, or name a "
            "folder with its file (synthesis.decontaminate.folder)."
        ) from None
    return tasks.values()


def _no_task(name: str, known: list[str]) -> UserError:
    return UserError(f"synthesis.decontaminate: lm-eval has no task {name!r}.{nearest(name, known)}")


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
