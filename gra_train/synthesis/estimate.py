"""What an experiment's synthesis will cost: calls, tokens, hours and money, stage by stage, with what that rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gra_train.experiment import Node
from gra_train.records import Sample
from gra_train.schema import Config, Model
from gra_train.synthesis import demand
from gra_train.synthesis.assumptions import Basis, basis, earlier_run
from gra_train.synthesis.demand import Demand, Lengths

ESTIMATED = ("seeds", "synthesize", "refine", "distill")
"""Stages that ask models while data are made. COLLATE's rationales, training and evaluation are not estimated."""


@dataclass(frozen=True)
class StageCost:
    """One stage, with the arms it is for. seconds, money: None where not known.

    done: the run is finished and will be reused, at no cost.
    """

    node: Node
    arms: Sequence[str]
    candidates: int | None
    demands: list[Demand]
    seconds: float | None
    money: float | None
    done: bool
    basis: Basis

    @property
    def title(self) -> str:
        """`synthesize gra, for committee`."""
        label = f"{self.node.stage} {self.node.label}"
        return label + f", for {', '.join(self.arms)}" * (list(self.arms) not in ([], [self.node.label]))

    def total(self, what: str) -> float:
        """Sum over models of `calls`, `read`, `written` or `scored`."""
        return float(sum(getattr(d, what) for d in self.demands))


def estimate(
    config: Config, nodes: Sequence[Node], samples: Sequence[Sample] | None, given: Mapping[str, str],
    run: Path | None,
) -> tuple[list[StageCost], list[str]]:  # fmt: skip
    """(stages, how lengths and rates were found, in words). samples: the seeds, or None where they cannot be read.

    run: the earlier run to measure from (default: each stage's nearest relative in runs_dir).
    """
    found, notes = [], []
    runs_dir = Path(config.runs_dir)
    first = basis(given, run)
    everyone = [*config.pool.models, *([config.pool.large] if config.pool.large else [])]
    count, how = demand.counter(everyone, first.values.characters)
    notes.append(f"tokens are counted {how}")
    rows = len(samples) if samples else first.values.seed_rows
    if samples is None:
        notes.append(f"the seeds cannot be read here: {rows} rows are assumed")
    known = list(samples or demand.stand_in(first.values))
    notes.append(f"prompts are measured by rendering them with {min(len(known), demand.MEASURED_SEEDS)} seeds")
    sizes: dict[str, Lengths] = {}
    for node in (n for n in nodes if n.stage in ESTIMATED):
        stage = node.config
        own = run or (earlier_run(runs_dir, stage) if node.stage == "synthesize" else None)
        using = basis(given, own)
        prompts = stage.synthesis.prompts
        if prompts not in sizes:
            sizes[prompts] = demand.lengths(known, config.synthesis, count)
        candidates, demands = _demands(node, sizes[prompts], using, known, rows)
        models = {m.name: m for m in _models(stage)}
        found.append(
            StageCost(
                node, _arms(nodes, node), candidates, demands,
                _seconds(demands, models, using), _money(demands, models),
                node.run(runs_dir).status["state"] == "done", using,
            )
        )  # fmt: skip
    return found, notes


def _arms(nodes: Sequence[Node], node: Node) -> list[str]:
    """The arms whose rows come from this stage; of the seeds, which all share, none."""
    if node.stage == "seeds":
        return []
    data = {name.removesuffix(".data"): n for name, n in nodes[-1].inputs.items() if name.endswith(".data")}
    return [name for name, n in data.items() if any(i.run_id == node.run_id for i in n.inputs.values())]


def _models(stage: Any) -> list[Model]:
    return [stage.model] if hasattr(stage, "model") else list(stage.pool.models)


def _demands(
    node: Node, size: Lengths, using: Basis, samples: Sequence[Sample], rows: int
) -> tuple[int | None, list[Demand]]:
    stage, values = node.config, using.values
    limit = stage.synthesis.max_tokens
    names = [m.name for m in _models(stage)]
    if node.stage == "seeds":
        share = rows / len(samples)
        lacking = {k: round(share * sum(not getattr(s, k) for s in samples)) for k in ("domain", "keywords", "summary")}
        return None, demand.annotation(rows, lacking, names, size, values, limit)
    if node.stage == "distill":
        return None, demand.distillation(min(stage.rows, rows) if not stage.instructions.path else stage.rows,
                                         names[0], size, values, limit)  # fmt: skip
    if node.stage == "refine":
        return rows, demand.loop(stage.synthesis, names, size, values, rows, None)
    made = min(demand.candidates(stage.synthesis, values), stage.synthesis.max_candidates)
    return made, demand.loop(stage.synthesis, names, size, values, made, min(stage.synthesis.target, made))


def _seconds(demands: Sequence[Demand], models: Mapping[str, Model], using: Basis) -> float | None:
    """Measured: seconds per call of the earlier run. Else the busiest server at the assumed rates; in process: None."""
    if using.seconds is not None:
        return using.seconds * sum(d.calls for d in demands)
    if not all(ways(m) for m in models.values()):
        return None
    busy = dict.fromkeys(models, 0.0)
    for d in demands:
        rate = ways(models[d.model])
        busy[d.model] += (d.written / using.values.written_per_s + (d.read + d.scored) / using.values.read_per_s) / rate
    return max(busy.values(), default=0.0)


def endpoints(model: Model) -> list[str]:
    """The base URLs of a model; none in process, nor for a server that is yet to be started."""
    return [url.strip().rstrip("/") for url in model.url.split(",") if url.strip()]


def ways(model: Model) -> int:
    """How many servers answer for a model, those that we start included; 0: it runs in process."""
    return len(endpoints(model)) or (int(model.serve.get("replicas", 1)) if model.serve else 0)


def _money(demands: Sequence[Demand], models: Mapping[str, Model]) -> float | None:
    """In the currency of the prices; None where a model has none."""
    total = 0.0
    for d in demands:
        price_in, price_out = prices(models[d.model])
        if price_in is None or price_out is None:
            return None
        total += ((d.read + d.scored) * price_in + d.written * price_out) / 1e6
    return total


def prices(model: Model) -> tuple[float | None, float | None]:
    """Per million tokens, read and written."""
    return model.price_in, model.price_out
