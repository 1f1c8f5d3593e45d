"""Finding an answer in what a model wrote: tags, JSON, fences, reasoning, refusals, politeness. Used by all parsers."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from itertools import islice
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class ParseError(ValueError):
    """An answer that cannot be used. `reason` is short and free of the answer's text, so that it can be counted."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Parsed(Generic[T]):
    """A value read from an answer; repaired: the answer was not in the asked form."""

    value: T
    repaired: bool = False


_OWN_TAG = re.compile(
    r"<\s*/?\s*(?:domain|summary|keywords|instruction|flags|response|scores|review)\s*>", re.IGNORECASE
)


_THINKING = re.compile(r"<(/?)(think|thinking|reasoning)>", re.IGNORECASE)
_STILL_THINKING = re.compile(r"<(?:think|thinking|reasoning)>", re.IGNORECASE)
_ENDLESS_ROW = re.compile(r"([^\w]{1,4}?)\1{20,}")
_LONG_ROW = re.compile(r"\W{21}")  # what every endless row holds, and quickly looked for: nearly no answer does
_FENCE = re.compile(r"^\s*```[\w-]*\n?|\n?```\s*$")
_EMPHASIS = re.compile(r"\*\*|__|^#+\s*|`", re.MULTILINE)
LONGEST, LONGEST_FORM = 1_000_000, 30_000
"""Characters of prose, and of an answer in a fixed form, beyond which nothing is read: models are not always sane."""


def without_thinking(text: str) -> str:
    """The answer after the model's reasoning. Raises ParseError where the reasoning never ends."""
    kept, place, opened = [], 0, None
    for mark in _THINKING.finditer(text):
        if not mark[1]:
            opened = opened or mark
            continue
        if opened and opened[2].lower() == mark[2].lower():
            kept.append(text[place : opened.start()])
        else:  # some chat templates open the block themselves, so that the answer begins inside it
            kept.clear()
        place, opened = mark.end(), None
    text = "".join([*kept, text[place:]]).strip()
    if _STILL_THINKING.match(text):
        raise ParseError("reasoning without an end")
    if not text:
        raise ParseError("empty answer")
    if len(text) > LONGEST:
        raise ParseError("far too long")
    return text


def in_form(text: str) -> str:
    """The answer after the reasoning, where a fixed form is asked for; endless rows of signs are shortened."""
    text = without_thinking(text)
    if _LONG_ROW.search(text):
        text = _ENDLESS_ROW.sub(lambda row: row[1] * 20, text)
    if len(text) > LONGEST_FORM:
        raise ParseError("far too long")
    return text


@cache
def _marks(tag: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """`<tag>` and `</tag>`, with white space in them. Kept: every answer is read by them."""
    return re.compile(rf"<\s*{tag}\s*>", re.IGNORECASE), re.compile(rf"<\s*/\s*{tag}\s*>", re.IGNORECASE)


def between(text: str, tag: str, *, free_text: bool = False) -> Parsed[str] | None:
    """What stands between `<tag>` and `</tag>`, or None where there is neither.

    free_text: the content may itself speak of the tag (a lesson on XML), so it reaches to the *last* closing tag.
    Of several blocks the last counts (a draft comes before its final form); that, and a missing tag, is a repair.
    """
    opening, closing = (list(mark.finditer(text)) for mark in _marks(tag))
    if len(opening) > 1 and not text[opening[-1].end() :].strip():  # `<tag>text<tag>`: the slash was forgotten
        closing.append(opening.pop())
    if not opening and not closing:
        return None
    if not opening:
        return Parsed(text[: closing[0].start()].strip(), True)
    start = opening[-1]
    ends = [c for c in closing if c.start() >= start.end()]
    if not ends:
        rest = text[start.end() :]
        if (last := re.search(r"</\s*(\w+)\s*>\s*$", rest)) and get_close_matches(last[1].lower(), [tag], cutoff=0.7):
            rest = rest[: last.start()]  # </summery>
        return Parsed((rest if free_text else _OWN_TAG.split(rest)[0]).strip(), True)
    end = ends[-1] if free_text and len(opening) == 1 else ends[0]
    asked = start[0].lower() == f"<{tag}>" and end[0].lower() == f"</{tag}>" and len(opening) == 1
    return Parsed(text[start.end() : end.start()].strip(), not asked)


def as_json(text: str) -> Any:
    """The JSON object or list in `text` (fenced or not, slightly broken or not), or None."""
    brace, bracket, last = text.find("{"), text.find("["), text.rfind("]")
    if last > bracket >= 0 and (brace < 0 or bracket < brace):
        passage = text[bracket : last + 1]
    elif brace >= 0:
        last = text.rfind("}")
        passage = text[brace : last + 1] if last > brace else text[brace:]
    else:
        return None
    try:
        return json.loads(passage)
    except (ValueError, RecursionError):
        if len(passage) > LONGEST_FORM or not re.search(r"""["'][^"'\n]*["']\s{0,9}[:,\]]""", passage):
            return None
        import json_repair

        try:
            value = json_repair.loads(passage)
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict | list) and value else None


_MOST_STARTS = 200  # hostile text may be all braces


def objects(text: str) -> list[tuple[dict[str, Any], str]]:
    """The JSON objects that stand whole in `text`, outermost ones only, in their order, each with its passage."""
    decoder, found, end = json.JSONDecoder(strict=False), [], 0
    for start in islice(re.finditer(r'\{\s*["}]', text), _MOST_STARTS):
        if start.start() < end:
            continue
        try:
            value, end = decoder.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            continue
        found.append((value, text[start.start() : end]))
    return found


