"""What `gra-train validate` says of the benchmarks: are their questions at hand, and can programs be run safely?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gra_train.doctor import Finding
from gra_train.errors import UserError
from gra_train.evaluation.benchmarks import benchmark
from gra_train.evaluation.benchmarks.asking import ours
from gra_train.evaluation.benchmarks.rows import HUB, find, load_questions
from gra_train.evaluation.lm_tasks import check_names
from gra_train.evaluation.questions import without_instructions
from gra_train.evaluation.sandbox import unavailable
from gra_train.graph import Node


def evaluations(nodes: Sequence[Node]) -> Iterator[Finding]:
    """Every benchmark of ours that a stage asks: counted from its file, or named with its place on the Hub. And every
    task that lm-eval does not have."""
    settings = [node.config.evaluation for node in nodes if node.stage == "evaluate"]
    for task in dict.fromkeys(task for evaluation in settings for task in without_instructions(evaluation)):
        try:
            check_names([task])
        except UserError as error:
            yield Finding("problem", "evaluation", str(error))
    asked = {task: evaluation for evaluation in settings for task in ours(evaluation)}
    here, hub, programs = [], [], []
    for task, evaluation in asked.items():
        try:
            found = benchmark(task)
            questions = find(found, evaluation)["questions"]
            if questions.path.startswith(HUB):
                hub.append(f"{found.name} ({questions.path.removeprefix(HUB)})")
            else:
                here.append(f"{found.name} {len(load_questions(found, questions, evaluation.limit))}")
            if found.kind == "code":
                programs.append(found.name)
        except UserError as error:
            yield Finding("problem", "evaluation", str(error))
    if here:
        yield Finding("ok", "evaluation", f"questions to be asked, from files: {', '.join(here)}")
    if hub:
        yield Finding("note", "evaluation", f"questions fetched from the Hub when they are asked: {', '.join(hub)}")
    if programs:
        yield _sandbox(", ".join(programs), any(e.unsandboxed for e in asked.values()))


def _sandbox(programs: str, unsandboxed: bool) -> Finding:
    """Whether the programs of these benchmarks can be run."""
    why = unavailable()
    if not why:
        return Finding("ok", "sandbox", f"programs of {programs} run in it")
    if unsandboxed:
        return Finding("note", "sandbox", f"programs of {programs} run without it (evaluation.unsandboxed=true): {why}")
    return Finding("problem", "sandbox", f"programs of {programs}: {why}", "install it, or leave the benchmarks out")
