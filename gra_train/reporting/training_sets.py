"""Reports on the training sets of a comparison: what they are like, and their students at the same number of tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gra_train.evaluation.statistics import AVERAGE, Answers
from gra_train.reporting.markup import MISSING, p_value, percent, points, scored
from gra_train.reporting.table import columns, differences, tested
from gra_train.stages import CompareStage


def training_sets(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Reports {title, columns, rows, note}; none where no set was looked at."""
    found = [(row["label"], row["quality"]) for row in table["rows"] if row["quality"]]
    if not found:
        return []
    first = found[0][1]
    head = ["training set", "rows seen", "tokens", "words asked", "words answered", "distinct-2 asked",
            "distinct-2 answered", "spread", "nearest", "domains", "difficulty", "judge", "judged high %"]  # fmt: skip
    rows = [
        [label, f"{one['rows']} of {one['of']}", str(one["tokens"]), f"{one['words']['instruction']:.1f}",
         f"{one['words']['response']:.1f}", _number(one["distinct"]["instruction"]["2"]),
         _number(one["distinct"]["response"]["2"]), _number(one["spread"]["mean"]), _number(one["spread"]["nearest"]),
         _number(one["effective_domains"], 2), _mean(one["ifd"]), _mean(one["judge"], 2),
         percent((one["judge"] or {}).get("share_above"))]
        for label, one in found
    ]  # fmt: skip
    note = (
        "Of the rows beside the seeds (tokens: of the whole set, as the student reads it). Distinct-2: different pairs "
        "of words over all pairs. Spread: mean cosine distance of two instructions; nearest: of an instruction to the "
        f"nearest other (encoder: {first['spread']['encoder']}). Domains: exp of the entropy of their mix. All of "
        "these depend on how many rows are seen."
    )
    sets = {"title": "The training sets", "columns": head, "rows": rows, "note": note + _models(found)}
    return [sets, _domains(found)]


def _domains(found: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    names = sorted({name for _, one in found for name in one["domains"]})
    rows = [
        [name, *(percent({"value": one["domains"].get(name, 0) / one["of"]}) for _, one in found)] for name in names
    ]
    title = "Domains of the rows beside the seeds, in percent"
    return {"title": title, "columns": ["domain", *(label for label, _ in found)], "rows": rows, "note": ""}


def _models(found: list[tuple[str, dict[str, Any]]]) -> str:
    said = ""
    scored = {label: one["ifd"] for label, one in found if one["ifd"]}
    if scored:
        scorer = next(iter(scored.values()))["scorer"]
        left = sum(one["unscored"] for one in scored.values())
        said += f" Difficulty: mean IFD, scored by {scorer} ({left} rows could not be)."
    judged = {label: one["judge"] for label, one in found if one["judge"]}
    if judged:
        first = next(iter(judged.values()))
        counts = ", ".join(f"{label} {one['unparseable']}" for label, one in judged.items())
        failed = sum(one["failed"] for one in judged.values())
        said += (
            f" Judge: mean score of {first['judge']}, 1 to 10; high is above {first['above']}. Its answers that could "
            f"not be read: {counts}" + (f"; calls that failed: {failed}" if failed else "") + "."
        )
    return said


def same_tokens(config: CompareStage, table: Mapping[str, Any], sheets: Mapping[str, Answers]) -> list[dict[str, Any]]:
    """A report on the arms that were cut to another's tokens, each beside that other."""
    by_label = {row["label"]: row for row in table["rows"]}
    found = []
    for ours, theirs in config.same_tokens.items():
        pair = {name: sheets.get(name, {}) for name in (ours, theirs)}
        resamples, confidence = config.resamples, config.confidence
        tests = tested(pair, theirs, resamples=resamples, confidence=confidence).get(ours, {}).get("tests")
        difference = differences(pair[ours], pair[theirs], resamples=resamples, confidence=confidence)
        if not tests or not difference:
            continue
        tokens = [str((by_label[name]["quality"] or {}).get("tokens", MISSING)) for name in (ours, theirs)]
        for task in columns(table):
            if task in tests:
                scores = [scored(by_label[name]["scores"], task) for name in (ours, theirs)]
                found.append(
                    [ours, theirs, *tokens, task.removeprefix("mini_"), *scores,
                     percent(difference.get(task), sign=True), p_value(tests[task]["adjusted"]),
                     points(tests[task]["detectable"])]
                )  # fmt: skip
    if not found:
        return []
    head = ["cut to tokens", "beside", "its tokens", "tokens beside", "benchmark", "its score", "score beside",
            "difference", "p corrected", "detectable"]  # fmt: skip
    note = (
        "Rows beside the seeds were drawn until one more would exceed the other's tokens. p: corrected (Holm) over the "
        f"benchmarks of a pair; the {AVERAGE} stands alone."
    )
    return [{"title": "The same number of tokens", "columns": head, "rows": found, "note": note}]


def _number(value: float | None, digits: int = 3) -> str:
    return MISSING if value is None else f"{value:.{digits}f}"


def _mean(found: Mapping[str, Any] | None, digits: int = 3) -> str:
    mean = (found or {}).get("mean")
    if not mean:
        return MISSING
    bounds = f" [{mean['low']:.{digits}f}, {mean['high']:.{digits}f}]" if mean["low"] is not None else ""
    return f"{mean['value']:.{digits}f}{bounds}"
