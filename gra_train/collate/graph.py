"""COLLATE and its baselines as nodes of an experiment's graph: what is put on top of an arm's student.

`METHODS` maps arms.NAME.method to the function that makes its nodes: (method, arm's name, base) -> rows of the table.
The base is the arm's student, or None for config.student as it is. Rows are named `<label>.scores`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from gra_train.collate.baselines import graph as baselines
from gra_train.data.benchmarks import benchmarks
from gra_train.errors import UserError, nearest
from gra_train.evaluation.benchmarks.asking import reads_questions
from gra_train.graph import Node
from gra_train.schema import Arm, Collate, Config, Model, Preference, Resources
from gra_train.settings import change, only, overlaid
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
    """What a builder of nodes has: the graph, the settings of COLLATE as this arm has them, and the arm's own training
    set (None: it has none)."""

    graph: Maker
    collate: Collate
    data: Node | None = None

    def stage(
        self,
        stage: str,
        label: str,
        inputs: dict[str, Node],
        *,
        provider: int = 0,
        iteration: int = 0,
        model: Model | None = None,
    ) -> Node:
        """A node of a stage with a CollateStage configuration; its identity holds what READS lists for the stage.

        model: in place of config.student.
        """
        config, reads = self.graph.config, READS[stage]
        if "baselines.shots" in reads and self.collate.baselines.shots and self.collate.decontaminate.against:
            reads = (*reads, "decontaminate")  # worked examples come from the rationale data
        asks = reads_questions(config.evaluation) if stage in READS_QUESTIONS else ()
        asks = (*asks, *JUDGING) if stage in baselines.ANSWERING else asks
        apart = benchmarks(self.collate.decontaminate, config.evaluation) if "decontaminate" in reads else {}
        if self.data and self.collate.own_data in ("both", *(what for name, what in OWN.items() if name in reads)):
            inputs = inputs | {"data": self.data}
        fixed = CollateStage(
            seed=config.seed,
            model=model or config.student,
            collate=only(self.collate, *reads),
            evaluation=only(config.evaluation, *asks),
            deepspeed=config.deepspeed,
            device=config.resources.device,
            ranks=config.resources.ranks,
            provider=provider,
            iteration=iteration,
            benchmarks=apart,
            ledger=self.graph.ledger,
        )
        return self.graph.once(stage, label, fixed, inputs)

    def evaluate(self, label: str, inputs: dict[str, Node]) -> Node:
        return self.graph.evaluate(label, inputs, self.collate.prompts)


def collate(method: Method, arm: str, base: Node | None) -> Rows:
    """The three stages of COLLATE on top of an arm's student, and a row of the table after each."""
    _check_adapters(method.collate)
    starts = _families(method)
    start = {"model": base} if base else {}
    ift = method.stage("ift", arm, start)
    found: Rows = {}

    def report(step: str, current: list[Node]) -> Node:
        inputs = {"ift": ift} | {f"provider_{s}": node for s, node in enumerate(current)}
        written = method.stage("rationales", f"{arm}-{step}", inputs)
        scores = method.evaluate(f"{arm}-{step}", {"model": ift, "rationales": written})
        found[f"{arm} + COLLATE {step}.scores"] = scores
        return written

    answerers = {"M_IFT rationales, answerer": report("M_IFT", [ift])}
    clones = [method.stage("ift", f"{arm}-{one.name}", {}, model=one) if one else ift for one in starts]
    current = [
        method.stage("distinct", f"{arm}-p{s}", {"ift": clone}, provider=s, model=starts[s])
        for s, clone in enumerate(clones)
    ]
    answerers["stage 2, answerer"] = last = report("stage 2", current)
    for i in range(1, method.collate.iterations + 1):
        writers = {"ift": ift} | {f"provider_{s}": node for s, node in enumerate(current)}
        merit = method.stage("merit", f"{arm}-i{i}", writers, iteration=i)
        found[f"collate.{arm}.{i}"] = merit
        current = [
            method.stage(
                "tune", f"{arm}-i{i}-p{s}", {"provider": node, "merit": merit}, provider=s, iteration=i, model=starts[s]
            )
            for s, node in enumerate(current)
        ]
        answerers[f"iteration {i}, answerer"] = last = report(f"iteration {i}", current)
    shown = answerers if method.collate.answerer_each else dict([next(iter(answerers.items()))])
    for step, written in [*shown.items(), ("answerer", last)]:
        if written is last and step != "answerer":
            continue
        answerer = method.stage("answerer", f"{arm}-{step}", start | {"rationales": written})
        scores = method.evaluate(f"{arm}-{step}", {"model": answerer, "rationales": written})
        found[f"{arm} + COLLATE {step}.scores"] = scores
    return found


