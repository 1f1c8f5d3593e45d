"""What an estimate rests on: numbers that nobody knows before a run, each with where it comes from.

A default is assumed; an earlier run of the same kind (same models, prompts and review) measures most of them; the
command line has the last word (`assume.NAME=VALUE`). All are printed with the estimate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gra_train.errors import UserError
from gra_train.runs import read_json
from gra_train.settings import Section, build, setting


@dataclass(frozen=True)
class Assumptions(Section):
    """Shares are of what reached the step before; tokens are of one answer."""

    pass_instruction: float = setting(0.8, "share of candidates that pass every instruction review", min=0, max=1)
    adjudicated: float = setting(0.15, "share of reviewed responses that go to the adjudicator", min=0, max=1)
    good: float = setting(0.6, "share of reviewed responses that review lets pass", min=0, max=1)
    survive: float = setting(0.8, "share of those that curation keeps (no duplicate, not contaminated)", min=0, max=1)
    retried: float = setting(0.05, "extra calls after answers that cannot be read, per call", min=0)
    domain: float = setting(10, "answer", unit="tokens", min=0)
    summary: float = setting(40, "answer", unit="tokens", min=0)
    keywords: float = setting(20, "answer", unit="tokens", min=0)
    new_keywords: float = setting(25, "answer", unit="tokens", min=0)
    instruction: float = setting(120, "answer", unit="tokens", min=0)
    instruction_review: float = setting(15, "answer", unit="tokens", min=0)
    response: float = setting(400, "answer", unit="tokens", min=0)
    response_review: float = setting(90, "answer", unit="tokens", min=0)
    adjudication: float = setting(300, "answer", unit="tokens", min=0)
    seed_rows: int = setting(50000, "seeds, where they cannot be read here", unit="rows", min=1)
    seed_instruction: int = setting(60, "of a seed, where they cannot be read here", unit="tokens", min=1)
    seed_response: int = setting(150, "of a seed, where they cannot be read here", unit="tokens", min=1)
    characters: float = setting(4.0, "of one token, where no tokenizer is on this machine", min=0.1)
    written_per_s: float = setting(1500, "tokens that one endpoint writes in a second, under load", min=0.001)
    read_per_s: float = setting(10000, "prompt tokens that one endpoint reads in a second", min=0.001)


KINDS = ("domain", "summary", "keywords", "new_keywords", "instruction", "instruction_review", "response",
         "response_review", "adjudication")  # fmt: skip


@dataclass(frozen=True)
class Basis:
    """The numbers of one estimate. origin: name -> "assumed", "measured in RUN" or "command line".

    seconds: per call in that run, models side by side; None: not measured.
    """

    values: Assumptions
    origin: Mapping[str, str]
    run: str = ""
    seconds: float | None = None


def basis(given: Mapping[str, str], run: Path | None) -> Basis:
    """From the words of the command line and an earlier run. Raises UserError for a name that does not exist."""
    parsed = {name: yaml.safe_load(text) for name, text in given.items()}
    build(Assumptions, parsed, "assume.")
    measured = _measured(run) if run else {}
    values = build(Assumptions, {**measured, **parsed}, "assume.")
    origin = {
        name: "command line" if name in parsed else f"measured in {run.name}" if run and name in measured else "assumed"
        for name in vars(values)
    }
    return Basis(values, origin, run.name if run else "", _seconds(run) if run else None)


def earlier_run(runs_dir: Path, stage: Any) -> Path | None:
    """The finished synthesis with most candidates among those with the same models, prompts and review as `stage`."""
    best: tuple[int, Path] | None = None
    for folder in sorted(runs_dir.glob("synthesize-*")):
        funnel = read_json(folder / "result" / "funnel.json")
        if funnel is None or not (folder / "config.yaml").is_file():
            continue
        frozen = yaml.safe_load((folder / "config.yaml").read_text())
        own = frozen.get("config", frozen)
        if _kind_of_dict(own) == _kind(stage) and (best is None or funnel["candidates"] > best[0]):
            best = (funnel["candidates"], folder)
    return best[1] if best else None


def named_run(path: str) -> Path:
    """from=RUN. Raises UserError for a folder without a finished synthesis."""
    folder = Path(path)
    folder = folder.parent if folder.name == "result" else folder
    if read_json(folder / "result" / "funnel.json") is None:
        raise UserError(
            f"from={path}: no finished synthesis there (result/funnel.json); give the folder of such a run."
        )
    return folder


def _kind(stage: Any) -> tuple[Any, ...]:
    synthesis = stage.synthesis
    names = [(m.name, m.path, m.revision) for m in stage.pool.models]
    return names, synthesis.prompts, synthesis.review.mode, synthesis.review.scoring


def _kind_of_dict(config: Mapping[str, Any]) -> tuple[Any, ...]:
    try:
        names = [(m["name"], m.get("path", ""), m.get("revision", "")) for m in config["pool"]["models"]]
        synthesis = config["synthesis"]
        return names, synthesis["prompts"], synthesis["review"]["mode"], synthesis["review"]["scoring"]
    except (KeyError, TypeError):
        return ()


def _measured(run: Path) -> dict[str, float]:
    funnel, usage = read_json(run / "result" / "funnel.json"), read_json(run / "result" / "usage.json") or {}
    steps, fates = funnel["steps"], funnel["fates"]
    good = steps["good"]["rows"]
    dropped = fates["duplicate"] + fates["contaminated"]
    found = {
        "pass_instruction": _share(steps["passed_instruction_review"]["rows"], steps["proposed"]["rows"]),
        "adjudicated": _share(steps["sent_to_adjudicator"]["rows"], steps["reviewed"]["rows"]),
        "good": _share(good, steps["reviewed"]["rows"]),
        "survive": _share(good - dropped, good),
    }
    answers = sum(one["answers"] for one in funnel["prompts"].values())
    failed = sum(one["unparseable"] for one in funnel["prompts"].values())
    found["retried"] = _share(failed, answers - failed)
    asked, written = dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0)
    for kind, count in _counts(usage):
        if kind in asked and not count["scored_tokens"]:
            asked[kind] += count["asked"]
            written[kind] += count["completion_tokens"]
    found |= {kind: _share(written[kind], asked[kind]) for kind in KINDS}
    return {name: round(value, 4) for name, value in found.items() if value is not None}


def _counts(usage: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, int]]]:
    for purposes in usage.get("by_model", {}).values():
        for purpose, count in purposes.items():
            yield purpose.split("/")[-1], count


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None


def _seconds(run: Path) -> float | None:
    """Seconds per call, where most of the run's last attempt was computed and not answered from the ledger."""
    status, usage = read_json(run / "status.json") or {}, read_json(run / "usage.json") or {}
    total = usage.get("total", {})
    computed = total.get("computed", 0)
    if not status.get("seconds") or 2 * computed < total.get("asked", 1):
        return None
    return float(status["seconds"]) / computed
