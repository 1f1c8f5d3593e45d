"""What the missing stages of a table will take: GPU-hours at the published size, CPU-minutes of the miniature.

Calls to served models are estimated as `gra-train validate` does; training by arithmetic, with the assumptions printed.
The miniature's minutes are those of kept results. What is neither is counted as not estimated: never as nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from gra_train.errors import UserError
from gra_train.graph import Node
from gra_train.runs import read_json
from gra_train.schema import Config
from gra_train.stages import MULTI_RANK

PEAK, UTILISATION, TOKENS = 989e12, 0.4, 600
ASSUMED = f"training at {UTILISATION:.0%} of {PEAK / 1e12:.0f} TFLOP/s (an H100 in bf16), {TOKENS} tokens a row"
SMALL, LARGE = 5, 4
"""GPUs that serve the pool of small models, and the large one."""


@dataclass(frozen=True)
class Hours:
    """GPU-hours, CPU-minutes (measured), and stages for which there is no estimate."""

    gpu: float = 0.0
    minutes: float = 0.0
    unknown: int = 0

    def __add__(self, other: Hours) -> Hours:
        return Hours(self.gpu + other.gpu, self.minutes + other.minutes, self.unknown + other.unknown)

    def __str__(self) -> str:
        said = [f"about {self.gpu:.0f} GPU-hours"] if self.gpu >= 0.5 else []
        said += [f"about {self.minutes:.0f} minutes of one CPU core"] if self.minutes >= 0.5 else []
        said += [f"{self.unknown} stages not estimated"] if self.unknown else []
        return ", ".join(said) or "next to nothing"


def hours(config: Config, nodes: Iterable[Node], measured: Mapping[str, float]) -> Hours:
    """Of the given stages of an experiment. measured: seconds by `<stage>-<label>` (see `measured_seconds`)."""
    wanted, total = list(nodes), Hours()
    served = _served(config, wanted) if any(hasattr(node.config, "pool") for node in wanted) else {}
    for node in wanted:
        seconds = measured.get(f"{node.stage}-{node.label}")
        if _on_cpu(config):
            total += Hours(minutes=seconds / 60) if seconds is not None else Hours(unknown=1)
        elif node.stage in MULTI_RANK:
            training = training_hours(node)
            total += Hours(gpu=training) if training is not None else Hours(unknown=1)
        elif node.run_id in served:
            total += Hours(gpu=served[node.run_id])
        elif node.stage not in ("dataset", "cut", "quality", "compare"):
            total += Hours(unknown=1)
    return total


def _on_cpu(config: Config) -> bool:
    return config.student.path.startswith("mini:")


def measured_seconds(results: Path) -> dict[str, float]:
    """Median seconds of the stages of kept results, by `<stage>-<label>`."""
    found: dict[str, list[float]] = {}
    for file in results.glob("*/made.json"):
        for name, seconds in (read_json(file) or {}).get("stages", {}).items():
            found.setdefault(name, []).append(seconds)
    return {name: median(all_) for name, all_ in found.items()}


def training_hours(node: Node) -> float | None:
    """GPU-hours of a training stage; None where the rows or the model's size cannot be known before it runs.

    6 N floating-point operations a token (8 N with activation checkpointing, which repeats the forward pass).
    """
    stage = node.config
    train = getattr(stage, "train", None)
    size, rows = parameters(f"{stage.model.name} {stage.model.path}"), None
    if train is not None and "data" in node.inputs:
        rows = node.inputs["data"].config.rows
        if train.steps:
            rows, epochs = train.steps * train.global_batch, 1.0
        else:
            epochs = train.epochs
        if rows is None or size is None:
            return None
        operations = (8 if train.activation_checkpointing else 6) * size * rows * epochs * TOKENS
        return float(operations / (PEAK * UTILISATION) / 3600)
    return None


def parameters(name: str) -> float | None:
    """7e9 for `Qwen/Qwen2.5-7B`; None for a name that does not say."""
    found = re.findall(r"(?<![\d.])(\d+(?:\.\d+)?)[bB](?![a-zA-Z])", name)
    return float(found[-1]) * 1e9 if found else None


def _served(config: Config, nodes: Sequence[Node]) -> dict[str, float]:
    """GPU-hours of the stages that ask served models, by run id, as `gra-train validate` estimates their seconds."""
    from gra_train.synthesis.estimate import estimate

    if _on_cpu(config):
        return {}
    try:
        stages, _ = estimate(config, nodes, None, {}, None)
    except UserError:
        return {}
    return {
        cost.node.run_id: cost.seconds / 3600 * (LARGE if len(cost.node.config.pool.models) == 1 else SMALL)
        for cost in stages
        if cost.seconds is not None
    }