def _families(method: Method) -> list[Model | None]:
    """The model that each provider starts from; None: the arm's own M_IFT, as published. Raises UserError."""
    names, pool = method.collate.families, {model.name: model for model in method.graph.config.pool.models}
    for name in names:
        if name not in pool:
            raise UserError(
                f"collate.families: the pool has no {name!r}.{nearest(name, list(pool))} It has: {', '.join(pool)}."
            )
        if not pool[name].path:
            raise UserError(f"collate.families: {name!r} is behind a server; a provider is trained, so give its path=.")
    return [pool[names[s % len(names)]] if names else None for s in range(method.collate.providers)]


def _adapters(collate: Collate, resources: Resources) -> Collate:
    """The settings with collate.share said in those of the trainings: adapters that stay apart from M_IFT."""
    one_gpu = resources.device == "cuda" and resources.ranks == 1
    if collate.share == "copies" or (collate.share == "auto" and not one_gpu):
        return collate

    def adapted(train: Preference) -> Preference:
        lora = change(train.lora if train.lora.r else change(train.lora, r=16, alpha=32), merge=False)
        return change(train, lora=lora, lr=collate.adapter_lr)

    return change(collate, stage2=adapted(collate.stage2), stage3=adapted(collate.stage3))


def _check_adapters(collate: Collate) -> None:
    """Raises UserError where stage 3 is to train on adapters of stage 2 that are not as its settings say."""
    before, after = collate.stage2.lora, collate.stage3.lora
    if not collate.iterations or not before.r or before.merge or not after.r:
        return
    if different := [name for name in KEPT if getattr(before, name) != getattr(after, name)]:
        raise UserError(
            f"collate.stage2.lora has {', '.join(f'{n}={getattr(before, n)}' for n in different)}, collate.stage3.lora "
            f"{', '.join(f'{n}={getattr(after, n)}' for n in different)}: stage 3 trains the adapters of stage 2 on as "
            "they are. Say the same in both, or set collate.share=copies and lora.merge=true."
        )


METHODS: dict[str, Callable[[Method, str, Node | None], Rows]] = {"collate": collate, **baselines.METHODS}
"""Builders by arms.NAME.method."""


def rows(graph: Maker, name: str, arm: Arm, base: Node | None, data: Node | None = None) -> Rows:
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
    if settings.own_data != "none" and data is None:
        raise UserError(
            f"arms.{name}.collate.own_data={settings.own_data}: data={arm.data} gives the arm no rows of its own."
        )
    return METHODS[arm.method](Method(graph, _adapters(settings, graph.config.resources), data), name, base)


KEPT = ("r", "alpha", "dora", "targets")
"""What makes an adapter; where r is 0, collate.share=adapters sets 16."""
OWN = {"rationale_data": "rationales", "task_data": "tasks"}
"""What collate.own_data calls the data of each setting."""
GOLD = ("rationale_data", "own_data")
TASKS = ("task_data", "own_data", "decontaminate")
SPLITS = ("validation_rows", "providers", "prompts")
WRITING = ("temperature", "top_p", "max_tokens", "block", "serve")
READS = {
    "ift": (*GOLD, "decontaminate", "answer_data", "validation_rows", "prompts", "answers_from_rationale_rows",
            "block", "ift"),
    "distinct": (*GOLD, *SPLITS, "split", "stage2_temperature", "top_p", "max_tokens", "block", "serve", "stage2",
                 "beta", "loss"),
    "merit": (*WRITING, *TASKS, "providers", "prompts", "candidates", "selection", "judging", "filter", "leak_filter",
              "max_length_ratio", "refine", "split", "redraw_splits"),
    "tune": ("prompts", "stage3", "beta", "loss"),
    "rationales": (*GOLD, *WRITING, *TASKS, "prompts"),
    "answerer": ("prompts", "answerer"),
    **baselines.READS,
}  # fmt: skip
"""The settings each stage of COLLATE reads: a sweep over beta does not train M_IFT again."""
READS_QUESTIONS = {"rationales", *baselines.ANSWERING}
"""Stages that also read which questions are asked (evaluation.tasks and their number)."""
JUDGING = ("shots", "choices", "max_tokens", "program_seconds", "unsandboxed", "confidence")
"""What those read beside, that judge answers."""
