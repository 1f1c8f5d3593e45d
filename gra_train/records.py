"""The data that flows between stages: plain frozen records, no behaviour beyond validation and (de)serialisation."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import orjson

from gra_train.errors import UserError

DOMAINS = ("Coding", "Math", "QA", "Reasoning", "Role Play", "Language", "Creation")
"""The seven domains of GRA (section 3.1)."""

FLAGS = ("reasonableness", "completeness", "clarity")
"""Binary criteria of the instruction review (GRA, section 3.3)."""

CRITERIA = ("correctness", "clarity", "completeness", "relevance", "coherence", "ethicality")
"""Criteria of the response review, each an integer from 1 to 10 (GRA, section 3.3)."""


class Record:
    """Mixin: a frozen dataclass as a JSON object with sorted keys."""

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Self:
        names = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in row.items() if k in names}
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Sample(Record):
    """One row of a data set, or one seed: GRA's tuple (x, y, d, k, s) with an id and where it came from.

    `response` ends in the answer; `keywords` has at most three entries in GRA (any number is accepted).
    """

    id: str
    instruction: str
    response: str
    domain: str = ""
    keywords: tuple[str, ...] = ()
    summary: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class Review(Record):
    """What one reviewer (or the adjudicator) said of a response: six integers from 1 to 10 in the order of CRITERIA."""

    reviewer: str
    scores: tuple[int, ...]
    text: str = ""

    @property
    def mean(self) -> float:
        """Plain mean of the six scores (GRA, section 3.3)."""
        return sum(self.scores) / len(self.scores)


@dataclass(frozen=True, slots=True)
class InstructionReview(Record):
    """Three binary flags of one reviewer, in the order of FLAGS."""

    reviewer: str
    flags: tuple[int, ...]

    @property
    def passes(self) -> bool:
        return all(self.flags)


class Fate(StrEnum):
    """What became of a candidate. Every candidate has exactly one."""

    KEPT = "kept"
    REJECTED_INSTRUCTION = "rejected_instruction"
    REJECTED_SCORE = "rejected_score"
    REJECTED_ADJUDICATOR = "rejected_adjudicator"
    UNPARSEABLE = "unparseable"
    DUPLICATE = "duplicate"
    CONTAMINATED = "contaminated"
    SURPLUS = "surplus"  # good, but beyond the target: rounds are cut by index


@dataclass(frozen=True, slots=True)
class Rationale(Record):
    """One rationale R for a task (I, A), and its merit: ln P(A | I, R) under frozen M_IFT (nan: unscored)."""

    task_id: str
    provider: str
    text: str
    log_likelihood: float = float("nan")


@dataclass(frozen=True, slots=True)
class PreferencePair(Record):
    """A DPO example in prompt-completion form; `margin` is the difference of merit (0 where it has none)."""

    task_id: str
    prompt: str
    chosen: str
    rejected: str
    margin: float = 0.0
    info: dict[str, Any] = field(default_factory=dict)


def write_jsonl(path: Path, rows: Iterable[Record | dict[str, Any]]) -> int:
    """Write rows to a temporary file and rename it into place; returns their number."""
    temporary = path.with_name(path.name + ".tmp")
    count = 0
    with temporary.open("wb") as file:
        for row in rows:
            value = row.to_dict() if isinstance(row, Record) else row
            file.write(orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY))
            count += 1
    temporary.replace(path)
    return count


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a .jsonl file. Raises UserError with the line number for a line that is not a JSON object."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise UserError(f"{path}, line {number}: not JSON ({error}); expected one object per line") from None
            if not isinstance(row, dict):
                raise UserError(f"{path}, line {number}: a JSON {type(row).__name__}; expected one object per line")
            yield row


def read_samples(path: Path) -> list[Sample]:
    """The rows of a data set folder's `data.jsonl` (or of that file itself)."""
    return [Sample.from_dict(row) for row in read_jsonl(path / "data.jsonl" if path.is_dir() else path)]


def write_samples(folder: Path, samples: Sequence[Sample]) -> int:
    """Write `data.jsonl` into a data set folder."""
    return write_jsonl(folder / "data.jsonl", samples)
