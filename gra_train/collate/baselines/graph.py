"""The baselines as nodes of an experiment's graph: what arms.NAME.method puts on top of an arm's student."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gra_train.errors import UserError
from gra_train.graph import Node

if TYPE_CHECKING:
    from gra_train.collate.graph import Method

Rows = dict[str, Node]
Builder = Callable[["Method", str, Node | None], Rows]


def _start(method: Method, arm: str, base: Node | None) -> Rows:
    """What is prompted, as a stage's input: the base, or its M_IFT."""
    if method.collate.baselines.start == "ift":
        return {"model": _ift(method, arm, base)}
    return {"model": base} if base else {}


def _ift(method: Method, arm: str, base: Node | None) -> Node:
    return method.stage("ift", arm, {"model": base} if base else {})


def check_roles(method: Method) -> None:
    """Raises UserError where a model is to be asked in words that its family of prompts does not have."""
    if method.collate.prompts == "mini" and method.collate.baselines.roles == "prompt":
        raise UserError(
            "collate.baselines.roles=prompt asks a model to judge, exchange and take hints in words, which the "
            "miniature's models have not learned (collate.prompts=mini): set collate.baselines.roles=likelihood."
        )


def prompting(stage: str, title: str) -> Builder:
    """A method that answers the questions itself."""

    def build(method: Method, arm: str, base: Node | None) -> Rows:
        if stage in ("tot", "eot"):
            check_roles(method)
        return {f"{arm} + {title}.scores": method.stage(stage, f"{arm}-{title}", _start(method, arm, base))}

    return build


def sft(method: Method, arm: str, base: Node | None) -> Rows:
    trained = method.stage("answers", f"{arm}-SFT", {"model": base} if base else {})
    return {f"{arm} + SFT.scores": method.stage("direct", f"{arm}-SFT", {"model": trained})}


def dss(method: Method, arm: str, base: Node | None) -> Rows:
    """Distilling Step-by-Step: the base learns to answer with M_IFT's own rationales."""
    ift = _ift(method, arm, base)
    written = method.stage("rationales", f"{arm}-M_IFT", {"ift": ift, "provider_0": ift})
    return {f"{arm} + DSS.scores": _answerer(method, f"{arm}-M_IFT rationales, answerer", base, written)}


def star(method: Method, arm: str, base: Node | None) -> Rows:
    check_roles(method)
    found: Rows = {}
    start = _start(method, arm, base)
    model = dict(start)
    for i in range(1, method.collate.baselines.star_iterations + 1):
        writer = {"writer": model["model"]} if i > 1 else {}
        model = {"model": method.stage("star", f"{arm}-STaR{i}", start | writer, iteration=i)}
        found[f"baseline.{arm} + STaR.{i}"] = model["model"]
    return found | {f"{arm} + STaR.scores": method.stage("cot", f"{arm}-STaR", model)}


def spin(method: Method, arm: str, base: Node | None) -> Rows:
    ift = model = _ift(method, arm, base)
    found: Rows = {}
    for i in range(1, method.collate.baselines.spin_iterations + 1):
        model = method.stage("spin", f"{arm}-SPIN{i}", {"ift": ift, "model": model}, iteration=i)
        found[f"baseline.{arm} + SPIN.{i}"] = model
    if method.collate.baselines.spin_target == "answer":
        return found | {f"{arm} + SPIN.scores": method.stage("direct", f"{arm}-SPIN", {"model": model})}
    return found | _as_provider(method, arm, "SPIN", base, ift, model)


def self_rewarding(method: Method, arm: str, base: Node | None) -> Rows:
    check_roles(method)
    ift = model = _ift(method, arm, base)
    found: Rows = {}
    for i in range(1, method.collate.baselines.reward_iterations + 1):
        model = method.stage("self_rewarding", f"{arm}-SelfRewarding{i}", {"model": model}, iteration=i)
        found[f"baseline.{arm} + Self-Rewarding.{i}"] = model
    return found | _as_provider(method, arm, "Self-Rewarding", base, ift, model)


def _as_provider(method: Method, arm: str, title: str, base: Node | None, ift: Node, writer: Node) -> Rows:
    """A model that writes rationales, scored as COLLATE's providers are: M_IFT asked with them, and the answerer."""
    written = method.stage("rationales", f"{arm}-{title}", {"ift": ift, "provider_0": writer})
    scores = _answerer(method, f"{arm}-{title}-answerer", base, written)
    asked = method.evaluate(f"{arm}-{title}", {"model": ift, "rationales": written})
    return {f"{arm} + {title}.scores": asked, f"{arm} + {title} answerer.scores": scores}


def _answerer(method: Method, label: str, base: Node | None, written: Node) -> Node:
    """Scores of the base that was trained to answer with these rationales."""
    start = {"model": base} if base else {}
    trained = method.stage("answerer", label, start | {"rationales": written})
    return method.evaluate(label, {"model": trained, "rationales": written})


METHODS: dict[str, Builder] = {
    "cot": prompting("cot", "CoT"),
    "self_consistency": prompting("self_consistency", "self-consistency"),
    "tot": prompting("tot", "ToT"),
    "eot": prompting("eot", "EoT"),
    "sft": sft,
    "dss": dss,
    "star": star,
    "spin": spin,
    "self_rewarding": self_rewarding,
}

CALLS = ("prompts", "max_tokens", "top_p", "block", "serve", "baselines.answer_tokens")
GOLD = ("rationale_data", "own_data")
TASKS = ("task_data", "own_data", "decontaminate")
THINKING = (*CALLS, *GOLD, "baselines.shots")
SAMPLED = (*THINKING, "baselines.temperature")
READS = {
    "direct": CALLS,
    "cot": THINKING,
    "self_consistency": (*SAMPLED, "baselines.samples"),
    "tot": (*SAMPLED, "baselines.roles", *(f"baselines.tot_{name}" for name in ("proposals", "beam", "depth"))),
    "eot": (*SAMPLED, "baselines.roles", "baselines.eot_rounds"),
    "answers": (*TASKS, "prompts", "answerer"),
    "star": (*SAMPLED, "baselines.roles", "baselines.star_hints", *TASKS, "answerer"),
    "spin": (*CALLS, "baselines.temperature", "baselines.spin_target", *GOLD, *TASKS, "stage2", "beta",
             "loss"),
    "self_rewarding": (*CALLS, "baselines.temperature", "baselines.roles", "baselines.candidates", *TASKS,
                       "stage3", "beta", "loss"),
}  # fmt: skip
"""The settings of COLLATE that each stage reads (see `gra_train.collate.graph.READS`)."""
ANSWERING = ("direct", "cot", "self_consistency", "tot", "eot")
"""Stages that answer the evaluation's questions themselves, and so give a row of the table."""
