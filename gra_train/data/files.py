"""Rows of files as they are: JSON lines, JSON, parquet, gzip, run folders, the Hub; each with its place in the file."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from gra_train.data.hub import at_hand
from gra_train.errors import UserError
from gra_train.schema import DataFile

ENDINGS = (".jsonl", ".ndjson", ".json", ".parquet")


@dataclass(frozen=True, slots=True)
class Row:
    """number: from 0; place: "line 3" or "row 2", for people; values, or what is wrong with the row."""

    number: int
    place: str
    values: dict[str, Any] | None
    problem: str = ""


def read_rows(file: DataFile) -> Iterator[Row]:
    """The rows of a file, folder or Hub data set. Raises UserError where there is none, or it cannot be read at all.

    Of OpenAssistant's messages (format oasst), the questions with their best answers.
    """
    yield from questions_with_answers(_read(file)) if file.format == "oasst" else _read(file)


def questions_with_answers(messages: Iterable[Row]) -> Iterator[Row]:
    """OpenAssistant (arXiv 2304.07327): first messages of a conversation, each with the reply that people ranked best.

    Messages name their parent; replies without a rank come last, in their order. A question without a reply is left
    out, and so is what is deleted or not in the question's language.
    """
    asked: dict[str, Row] = {}
    best: dict[str, tuple[float, int, Row]] = {}
    for row in messages:
        values = row.values
        if row.problem or values is None or not {"message_id", "text", "role"} <= set(values):
            problem = row.problem or f"no message of OpenAssistant: its columns are {', '.join(values or {})}"
            yield Row(row.number, row.place, None, problem)
        elif values.get("deleted"):
            continue
        elif values.get("parent_id") is None:
            asked[values["message_id"]] = row
        elif values["role"] == "assistant":
            rank = values.get("rank")
            one = (math.inf if rank is None else float(rank), row.number, row)
            best[values["parent_id"]] = min(one, best.get(values["parent_id"], one), key=lambda reply: reply[:2])
    for name, row in asked.items():
        if name in best and row.values and (reply := best[name][2].values):
            told = {"instruction": row.values["text"], "response": reply["text"], "id": name}
            yield Row(row.number, row.place, told)


def _read(file: DataFile) -> Iterator[Row]:
    path = Path(file.path).expanduser()
    if not path.exists():
        if _is_hub_name(file.path):
            yield from _hub(file)
            return
        raise UserError(
            f"data path {file.path!r} does not exist; give a file ({', '.join(ENDINGS)}, also .gz), "
            "a Hub name (owner/name), a run folder or mini:seeds."
        )
    path = _inside(path) if path.is_dir() else path
    ending = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    kind = ending.removesuffix(".gz")
    if kind not in ENDINGS:
        raise UserError(
            f"{file.path}: unknown kind of file {ending or path.name!r}; "
            f"expected one of {', '.join(ENDINGS)} (also .gz)."
        )
    if kind == ".parquet":
        yield from _parquet(path)
    elif kind == ".json":
        yield from _json(path)
    else:
        yield from _lines(path)


def _is_hub_name(path: str) -> bool:
    return path.count("/") == 1 and not path.startswith((".", "~", "/")) and not path.endswith((*ENDINGS, ".gz"))


def _inside(folder: Path) -> Path:
    """The data of a run folder or of a data set folder."""
    for name in ("data.jsonl", "result/data.jsonl"):
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"{folder} holds no data set: expected data.jsonl or result/data.jsonl (a finished run's folder).")


def _bytes(path: Path) -> Iterator[bytes]:
    """Lines of a plain or gzipped file. Raises UserError for what is not gzip although it is named so."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
            yield from stream
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(
            f"{path}: not a whole gzip file ({error}); compress it again, or drop .gz from its name."
        ) from None
    except PermissionError:
        raise UserError(f"{path} cannot be read: permission denied.") from None


def _text(path: Path, line: bytes, place: str) -> str:
    if b"\0" in line:
        raise UserError(f"{path}, {place}: not a text file (it holds null bytes); expected JSON in UTF-8.")
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}, {place}: not UTF-8 text (byte {line[error.start]:#04x}); save the file as UTF-8."
        ) from None


def _lines(path: Path) -> Iterator[Row]:
    number = 0
    for at, line in enumerate(_bytes(path), 1):
        place = f"line {at}"
        text = _text(path, line, place).strip()
        if not text:
            continue
        yield _row(number, place, text)
        number += 1


def _row(number: int, place: str, text: str) -> Row:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return Row(number, place, None, f"not JSON ({str(error).split(':')[0]}): {text[:60]!r}")
    return _checked(number, place, value)


def _checked(number: int, place: str, value: Any) -> Row:
    if not isinstance(value, dict):
        return Row(number, place, None, f"a JSON {type(value).__name__}; expected an object with columns")
    return Row(number, place, value)


def _json(path: Path) -> Iterator[Row]:
    """A JSON list of objects, an object with one such list in it, or JSON lines under a .json name."""
    text = _text(path, b"".join(_bytes(path)), "somewhere")
    try:
        value = orjson.loads(text or "[]")
    except orjson.JSONDecodeError as error:
        if text.lstrip().startswith("{") and "\n" in text.strip():
            yield from _lines(path)
            return
        raise UserError(f"{path}, line {error.lineno}: not JSON ({error.msg}); expected a list of objects.") from None
    if isinstance(value, dict):
        lists = [v for v in value.values() if isinstance(v, list) and v and isinstance(v[0], dict)]
        value = lists[0] if len(lists) == 1 else [value]
    if not isinstance(value, list):
        raise UserError(f"{path}: a JSON {type(value).__name__}; expected a list of objects.")
    for number, one in enumerate(value):
        yield _checked(number, f"row {number + 1}", one)


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as table:
            rows = (one for batch in table.iter_batches() for one in batch.to_pylist())
            for number, one in enumerate(rows):
                yield Row(number, f"row {number + 1}", one)
    except pa.ArrowInvalid as error:
        raise UserError(f"{path}: not a parquet file ({str(error).splitlines()[0]}).") from None


def _hub(file: DataFile) -> Iterator[Row]:
    from datasets import load_dataset

    name, _, configuration = file.path.partition(":")
    try:
        with at_hand():
            rows = load_dataset(name, configuration or None, split=file.split)
    except Exception as error:  # the library raises whatever its network layer raises
        raise UserError(
            f"{file.path!r} is no file here, and as a Hub data set (split {file.split!r}) it cannot be loaded: "
            f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}. "
            "Check the name, the split and the network."
        ) from None
    for number, one in enumerate(rows):
        yield Row(number, f"row {number + 1}", dict(one))
