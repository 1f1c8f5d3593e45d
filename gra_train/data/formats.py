"""Field mappings of known data set formats: from a row's columns to a Sample's fields."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from gra_train.errors import UserError, nearest

CHOICES = ("piqa", "winogrande", "commonsense_qa", "hellaswag")
"""Benchmarks whose training rows are read as their questions are asked."""
Mapper = Callable[[dict[str, Any]], dict[str, Any]]
FIELDS = ("instruction", "response", "input", "domain", "keywords", "summary", "id", "rationale")


class BadRow(ValueError):
    """A row that does not fit its format; the message says why."""


def detect(row: Mapping[str, Any]) -> str:
    """The format of a row by its columns. Raises BadRow where none fits."""
    columns = set(row)
    for name, needed in (
        ("dolly", {"instruction", "context", "response"}),
        ("cot_collection", {"source", "target", "rationale"}),
        ("esnli", {"premise", "hypothesis", "label"}),
        ("piqa", {"goal", "sol1", "sol2"}),
        ("winogrande", {"sentence", "option1", "option2"}),
        ("commonsense_qa", {"question", "choices", "answerKey"}),
        ("hellaswag", {"ctx", "endings"}),
        ("own", {"instruction", "response"}),
        ("alpaca", {"instruction", "output"}),
        ("self_instruct", {"instruction", "instances"}),
        ("gsm8k", {"question", "answer"}),
        ("condor", {"prompt", "prediction"}),
        ("dolly", {"prompt", "response"}),
    ):
        if needed <= columns:
            return name
    if columns & {"messages", "conversations"}:
        return "chat"
    if columns & {"instruction"}:
        return "own"
    raise BadRow(
        f"no known format has the columns {', '.join(sorted(columns)) or '(none)'}; "
        "expected instruction + response, instruction + output (alpaca), question + answer (gsm8k), "
        "instruction + instances (self_instruct), instruction + context + response (dolly), prompt + prediction "
        "(condor), messages or conversations (chat), source + target + rationale (cot_collection); "
        "or set format=fields with fields.instruction=COLUMN and fields.response=COLUMN"
    )


def mapper(name: str, fields: Mapping[str, str]) -> Mapper:
    """The mapping of a format. Raises UserError for wrong `fields` of format=fields."""
    if name != "fields":
        return _MAPPERS[name]
    for key in fields:
        if key not in FIELDS:
            raise UserError(f"fields.{key}: no such field.{nearest(key, FIELDS)} Known: {', '.join(FIELDS)}.")
    if "instruction" not in fields:
        raise UserError("format=fields needs fields.instruction=COLUMN (and fields.response=COLUMN).")

    def mapped(row: dict[str, Any]) -> dict[str, Any]:
        missing = [column for column in fields.values() if column not in row]
        if missing:
            raise BadRow(f"no column {missing[0]!r}; there are: {', '.join(row) or '(none)'}")
        values = {field: row[column] for field, column in fields.items()}
        values["instruction"] = _joined(values["instruction"], values.pop("input", ""))
        return values

    return mapped


def _need(row: Mapping[str, Any], *columns: str) -> None:
    for column in columns:
        if column not in row:
            raise BadRow(f"no column {column!r}; there are: {', '.join(row) or '(none)'}")


def _joined(instruction: Any, context: Any) -> Any:
    """An instruction with its input below it, as Alpaca's and Self-Instruct's are shown."""
    return f"{instruction}\n\n{context}" if isinstance(context, str) and context.strip() else instruction


def _own(row: dict[str, Any]) -> dict[str, Any]:
    _need(row, "instruction")
    return {key: row[key] for key in (*FIELDS, "source") if key in row and key != "input"}


def _alpaca(row: dict[str, Any]) -> dict[str, Any]:
    _need(row, "instruction", "output")
    return {"instruction": _joined(row["instruction"], row.get("input", "")), "response": row["output"]}


def _gsm8k(row: dict[str, Any]) -> dict[str, Any]:
    """Without the calculator marks (<<48/2=24>>), which are no part of an answer for a reader."""
    _need(row, "question", "answer")
    answer = row["answer"]
    return {"instruction": row["question"],
            "response": re.sub(r"<<[^<>]*>>", "", answer) if isinstance(answer, str) else answer}  # fmt: skip


def _self_instruct(row: dict[str, Any]) -> dict[str, Any]:
    """The first instance of a task."""
    _need(row, "instruction", "instances")
    instances = row["instances"]
    if not isinstance(instances, list) or not instances or not isinstance(instances[0], dict):
        raise BadRow("its instances are not a list of objects with input and output")
    first = instances[0]
    return {
        "instruction": _joined(row["instruction"], first.get("input", "")),
        "response": first.get("output"),
        "id": row.get("id"),
    }


def _wizardlm(row: dict[str, Any]) -> dict[str, Any]:
    """Evol-Instruct: the 70k set has Alpaca's columns, the 196k set conversations."""
    return _chat(row) if "conversations" in row else _alpaca(row)


