"""Where COLLATE's rows come from: files, or the arm's own training set; kept apart from benchmarks."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from gra_train.collate.data import Task, tasks
from gra_train.errors import UserError
from gra_train.records import Sample, write_jsonl
from gra_train.runs import write_json
from gra_train.schema import DataFile
from gra_train.stages import CollateStage
from gra_train.synthesis.decontaminate import Benchmarks

log = logging.getLogger(__name__)
OWN = "data"
"""Name of the input that holds the arm's own training set (collate.own_data)."""
OWN_PARTS = ("rationales", "tasks")
"""What collate.own_data can stand for, beside "both"."""


def rationale_rows(config: CollateStage, inputs: Mapping[str, Path]) -> list[Task]:
    """Instructions with gold rationales and answers. Of the arm's own set: rows that read `rationale #### answer`."""
    file, kind = _file(config, inputs, "rationales", config.collate.rationale_data)
    return tasks(file, seed=config.seed, need_rationale=True, what=kind)


def task_rows(config: CollateStage, inputs: Mapping[str, Path], out: Path | None) -> list[Task]:
    """Instructions with answers, clean of benchmarks (see `clean`)."""
    file, kind = _file(config, inputs, "tasks", config.collate.task_data)
    return clean(config, tasks(file, seed=config.seed, what=kind), out)


def clean(config: CollateStage, rows: Sequence[Task], out: Path | None) -> list[Task]:
    """The rows that overlap with no question of collate.decontaminate; the others are kept with the question.

    -> contaminated.jsonl, contamination.json in `out` (None: not this rank), as the dataset stage writes them. Raises
    UserError if nothing is left.
    """
    against = Benchmarks.of(config.collate.decontaminate, config.benchmarks)
    if against is None:
        return list(rows)
    samples = [Sample(id=t.id, instruction=t.instruction, response=f"{t.rationale}\n{t.answer}") for t in rows]
    kept, dropped = against.split(samples)
    if out:
        write_jsonl(out / "contaminated.jsonl", dropped)
        found = Counter(row["benchmark"] for row in dropped)
        write_json(out / "contamination.json", against.report(config.benchmarks, found))
    if dropped:
        log.warning("%d of %d rows overlap with a benchmark and are left out", len(dropped), len(rows))
    if not kept:
        raise UserError("every row of COLLATE's data overlaps with a benchmark of collate.decontaminate.against.")
    names = {sample.id for sample in kept}
    return [t for t in rows if t.id in names]


def named(config: CollateStage, inputs: Mapping[str, Path], *what: str) -> str:
    """How a model's card calls these data ("rationales", "tasks"): the run of the arm's own set, or the file or Hub
    name, without a folder of this machine."""
    given = {"rationales": "rationale_data", "tasks": "task_data", "answers": "answer_data"}
    found = []
    for one in what:
        file = getattr(config.collate, given[one])
        if one in OWN_PARTS and config.collate.own_data in (one, "both"):
            found.append(inputs[OWN].parent.name)
        elif file.path:
            found.append(Path(file.path).name if Path(file.path).exists() else file.path)
    return ", ".join(f"`{name}`" for name in dict.fromkeys(found))


def _file(config: CollateStage, inputs: Mapping[str, Path], what: str, file: DataFile) -> tuple[DataFile, str]:
    if config.collate.own_data in (what, "both"):
        return DataFile(path=str(inputs[OWN] / "data.jsonl"), on_bad_row="skip"), "the arm's own training set"
    return file, ""
