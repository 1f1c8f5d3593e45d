"""An experiment as a graph: every arm goes data -> SFT (-> COLLATE) -> evaluation, and `compare` joins them.

`plan(config)` returns the nodes in an order in which they can run. A node knows its run id before anything is run,
because an identity is made of configurations and of the identities of inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gra_train.chat.serve import resolve
from gra_train.chat.urls import check_urls
from gra_train.collate.baselines.graph import ANSWERING
from gra_train.collate.graph import rows as method_rows
from gra_train.data.benchmarks import benchmarks
from gra_train.errors import UserError, nearest
from gra_train.evaluation.benchmarks.asking import located
from gra_train.graph import Node, ordered
from gra_train.locate import MINI
from gra_train.runs import read_json
from gra_train.schema import Arm, Config, DataFile, Evaluation, Model, Synthesis, Train
from gra_train.settings import change, only, overlaid
from gra_train.stages import (
    CompareStage,
    CutStage,
    DatasetStage,
    DistillStage,
    EvaluateStage,
    QualityStage,
    RefineStage,
    SeedsStage,
    SftStage,
    ShardStage,
    SynthesizeStage,
)
from gra_train.synthesis.draw import check_pool

SOURCES = ("none", "seed", "unreviewed", "gra", "refine", "integrated", "solo", "distill", "gold", "own")
"""What an arm can be trained on. none: nothing, the base as it is (for COLLATE alone); seed: D(0) alone; unreviewed:
the pool without review; refine: D(0) with new responses; integrated: that and gra; solo and distill: the large model as
generator, or answering given instructions; gold: the miniature's own answers; own: the `data` group."""

SYNTHESISED = ("unreviewed", "gra", "refine", "integrated", "solo", "distill")
"""Sources that arms.NAME.synthesis can change."""

GENERATOR = ("prompts", "temperature", "response_temperature", "top_p", "max_tokens", "parse_retries", "block")
LOOP = (*GENERATOR, "target", "rounds", "max_candidates", "wave", "lookahead", "stop_after", "roles", "explore",
        "domains", "min_examples", "max_examples", "num_reviewers", "T_mean", "T_std", "respond", "review", "dedup",
        "decontaminate", "checker")  # fmt: skip
REFINE = (*GENERATOR, "min_examples", "max_examples", "wave", "roles", "explore", "num_reviewers", "T_mean", "T_std",
          "respond", "review", "decontaminate", "checker")  # fmt: skip


def plan(config: Config) -> list[Node]:
    """Every node of the experiment, inputs before their users; the last one is the comparison.

    Raises UserError for arms that cannot be made from this configuration.
    """
    if not config.arms:
        raise UserError("this experiment has no arms: choose one, e.g. experiment=mini, or add +arms.NAME.data=gra")
    for name, arm in config.arms.items():
        if arm.data not in SOURCES:
            known = ", ".join(SOURCES)
            raise UserError(f"arms.{name}.data={arm.data!r}: expected one of {known}.{nearest(arm.data, SOURCES)}")
        if arm.synthesis and arm.data not in SYNTHESISED:
            known = ", ".join(SYNTHESISED)
            raise UserError(f"arms.{name}.synthesis: data={arm.data} is not synthesised; this is for data={known}.")
        if arm.tokens_of and (arm.tokens_of not in config.arms or config.arms[arm.tokens_of].tokens_of):
            raise UserError(f"arms.{name}.tokens_of={arm.tokens_of!r} is not an arm with tokens of its own.")
        if "none" in (arm.data, config.arms.get(arm.tokens_of, arm).data) and arm.tokens_of:
            raise UserError(f"arms.{name}.tokens_of={arm.tokens_of!r}: an arm with data=none has no tokens.")
        if arm.rounds and arm.data not in ("gra", "integrated"):
            raise UserError(f"arms.{name}.rounds={arm.rounds}: only data=gra is made in rounds, not data={arm.data}.")
    if config.compare.baseline not in config.arms:
        known = ", ".join(config.arms)
        raise UserError(f"compare.baseline={config.compare.baseline!r} is not an arm of this experiment: {known}.")
    builder = _Builder(config)
    rows: dict[str, Node] = {}
    for name, arm in config.arms.items():
        own = builder.arm(name, arm)
        if arm.method != "none" and name != config.compare.baseline:  # ablations share most of their steps: say it once
            shown = {node.run_id for node in rows.values()}
            own = {label: node for label, node in own.items() if node.run_id not in shown}
        rows |= own
    compare = CompareStage(
        name=config.name,
        seed=config.seed,
        baseline=config.compare.baseline,
        resamples=config.compare.resamples,
        confidence=config.compare.confidence,
        labels=[name.removesuffix(".scores") for name in rows if name.endswith(".scores")],
        reviewers=config.synthesis.review.scoring,
        same_tokens={name: arm.tokens_of for name, arm in config.arms.items() if arm.tokens_of},
    )
    return list(ordered(Node("compare", config.name, compare, rows)))


