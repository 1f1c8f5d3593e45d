"""Our questions as tasks of lm-eval: a folder with one YAML file and one jsonl file each.

It is what lm-eval's own command line takes with --include_path: a document holds its prompt, and what is needed to
judge an answer (gra_train.evaluation.scoring.process_results).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gra_train.errors import UserError, nearest
from gra_train.evaluation import lm_names
from gra_train.evaluation.benchmarks import LM_EVAL
from gra_train.evaluation.benchmarks import names as known_benchmarks
from gra_train.evaluation.benchmarks.asking import Asked
from gra_train.evaluation.questions import TASKS
from gra_train.records import write_jsonl
from gra_train.schema import Evaluation

YAML = Path(__file__).parent / "tasks"
PREFIX = "gra_"
"""Our benchmarks as tasks of lm-eval: some have the names of lm-eval's own."""


def write_tasks(
    folder: Path,
    asked: Sequence[Mapping[str, Any]],
    evaluation: Evaluation,
    benchmarks: Sequence[Asked] = (),
    *,
    template: str = "mini",
) -> dict[str, str]:
    """Write this run's tasks as lm-eval reads them (--include_path); return lm-eval's names of all tasks, by ours."""
    import yaml

    ours = {one.name: one for one in benchmarks}
    names = {}
    for task in dict.fromkeys(row["task"] for row in asked):
        rows = [row for row in asked if row["task"] == task]
        names[task] = PREFIX + task if task in ours else task
        plain = [_document(row, ours.get(task)) for row in rows]
        write_jsonl(folder / f"{task}.jsonl", plain)
        added: dict[str, Any] = {
            "include": str(YAML / f"{template}.yaml"),
            "task": names[task],
            "dataset_kwargs": {
                "data_files": {"test": str(folder / f"{task}.jsonl")},
                "cache_dir": f"{folder}/cache",
            },
        }
        if one := ours.get(task):
            added["include"] = str(YAML / f"{'choices' if one.by_likelihood else 'benchmark'}.yaml")
            if not one.by_likelihood:
                kwargs = {"do_sample": False, "until": one.benchmark.stop, "max_gen_toks": one.max_tokens}
                added["generation_kwargs"] = kwargs
            if one.shots:
                added["num_fewshot"] = len(one.shots)
                added["fewshot_config"] = {"sampler": "first_n", "samples": one.shots}
        (folder / f"{task}.yaml").write_text(yaml.safe_dump(added, allow_unicode=True))
    foreign = [task for task in dict.fromkeys(evaluation.tasks) if task not in TASKS and not _is_asked(task, names)]
    return names | {task: task.removeprefix(LM_EVAL) for task in foreign}


def _is_asked(task: str, names: Mapping[str, str]) -> bool:
    return task in names or Path(task).stem in names


def _document(row: Mapping[str, Any], one: Asked | None) -> dict[str, Any]:
    """A question as lm-eval's document, with what its command line needs to judge an answer."""
    document = {key: row[key] for key in ("question_id", "prompt", "gold")}
    if one is None:
        return document
    if one.by_likelihood:
        letters = [chr(ord("A") + place) for place in range(len(row["choices"]))]
        texts = bool(one.benchmark.likelihood and one.benchmark.likelihood.of == "texts")
        return document | {
            "choices": list(map(str, row["choices"])) if texts else letters,
            "gold": letters.index(row["gold"]),
            "per_character": texts,
        }
    kept = {key: row[key] for key in row if key not in ("prompt", "instruction", "task", "question")}
    return document | {"how": json.dumps(one.how._asdict()), "question": json.dumps(kept)}


def task_manager(folder: Path, names: Mapping[str, str]) -> Any:
    """lm-eval's index: the folder's tasks, and lm-eval's own where one is asked for. UserError for an unknown task."""
    foreign = {task: name for task, name in names.items() if not (folder / f"{task}.yaml").is_file()}
    check_names(foreign)
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(folder), include_defaults=bool(foreign))
    for task, name in foreign.items():
        if name not in manager.all_tasks:
            raise _no_task(task, manager.all_tasks)
    return manager


def check_names(tasks: Iterable[str]) -> None:
    """Raises UserError if one of these tasks of lm-eval's does not exist, as far as its files tell (lm_names.py)."""
    missing, given = lm_names.missing(task.removeprefix(LM_EVAL) for task in tasks)
    if missing:
        raise _no_task(missing[0], given)


def _no_task(task: str, theirs: Iterable[str]) -> UserError:
    return UserError(
        f"evaluation.tasks: there is no task {task!r}.{nearest(task, [*TASKS, *known_benchmarks(), *theirs])} "
        f"Ours: {', '.join([*TASKS, *known_benchmarks()])}; else any of lm-eval's (lm_eval ls tasks)."
    )


def load_tasks(manager: Any, names: Mapping[str, str]) -> dict[str, Any]:
    """Our name -> task, in the order of `names`. A group of lm-eval's gives several, by lm-eval's names."""
    tasks: dict[str, Any] = manager.load(list(names.values()))["tasks"]
    for task in tasks.values():  # as simple_evaluate does
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=1234)
    ours = {theirs: task for task, theirs in names.items()}
    return {ours.get(name, name): task for name, task in tasks.items()}
