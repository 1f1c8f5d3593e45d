"""A candidate: everything that happened to one proposed sample, and the table that keeps all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from gra_train.chat.keys import written
from gra_train.records import Fate, InstructionReview, Record, Review, Sample
from gra_train.synthesis.calls import Attempt
from gra_train.synthesis.decide import Decision
from gra_train.synthesis.draw import Draw


@dataclass(frozen=True, slots=True)
class Candidate(Record):
    """One proposal. Until curation has looked at it, KEPT means "good so far".

    failed_at: the prompt at which it was rejected or unparseable, or "".
    mu, sigma, decision: of the response review, every reviewer counting alike (None where it was not reached).
    weights, weighted_*: with adaptive roles, how much each reviewer counts, and the decision that this makes: the one
    that is acted on. correct: by the checker (None: not known).
    twin, cosine: of a duplicate, the id of what it repeats. benchmark, question, ngram: of a contaminated one, the
    question that it overlaps with and the words they share. summary: written after curation, of kept candidates only.
    """

    id: str
    round: int
    index: int
    domain: str
    generator: str
    reviewers: tuple[str, ...]
    adjudicator: str
    examples: tuple[str, ...]
    fate: Fate = Fate.KEPT
    failed_at: str = ""
    keywords: tuple[str, ...] = ()
    instruction: str = ""
    response: str = ""
    instruction_reviews: tuple[InstructionReview, ...] = ()
    reviews: tuple[Review, ...] = ()
    mu: float | None = None
    sigma: float | None = None
    decision: Decision | None = None
    weights: tuple[float, ...] = ()
    weighted_mu: float | None = None
    weighted_sigma: float | None = None
    weighted_decision: Decision | None = None
    adjudication: Review | None = None
    attempts: tuple[Attempt, ...] = ()
    correct: bool | None = None
    twin: str = ""
    cosine: float | None = None
    benchmark: str = ""
    question: str = ""
    ngram: str = ""
    summary: str = ""

    @classmethod
    def of(cls, draw: Draw) -> Self:
        """A candidate about which nothing is known but its draw."""
        return cls(
            id=draw.id, round=draw.round, index=draw.index, domain=draw.domain, generator=draw.generator,
            reviewers=draw.reviewers, adjudicator=draw.adjudicator, examples=tuple(e.id for e in draw.examples),
            weights=draw.weights,
        )  # fmt: skip

    @property
    def good(self) -> bool:
        """Whether review let it pass, whatever curation made of it."""
        return self.fate in (Fate.KEPT, Fate.DUPLICATE, Fate.CONTAMINATED, Fate.SURPLUS)

    @property
    def decided(self) -> Decision | None:
        """The decision that was acted on."""
        return self.weighted_decision or self.decision

    def sample(self) -> Sample:
        """The row of the data set."""
        return Sample(
            id=self.id, instruction=self.instruction, response=self.response, domain=self.domain,
            keywords=self.keywords, summary=self.summary, source=self.generator,
        )  # fmt: skip


def _schema() -> Any:
    import pyarrow as pa

    strings = pa.list_(pa.string())
    review = pa.struct([("reviewer", pa.string()), ("scores", pa.list_(pa.int8())), ("text", pa.string())])
    flags = pa.struct([("reviewer", pa.string()), ("flags", pa.list_(pa.int8()))])
    texts = [(name, pa.string()) for name in ("prompt", "role", "model", "outcome")]
    attempt = pa.struct([*texts, ("seed", pa.int64()), ("key", pa.string())])
    columns = {
        "id": pa.string(), "round": pa.int32(), "index": pa.int64(), "domain": pa.string(), "generator": pa.string(),
        "reviewers": strings, "adjudicator": pa.string(), "examples": strings, "fate": pa.string(),
        "failed_at": pa.string(), "keywords": strings, "instruction": pa.string(), "response": pa.string(),
        "instruction_reviews": pa.list_(flags), "reviews": pa.list_(review), "mu": pa.float64(), "sigma": pa.float64(),
        "decision": pa.string(), "weights": pa.list_(pa.float64()), "weighted_mu": pa.float64(),
        "weighted_sigma": pa.float64(), "weighted_decision": pa.string(), "adjudication": review,
        "attempts": pa.list_(attempt), "correct": pa.bool_(), "twin": pa.string(), "cosine": pa.float64(),
        "benchmark": pa.string(), "question": pa.string(), "ngram": pa.string(),
        "summary": pa.string(),
    }  # fmt: skip
    return pa.schema(list(columns.items()))


class CandidateTable:
    """candidates.parquet, written round by round and renamed into place on a clean exit.

    `attempts` has every call, with the sampling seed and the answer's key in the ledger (`gra-train ledger show KEY`).
    """

    def __init__(self, path: Path) -> None:
        self._path, self._temporary = path, path.with_name(path.name + ".tmp")
        self._writer: Any = None

    def __enter__(self) -> Self:
        import pyarrow.parquet as pq

        self._schema = _schema()
        self._writer = pq.ParquetWriter(self._temporary, self._schema, compression="zstd")
        return self

    def append(self, candidates: Sequence[Candidate]) -> None:
        import pyarrow as pa

        rows = [candidate.to_dict() for candidate in candidates]
        for attempt in (attempt for row in rows for attempt in row["attempts"]):
            attempt["key"] = written(attempt["key"])
        self._writer.write_table(pa.Table.from_pylist(rows, schema=self._schema))

    def __exit__(self, kind: object, *_: object) -> None:
        self._writer.close()
        if kind is None:
            self._temporary.replace(self._path)
