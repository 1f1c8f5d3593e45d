"""In what OpenAI-compatible servers differ: the one place that knows.

|                       | vLLM               | SGLang       | llama.cpp    | transformers serve |
|---|---|---|---|---|
| regular expression    | structured_outputs | regex        | cannot       | refused (422)      |
| JSON schema           | response_format    | the same     | the same     | ignored            |
| several answers (`n`) | yes                | yes          | an error     | ignored            |
| log-probs of answer   | yes                | yes          | yes          | ignored            |
| log-probs of prompt   | prompt_logprobs    | echo         | no           | no                 |

A server says who it is in GET /models (`owned_by`). One that says nothing is spoken to like vLLM; a field that it
refuses by name is left out from then on, and one that it ignores shows in its answers.
"""

from __future__ import annotations

import json
import re
from functools import cache
from itertools import takewhile
from typing import Any

_OWNERS = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llama.cpp", "llama.cpp": "llama.cpp"}
LISTS_ITS_MODELS = ("vllm",)
"""Servers that answer to the names in GET /models and to no other."""
ONE_ANSWER = ("llama.cpp",)
"""Servers that answer `n` above 1 with an error that says nothing of it."""

_TOO_LONG = re.compile(
    r"context[ _-]?(length|size|window)|maximum (sequence|input|model) length|exceed_context_size|too many tokens"
    r"|longer than the model|max_tokens.{0,40}too (large|long)|max_model_len",
    re.IGNORECASE,
)
OPTIONAL = ("structured_outputs", "regex", "response_format", "n", "logprobs", "top_logprobs", "seed")
"""Fields of a request that a server may not know."""


def recognise(listing: Any) -> tuple[str, list[str]]:
    """(server, names of its models) from the JSON of GET /models; ("", []) where it says nothing."""
    data = listing.get("data") if isinstance(listing, dict) else None
    rows = [row for row in data if isinstance(row, dict)] if isinstance(data, list) else []
    owners = {str(row.get("owned_by", "")).lower() for row in rows}
    names = [str(row["id"]) for row in rows if "id" in row]
    return next((_OWNERS[o] for o in sorted(owners) if o in _OWNERS), ""), names


def listed_window(listing: Any, name: str) -> int | None:
    """Tokens of the model's window, where GET /models says so (vLLM, SGLang)."""
    try:
        row = next(row for row in listing["data"] if isinstance(row, dict) and row.get("id") == name)
        found = row.get("max_model_len")
    except (KeyError, TypeError, AttributeError, StopIteration):
        return None
    return found if isinstance(found, int) and found > 0 else None


def constraint(server: str, regex: str | None, schema: Any) -> dict[str, Any]:
    """The fields that ask for an answer to a regular expression or a JSON schema; {} where the server has none."""
    if schema is not None:
        form = {"name": "answer", "schema": schema, "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": form}}
    if regex is None or server == "llama.cpp":
        return {}
    return {"regex": regex} if server == "sglang" else {"structured_outputs": {"regex": regex}}


def refused_field(body: dict[str, Any], text: str) -> str | None:
    """The optional field of the request that this refusal is about: named as a parameter, not merely mentioned."""
    return next((f for f in OPTIONAL if f in body and _named(f).search(text)), None)


@cache
def _named(field: str) -> re.Pattern[str]:
    """A field as servers speak of it: `'seed'` (pydantic's loc, param, a set of unknown fields; but not the key of an
    object that is sent back), "argument supplied: seed", "unknown field seed", "seed: Extra inputs are not permitted",
    "does not support seed", "n > 1"."""
    name, gap = rf"(?<![\w\\]){field}\b", r"[^\w\\]{1,3}"  # no "n" of an escaped line end
    return re.compile(
        rf"(?P<quote>[\"'`]){field}(?P=quote)(?!\s*:)"
        rf"|\b(?:body|param(?:eter)?s?|fields?|arguments?|propert(?:y|ies)|options?)(?: supplied| named?)?{gap}{name}"
        rf"|\b(?:unknown|unexpected|unsupported|unrecogni[sz]ed|invalid|extra){gap}{name}"
        rf"|(?:\bnot|n['’]t|\bwithout) (?:support|accept|allow|take|know)(?:ed|ing)?(?: for)?(?: the)? {name}"
        rf"|{name}{gap}(?:(?:is|are|was) )?(?:not |un(?:known|supported|expected|recogni)|extra|must|can(?:not| only))"
        + (r"|(?<![\w\\])n\s*(?:>|!=|>=)\s*1" if field == "n" else ""),
        re.IGNORECASE,
    )


