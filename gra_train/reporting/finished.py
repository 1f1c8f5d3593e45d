"""Finished comparisons, as tables are made of them: read from run folders, and kept small beside the tables.

experiments/results/<experiment>,<overrides>/ holds what a finished run leaves for its tables: answers.parquet (label,
task, question_id, correct: kilobytes), table.json (what `compare` wrote, as far as tables read it), measures.json, and
made.json (run id, date, code revision, versions, seconds of its stages). A kept result answers for its experiment and
overrides until another is kept.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gra_train.errors import UserError
from gra_train.experiment import Node
from gra_train.reporting.measures import measures, merged, of_training_sets
from gra_train.runs import read_json, write_json

Sheets = Mapping[str, Mapping[str, Mapping[str, bool]]]
"""label -> task -> question -> correct."""
COLUMNS = ("label", "task", "question_id", "correct")
KEPT_OF_ROWS = ("label", "data", "scores", "flags", "quality")
"""What tables are made of; differences and tests are computed again from the answers."""
VERSIONS = ("python", "torch", "transformers", "trl", "lm_eval", "gra_train")


@dataclass(frozen=True)
class Finished:
    """A finished comparison. table: of table.json, with `measures` beside its rows. made: run, date, revision, ..."""

    name: str
    table: dict[str, Any]
    sheets: Sheets
    made: dict[str, Any]

    @property
    def seed(self) -> int:
        return int(self.table["seed"])


def from_result(result: Path, *, name: str = "", found: Mapping[str, Any] | None = None) -> Finished:
    """From the result folder of `compare`; found: measures of its rows."""
    table = json.loads((result / "table.json").read_text())
    measured = merged(of_training_sets(table["rows"]), dict(found or {}))
    return Finished(name, table | {"measures": measured}, read_answers(result / "answers.parquet"),
                    _made(result.parent))  # fmt: skip


def from_run(name: str, nodes: Sequence[Node], runs_dir: Path) -> Finished | None:
    """From the run folders of an experiment; None if it is not finished."""
    run = nodes[-1].run(runs_dir) if nodes else None
    if run is None or not run.is_done():
        return None
    finished = from_result(run.result, name=name, found=measures(nodes, runs_dir))
    seconds = {f"{node.stage}-{node.label}": node.run(runs_dir).status.get("seconds", 0.0) for node in nodes}
    return Finished(name, finished.table, finished.sheets, finished.made | {"stages": seconds})


def _made(folder: Path) -> dict[str, Any]:
    """Where and when a run was made, for the line below a table."""
    stamp, status = read_json(folder / "stamp.json") or {}, folder / "status.json"
    versions = {"python": stamp.get("python"), **(stamp.get("versions") or {})}
    date = time.strftime("%Y-%m-%d", time.gmtime(status.stat().st_mtime)) if status.is_file() else ""
    return {
        "run": folder.name,
        "date": date,
        "revision": stamp.get("revision", ""),
        "versions": {name: versions[name] for name in VERSIONS if versions.get(name)},
    }


def keep(finished: Finished, folder: Path) -> None:
    """Write a finished comparison into the results folder beside the tables (again: the same bytes)."""
    place = folder / slug(finished.name)
    try:
        place.mkdir(parents=True, exist_ok=True)
        rows = [{key: row.get(key) for key in KEPT_OF_ROWS} for row in finished.table["rows"]]
        table = {k: v for k, v in finished.table.items() if k not in ("reports", "notes", "measures")} | {"rows": rows}
        (place / "table.json").write_text(json.dumps(table, sort_keys=True, separators=(",", ":")) + "\n")
        write_json(place / "measures.json", finished.table["measures"])
        write_json(place / "made.json", {"name": finished.name, **finished.made})
        write_answers(finished.sheets, place / "answers.parquet")
    except OSError as error:
        raise UserError(f"cannot keep results in {place}: {error.strerror}. Give another place: out=FOLDER") from None


def kept(name: str, folder: Path) -> Finished | None:
    """The result kept for an experiment and its overrides, if there is one."""
    place = folder / slug(name)
    made, table = read_json(place / "made.json"), read_json(place / "table.json")
    if not made or not table:
        return None
    found = read_json(place / "measures.json") or {}
    own = {key: value for key, value in made.items() if key != "name"}
    return Finished(name, table | {"measures": found}, read_answers(place / "answers.parquet"), own)


def completed(found: Finished, earlier: Finished | None) -> Finished:
    """With the measures that an earlier rendering of the same run could still read."""
    if earlier is None or earlier.made["run"] != found.made["run"]:
        return found
    old, new = earlier.table["measures"], found.table["measures"]
    both = merged(old, new)
    stages = {**earlier.made.get("stages", {}), **{k: v for k, v in found.made.get("stages", {}).items() if v}}
    return Finished(found.name, found.table | {"measures": both}, found.sheets, found.made | {"stages": stages})


def slug(name: str) -> str:
    """`mini/review seed=5` -> `mini-review,seed=5`: a folder's name."""
    return name.replace("/", "-").replace(" ", ",")


def read_answers(file: Path) -> dict[str, dict[str, dict[str, bool]]]:
    import pyarrow.parquet as pq

    table = pq.read_table(file, columns=list(COLUMNS), read_dictionary=list(COLUMNS[:3])).combine_chunks()
    sheets: dict[str, dict[str, dict[str, bool]]] = {}
    if not table.num_rows:
        return sheets
    labels, tasks, questions, marks = (column.chunk(0) for column in table.columns)
    correct_ones = marks.to_numpy(zero_copy_only=False).tolist()
    for label, task, question, correct in zip(*map(_texts, (labels, tasks, questions)), correct_ones, strict=True):
        sheets.setdefault(label, {}).setdefault(task, {})[question] = correct
    return sheets


def _texts(column: Any) -> list[str]:
    """A dictionary column's texts: each made once, not once per row."""
    texts = column.dictionary.to_pylist()
    return [texts[i] for i in column.indices.to_numpy().tolist()]


def write_answers(sheets: Sheets, file: Path) -> None:
    """label, task, question_id as dictionaries, correct as booleans; zstd: a few kilobytes for ten thousand answers."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        (label, task, question, correct)
        for label, sheet in sheets.items()
        for task, answered in sheet.items()
        for question, correct in answered.items()
    ]
    text = pa.dictionary(pa.int32(), pa.string())
    *names, correct = zip(*rows, strict=True) if rows else ((), (), (), ())
    arrays = [pa.array(list(values), pa.string()).dictionary_encode().cast(text) for values in names]
    arrays.append(pa.array(list(correct), pa.bool_()))
    temporary = file.with_name(f".{file.name}.tmp")
    pq.write_table(pa.table(arrays, names=list(COLUMNS)), temporary, compression="zstd", compression_level=19)
    temporary.replace(file)
