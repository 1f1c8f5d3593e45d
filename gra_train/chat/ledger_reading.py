"""Reading a whole ledger, record by record and in bounded memory: what it holds, and its export to parquet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gra_train.chat import segments
from gra_train.chat.keys import decode, key_in_batch, written
from gra_train.chat.ledger import Ledger
from gra_train.chat.protocol import Reply
from gra_train.chat.segments import KEY, Record
from gra_train.errors import UserError

_ROWS = 5_000  # of a row group
_BYTES = 1 << 26  # a row group is written earlier if its texts are long


@dataclass
class Count:
    """answers (a batch has several), tokens, bytes on disk, truncated and failed answers, and when (Unix time)."""

    answers: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    scored_tokens: int = 0
    truncated: int = 0
    failed: int = 0
    bytes: float = 0.0
    first: int = 1 << 40
    last: int = 0


@dataclass
class Overview:
    """counts: by (model, purpose, kind). superseded: records whose key another segment has. broken: bytes."""

    counts: dict[tuple[str, str, str], Count] = field(default_factory=lambda: defaultdict(Count))
    keys: int = 0
    segments: int = 0
    size: int = 0
    superseded: int = 0
    broken: int = 0
    foreign: list[str] = field(default_factory=list)


def overview(folder: Path) -> Overview:
    """What the ledger in `folder` holds. Each key counts once. Raises UserError if it cannot be read."""
    found = Overview()
    with Ledger(folder, rebuild=True) as ledger:
        found.keys, found.foreign = len(ledger), ledger.foreign
        found.segments, found.size = len(ledger.segments), sum(path.stat().st_size for path in ledger.segments)
        for path in ledger.segments:
            end = len(segments.MAGIC)
            for offset, size, body in segments.scan(path):
                end = offset + size
                if body is None:
                    found.broken += size
                elif segments.is_end(body):
                    continue
                elif not ledger.holds(body[:KEY], path, offset):
                    found.superseded += 1
                else:
                    _count(found.counts, segments.record_of(body), size)
            found.broken += path.stat().st_size - end
    return found


def _count(counts: dict[tuple[str, str, str], Count], record: Record, size: int) -> None:
    answers = _answers(record)
    for _, purpose, answer in answers or [(None, "", None)]:
        count = counts[record.model, purpose, record.kind]
        count.bytes += size / max(1, len(answers))
        count.first, count.last = min(count.first, record.seconds), max(count.last, record.seconds)
        count.answers += answer is not None
        if answer is not None:
            count.prompt_tokens += answer.prompt_tokens
            count.failed += answer.failed
        if isinstance(answer, Reply):
            count.completion_tokens += answer.completion_tokens
            count.truncated += answer.finish == "length"
        elif answer is not None:
            count.scored_tokens += len(answer.logprobs)


def _answers(record: Record) -> list[tuple[int | None, str, Any]]:
    """(row of the batch or None, purpose, answer) of each answer of a record; plans have none."""
    if record.kind == "batch":
        own = record.purpose
        purposes = [own] * len(record.value) if isinstance(own, str) else own
        return [(row, purposes[row], decode(value)) for row, value in enumerate(record.value)]
    return [(None, str(record.purpose), decode(record.value))] if record.kind in ("completion", "likelihood") else []


def export(folder: Path, out: Path) -> int:
    """Write every answer to a parquet file (renamed into place when it is whole); returns their number.

    Columns: key (as candidates.parquet has it), kind, model, purpose, time (UTC, to the second), latency_ms, text,
    finish, prompt_tokens, completion_tokens, and for likelihoods logprobs and tokens. Order: as recorded. Memory: 24
    bytes per key and one row group. Raises UserError if `out` cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = ("key", "kind", "model", "purpose", "text", "finish")
    schema = pa.schema([
        *((name, pa.string()) for name in texts[:4]), ("time", pa.timestamp("s", "UTC")), ("latency_ms", pa.int64()),
        *((name, pa.string()) for name in texts[4:]), ("prompt_tokens", pa.int64()), ("completion_tokens", pa.int64()),
        ("logprobs", pa.list_(pa.float64())), ("tokens", pa.list_(pa.string())),
    ])  # fmt: skip
    temporary = out.with_name(out.name + ".tmp")
    written = 0
    try:
        with pq.ParquetWriter(temporary, schema, compression="zstd") as file:
            for rows in _groups(folder):
                file.write_table(pa.Table.from_pylist(rows, schema=schema))
                written += len(rows)
        temporary.replace(out)
    except OSError as error:
        raise UserError(f"--out {str(out)!r} cannot be written: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)
    return written


def _groups(folder: Path) -> Iterator[list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    size = 0
    with Ledger(folder, rebuild=True) as ledger:
        for path in ledger.segments:
            for offset, length, body in segments.scan(path):
                if body is None or segments.is_end(body) or not ledger.holds(body[:KEY], path, offset):
                    continue
                rows += _rows(body[:KEY], segments.record_of(body))
                size += length
                if len(rows) >= _ROWS or size >= _BYTES:
                    yield rows
                    rows, size = [], 0
    yield rows


def _rows(key: bytes, record: Record) -> Iterator[dict[str, Any]]:
    for row, purpose, answer in _answers(record):
        scores = answer.logprobs if isinstance(answer, Reply) else answer
        yield {
            "key": written(key if row is None else key_in_batch(key, row)), "kind": record.kind, "model": record.model,
            "purpose": purpose, "time": record.seconds, "latency_ms": record.latency_ms,
            "logprobs": scores and scores.logprobs, "tokens": scores and scores.tokens,
            **({"text": answer.text, "finish": answer.finish, "prompt_tokens": answer.prompt_tokens,
                "completion_tokens": answer.completion_tokens} if isinstance(answer, Reply)
               else {"finish": "failed" if answer.failed else None, "prompt_tokens": answer.prompt_tokens or None}),
        }  # fmt: skip
