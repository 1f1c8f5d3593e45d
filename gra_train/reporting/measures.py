"""Numbers of a comparison's rows that lie in the run folders behind it: cost, rationales, likelihood of gold answers.

They are read when a table is rendered; a run folder that is not there leaves its measure out, and the table shows n/a.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from gra_train.graph import Node
from gra_train.records import read_jsonl
from gra_train.reporting.cost import of_stage
from gra_train.runs import read_json

MADE_BY_MODELS = ("synthesize", "refine", "distill")
Measures = dict[str, dict[str, float]]
"""label -> name of the measure -> value."""

NAMES = {
    "calls_per_row": "calls to models for each row of the training set that they made",
    "tokens_per_row": "tokens that models read, wrote or scored for each such row",
    "written_per_row": "tokens that models wrote for each such row",
    "seconds_per_row": "seconds of the machine for each such row (where no call was answered from the ledger)",
    "gpu_seconds_per_row": "seconds of GPUs for each such row, by NVML (of servers started by the run, or none)",
    "gpu_joules_per_row": "energy of these GPUs for each such row, in joules, by NVML",
    "cpu_joules_per_row": "energy of the machine's CPUs for each such row, in joules, by RAPL",
    "rationale_words": "words of the test questions' rationales, mean",
    "written_per_question": "tokens that a method wrote for a test question, all its calls together",
    "gold_perplexity": "perplexity of the gold answer's tokens under M_IFT, given the rationale, on validation tasks",
    "ifd": "instruction-following difficulty of the training rows, mean, by the comparison's scorer",
    "judge_share": "share of the training rows that the comparison's judge scores above its bound",
    "distinct_2": "share of different pairs of words in a row in the training instructions",
    "spread": "mean distance of the training instructions' embeddings",
}
"""What can be measured, with its definition."""
METERED = ("gpu_seconds", "gpu_joules", "cpu_joules")
SHARES = ("ifd", "judge_share")
"""Measures that are printed in percent."""


def measures(nodes: Sequence[Node], runs_dir: Path) -> Measures:
    """Of every label of the comparison that ends `nodes`."""
    inputs = nodes[-1].inputs
    found: Measures = {}
    for name, node in inputs.items():
        label, _, kind = name.rpartition(".")
        if kind == "data":
            found.setdefault(label, {}).update(_cost(node, runs_dir))
        elif kind == "scores" and (effort := read_json(node.run(runs_dir).result / "effort.json")):
            written = effort.get("completion_tokens_per_question")
            found.setdefault(label, {}).update({} if written is None else {"written_per_question": written})
        elif kind == "scores" and "rationales" in node.inputs:
            found.setdefault(label, {}).update(_rationales(node.inputs["rationales"], runs_dir))
            bare = label.partition(" + ")[0]  # the same student without a rationale, scored by the same M_IFT
            none = _perplexity(node.inputs["rationales"], runs_dir, "none")
            if label == f"{bare} + COLLATE M_IFT" and none is not None:
                found.setdefault(bare, {})["gold_perplexity"] = none
    return {label: values for label, values in found.items() if values}


def of_training_sets(rows: Sequence[Mapping[str, Any]]) -> Measures:
    """What the comparison itself measured of each row's training set (quality.json, in table.json)."""
    found: Measures = {}
    for row in rows:
        quality = row.get("quality") or {}
        values = {
            "ifd": _value(quality, "ifd", "mean", "value"),
            "judge_share": _value(quality, "judge", "share_above", "value"),
            "distinct_2": _value(quality, "distinct", "instruction", "2"),
            "spread": _value(quality, "spread", "mean"),
        }
        if known := {name: value for name, value in values.items() if value is not None}:
            found[row["label"]] = known
    return found


def _value(data: Any, *path: str) -> float | None:
    for key in path:
        data = data.get(key) if isinstance(data, Mapping) else None
    return None if data is None else float(data)


def merged(*parts: Measures) -> Measures:
    """The measures of each label together; of equal names the last."""
    found: Measures = {}
    for part in parts:
        for label, values in part.items():
            found.setdefault(label, {}).update(values)
    return found


def _cost(data: Node, runs_dir: Path) -> dict[str, float]:
    """What the rows of a training set took that models made; nothing for other sets."""
    sources = [node for node in data.inputs.values() if node.stage in MADE_BY_MODELS]
    if len(sources) != 1:
        return {}
    run = sources[0].run(runs_dir)
    usage = (read_json(run.folder / "usage.json") or {}).get("total")
    rows = _made(sources[0], data, runs_dir)
    if not usage or not rows:
        return {}
    tokens = usage["prompt_tokens"] + usage["completion_tokens"] + usage["scored_tokens"]
    found = {
        "calls_per_row": usage["asked"] / rows,
        "tokens_per_row": tokens / rows,
        "written_per_row": usage["completion_tokens"] / rows,
    }
    if not usage["from_ledger"] and (seconds := run.status.get("seconds")):
        found["seconds_per_row"] = seconds / rows
    took = of_stage(sources[0], runs_dir)
    for name in METERED:
        unseen = took["partial"] or (took["elsewhere"] and name.startswith("gpu"))
        if took[name] is not None and not unseen:
            found[f"{name}_per_row"] = took[name] / rows
    return {name: round(value, 4) for name, value in found.items()}


def _made(source: Node, data: Node, runs_dir: Path) -> int:
    """Rows that the source contributed to the training set."""
    counts: Mapping[str, Any] = read_json(data.run(runs_dir).result / "statistics.json") or {}
    return int((counts.get("source") or {}).get("rows", 0))


def _rationales(node: Node, runs_dir: Path) -> dict[str, float]:
    """Length of the rationales, and how likely they make the gold answer."""
    found: dict[str, float] = {}
    file = node.run(runs_dir).result / "test.jsonl"
    if file.is_file() and (texts := [str(row["rationale"]) for row in read_jsonl(file) if "failed" not in row]):
        found["rationale_words"] = round(fmean(len(text.split()) for text in texts), 4)
    if (perplexity := _perplexity(node, runs_dir, "")) is not None:
        found["gold_perplexity"] = perplexity
    return found


def _perplexity(node: Node, runs_dir: Path, writer: str) -> float | None:
    """exp of minus the mean log-likelihood of a gold token, by the rationale's writer (default: the picked one)."""
    picked = read_json(node.run(runs_dir).result / "pick.json") or {}
    means = picked.get("mean_log_likelihood_per_token", {})
    mean = means.get(writer or picked.get("pick", ""))
    return None if mean is None else round(math.exp(-mean), 4)