def check_rationale_tasks(nodes: Sequence[Node], evaluation: Evaluation) -> None:
    """COLLATE asks test questions with a rationale, so their text must be ours: refused before anything is trained.

    Raises UserError if one of `nodes` would score a task of lm-eval's own so. (Planning such an experiment, and running
    it up to its last training, is allowed.)
    """
    if not any(node.stage in ANSWERING or (node.stage == "evaluate" and "rationales" in node.inputs) for node in nodes):
        return
    from gra_train.evaluation.benchmarks import names
    from gra_train.evaluation.questions import TASKS, without_instructions

    if foreign := without_instructions(evaluation):
        raise UserError(
            f"arms with a method cannot be scored on {', '.join(foreign)}: these are lm-eval's own tasks, whose "
            f"questions take no rationale. Choose evaluation.tasks among {', '.join([*TASKS, *names()])} or files of "
            "benchmarks of your own, or method=none."
        )


def synthesis_only(config: Config) -> list[Node]:
    """The nodes of `gra-train synthesize`: annotated seeds and the GRA data set, or a shard of its next round."""
    builder = _Builder(config)
    node = builder.gra()
    return list(ordered(builder.shard(node) if config.synthesis.shard else node))


class _Builder:
    """Makes nodes; the same request gives the same node."""

    def __init__(self, config: Config) -> None:
        check_urls(config)
        self.config = config = change(config, pool=resolve(config.pool), evaluation=located(config.evaluation))
        self.ledger = str(Path(config.runs_dir) / "ledger")
        self.made: dict[str, Node] = {}

    def once(self, stage: str, label: str, config: Any, inputs: dict[str, Node] | None = None) -> Node:
        """Work that is asked for twice is one node, under the label of whoever asked first."""
        node = Node(stage, label, config, inputs or {})
        return self.made.setdefault(f"{stage}-{node.run_id.rsplit('-', 1)[1]}", node)

    def benchmarks(self, synthesis: Synthesis) -> dict[str, DataFile]:
        """What the rows are kept apart from."""
        return benchmarks(synthesis.decontaminate, self.config.evaluation)

    def seeds(self) -> Node:
        config = self.config
        if not config.seeds.path:
            raise UserError("seeds.path is empty: give a seed file, e.g. seeds=my_seeds.jsonl")
        if not config.pool.models:
            raise UserError(
                "pool.models is empty: choose a pool, e.g. pool=mini, or list models in a file: pool=my_pool.yaml"
            )
        stage = SeedsStage(
            seed=config.seed,
            seeds=config.seeds,
            pool=change(config.pool, large=None),
            synthesis=only(config.synthesis, *GENERATOR),
            ledger=self.ledger,
        )
        return self.once("seeds", "annotated", stage)

    def synthesis(self, label: str, synthesis: Synthesis, models: list[Model]) -> Node:
        check_pool([m.name for m in models], synthesis, pool=self.config.pool.name)
        pool = change(self.config.pool, models=models, large=None)
        stage = SynthesizeStage(self.config.seed, pool, only(synthesis, *LOOP), self.ledger, self.benchmarks(synthesis))
        return self.once("synthesize", label, stage, {"seeds": self.seeds()})

    def gra(self, synthesis: Synthesis | None = None) -> Node:
        return self.synthesis("gra", synthesis or self.config.synthesis, self.config.pool.models)

    def shard(self, whole: Node) -> Node:
        """A shard of the round of `whole` that is due; `whole` itself when it is done."""
        from gra_train.synthesis.recording import ROUNDS
        from gra_train.synthesis.shards import parse_shard

        config, run = self.config, whole.run(Path(self.config.runs_dir))
        number, of = parse_shard(config.synthesis.shard, config.synthesis)
        if run.is_done():
            return whole
        curated = len(read_json(run.folder / ROUNDS) or [])
        stage = ShardStage(
            seed=config.seed,
            pool=whole.config.pool,
            synthesis=only(config.synthesis, *LOOP, "margin"),
            shard=config.synthesis.shard,
            round=curated,
            of=str(run.folder),
            ledger=self.ledger,
        )
        return self.once("shard", f"round{curated + 1}-{number}of{of}", stage, whole.inputs)

    def refined(self, synthesis: Synthesis) -> Node:
        """D(0) with new responses, as far as review lets them pass."""
        check_pool([m.name for m in self.config.pool.models], synthesis, pool=self.config.pool.name)
        stage = RefineStage(
            self.config.seed, change(self.config.pool, large=None), only(synthesis, *REFINE), self.ledger,
            self.benchmarks(synthesis),
        )  # fmt: skip
        return self.once("refine", "seeds", stage, {"seeds": self.seeds()})

    def source(self, arm: Arm, synthesis: Synthesis) -> tuple[DataFile, Node | None]:
        """Where an arm's rows beside the seeds come from: a file, or the result of a node."""
        config = self.config
        rows = arm.rows or synthesis.target
        review = change(synthesis.review, mode="none")
        unreviewed = change(synthesis, target=rows, rounds=1, review=review, num_reviewers=1)
        if arm.data == "own":
            if not config.data.path:
                raise UserError("an arm with data=own needs data.path=FILE (or Hub name, or run folder)")
            return config.data, None
        if arm.data == "gold":
            return DataFile(path=MINI + "gold"), None
        if arm.data in ("gra", "integrated"):
            return DataFile(), self.gra(synthesis)
        if arm.data == "refine":
            return DataFile(), self.refined(synthesis)
        if arm.data == "unreviewed":
            return DataFile(), self.synthesis("unreviewed", unreviewed, config.pool.models)
        if arm.data == "seed":
            return DataFile(), None
        if config.pool.large is None:
            raise UserError(f"an arm with data={arm.data} needs pool.large, the baseline's large model")
        if arm.data == "solo":
            return DataFile(), self.synthesis("solo", change(unreviewed, roles="single"), [config.pool.large])
        stage = DistillStage(
            seed=config.seed,
            pool=change(config.pool, models=[config.pool.large], large=None),
            instructions=synthesis.distill,
            rows=rows,
            synthesis=only(synthesis, *GENERATOR),
            ledger=self.ledger,
        )
        return DataFile(), self.once("distill", "large", stage, {"seeds": self.seeds()})

    def data(self, name: str, arm: Arm) -> tuple[Node, Node | None]:
        """(an arm's training set, the node that its rows beside the seeds come from)."""
        config = self.config
        synthesis = overlaid(config.synthesis, arm.synthesis, f"arms.{name}.synthesis.")
        file, node = self.source(arm, synthesis)
        rows = arm.rows
        if rows is None and arm.data not in ("seed", "refine", "own"):
            rows = rows_until(synthesis, arm.rounds)
        inputs = {"seeds": self.seeds()} if arm.with_seeds or arm.data == "seed" else {}
        if arm.data in ("refine", "integrated"):  # refined rows take the seeds' place
            inputs = {"seeds": self.refined(synthesis)} if arm.data == "integrated" else {}
        inputs |= {"source": node} if node else {}
        stage = DatasetStage(
            config.seed, file, rows, config.synthesis.checker, arm.rounds, synthesis.decontaminate,
            self.benchmarks(synthesis),
        )  # fmt: skip
        data = self.once("dataset", name, stage, inputs)
        if arm.tokens_of:
            like, _ = self.data(arm.tokens_of, config.arms[arm.tokens_of])
            cut = CutStage(config.seed, config.student, config.synthesis.checker)
            data = self.once("cut", name, cut, {"data": data, "like": like})
        return data, node

    def arm(self, name: str, arm: Arm) -> dict[str, Node]:
        """Inputs of the comparison for one arm: <label>.data, <label>.quality and <label>.scores."""
        config = self.config
        if arm.data == "none":
            return {f"{name}.scores": self.evaluate(name, {})} | method_rows(self, name, arm, None)
        data, node = self.data(name, arm)
        student = self._train("sft", name, config.sft, {"data": data})
        found = {
            f"{name}.data": data,
            f"{name}.quality": self.quality(name, data),
            f"{name}.scores": self.evaluate(name, {"model": student}),
        }
        if arm.data in ("gra", "integrated") and node:
            found[f"synthesis.{name}" if arm.synthesis or arm.rounds else "synthesis"] = node
        return found | method_rows(self, name, arm, student, data)

    def quality(self, label: str, data: Node) -> Node:
        config = self.config
        encoder = only(config.synthesis.dedup, "encoder")
        stage = QualityStage(
            config.seed, config.compare.quality, encoder, config.student, config.resources.device, self.ledger
        )
        return self.once("quality", label, stage, {"data": data})

    def _train(self, stage: str, label: str, train: Train, inputs: dict[str, Node]) -> Node:
        config = self.config
        fixed = SftStage(
            config.seed, config.student, train, config.deepspeed, config.resources.device, config.resources.ranks
        )
        return self.once(stage, label, fixed, inputs)

    def evaluate(self, label: str, inputs: dict[str, Node], prompts: str = "") -> Node:
        """prompts: prompt family of what is asked with a rationale."""
        config = self.config
        family = prompts or config.collate.prompts
        stage = EvaluateStage(
            config.seed, config.student, config.evaluation, family, config.resources.device, self.ledger
        )
        return self.once("evaluate", label, stage, inputs)


def rows_until(synthesis: Synthesis, rounds: int | None) -> int:
    """Rows that the first `rounds` rounds contribute to the target (None: all rounds)."""
    return synthesis.target * min(rounds or synthesis.rounds, synthesis.rounds) // synthesis.rounds
