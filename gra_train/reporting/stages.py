"""The comparison stage: everything an experiment found, in one table with its doubt."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gra_train.evaluation.questions import contaminated
from gra_train.evaluation.statistics import Answers
from gra_train.records import read_samples
from gra_train.reporting import reports
from gra_train.reporting.flags import flags
from gra_train.reporting.markup import to_csv, to_markdown
from gra_train.reporting.paper import to_latex
from gra_train.reporting.protocols import protocol_notes
from gra_train.reporting.table import AVERAGE, RECORD, differences, notes, records, tested
from gra_train.reporting.training_sets import same_tokens, training_sets
from gra_train.runs import read_json, write_json
from gra_train.stages import CompareStage


def compare(config: CompareStage, inputs: Mapping[str, Path], out: Path) -> None:
    """inputs: <label>.scores, .data and .quality of every label; synthesis and collate.* for the further tables.

    -> table.json; from it table.md, table.tex, table.csv and table.parquet (a row per label and task); and
    answers.parquet (label, task, question_id, correct) for the aggregation of several experiments. A label without
    results keeps its row, with missing cells.
    """
    sheets = {label: _sheet(inputs.get(f"{label}.scores")) for label in config.labels}
    baseline = sheets.get(config.baseline, {})
    tasks = list(dict.fromkeys(task for sheet in sheets.values() for task in sheet))
    tests = tested(sheets, config.baseline, resamples=config.resamples, confidence=config.confidence)
    rows = []
    for label in config.labels:
        folder = inputs.get(f"{label}.scores")
        scores = _scores(folder, sheets[label], tasks) if folder else None
        data = _data(inputs.get(f"{label}.data"), folder)
        difference = None
        if label != config.baseline:
            difference = differences(sheets[label], baseline, resamples=config.resamples, confidence=config.confidence)
        marks = flags(scores or {}, data["overlap"] if data else 0)
        row = {"label": label, "data": data, "scores": scores, "difference": difference, "flags": marks}
        row["quality"] = (
            read_json(inputs[f"{label}.quality"] / "quality.json") if f"{label}.quality" in inputs else None
        )
        rows.append(row | {"tests": None, "tally": None} | tests.get(label, {}))
    table: dict[str, Any] = {
        "name": config.name,
        "seed": config.seed,
        "baseline": config.baseline,
        "confidence": config.confidence,
        "resamples": config.resamples,
        "reviewers": config.reviewers,
        "tasks": tasks,
        "rows": rows,
    }
    scored = [inputs[f"{label}.scores"] for label in config.labels if f"{label}.scores" in inputs]
    table["notes"] = [*notes(table), *protocol_notes(scored)]
    synthesis = inputs.get("synthesis")
    table["funnel"] = (read_json(synthesis / "funnel.json") or {}).get("steps") if synthesis else None
    table["reports"] = [*same_tokens(config, table, sheets), *reports.gather(inputs), *training_sets(table)]
    write_json(out / "table.json", table)
    (out / "table.md").write_text(to_markdown(table))
    (out / "table.csv").write_text(to_csv(table))
    (out / "table.tex").write_text(to_latex(table))
    _write_records(out, table)
    _write_answers(out, sheets)


def read_table(folder: Path) -> dict[str, Any]:
    """table.json of a comparison's result folder."""
    table: dict[str, Any] = json.loads((folder / "table.json").read_text())
    return table


def _sheet(folder: Path | None) -> Answers:
    """task -> question_id -> correct."""
    if folder is None:
        return {}
    import pyarrow.parquet as pq

    sheet: dict[str, dict[str, bool]] = {}
    for row in pq.read_table(folder / "questions.parquet", columns=["task", "question_id", "correct"]).to_pylist():
        sheet.setdefault(row["task"], {})[row["question_id"]] = row["correct"]
    return sheet


def _scores(folder: Path, sheet: Answers, tasks: Sequence[str]) -> dict[str, Any]:
    """scores.json, with its tasks in the order in which they were asked; its average where it is of all tasks."""
    scores = read_json(folder / "scores.json")
    return {task: scores[task] for task in (*sheet, *[AVERAGE] * (set(sheet) == set(tasks)))}


def _data(folder: Path | None, scores: Path | None) -> dict[str, Any] | None:
    """A training set: rows, how many of them are seeds, correctness of the rows beside the seeds where a checker exists
    (of the seeds when there are no others), and how many rows state a test question."""
    if folder is None:
        return None
    import pyarrow.parquet as pq

    counts = read_json(folder / "statistics.json") or {}
    seeds, source = counts.get("seeds", {}), counts.get("source", {})
    instructions = [sample.instruction for sample in read_samples(folder)]
    asked = pq.read_table(scores / "questions.parquet", columns=["instruction"]) if scores else None
    overlap = contaminated(instructions, asked["instruction"].to_pylist()) if asked else []
    return {
        "rows": len(instructions),
        "seeds": seeds.get("rows", 0),
        "correct": reports.correctness(source if source.get("rows") else seeds),
        "overlap": len(overlap),
    }


def _write_records(out: Path, table: Mapping[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {str: pa.string(), float: pa.float64(), int: pa.int64()}
    schema = pa.schema([(name, kinds[kind]) for name, kind in RECORD.items()])
    pq.write_table(pa.Table.from_pylist(records(table), schema=schema), out / "table.parquet")


def _write_answers(out: Path, sheets: Mapping[str, Answers]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {"label": label, "task": task, "question_id": question, "correct": correct}
        for label, sheet in sheets.items()
        for task, answered in sheet.items()
        for question, correct in answered.items()
    ]
    schema = pa.schema(
        [("label", pa.string()), ("task", pa.string()), ("question_id", pa.string()), ("correct", pa.bool_())]
    )
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), out / "answers.parquet")
