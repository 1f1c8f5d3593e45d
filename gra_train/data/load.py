"""Reading existing data sets: a file, a Hub data set, an earlier run, or the miniature's own.

    load(DataFile(path="seeds.jsonl"))            # .jsonl, .jsonl.gz, .json, .parquet; format found by its columns
    load(DataFile(path="tatsu-lab/alpaca"))       # a name on the Hub, read with `datasets`
    load(DataFile(path="mini:seeds", limit=100))  # problems of the miniature world

A row that does not fit stops the run with its line number, or is skipped and counted (`on_bad_row`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gra_train.data.files import Row, read_rows
from gra_train.data.formats import BadRow, detect, mapper
from gra_train.errors import UserError, nearest
from gra_train.locate import MINI
from gra_train.records import Sample
from gra_train.schema import DataFile

log = logging.getLogger(__name__)

MINI_SETS = ("seeds", "gold", "instructions")
DEFAULT_MINI_ROWS = 100
_FRESH = 1_000_003  # gold and instructions come from another stream than the seeds


@dataclass(frozen=True, slots=True)
class Loaded:
    """The samples of a data set, and why other rows were skipped (one line each)."""

    samples: list[Sample]
    skipped: list[str]


def load(file: DataFile, *, seed: int = 0, rows: int | None = None, need_response: bool = True) -> list[Sample]:
    """The samples of a data set, in its order; skipped rows are logged. See `read`."""
    loaded = read(file, seed=seed, rows=rows, need_response=need_response)
    if loaded.skipped:
        log.warning("%s: skipped %d rows; the first: %s", file.path, len(loaded.skipped), loaded.skipped[0])
    return loaded.samples


def read(file: DataFile, *, seed: int = 0, rows: int | None = None, need_response: bool = True) -> Loaded:
    """The samples of a data set.

    seed, rows: which and how many problems of the miniature (`limit` if set, else rows, else 100); of no other source.
    need_response: a row without a response does not fit.
    Raises UserError: nothing there, not text, an unknown format, a row that does not fit (unless skipped), no rows.
    """
    if not file.path:
        raise UserError("a data set has no path: give a file, a Hub name (owner/name), a run folder or mini:seeds.")
    if file.path.startswith(MINI):
        return Loaded(_miniature(file, seed, rows), [])
    name = Path(file.path).name.split(".")[0] or "row"
    samples: list[Sample] = []
    skipped: list[str] = []
    to_fields = None
    for row in read_rows(file):
        if file.limit is not None and len(samples) >= file.limit:
            break
        try:
            if row.problem or row.values is None:
                raise BadRow(row.problem)
            if to_fields is None:
                to_fields = mapper(detect(row.values) if file.format == "auto" else file.format, file.fields)
            samples.append(_sample(to_fields(row.values), row, name, need_response))
        except BadRow as bad:
            complaint = f"{file.path}, {row.place}: {bad}"
            if file.on_bad_row == "stop":
                raise UserError(f"{complaint}. Mend it, or set on_bad_row=skip to leave such rows out.") from None
            skipped.append(complaint)
    if not samples:
        reason = f" None of {len(skipped)} fits; the first: {skipped[0]}." if skipped else ""
        raise UserError(f"{file.path} has no rows.{reason} Expected at least one with an instruction and a response.")
    return Loaded(samples, skipped)


def _sample(fields: dict[str, Any], row: Row, name: str, need_response: bool) -> Sample:
    """A Sample from mapped fields. Raises BadRow."""
    values = {key: value for key, value in fields.items() if value is not None}
    if isinstance(values.get("keywords"), str):
        values["keywords"] = [word.strip() for word in values["keywords"].split(",")]
    values["keywords"] = tuple(str(word) for word in values.get("keywords", ()) if str(word).strip())
    for key in ("instruction", "response"):
        value = values.get(key, "")
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            raise BadRow(f"its {key} is a {type(value).__name__}, not text")
        if not value.strip() and (key == "instruction" or need_response):
            raise BadRow(f"its {key} is empty")
        values[key] = value.strip()
    texts = {key: str(values.get(key, "")).strip() for key in ("domain", "summary")}
    return Sample(
        id=str(values.get("id") or f"{name}-{row.number}"),
        instruction=values["instruction"],
        response=values["response"],
        keywords=values["keywords"],
        source=str(values.get("source") or name),
        **texts,
    )


def _miniature(file: DataFile, seed: int, rows: int | None) -> list[Sample]:
    """seeds: correct rows without annotations; gold: other problems and their responses; instructions: gold without."""
    from gra_train.mini.data import question_rows, seed_rows

    name = file.path.removeprefix(MINI)
    if name not in MINI_SETS:
        raise UserError(
            f"no miniature data set {file.path!r}.{nearest(name, MINI_SETS)} "
            f"Known: {', '.join(MINI + s for s in MINI_SETS)}."
        )
    count = file.limit or rows or DEFAULT_MINI_ROWS
    made: Iterator[dict[str, str]] = iter(
        seed_rows(count, seed) if name == "seeds" else question_rows("train", count, seed + _FRESH)
    )
    return [
        Sample(
            id=f"{name}-{i}",
            instruction=row["instruction"],
            response="" if name == "instructions" else row["response"],
            domain=row.get("domain", ""),
            source=file.path,
        )
        for i, row in enumerate(made)
    ]
