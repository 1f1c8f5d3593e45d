"""The further tables of COLLATE and its baselines: what each iteration learned from, what an answer cost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gra_train.reporting.markup import MISSING
from gra_train.runs import read_json

TITLES = {"collate": "COLLATE on {}: rationales and their merit", "baseline": "{}: what it learned from"}
PER_QUESTION = {
    "calls_per_question": "calls",
    "prompt_tokens_per_question": "tokens read",
    "completion_tokens_per_question": "tokens written",
    "scored_tokens_per_question": "tokens scored",
    "truncated_per_question": "cut",
    "mean_agreement": "agreement",
}


def gather(inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Reports {title, columns, rows (text), note}: of <kind>.<name>.<iteration> with statistics.json, kinds as in
    TITLES; and of the rows (<label>.scores) whose method answered the questions itself (effort.json)."""
    learned: dict[str, dict[str, Any]] = {}
    for name, folder in inputs.items():
        kind, _, rest = name.partition(".")
        if kind in TITLES and (statistics := read_json(folder / "statistics.json")):
            of, iteration = rest.rsplit(".", 1)
            learned.setdefault(TITLES[kind].format(of), {})[iteration] = statistics
    efforts = {
        name.removesuffix(".scores"): effort
        for name, folder in inputs.items()
        if name.endswith(".scores") and (effort := read_json(folder / "effort.json"))
    }
    found = [_iterations(title, iterations) for title, iterations in learned.items()]
    return [*found, *([_efforts(efforts)] if efforts else [])]


def _iterations(title: str, iterations: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    names = list(dict.fromkeys(key for one in iterations.values() for key in _flat(one)))
    flat = {iteration: _flat(one) for iteration, one in iterations.items()}
    rows = [[name, *(_number(flat[iteration].get(name)) for iteration in iterations)] for name in names]
    return {"title": title, "columns": ["", *(f"iteration {i}" for i in iterations)], "rows": rows, "note": ""}


def _efforts(efforts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    shown = [name for name in PER_QUESTION if any(name in one for one in efforts.values())]
    rows = [[label, *(_number(one.get(name)) for name in shown)] for label, one in efforts.items()]
    note = (
        "Per question, of all that was asked. Agreement: of self-consistency, the winner's share of the votes; of EoT, "
        "the share of questions on which both instances agree in the end."
    )
    columns = ["", *(PER_QUESTION[name] for name in shown)]
    return {"title": "What an answer cost", "columns": columns, "rows": rows, "note": note}


def _flat(value: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, inner in value.items():
        name = f"{path}{key}".replace("_", " ")
        found |= _flat(inner, f"{name}: ") if isinstance(inner, Mapping) else {name: inner}
    return found


def _number(value: Any) -> str:
    if value is None:
        return MISSING
    return f"{value:.4g}" if isinstance(value, float) else str(value)
