"""The stages: what each one reads (its frozen configuration and input folders) and the function that runs it.

A stage is `function(config, inputs, out)`: `inputs` maps a name to the *result* folder of an earlier run, `out` is the
folder to write results into. Nothing else is passed, so a run's identity is (stage, version, config, inputs).
Long-lived side files go to `out.parent` (the run folder): metrics.jsonl, log.txt, progress.json, checkpoints/.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gra_train.schema import (
    Collate,
    DataFile,
    Decontaminate,
    Dedup,
    Evaluation,
    Model,
    Pool,
    Quality,
    Synthesis,
    Train,
)
from gra_train.settings import Section, setting

StageFunction = Callable[[Any, Mapping[str, Path], Path], None]


@dataclass(frozen=True)
class SeedsStage(Section):
    """Seeds -> annotated D(0): data.jsonl with domain, keywords and summary on every row."""

    seed: int = setting()
    seeds: DataFile = setting()
    pool: Pool = setting()
    synthesis: Synthesis = setting()
    ledger: str = setting("", "folder of the shared ledger", identity=False)


@dataclass(frozen=True)
class SynthesizeStage(Section):
    """inputs: seeds. -> data.jsonl (kept rows, by index), candidates.parquet (all, with fate), funnel.json."""

    seed: int = setting()
    pool: Pool = setting()
    synthesis: Synthesis = setting()
    ledger: str = setting("", "folder of the shared ledger", identity=False)
    benchmarks: dict[str, DataFile] = setting({}, "where the questions of synthesis.decontaminate.against are")


@dataclass(frozen=True)
class RefineStage(Section):
    """inputs: seeds. The pool answers their instructions anew, with review -> as SynthesizeStage."""

    seed: int = setting()
    pool: Pool = setting()
    synthesis: Synthesis = setting()
    ledger: str = setting("", "folder of the shared ledger", identity=False)
    benchmarks: dict[str, DataFile] = setting({}, "where the questions of synthesis.decontaminate.against are")


@dataclass(frozen=True)
class ShardStage(Section):
    """inputs: seeds. A part of the candidates of a round of a SynthesizeStage, into the ledger -> shard.json."""

    seed: int = setting()
    pool: Pool = setting()
    synthesis: Synthesis = setting()
    shard: str = setting()
    round: int = setting()
    of: str = setting("", "run folder of the synthesis", identity=False)
    ledger: str = setting("", "folder of the shared ledger", identity=False)


@dataclass(frozen=True)
class DistillStage(Section):
    """inputs: seeds. The pool's one model answers instructions (the seeds' own if none are given) -> data.jsonl."""

    seed: int = setting()
    pool: Pool = setting()
    instructions: DataFile = setting()
    rows: int = setting()
    synthesis: Synthesis = setting()
    ledger: str = setting("", "folder of the shared ledger", identity=False)


@dataclass(frozen=True)
class DatasetStage(Section):
    """inputs: seeds?, source? -> an arm's training set: data.jsonl, statistics.json (rows, correctness if checkable).

    Rows that equal a test question of the miniature are removed and counted; so are rows that overlap with a question
    of `benchmarks` (contaminated.jsonl, contamination.json).
    """

    seed: int = setting()
    source: DataFile = setting()
    rows: int | None = setting()
    checker: str = setting()
    rounds: int | None = setting(None, "of a synthesised source: the rows of its first N rounds")
    decontaminate: Decontaminate = setting(Decontaminate)
    benchmarks: dict[str, DataFile] = setting({}, "where the questions of synthesis.decontaminate.against are")


@dataclass(frozen=True)
class CutStage(Section):
    """inputs: data, like. -> as much of data as has no more tokens beside the seeds than like: as DatasetStage."""

    seed: int = setting()
    student: Model = setting(help="whose tokens are counted")
    checker: str = setting()


@dataclass(frozen=True)
class QualityStage(Section):
    """inputs: data. What can be said of a training set -> quality.json, rows.parquet (the rows that were looked at)."""

    seed: int = setting()
    quality: Quality = setting()
    encoder: Dedup = setting(help="whose encoder the spread of embeddings is measured with")
    student: Model = setting(help="whose tokens are counted")
    device: str = setting()
    ledger: str = setting("", "folder of the shared ledger", identity=False)


@dataclass(frozen=True)
class SftStage(Section):
    """inputs: data, model? (an earlier result; else config.model). -> model/."""

    seed: int = setting()
    model: Model = setting()
    train: Train = setting()
    deepspeed: dict[str, Any] = setting()
    device: str = setting()
    ranks: int = setting()


@dataclass(frozen=True)
class CollateStage(Section):
    """What the stages of COLLATE share; each adds which part it is.

    (with collate.own_data also: data, the arm's own training set)
    ift         inputs: model?                                  -> model/ (M_IFT), splits.json, losses.json
    distinct    inputs: ift; provider s                         -> model/ (RP_s(0)), pairs.jsonl
    merit       inputs: ift, provider_0 ... provider_{S-1}      -> rationales.jsonl, pairs_<s>.jsonl, statistics.json
    tune        inputs: provider (RP_s(i-1)), merit; provider s -> model/ (RP_s(i))
    rationales  inputs: ift, provider_0 ...                     -> picks one; train.jsonl, test.jsonl, pick.json
    answerer    inputs: model?, rationales                      -> model/ (base M on instruction + rationale -> answer)

    Its baselines (docs/baselines.md) add
    answers         inputs: model?          -> model/ (SFT on instruction -> answer)
    star            inputs: model?, writer? -> model/, kept.jsonl, statistics.json
    spin            inputs: model, ift      -> model/, pairs.jsonl, statistics.json
    self_rewarding  inputs: model           -> model/, pairs.jsonl, judged.jsonl, statistics.json
    direct, cot, self_consistency, tot, eot  inputs: model? -> as EvaluateStage, and details.jsonl, effort.json
    """

    seed: int = setting()
    model: Model = setting()
    collate: Collate = setting()
    evaluation: Evaluation = setting()
    deepspeed: dict[str, Any] = setting()
    device: str = setting()
    ranks: int = setting()
    provider: int = setting(0, "which provider s")
    iteration: int = setting(0, "which iteration i")
    benchmarks: dict[str, DataFile] = setting({}, "where the questions of collate.decontaminate.against are")
    ledger: str = setting("", "folder of the shared ledger", identity=False)


@dataclass(frozen=True)
class EvaluateStage(Section):
    """inputs: model?, rationales? -> questions.parquet (one row per question), scores.json.

    With rationales, every question is asked in mode [I;R]->A with the provider's rationale.
    """

    seed: int = setting()
    model: Model = setting()
    evaluation: Evaluation = setting()
    prompts: str = setting()
    device: str = setting()
    ledger: str = setting("", "folder of the shared ledger", identity=False)


@dataclass(frozen=True)
class CompareStage(Section):
    """inputs: <label>.data, <label>.quality, <label>.scores for every row of the table. -> table.json, and from it
    table.md, .csv, .tex, .parquet."""

    name: str = setting()
    seed: int = setting()
    baseline: str = setting()
    resamples: int = setting()
    confidence: float = setting()
    labels: list[str] = setting()
    reviewers: str = setting("", "how the reviewers scored; shown with every number")
    same_tokens: dict[str, str] = setting({}, "arms that were cut to the tokens of another, which they are set beside")


@dataclass(frozen=True)
class Stage:
    """An entry of the registry. Raise `version` when the stage's result changes for the same configuration."""

    function: str
    config: type
    version: int = 1

    def load(self) -> StageFunction:
        module, name = self.function.split(":")
        return getattr(importlib.import_module(module), name)


STAGES: dict[str, Stage] = {
    "seeds": Stage("gra_train.synthesis.stages:seeds", SeedsStage),
    "synthesize": Stage("gra_train.synthesis.stages:synthesize", SynthesizeStage),
    "refine": Stage("gra_train.synthesis.stages:refine", RefineStage),
    "shard": Stage("gra_train.synthesis.stages:shard", ShardStage),
    "distill": Stage("gra_train.synthesis.stages:distill", DistillStage),
    "dataset": Stage("gra_train.data.dataset:dataset", DatasetStage),
    "cut": Stage("gra_train.data.cut:cut", CutStage),
    "quality": Stage("gra_train.quality.stages:quality", QualityStage),
    "sft": Stage("gra_train.training.stages:sft", SftStage),
    "ift": Stage("gra_train.collate.stages:ift", CollateStage, version=2),
    "distinct": Stage("gra_train.collate.stages:distinct", CollateStage),
    "merit": Stage("gra_train.collate.guided:merit", CollateStage, version=2),
    "tune": Stage("gra_train.collate.stages:tune", CollateStage),
    "rationales": Stage("gra_train.collate.guided:rationales", CollateStage),
    "answerer": Stage("gra_train.collate.stages:answerer", CollateStage),
    "answers": Stage("gra_train.collate.baselines.stages:answers", CollateStage),
    "star": Stage("gra_train.collate.baselines.stages:star_round", CollateStage),
    "spin": Stage("gra_train.collate.baselines.stages:spin", CollateStage),
    "self_rewarding": Stage("gra_train.collate.baselines.stages:self_rewarding", CollateStage),
    "direct": Stage("gra_train.collate.baselines.stages:direct", CollateStage),
    "cot": Stage("gra_train.collate.baselines.stages:cot", CollateStage),
    "self_consistency": Stage("gra_train.collate.baselines.stages:self_consistency", CollateStage),
    "tot": Stage("gra_train.collate.baselines.stages:tot", CollateStage),
    "eot": Stage("gra_train.collate.baselines.stages:eot", CollateStage),
    "evaluate": Stage("gra_train.evaluation.stages:evaluate", EvaluateStage, version=3),
    "compare": Stage("gra_train.reporting.stages:compare", CompareStage, version=3),
}
MULTI_RANK = {"sft", "ift", "distinct", "tune", "answerer", "answers", "star", "spin", "self_rewarding"}
"""Stages that torchrun may start with several ranks; the others are single-process."""
