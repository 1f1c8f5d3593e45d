"""What the data of each arm cost to make: calls, tokens, seconds, GPU-seconds, energy, money, and each per kept sample.

Read from the run folders (usage.json, effort.json) of the stages that a training set's rows come from: the annotation
of the seeds, and the synthesis, refinement or answering behind it. Times and energy differ from run to run, so all of
this stays out of results: it is told on the page and in cost.json of the experiment's folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gra_train.graph import Node
from gra_train.meter import MEASURES
from gra_train.reporting.markup import MISSING
from gra_train.runs import read_json

MAKING = ("seeds", "synthesize", "refine", "distill")
"""Stages that ask models for data."""
COUNTS = {"calls": "asked", "prompt_tokens": "prompt_tokens", "answer_tokens": "completion_tokens",
          "scored_tokens": "scored_tokens"}  # fmt: skip


def costs(compare: Node, runs_dir: Path) -> list[dict[str, Any]]:
    """One record per arm with data: {label, kept, calls, prompt_tokens, answer_tokens, scored_tokens, money, seconds,
    cpu_seconds, gpu_seconds, gpu_joules, cpu_joules, partial, elsewhere}; what was not measured is None.

    kept: rows that the stage behind the arm kept (None: no stage of ours made its rows). partial: answers came from the
    ledger, made by another run, so seconds and energy are less than they took. elsewhere: models behind servers that
    were not started here, whose GPUs nobody measured.
    """
    found = []
    for name, data in compare.inputs.items():
        label, _, kind = name.rpartition(".")
        if kind == "data" and label != "synthesis":
            found.append({"label": label, **_cost(data, runs_dir)})
    return found


def _cost(data: Node, runs_dir: Path) -> dict[str, Any]:
    stages = {node.run_id: node for node in _made_by(data)}
    source = next((node for node in stages.values() if node.stage != "seeds"), None)
    known = [of_stage(node, runs_dir) for node in stages.values()]
    total: dict[str, Any] = {"kept": _rows(source, runs_dir)}
    for key in (*COUNTS, "money", *MEASURES):
        values = [one[key] for one in known]
        total[key] = None if None in values else round(sum(values), 6)
    total |= {key: any(one[key] for one in known) for key in ("partial", "elsewhere")}
    if total["elsewhere"]:
        total["gpu_seconds"] = total["gpu_joules"] = None
    return total


def _made_by(data: Node) -> Iterator[Node]:
    """The stages that asked models for these rows. (What a set was cut after is not among them.)"""
    for name, node in data.inputs.items():
        if name == "like":
            continue
        if node.stage in MAKING:
            yield node
        yield from _made_by(node)


def of_stage(node: Node, runs_dir: Path) -> dict[str, Any]:
    """What one stage took: as `costs`, without what it kept; what was not measured is None."""
    folder = runs_dir / node.run_id
    usage, effort = read_json(folder / "usage.json") or {}, read_json(folder / "effort.json") or {}
    counts = usage.get("total", {})
    found: dict[str, Any] = {key: counts.get(name) for key, name in COUNTS.items()}
    found["money"] = usage.get("cost", {}).get("total")
    found |= {key: effort.get(key) for key in MEASURES}
    found["partial"] = bool(counts.get("from_ledger")) and effort.get("attempts", 1) == 1
    found["elsewhere"] = any(model.url for model in node.config.pool.models)
    return found


def _rows(source: Node | None, runs_dir: Path) -> int | None:
    """Rows that a stage kept; None where no stage of ours made them."""
    if source is None:
        return None
    file = runs_dir / source.run_id / "result" / "data.jsonl"
    return sum(1 for _ in file.open("rb")) if file.is_file() else None


SHOWN = (
    ("calls", "calls", 1),
    ("prompt_tokens", "tokens read", 0),
    ("answer_tokens", "tokens written", 0),
    ("scored_tokens", "tokens scored", 0),
    ("seconds", "seconds", 3),
    ("cpu_seconds", "CPU-seconds", 3),
    ("gpu_seconds", "GPU-seconds", 3),
    ("gpu_joules", "GPU energy, J", 2),
    ("cpu_joules", "CPU energy, J", 2),
    ("money", "money", 5),
)


def per_sample(record: Mapping[str, Any], key: str) -> float | None:
    """A cost for each kept sample; None where it was not measured or nothing was kept."""
    value, kept = record[key], record["kept"]
    return value / kept if value is not None and kept else None


def report(records: list[dict[str, Any]]) -> dict[str, Any] | None:
    """{title, columns, rows, note} of the cost of each kept sample; None where no arm's data was made here."""
    made = [record for record in records if record["kept"]]
    if not made:
        return None
    head = ["training set", "kept", *(title for _, title, _ in SHOWN)]
    rows = [[record["label"], str(record["kept"]), *(cell(record, key, digits) for key, _, digits in SHOWN)]
            for record in made]  # fmt: skip
    note = (
        "Per kept sample, from the annotation of the seeds to the last review; stages that sets share count whole for "
        "each. Seconds are of the machine that made them. GPU-seconds and GPU energy: NVML, of the GPUs in use here; "
        "CPU energy: RAPL, of the whole machine; n/a: not measured."
    )
    if any(record["partial"] for record in made):
        note += " ≥: some answers came from the ledger, where another run had paid for them."
    if any(record["elsewhere"] for record in made):
        note += " GPUs of servers that were not started here cannot be measured from here."
    return {"title": "Cost of a kept sample", "columns": head, "rows": rows, "note": note}


def cell(record: Mapping[str, Any], key: str, digits: int) -> str:
    value = per_sample(record, key)
    if value is None:
        return MISSING
    return ("≥ " if record["partial"] and key in MEASURES else "") + f"{value:,.{digits}f}"