def _condor(row: dict[str, Any]) -> dict[str, Any]:
    _need(row, "prompt", "prediction")
    return {"instruction": row["prompt"], "response": row["prediction"]}


_TEMPLATE = re.compile(r"\ABelow is an instruction that .*?### Instruction:\n(.*?)\s*### Response:\s*\Z", re.DOTALL)


def _dolly(row: dict[str, Any]) -> dict[str, Any]:
    """instruction, context, response; or prompt and response, without Alpaca's template around the prompt."""
    if "prompt" in row:
        _need(row, "response")
        prompt = row["prompt"]
        inside = _TEMPLATE.match(prompt) if isinstance(prompt, str) else None
        return {"instruction": inside[1] if inside else prompt, "response": row["response"]}
    _need(row, "instruction", "response")
    return {"instruction": _joined(row["instruction"], row.get("context", "")), "response": row["response"]}


_USER, _ASSISTANT = ("user", "human", "prompter"), ("assistant", "gpt", "chatgpt", "bot", "model")


def _chat(row: dict[str, Any]) -> dict[str, Any]:
    """The first question and its answer of a conversation (role/content, or ShareGPT's from/value)."""
    turns = row.get("messages", row.get("conversations"))
    if turns is None:
        raise BadRow(f"no column 'messages' or 'conversations'; there are: {', '.join(row) or '(none)'}")
    if not isinstance(turns, list) or not all(isinstance(t, dict) for t in turns):
        raise BadRow("its messages are not a list of turns")
    told = [(str(t.get("role", t.get("from"))).lower(), t.get("content", t.get("value"))) for t in turns]
    question = next((i for i, (role, _) in enumerate(told) if role in _USER), None)
    if question is None:
        raise BadRow(
            f"its conversation has no turn of a user; roles: {', '.join(role for role, _ in told) or '(none)'}"
        )
    answer = next((text for role, text in told[question + 1 :] if role in _ASSISTANT), "")
    return {"instruction": told[question][1], "response": answer, "id": row.get("id")}


def _cot_collection(row: dict[str, Any]) -> dict[str, Any]:
    """CoT-Collection (arXiv 2305.14045): source, rationale, target."""
    _need(row, "source", "target", "rationale")
    return {"instruction": row["source"], "response": row["target"], "rationale": row["rationale"]}


NLI = ("entailment", "neutral", "contradiction")


def _esnli(row: dict[str, Any]) -> dict[str, Any]:
    """e-SNLI (arXiv 1812.01193): the first of a pair's explanations is its rationale."""
    _need(row, "premise", "hypothesis", "label")
    told = row.get("explanations") or [row.get("explanation_1", "")]
    label = row["label"]
    return {
        "instruction": f"Premise: {row['premise']}\nHypothesis: {row['hypothesis']}\n"
        f"Is it {', '.join(NLI[:2])} or {NLI[2]}?",
        "response": NLI[label] if isinstance(label, int) and 0 <= label < 3 else label,
        "rationale": told[0] if told else "",
    }


def _choices(name: str) -> Mapper:
    """Of a benchmark with choices: the words in which the evaluation asks, and the right choice's letter."""

    def mapped(row: dict[str, Any]) -> dict[str, Any]:
        from gra_train.evaluation.benchmarks import benchmark
        from gra_train.evaluation.benchmarks.rows import as_training

        found = as_training(benchmark(name), row)
        if found is None:
            raise BadRow(f"no row of {name}; its columns are {', '.join(row) or '(none)'}")
        return {**found, "response": found["answer"]}

    return mapped


_MAPPERS: dict[str, Mapper] = {
    "own": _own, "alpaca": _alpaca, "wizardlm": _wizardlm, "condor": _condor, "self_instruct": _self_instruct,
    "dolly": _dolly, "gsm8k": _gsm8k, "sharegpt": _chat, "chat": _chat, "cot_collection": _cot_collection,
    "esnli": _esnli, "oasst": _own, **{name: _choices(name) for name in CHOICES},
}  # fmt: skip
