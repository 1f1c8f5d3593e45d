"""How each benchmark of a table was asked, in a sentence: without it a score cannot be compared with anybody else's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gra_train.runs import read_json


def protocol_notes(folders: Iterable[Path]) -> list[str]:
    """A sentence for each of our benchmarks, from the evaluations' protocol.json (the miniature's tasks need none).

    A benchmark that was not asked in the same way everywhere gets a sentence for each way.
    """
    ways: dict[str, list[str]] = {}
    for folder in folders:
        for task, told in (read_json(folder / "protocol.json") or {}).items():
            text = _sentence(told)
            if text not in ways.setdefault(task, []):
                ways[task].append(text)
    differing = " NOT asked alike in every row:" if any(len(texts) > 1 for texts in ways.values()) else ""
    return [f"{task}:{differing if len(texts) > 1 else ''} {' / '.join(texts)}" for task, texts in ways.items()]


def _sentence(told: dict[str, Any]) -> str:
    shots = f"{told['shots']} worked examples" if told["shots"] else "no worked examples"
    answers = f"answers of at most {told['max_tokens']} tokens" if told["max_tokens"] else told["answers"]
    source = "a file" if told["source"] == "file" else told["source"]
    unsafe = " Programs ran WITHOUT a sandbox." if told["unsandboxed"] else ""
    said = f"protocol {told['protocol']}, {shots}, {answers}, questions from {source}.{unsafe}"
    return " ".join([said, *told["notes"]])