_ECHO = 12
"""Characters of a prompt by which it is known when it is sent back; one of fewer letters might be any word."""


def without_echo(body: dict[str, Any], text: str) -> str:
    """A refusal without what it repeats of the request's texts, whole or cut: these say nothing of the server."""
    said = [m.get("content") for m in body.get("messages", ())] + [body.get("prompt")]
    for one in (text for text in said if isinstance(text, str)):
        forms = {one, repr(one)[1:-1], json.dumps(one)[1:-1], json.dumps(one, ensure_ascii=False)[1:-1]}
        for beginning in {form[:_ECHO] for form in forms if len(form) >= _ECHO}:
            while (start := text.find(beginning)) >= 0:
                text = f"{text[:start]}...{text[start + max(_shared(text[start:], form) for form in forms) :]}"
    return text


def _shared(a: str, b: str) -> int:
    """Characters that both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


def denies_likelihoods(text: str) -> bool:
    """Is this refusal about the log-probabilities of a prompt?"""
    return re.search(r"\becho\b|log_?prob|log-prob", text, re.IGNORECASE) is not None


def too_long(text: str) -> bool:
    """Is this refusal about the model's window?"""
    return _TOO_LONG.search(text) is not None


def wants_text(text: str) -> bool:
    """Is this refusal about token ids as a prompt (transformers serve)?"""
    return re.search(r"prompt must be a string", text) is not None


def window(text: str) -> int | None:
    """The model's window in tokens, where a refusal names it."""
    found = re.search(r"(?:context (?:length|size|window)|max_model_len)\D{0,20}(\d+)", text)
    return int(found[1]) if found else None


def prompt_logprobs(data: Any, ids: list[int]) -> list[float] | None:
    """One value per prompt token (the first has none: 0) from either form of answer, or None if it has neither."""
    choice = data["choices"][0]
    if rows := choice.get("prompt_logprobs"):  # vLLM: per position {token id: {"logprob": ...}}
        return [
            0.0 if row is None else float(row[str(token)]["logprob"]) for row, token in zip(rows, ids, strict=False)
        ]
    values = (choice.get("logprobs") or {}).get("token_logprobs") or []
    if len(values) < len(ids):
        return None
    return [0.0 if v is None else float(v) for v in values[: len(ids)]]


def answer_logprobs(choice: Any) -> tuple[tuple[float, ...], tuple[str, ...]] | None:
    """(log-probabilities, texts) of the answer's tokens, from the form of chat or of raw completion."""
    found = choice.get("logprobs") or {}
    if rows := found.get("content"):
        return tuple(float(r["logprob"]) for r in rows), tuple(str(r["token"]) for r in rows)
    if values := found.get("token_logprobs"):
        texts = found.get("tokens") or []
        return tuple(float(v or 0.0) for v in values), tuple(map(str, texts))
    return None


def first_choices(choice: Any) -> list[dict[str, float]]:
    """For each token of an answer, the likeliest tokens and their log-probabilities; [] where there are none."""
    found = choice.get("logprobs") or {}
    if rows := found.get("content"):
        return [{str(t["token"]): float(t["logprob"]) for t in r.get("top_logprobs") or []} for r in rows]
    return [{str(k): float(v) for k, v in (row or {}).items()} for row in found.get("top_logprobs") or []]


def follows(schema: Any, value: Any) -> bool:
    """Is `value` of this JSON schema? Knows type, enum, properties, required, items and bounds: enough to see whether a
    server enforces a schema or ignores it."""
    kinds: dict[str, Any] = {
        "object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool,
        "null": type(None),
    }  # fmt: skip
    kind = schema.get("type")
    if kind in kinds and (not isinstance(value, kinds[kind]) or (isinstance(value, bool) and kind != "boolean")):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if isinstance(value, dict):
        known = schema.get("properties", {})
        return all(k in value for k in schema.get("required", ())) and all(
            follows(known[k], v) for k, v in value.items() if k in known
        )
    if isinstance(value, list):
        return all(follows(schema.get("items", {}), v) for v in value)
    if isinstance(value, int | float):
        return bool(schema.get("minimum", value) <= value <= schema.get("maximum", value))
    return True
