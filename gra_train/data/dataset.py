"""The dataset stage: an arm's training set, from the seeds, an earlier result or a file, with its statistics."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from gra_train.data.load import load
from gra_train.errors import UserError
from gra_train.records import Sample, read_samples, write_jsonl, write_samples
from gra_train.stages import DatasetStage
from gra_train.synthesis.checker import Checker, checker
from gra_train.synthesis.decontaminate import Benchmarks

log = logging.getLogger(__name__)


def dataset(config: DatasetStage, inputs: Mapping[str, Path], out: Path) -> None:
    """Seeds (if given), then the source's rows -> data.jsonl, statistics.json.

    Of the source, rows that repeat a seed's instruction are left out, and with a checker those that equal a validation
    or test problem; then `rows` of it are drawn at random by the seed (all, in their order, if there are no more).
    With `benchmarks`, seeds and rows that overlap with one of their questions are left out before that, and kept with
    the question in contaminated.jsonl; contamination.json counts them.
    Raises UserError where nothing is left to train on.
    """
    seeds = read_samples(inputs["seeds"]) if "seeds" in inputs else []
    check = checker(config.checker)
    source = _source(config, inputs, spare=len(seeds))
    dropped: dict[str, int] = {}
    if against := Benchmarks.of(config.decontaminate, config.benchmarks):
        (seeds, bad_seeds), (source, bad) = against.split(seeds), against.split(source)
        write_jsonl(out / "contaminated.jsonl", [*bad_seeds, *bad])
        found = Counter(row["benchmark"] for row in (*bad_seeds, *bad))
        _write_json(out / "contamination.json", against.report(config.benchmarks, found))
        dropped = {"contaminated_seeds": len(bad_seeds), "contaminated": len(bad)}
    source, removed = _fresh(source, seeds, check)
    if config.rows is not None and len(source) < config.rows:
        log.warning("%d rows were asked for and %d are there", config.rows, len(source))
    source = _some(source, config.rows, config.seed)
    if not seeds and not source:
        raise UserError("this arm has no rows: its source is empty or held out, and it takes no seeds.")
    write_samples(out, [*seeds, *source])
    statistics = {
        "rows": len(seeds) + len(source),
        "asked_for": config.rows,
        "seeds": describe(seeds, check),
        "source": describe(source, check),
        "removed": removed | dropped,
    }
    _write_json(out / "statistics.json", statistics)


def _write_json(path: Path, value: Any) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    temporary.replace(path)


def _source(config: DatasetStage, inputs: Mapping[str, Path], *, spare: int) -> list[Sample]:
    if "source" in inputs:
        part = inputs["source"] / f"data-round-{config.rounds}.jsonl"
        return read_samples(part if config.rounds and part.is_file() else inputs["source"])
    if not config.source.path:
        return []
    return load(config.source, seed=config.seed, rows=config.rows and config.rows + spare)


def _fresh(
    source: Sequence[Sample], seeds: Sequence[Sample], check: Checker | None
) -> tuple[list[Sample], dict[str, int]]:
    """(rows that are neither a seed nor held out, how many were removed as what)."""
    known = {s.instruction for s in seeds}
    new = [s for s in source if s.instruction not in known]
    clean = [s for s in new if check is None or not check.held_out(s.instruction)]
    return clean, {"seeds": len(source) - len(new), "held_out": len(new) - len(clean)}


def _some(rows: Sequence[Sample], count: int | None, seed: int) -> list[Sample]:
    """`count` of the rows at random, in their order."""
    if count is None or len(rows) <= count:
        return list(rows)
    chosen = random.Random(f"dataset {seed}").sample(range(len(rows)), count)
    return [rows[i] for i in sorted(chosen)]


def describe(rows: Sequence[Sample], check: Checker | None) -> dict[str, Any]:
    """rows, domains and, with a checker, how many rows are correct."""
    domains = Counter(row.domain or "(none)" for row in rows)
    described: dict[str, Any] = {"rows": len(rows), "domains": dict(sorted(domains.items()))}
    if check is not None:
        correct = sum(check.correct(row.instruction, row.response) for row in rows)
        described |= {"correct": correct, "correct_share": round(correct / len(rows), 6) if rows else None}
    return described
