"""The questions of a run: those of our benchmarks, and the miniature's: held-out problems, one task per domain.

The miniature's do not depend on the experiment's seed: the test set is one, so that arms and seeds answer the same
questions. They are disjoint from training by construction (a problem's split is a function of its canonical key); this
is checked here for the questions, and by `contaminated` for a training set.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from gra_train.errors import UserError, nearest
from gra_train.evaluation.benchmarks import asking, is_ours, names
from gra_train.mini.data import problems
from gra_train.mini.language import DOMAINS, parse, split_of
from gra_train.schema import Evaluation

TASKS: dict[str, str] = {f"mini_{domain.lower()}": domain for domain in DOMAINS}
"""Task name -> domain."""

TEST_SET = 0
"""Which draw of the held-out problems is asked. Fixed: raise it only together with the tasks' version."""


def questions(evaluation: Evaluation) -> list[dict[str, Any]]:
    """The questions that have instructions of ours, in the order of `evaluation.tasks`; lm-eval's own are not listed.

    Each is a dict: task, domain, question_id (unique within a task), instruction, gold (the bare answer); of our
    benchmarks also what `gra_train.evaluation.benchmarks.rows` names.
    Raises UserError when no task is named, one that looks like ours and is not, or questions that cannot be read.
    """
    if not evaluation.tasks:
        raise UserError(
            f"evaluation.tasks is empty: name what to evaluate, e.g. evaluation.tasks=[{', '.join(TASKS)}], "
            f"a benchmark ({', '.join(names())}) or one of lm-eval's tasks."
        )
    for name in evaluation.tasks:
        if name.startswith("mini_") and name not in TASKS:
            raise UserError(
                f"evaluation.tasks: there is no task {name!r}.{nearest(name, list(TASKS))} Ours: {', '.join(TASKS)}."
            )
    rows = []
    for task in dict.fromkeys(evaluation.tasks):
        if task in TASKS:
            rows += _miniature(task, evaluation)
        elif is_ours(task):
            rows += asking.questions(task, evaluation)
    return rows


def without_instructions(evaluation: Evaluation) -> list[str]:
    """The tasks of a run whose questions are lm-eval's own: they take no rationale."""
    return [task for task in dict.fromkeys(evaluation.tasks) if task not in TASKS and not is_ours(task)]


def _miniature(task: str, evaluation: Evaluation) -> list[dict[str, Any]]:
    count = min(evaluation.questions, evaluation.limit or evaluation.questions)
    rows = []
    for index, problem in enumerate(problems(evaluation.split, count, TEST_SET, TASKS[task])):
        assert split_of(problem) == evaluation.split, f"{problem.instruction!r} is not of {evaluation.split}"
        rows.append(
            {
                "task": task,
                "domain": problem.domain,
                "question_id": f"{evaluation.split}-{index:04d}",
                "instruction": problem.instruction,
                "gold": problem.answer,
            }
        )
    return rows


def contaminated(instructions: Iterable[str], asked: Sequence[str]) -> list[int]:
    """Indices of training `instructions` that state the same problem as one of the `asked` instructions.

    Problems of the miniature are compared by canonical key (other wording, same problem); other text word by word.
    """
    held_out = {_key(text) for text in asked}
    return [index for index, text in enumerate(instructions) if _key(text) in held_out]


def _key(text: str) -> str:
    problem = parse(text)
    return problem.key if problem else " ".join(text.split()).casefold()
