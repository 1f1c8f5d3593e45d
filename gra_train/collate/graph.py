"""COLLATE and its baselines as nodes of an experiment's graph: what is put on top of an arm's student.

`METHODS` maps arms.NAME.method to the function that makes its nodes: (method, arm's name, base) -> rows of the table.
The base is the arm's student, or None for config.student as it is. Rows are named `<label>.scores`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from gra_train.errors import UserError
from gra_train.graph import Node
from gra_train.schema import Arm, Collate, Config
from gra_train.settings import only, overlaid
from gra_train.stages import CollateStage

Rows = dict[str, Node]


class Maker(Protocol):
    """The experiment's graph in the making: equal work is made once, whoever asks for it."""

    config: Config
    ledger: str

    def once(self, stage: str, label: str, config: object, inputs: dict[str, Node] | None = None) -> Node: ...

    def evaluate(self, label: str, inputs: dict[str, Node], prompts: str = "") -> Node: ...


@dataclass(frozen=True)
class Method:
    """What a builder of nodes has: the graph, and the settings of COLLATE as this arm has them."""

    graph: Maker
    collate: Collate

    def stage(self, stage: str, label: str, inputs: dict[str, Node], *, provider: int = 0, iteration: int = 0) -> Node:
        """A node of a stage with a CollateStage configuration; its identity holds what READS lists for the stage."""
        config = self.graph.config
        asks = ("tasks", "limit", "split", "questions") if stage in READS_QUESTIONS else ()
        fixed = CollateStage(
            seed=config.seed,
            model=config.student,
            collate=only(self.collate, *READS[stage]),
            evaluation=only(config.evaluation, *asks),
            deepspeed=config.deepspeed,
            device=config.resources.device,
            ranks=config.resources.ranks,
            provider=provider,
            iteration=iteration,
            ledger=self.graph.ledger,
        )
        return self.graph.once(stage, label, fixed, inputs)

    def evaluate(self, label: str, inputs: dict[str, Node]) -> Node:
        return self.graph.evaluate(label, inputs, self.collate.prompts)


def collate(method: Method, arm: str, base: Node | None) -> Rows:
    """The three stages of COLLATE on top of an arm's student, and a row of the table after each."""
    providers = range(method.collate.providers)
    start = {"model": base} if base else {}
    ift = method.stage("ift", arm, start)
    found: Rows = {}

    def report(step: str, current: list[Node]) -> Node:
        inputs = {"ift": ift} | {f"provider_{s}": node for s, node in enumerate(current)}
        written = method.stage("rationales", f"{arm}-{step}", inputs)
        scores = method.evaluate(f"{arm}-{step}", {"model": ift, "rationales": written})
        found[f"{arm} + COLLATE {step}.scores"] = scores
        return written

    first = report("M_IFT", [ift])
    current = [method.stage("distinct", f"{arm}-p{s}", {"ift": ift}, provider=s) for s in providers]
    last = report("stage 2", current)
    for i in range(1, method.collate.iterations + 1):
        writers = {"ift": ift} | {f"provider_{s}": node for s, node in enumerate(current)}
        merit = method.stage("merit", f"{arm}-i{i}", writers, iteration=i)
        found[f"collate.{arm}.{i}"] = merit
        current = [
            method.stage("tune", f"{arm}-i{i}-p{s}", {"provider": node, "merit": merit}, provider=s, iteration=i)
            for s, node in enumerate(current)
        ]
        last = report(f"iteration {i}", current)
    for step, written in (("M_IFT rationales, answerer", first), ("answerer", last)):
        answerer = method.stage("answerer", f"{arm}-{step}", start | {"rationales": written})
        scores = method.evaluate(f"{arm}-{step}", {"model": answerer, "rationales": written})
        found[f"{arm} + COLLATE {step}.scores"] = scores
    return found


METHODS: dict[str, Callable[[Method, str, Node | None], Rows]] = {"collate": collate}
"""Builders by arms.NAME.method. Baselines (`gra_train.collate.baselines`) are added here."""


def rows(graph: Maker, name: str, arm: Arm, base: Node | None) -> Rows:
    """The rows that arms.NAME.method adds to the table. Raises UserError for a method that is not there, or settings of
    collate that nothing would read."""
    settings = overlaid(graph.config.collate, arm.collate, f"arms.{name}.collate.")
    if arm.method == "none":
        if arm.collate:
            raise UserError(f"arms.{name}.collate: method=none reads no settings of COLLATE; set arms.{name}.method.")
        return {}
    if arm.method not in METHODS:
        known = ", ".join(("none", *METHODS))
        raise UserError(f"arms.{name}.method={arm.method!r} is not built yet: choose one of {known}.")
    return METHODS[arm.method](Method(graph, settings), name, base)


SPLITS = ("rationale_data", "validation_rows", "providers", "prompts")
WRITING = ("temperature", "top_p", "max_tokens", "block")
READS = {
    "ift": ("rationale_data", "answer_data", "validation_rows", "prompts", "answers_from_rationale_rows", "ift"),
    "distinct": (*SPLITS, "stage2_temperature", "top_p", "max_tokens", "block", "stage2", "beta", "loss"),
    "merit": (*WRITING, "task_data", "providers", "prompts", "filter", "redraw_splits"),
    "tune": ("prompts", "stage3", "beta", "loss"),
    "rationales": (*SPLITS, *WRITING, "task_data"),
    "answerer": ("prompts", "answerer", "task_data"),
}
"""The settings each stage of COLLATE reads: a sweep over beta does not train M_IFT again. Baselines add theirs."""
READS_QUESTIONS = {"rationales"}
"""Stages that also read which questions are asked (evaluation.tasks and their number)."""
