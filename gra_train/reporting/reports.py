"""The further tables of a comparison: synthesis' funnel, its models, and those of methods.py."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gra_train.evaluation.statistics import share
from gra_train.reporting import methods
from gra_train.reporting.markup import MISSING, percent
from gra_train.runs import read_json

STEPS = {
    "proposed": "proposed (= no review)",
    "passed_instruction_review": "after the instruction review",
    "reviewed": "response reviewed by all",
    "accepted": "accepted (mu and sigma)",
    "sent_to_adjudicator": "sent to the adjudicator",
    "kept_by_adjudicator": "kept by the adjudicator",
    "good": "accepted or adjudicated",
    "kept": "kept (no duplicate, in the target)",
}


def gather(inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Reports {title, columns, rows (text), note} for the inputs that are there."""
    found = []
    for name, folder in inputs.items():
        if name.split(".")[0] == "synthesis" and (funnel := read_json(folder / "funnel.json")):
            title = ": " + name.partition(".")[2] if "." in name else ""
            tables = [_funnel(funnel), _models(funnel)]
            if (agreement := funnel.get("agreement")) and any(r["reviews"] for r in agreement["reviewers"].values()):
                tables.append(_agreement(agreement))
            found += [{**report, "title": report["title"] + title} for report in tables]
    return found + methods.gather(inputs)


def correctness(counts: Mapping[str, Any], confidence: float = 0.95) -> dict[str, float] | None:
    """{value, low, high} from counts (rows, correct, unknown); None without a checker or without known rows."""
    if counts.get("correct") is None:
        return None
    known = counts["rows"] - (counts.get("unknown") or 0)
    return dict(share(counts["correct"], known, confidence)._asdict()) if known > 0 else None


def _funnel(funnel: Mapping[str, Any]) -> dict[str, Any]:
    rows = [
        [STEPS[step], str(counts["rows"]), percent(correctness(counts))]
        for step, counts in funnel["steps"].items()
        if step in STEPS
    ]
    said = [f"{name} {count}" for name, count in funnel["fates"].items() if count]
    note = f"{funnel['candidates']} candidates: {', '.join(said)}."
    for who, name in (("decision", "the whole decision"), ("adjudicator", "the adjudicator")):
        if (votes := funnel.get(who)) and votes["votes"]:
            precision, recall = percent(votes, key="precision"), percent(votes, key="recall")
            note += f" Of {name} ({votes['votes']} cases): precision {precision}, recall {recall}."
    return {"title": "Synthesis, step by step", "columns": ["step", "rows", "correct %"], "rows": rows, "note": note}


def _models(funnel: Mapping[str, Any]) -> dict[str, Any]:
    columns = ["model", "proposed", "became good %", "reviews", "mean score", "precision %", "recall %", "unparseable"]
    rows = []
    for name, model in funnel["models"].items():
        generator, reviewer, answers = model["generator"], model["reviewer"], model["answers"]
        mean = reviewer["mean_score"]
        rows.append(
            [name, str(generator["proposed"]), percent(generator, key="acceptance"), str(reviewer["responses"]),
             MISSING if mean is None else f"{mean:.2f}", percent(reviewer, key="precision"),
             percent(reviewer, key="recall"), f"{answers['unparseable']} of {answers['answers']}"]
        )  # fmt: skip
    note = (
        "Precision: of the responses that a reviewer's mean let pass, the share that is right; recall: of the right "
        "ones, the share that it let pass."
    )
    return {"title": "The pool's models in synthesis", "columns": columns, "rows": rows, "note": note}


def _agreement(agreement: Mapping[str, Any]) -> dict[str, Any]:
    columns = ["model", "reviews", "bias", "spread", "adjudicated", "overturned %"]
    rows = []
    for name, reviewer in agreement["reviewers"].items():
        verdicts = agreement["adjudicators"][name]
        bias, spread = (MISSING if v is None else f"{v:.2f}" for v in (reviewer["bias"], reviewer["spread"]))
        overturned = percent(verdicts, key="share")
        rows.append([name, str(reviewer["reviews"]), bias, spread, str(verdicts["asked"]), overturned])
    alphas = {
        part: ", ".join(f"{name} {MISSING if value is None else f'{value:.2f}'}" for name, value in found.items())
        for part, found in agreement["alpha"].items()
    }
    note = (
        "Bias and spread: mean and standard deviation of a reviewer's mean score less its committee's. Overturned: of "
        "the responses that the reviewers dispute, the share that the adjudicator rejects. Krippendorff's alpha (1: "
        f"they agree, 0: as by chance): of responses {alphas['response']}; of instructions {alphas['instruction']}."
    )
    if rules := agreement.get("adaptive"):
        plain, weighted = (
            ", ".join(f"{decision} {counts['rows']}" for decision, counts in rules[rule].items())
            for rule in ("plain", "weighted")
        )
        note += f" Weights changed {rules['differ']} decisions: counting alike, {plain}; weighted, {weighted}."
    return {"title": "How far the reviewers agree", "columns": columns, "rows": rows, "note": note}