def mended(text: str) -> list[dict[str, Any]]:
    """The objects that json_repair finds in `text`; [] where it finds none."""
    import json_repair

    if len(text) > LONGEST_FORM:
        raise ParseError("too long to be mended")
    try:
        value = json_repair.loads(text)
    except (ValueError, RecursionError):
        return []
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, dict) and one]


def field(text: str, names: Sequence[str]) -> Any:
    """The value of the first of `names` in a JSON object in `text`, or None."""
    value = as_json(text)
    if not isinstance(value, dict):
        return None
    lowered = {str(k).lower().replace("_", " "): v for k, v in value.items()}
    return next((lowered[name] for name in names if name in lowered), None)


def plain(text: str) -> str:
    """One line or block without fences, bold type, headings and quotes around it."""
    text = _EMPHASIS.sub("", _FENCE.sub("", text.strip()))
    return text.strip().strip("\"'“”‘’«»").strip()


_REFUSAL = re.compile(
    r"^\W*(?:(?:i\s*[’']?\s*a?m|we are)\s+(?:very\s+|really\s+|so\s+)?(?:sorry|unable|afraid|not able)"
    r"|sorry\b|apologies|my apologies|i apologi[sz]e|(?:unfortunately|regrettably),?\s+(?:i|we|as)\b"
    r"|i (?:can\s?not|can[’']?t|won[’']?t|will not|must decline|do not feel|don[’']?t feel)\b"
    r"|as an? (?:ai|large language|language|artificial)|it (?:would|is) not (?:be )?appropriate)",
    re.IGNORECASE,
)

_UNWILLING = re.compile(r"\b(?:can(?:not|[’']?t)|unable|not able|won[’']?t|will not|decline)\b", re.IGNORECASE)


def refuse(text: str, *, tagged: bool = False) -> None:
    """Raises ParseError where the model declines to answer.

    tagged: the text stood between tags, so that "I'm sorry" may be content: only if it says soon that it will not.
    """
    text = text.strip()
    if _REFUSAL.match(text) and (not tagged or _UNWILLING.search(text[:150])):
        raise ParseError("refusal")


_INTERJECTION = r"(?:sure|certainly|of course|okay|ok|great|absolutely|no problem|understood|got it|alright|gladly)\b"
_OUTPUT = r"(?:instruction|task|prompt|question|answer|response|solution|summary|abstract|key\s?words?)s?\b"
_PREAMBLE = re.compile(
    rf"(?:{_INTERJECTION}[^\n]{{0,200}}?:"
    rf"|(?:here|below|the following)\b[^\n:]{{0,100}}{_OUTPUT}[^\n:]{{0,100}}:)[*_ ]*\n+(?=\S)"
    rf"|(?:{_INTERJECTION}[^\n:]{{0,80}}:"
    rf"|here(?:['’]s| is| are)[^\n:]{{0,40}}{_OUTPUT}[^\n:]{{0,40}}:)\s*(?=\S)",
    re.IGNORECASE,
)


def unlabelled(text: str, labels: str) -> str:
    """`text` without a preamble ("Sure! Here is ...:") and without a label ("**Summary:**") before it.

    A sentence that ends in a colon is a preamble only if it opens with an interjection or names what was asked for:
    "Given the following text, count its nouns:" is part of an instruction.
    """
    text = text.strip()
    if preamble := _PREAMBLE.match(text):
        text = text[preamble.end() :]
    label = re.match(
        rf"[#*_\s>\"-]*(?:{labels})(?:\s*\([^)\n]*\))?\s*(?:[*_\"]*\s*[:：]\s*[*_]*|[*_]+\s*\n|\n)\s*",
        text,
        re.IGNORECASE,
    )
    return text[label.end() :] if label and label.end() < len(text) else text


_LONGEST_EPILOGUE = 2000
_EPILOGUE = re.compile(
    r"\n[^\S\n]*\n\s*+(?:---+\s*+)?\W{0,3}(?:let me know|i hope|hope this|feel free|if you (?:need|want|would|have)"
    r"|please let|would you like|note:|\(?note that this|\(?this (?:instruction|task|summary|prompt))"
    r"[^\n]*(?:\n[^\n]+)*\s*$",
    re.IGNORECASE,
)


def without_epilogue(text: str) -> str:
    """`text` without a last paragraph that speaks to the person who asked."""
    text = text.strip()
    return (text[:-_LONGEST_EPILOGUE] + _EPILOGUE.sub("", text[-_LONGEST_EPILOGUE:])).strip()


def free_text(text: str, tag: str, labels: str) -> Parsed[str]:
    """A piece of prose or code: tagged, in JSON, or bare with whatever politeness surrounds it."""
    text = without_thinking(text)
    found = between(text, tag, free_text=True)
    if found is not None:
        if not found.value:
            raise ParseError("empty answer")
        return found
    value = field(text, (tag, "text", "answer", "output")) if re.match(r"\W*(?:json\s*)?\{", text) else None
    if isinstance(value, str) and value.strip():
        return Parsed(value.strip(), True)
    refuse(text)
    bare = without_epilogue(unlabelled(text, labels))
    fenced = re.fullmatch(r"```[\w-]*\n(.*?)\n?```", bare, re.DOTALL)
    if fenced and "```" not in fenced[1] and not re.match(r"```(?!text|markdown|plain|xml|html)\w", bare):
        bare = fenced[1].strip()
    if not bare or re.fullmatch(r"\W*", bare):
        raise ParseError("empty answer")
    return Parsed(bare, True)
