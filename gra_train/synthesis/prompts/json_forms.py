"""The prompt family `json`: answers as JSON objects, each by a schema that goes out with the request.

A server that holds models to `response_format: json_schema` cannot be answered in another form; for one that ignores it
the prompt says the form too, and the parsers mend what comes back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from gra_train.records import CRITERIA, DOMAINS, FLAGS
from gra_train.synthesis import json_answers
from gra_train.synthesis.parsing import MAX_KEYWORDS
from gra_train.synthesis.prompts import Scored
from gra_train.synthesis.prompts.paper import Form
from gra_train.synthesis.ratings import HIGHEST, LOWEST


def _schema(**properties: dict[str, Any]) -> str:
    """The schema of an object with all of these properties, in this order, and no others; canonical JSON text."""
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return json.dumps(schema, ensure_ascii=False, separators=(",", ":"))


def _write(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)


def _write_one(name: str, value: str) -> str:
    return _write({name: value})


def _write_keywords(words: Sequence[str], *, domain: str = "") -> str:
    return _write(({"domain": domain} if domain else {}) | {"keywords": list(words)})


def _write_flags(flags: Sequence[int]) -> str:
    return _write(dict(zip(FLAGS, flags, strict=True)))


def _write_scored(scored: Scored, *, analysed: bool = False) -> str:
    scores = dict(zip(CRITERIA, scored[0], strict=True))
    return _write(({"analysis": scored[1]} if analysed else {}) | scores | {"review": scored[1]})


_TEXT = {"type": "string"}
_DOMAIN = {"type": "string", "enum": list(DOMAINS)}
_FLAG = {"type": "integer", "enum": [0, 1]}
_SCORE = {"type": "integer", "enum": list(range(LOWEST, HIGHEST + 1))}


def _keywords(least: int) -> dict[str, Any]:
    return {"type": "array", "items": _TEXT, "minItems": least, "maxItems": MAX_KEYWORDS}


_SCORES: dict[str, Any] = {**dict.fromkeys(CRITERIA, _SCORE), "review": _TEXT}
_SHOWN_SCORES = (
    ", ".join(f'"{name}": integer' for name in CRITERIA) + ', "review": "your reasons in fewer than 30 words"'
)


def _object(inside: str) -> str:
    return f"One JSON object and nothing else:\n{{{inside}}}"


FORMS: dict[str, Form] = {
    "domain": Form(
        _object(f'"domain": "one of: {", ".join(DOMAINS)}"'), json_answers.domain, partial(_write_one, "domain"),
        _schema(domain=_DOMAIN),
    ),
    "summary": Form(
        _object('"summary": "your sentence"'), json_answers.summary, partial(_write_one, "summary"),
        _schema(summary=_TEXT),
    ),
    "keywords": Form(
        _object('"keywords": ["first", "second", "third"]'), json_answers.keywords, _write_keywords,
        _schema(keywords=_keywords(1)),
    ),
    "new_keywords": Form(
        _object('"domain": "the domain that was given", "keywords": ["concrete", "concrete", "abstract"]'),
        json_answers.new_keywords, _write_keywords,
        _schema(domain=_DOMAIN, keywords=_keywords(MAX_KEYWORDS)),
    ),
    "instruction": Form(
        _object('"instruction": "the whole instruction"'), json_answers.instruction, partial(_write_one, "instruction"),
        _schema(instruction=_TEXT),
    ),
    "instruction_review": Form(
        _object(", ".join(f'"{name}": 0 or 1' for name in FLAGS)), json_answers.flags, _write_flags,
        _schema(**dict.fromkeys(FLAGS, _FLAG)),
    ),
    "response": Form(
        _object('"response": "the whole answer"'), json_answers.response, partial(_write_one, "response"),
        _schema(response=_TEXT),
    ),
    "response_review": Form(
        _object(_SHOWN_SCORES), json_answers.scored, _write_scored, _schema(**_SCORES)
    ),
    "adjudication": Form(
        _object(f'"analysis": "what each reviewer has right and wrong", {_SHOWN_SCORES}'),
        partial(json_answers.scored, analysed=True), partial(_write_scored, analysed=True),
        _schema(analysis=_TEXT, **_SCORES),
    ),
}  # fmt: skip
