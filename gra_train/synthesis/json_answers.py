"""Reading the answers of the `json` family: by the schema first, repaired second (counted), else ParseError.

- strict: the answer is one JSON object, exactly as the schema has it;
- repaired: that object stands in prose or fences, has other types ("9/10") or more keys, or needs mending
  (json_repair); or the model answered in another form, which the `tags` parsers read.
Of several objects that differ none is taken. Prose that ends inside its string is not taken: it was cut.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from gra_train.records import CRITERIA, DOMAINS, FLAGS
from gra_train.synthesis import parsing, ratings
from gra_train.synthesis.echo import refuse_echo, without_echoes
from gra_train.synthesis.repair import Parsed, ParseError, in_form, mended, objects, refuse, without_thinking

Scored = tuple[tuple[int, ...], str]
Reader = Callable[[dict[str, Any]], Any]


def _read(
    text: str, keys: Sequence[str], *, exact: Reader, loose: Reader, other: Callable[[str], Parsed[Any]],
    prose: bool = False, shown: str = "",
) -> Parsed[Any]:  # fmt: skip
    """exact: the value of an object that has `keys` and nothing else, or None; loose: of one that may be otherwise.

    other: the reader of answers in which no such object stands. prose: the value is text, which may have been cut.
    """
    body = without_echoes((without_thinking if prose else in_form)(text), "scores", shown)
    try:
        whole = json.loads(body)
    except (ValueError, RecursionError):
        whole = None
    if isinstance(whole, dict) and set(whole) == set(keys) and (value := exact(whole)) is not None:
        return Parsed(value)
    asked = re.compile(rf"[{{,]\s*[\"'“]?(?:{'|'.join(keys)})[\"'”]?\s*:", re.IGNORECASE)
    start = asked.search(body)
    standing = [(value, passage) for value, passage in objects(body) if asked.search(passage)]
    if start and standing and body.find(standing[0][1]) > start.start():
        standing = []  # they stand inside an object that is broken
    found = [value for value, _ in standing]
    if not found and start:
        refuse_echo(body, keys, shown)
        if prose and not body.rstrip("`}, \n").endswith(('"', "'", "”")):
            raise ParseError("cut in the middle")
        found = mended(body[body.find("{", start.start()) :] if body[start.start()] == "{" else body)
        if not found:
            raise ParseError("broken JSON")
    if not found:
        return replace(other(body), repaired=True)
    values = [loose(_unwrapped(one, keys)) for one in found]
    if any(value != values[0] for value in values):
        raise ParseError("several answers that differ")
    return Parsed(values[0], True)


def _unwrapped(value: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """The object with its keys in lower case; that inside it where it only wraps one ({"answer": {...}})."""
    lowered = {str(k).strip().lower(): v for k, v in value.items()}
    inner = [v for v in lowered.values() if isinstance(v, dict)]
    return _unwrapped(inner[0], keys) if len(inner) == len(lowered) == 1 and not lowered.keys() & {*keys} else lowered


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ParseError("empty answer" if value in ("", None) else "no text where text was asked for")
    return value.strip()


def _prose(text: str, key: str, check: Callable[[str], str | None], other: Callable[[str], Parsed[str]]) -> Parsed[str]:
    """check: the text as it is to be used, or None where only `other` can say."""

    def exact(value: dict[str, Any]) -> str | None:
        return check(value[key]) if isinstance(value[key], str) and value[key].strip() else None

    def loose(value: dict[str, Any]) -> str:
        said = _text(value.get(key))
        return checked if (checked := check(said)) is not None else other(said).value

    return _read(text, [key], exact=exact, loose=loose, other=other, prose=True)


def domain(text: str) -> Parsed[str]:
    """{"domain": one of the seven} (prompt 1)."""
    return _read(
        text, ["domain"],
        exact=lambda v: v["domain"] if v["domain"] in DOMAINS else None,
        loose=lambda v: parsing.domain(_text(v.get("domain"))).value,
        other=parsing.domain,
    )  # fmt: skip


def summary(text: str) -> Parsed[str]:
    """{"summary": at most 30 words} (prompt 2)."""

    def check(said: str) -> str | None:
        return said if said == " ".join(said.split()) and len(said.split()) <= parsing.MAX_SUMMARY_WORDS else None

    parsed = _prose(text, "summary", check, parsing.summary)
    refuse(parsed.value, tagged=True)
    return parsed


def instruction(text: str) -> Parsed[str]:
    """{"instruction": text} (prompt 5)."""
    parsed = _prose(text, "instruction", str.strip, parsing.instruction)
    refuse(parsed.value, tagged=True)
    if len(parsed.value.split()) < 2:
        raise ParseError("too short for an instruction")
    return parsed


def response(text: str) -> Parsed[str]:
    """{"response": text} (prompt 7)."""
    return _prose(text, "response", str.strip, parsing.response)


def keywords(text: str) -> Parsed[tuple[str, ...]]:
    """{"keywords": one to three} (prompt 3)."""

    def exact(value: dict[str, Any]) -> tuple[str, ...] | None:
        return _words(value["keywords"])

    def loose(value: dict[str, Any]) -> tuple[str, ...]:
        return parsing.keywords(json.dumps({"keywords": value.get("keywords")}, ensure_ascii=False)).value

    return _read(text, ["keywords"], exact=exact, loose=loose, other=parsing.keywords)


def new_keywords(text: str, *, domain: str = "", taken: Iterable[Sequence[str]] = ()) -> Parsed[tuple[str, ...]]:
    """{"domain": the one asked for, "keywords": three} (prompt 4), not the set of an example."""
    taken = list(taken)

    def exact(value: dict[str, Any]) -> tuple[str, ...] | None:
        words = _words(value["keywords"])
        return words if words and len(words) == parsing.MAX_KEYWORDS and value["domain"] == domain else None

    def loose(value: dict[str, Any]) -> tuple[str, ...]:
        asked = {"domain": value.get("domain") or "", "keywords": value.get("keywords")}
        return parsing.new_keywords(json.dumps(asked, ensure_ascii=False), domain=domain, taken=taken).value

    def other(said: str) -> Parsed[tuple[str, ...]]:
        return parsing.new_keywords(said, domain=domain, taken=taken)

    parsed = _read(text, ["domain", "keywords"], exact=exact, loose=loose, other=other)
    parsing.check_new(parsed.value, taken)
    return parsed


def _words(value: Any) -> tuple[str, ...] | None:
    """One to three different short keywords as they stand, or None."""
    if not isinstance(value, list) or not all(isinstance(w, str) and w and w == w.strip() for w in value):
        return None
    fits = 1 <= len(value) <= parsing.MAX_KEYWORDS and all(len(w.split()) <= parsing.MAX_KEYWORD_WORDS for w in value)
    return tuple(value) if fits and len({w.casefold() for w in value}) == len(value) else None


def flags(text: str, *, shown: str = "") -> Parsed[tuple[int, ...]]:
    """{"reasonableness": 0 or 1, "completeness": ..., "clarity": ...} (prompt 6)."""

    def exact(value: dict[str, Any]) -> tuple[int, ...] | None:
        found = tuple(value[name] for name in FLAGS)
        return found if all(type(f) is int and f in (0, 1) for f in found) else None

    return _read(text, FLAGS, exact=exact, loose=ratings.flags_of, other=lambda t: ratings.flags(t, shown=shown),
                 shown=shown)  # fmt: skip


def scored(text: str, *, shown: str = "", analysed: bool = False) -> Parsed[Scored]:
    """{"correctness": 1 to 10, ..., "review": text} (prompt 8); analysed: with "analysis" before it (prompt 9)."""

    def exact(value: dict[str, Any]) -> Scored | None:
        found = tuple(value[name] for name in CRITERIA)
        fits = all(type(s) is int and ratings.LOWEST <= s <= ratings.HIGHEST for s in found)
        return (found, " ".join(value["review"].split())) if fits and isinstance(value["review"], str) else None

    keys = (*["analysis"] * analysed, *CRITERIA, "review")
    return _read(text, keys, exact=exact, loose=ratings.scored_of, other=lambda t: ratings.scored(t, shown=shown),
                 shown=shown)  # fmt: skip
