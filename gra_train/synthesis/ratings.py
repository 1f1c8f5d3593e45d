"""Reading reviews: the three flags of an instruction and the six scores of a response, tolerantly (see parsing)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from gra_train.records import CRITERIA, FLAGS
from gra_train.synthesis.echo import is_echo, refuse_echo, without_echoed_lines, without_echoes
from gra_train.synthesis.repair import LONGEST_FORM, Parsed, ParseError, as_json, between, in_form, plain, refuse

LOWEST, HIGHEST = 1, 10
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBER = rf"[-−]?\d+(?:[.,]\d+)?(?![\d%])|\b(?:{'|'.join(_WORDS)})\b"
_TRUE = {"1", "yes", "true", "pass", "passes", "passed", "ok", "✓", "✔", "✅", "met", "holds", "y"}
_FALSE = {"0", "no", "false", "fail", "fails", "failed", "not met", "✗", "✘", "❌", "n", "unclear"}
_FLAG_NAMES = ("reasonable(?:ness)?", "complete(?:ness)?", "clarity|clear(?:ness)?")
_CRITERION_NAMES = ("correctness", "clarity", "completeness", "relevance", "coherence", "ethicality|ethics|ethical")
_NUMBERS = re.compile(_NUMBER, re.IGNORECASE)
_OF_A_SCALE = re.compile(rf"({_NUMBER})[*_\s]*(?:/|out of|of)[*_\s]*({_NUMBER})", re.IGNORECASE)
_DIRECT = re.compile(
    rf"[\s:=|*_\"'(\[–—]*(?:-\s+)?(?:score|rating|is|gets)?[\s:=|*_\"'(\[–—]*({_NUMBER})", re.IGNORECASE
)
_ROW_OF_NUMBERS = re.compile(rf"[\[(]?\s*(?:(?:{_NUMBER})(?:\s*/\s*10)?[\s,;|]*)+[\])]?\.?", re.IGNORECASE)


@cache
def _label(names: tuple[str, ...]) -> re.Pattern[str]:
    """One of `names` as a label (see _sections); group 1 is the name as it stands there."""
    return re.compile(
        r"(?:^|[\n|,;{(\[]|\d[.)])[\s*_\"'>#•|+-]*+(?:\d+[.)]\s*+)?[\s*_\"']*+(" + "|".join(f"(?:{n})" for n in names)
        + rf")\b[\s*_\"']*(?:score|rating)?[\s*_\"']*(?=[:=|(\[–—✓✔✅✗✘❌-]|{_NUMBER}|(?:is|gets)\b)",
        re.IGNORECASE)  # fmt: skip


@cache
def _name(name: str) -> re.Pattern[str]:
    return re.compile(name, re.IGNORECASE)


def _sections(text: str, names: tuple[str, ...]) -> list[list[str]]:
    """For each name, the texts that follow its mentions *as a label*, each up to the next label.

    A label stands at the start of a line, cell or list item, or after a comma, and is followed by a colon, dash,
    bracket, bar or number.
    """
    marks = list(_label(names).finditer(text))
    found: list[list[str]] = [[] for _ in names]
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    for mark, end in zip(marks, ends, strict=False):
        section = text[mark.end() : end]
        position = next(i for i, n in enumerate(names) if _name(n).fullmatch(mark[1]))
        found[position].append(section)
    return found


def _integer(word: str) -> int:
    word = word.strip().lower().replace("−", "-").replace(",", ".")
    if word in _WORDS:
        return _WORDS.index(word)
    value = float(word)
    if value != int(value):
        raise ParseError("a score that is not an integer")
    return int(value)


def _score(section: str) -> int:
    """The number that a label's section gives: directly after it, or the one marked `n/10`, or the only one."""
    scale, direct, numbers = _OF_A_SCALE.search(section), _DIRECT.match(section), _NUMBERS.findall(section)
    if scale and (direct is None or direct.start(1) == scale.start(1)):
        if _integer(scale[2]) != HIGHEST:
            raise ParseError("a scale other than ten")
        return _integer(scale[1])
    if direct:
        return _integer(direct[1])
    if len(numbers) == 1:
        return _integer(numbers[0])
    raise ParseError("a criterion without a score" if not numbers else "several numbers for one criterion")


def _from_mapping(value: Any, names: Sequence[str]) -> list[Any] | None:
    """The values of `names` in a JSON object, which may hold them one level down ({"scores": {...}, "review": ...})."""
    if not isinstance(value, dict):
        return None
    keys = {str(k).strip().lower(): v for k, v in value.items()}
    found = [next((v for k, v in keys.items() if re.fullmatch(n, k)), None) for n in names]
    if any(v is not None for v in found):
        return [v.get("score", v.get("value")) if isinstance(v, dict) else v for v in found]
    inner = next((v for k, v in keys.items() if k in ("scores", "score", "ratings", "flags")), None)
    return inner if isinstance(inner, list) else _from_mapping(inner, names)


def _six(listed: Sequence[Any]) -> tuple[int, ...]:
    if None in listed or len(listed) != len(CRITERIA):
        raise ParseError(f"{sum(v is not None for v in listed)} scores, not six")
    return tuple(_score(str(v)) for v in listed)


def _in_range(values: tuple[int, ...]) -> tuple[int, ...]:
    if any(not LOWEST <= value <= HIGHEST for value in values):
        raise ParseError("a score outside 1 to 10")
    return values


def scored_of(value: dict[str, Any]) -> tuple[tuple[int, ...], str]:
    """Six scores and a text from a JSON object (keys in lower case) that has them in whatever types and depth."""
    values = _in_range(_six(_from_mapping(value, _CRITERION_NAMES) or []))
    said = next((value[name] for name in _REVIEW_NAMES if isinstance(value.get(name), str)), "")
    return values, " ".join(plain(said).split())


def flags_of(value: dict[str, Any]) -> tuple[int, ...]:
    """Three flags from a JSON object (keys in lower case)."""
    return _three(_from_mapping(value, _FLAG_NAMES) or [])


def _scores(content: str, *, bare: bool) -> tuple[int, ...]:
    """Six scores. bare: the text is not known to hold nothing but scores, so a list of numbers must stand alone."""
    value = as_json(content)
    listed = value if isinstance(value, list) else _from_mapping(value, _CRITERION_NAMES)
    if listed is not None and all(isinstance(v, int | float | str) or v is None for v in listed):
        return _six(listed)
    sections = _sections(content, _CRITERION_NAMES)
    if any(sections):
        if missing := sum(not s for s in sections):
            raise ParseError(f"{len(CRITERIA) - missing} scores, not six")
        read = [{_score(text) for text in texts} for texts in sections]
        if any(len(values) > 1 for values in read):
            raise ParseError("two scores for one criterion")
        return tuple(values.pop() for values in read)
    lines = [part for part in content.splitlines() if _ROW_OF_NUMBERS.fullmatch(plain(part))] if bare else [content]
    if bare and len(lines) != 1:
        raise ParseError("no scores")
    numbers = _NUMBERS.findall(re.sub(r"/\s*10\b", "", lines[0]))
    if len(numbers) != len(CRITERIA):
        raise ParseError(f"{len(numbers)} scores, not six" if numbers else "no scores")
    return tuple(_integer(number) for number in numbers)


_REVIEW_NAMES = ("review", "comment", "feedback", "reason", "explanation", "justification")
_REVIEW_LABEL = re.compile(
    rf"(?:^|\n)[\s*_#]*(?:short |brief |overall )?(?:{'|'.join(_REVIEW_NAMES)})s?[\s*_]*[:：]\s*(.+)",
    re.IGNORECASE | re.DOTALL,
)
_ASIDE = re.compile(r"<\s*(analysis|review)\s*>.*?<\s*/\s*\1\s*>", re.DOTALL | re.IGNORECASE)
_OPEN_ASIDE = re.compile(r"<\s*(analysis|review)\s*>.*?(?:<\s*/\s*\1\s*>|$)", re.DOTALL | re.IGNORECASE)


def _review_text(text: str) -> str | None:
    found = between(text, "review")
    if found is not None:
        return found.value
    value = as_json(text) if "{" in text else None
    if isinstance(value, dict):
        given = {str(k).lower(): v for k, v in value.items() if isinstance(v, str)}
        if named := [given[name] for name in _REVIEW_NAMES if name in given]:
            return named[0]
    match = _REVIEW_LABEL.search(text)
    return match[1] if match else None


_AS_ASKED = re.compile(
    r"\s*(?:<analysis>[^<>{}]*</analysis>\s*)?"
    r"(<scores>\s*" + "\n".join(f"{name}: (10|[1-9])" for name in CRITERIA) + r"\s*</scores>)\s*"
    r"<review>((?:(?!\W{21})[^<>{}])*)</review>\s*"
)


def _as_asked(text: str, shown: str) -> Parsed[tuple[tuple[int, ...], str]] | None:
    """What `scored` makes of an answer in exactly the form that was asked for, without looking for anything else in it.
    None where it is not so plain."""
    match = _AS_ASKED.fullmatch(text) if len(text) <= LONGEST_FORM else None
    if match is None or (shown and is_echo(match[1], shown)):
        return None
    return Parsed((tuple(int(score) for score in match.groups()[1:-1]), " ".join(plain(match[8]).split())))


def scored(text: str, *, shown: str = "") -> Parsed[tuple[tuple[int, ...], str]]:
    """Six integers from 1 to 10 in the order of CRITERIA, and a short text, which may be missing (prompts 8 and 9).

    shown: the material under review. Scores that stand in it are not the reviewer's, nor are those inside a review.
    """
    if at_once := _as_asked(text, shown):
        return at_once
    text = without_echoes(in_form(text), "scores", shown)
    outside = _ASIDE.sub("", text)
    found = between(outside, "scores") or between(text, "scores")
    review = _review_text(text)
    if found is None:
        refuse(text)
        body = _OPEN_ASIDE.sub("", text)
        refuse_echo(body, CRITERIA, shown)
        values = _scores(without_echoed_lines(body, shown), bare=True)
    elif found.repaired and shown and is_echo(found.value, shown):
        raise ParseError("only what it was shown")
    else:
        values = _scores(found.value, bare=False)
    values = _in_range(values)
    asked = "\n".join(f"{name}: {value}" for name, value in zip(CRITERIA, values, strict=True))
    reason = between(text, "review")
    strict = found == Parsed(asked) and reason is not None and not reason.repaired
    return Parsed((values, " ".join(plain(review or "").split())), not strict)


_BARE_FLAGS = re.compile(
    r"^\W*((?:(?:\d+|yes|no|true|false)[ ,;/]+)+(?:\d+|yes|no|true|false))\W*$", re.IGNORECASE | re.MULTILINE
)


_FLAG = re.compile(r"[\s:=|*_\"'(\[–—-]*(\d+(?:[./]\d+)?|not met|[a-z]+|[✓✔✅✗✘❌])", re.IGNORECASE)


def _flag(section: str) -> int:
    match = _FLAG.match(section)
    word = match[1].lower().removesuffix("/1").removesuffix(".0") if match else ""
    if word in _TRUE or word in _FALSE:
        return int(word in _TRUE)
    raise ParseError("a flag that is neither 0 nor 1" if word else "a criterion without a flag")


def _flags(content: str, *, bare: bool) -> tuple[int, ...]:
    value = as_json(content)
    listed = value if isinstance(value, list) else _from_mapping(value, _FLAG_NAMES)
    if listed is None:
        sections = _sections(content, _FLAG_NAMES)
        if any(sections):
            if missing := sum(not s for s in sections):
                raise ParseError(f"{len(FLAGS) - missing} flags, not three")
            read = [{_flag(text) for text in texts} for texts in sections]
            if any(len(values) > 1 for values in read):
                raise ParseError("two flags for one criterion")
            return tuple(values.pop() for values in read)
        if bare:
            lists = re.findall(r"\[[^\[\]]*\]", content) or _BARE_FLAGS.findall(content)
            if len({" ".join(part.split()) for part in lists}) > 1:
                raise ParseError("several lists of flags")
            content = lists[0] if lists else ""
        listed = [part for part in re.split(r"[\s,;/|]+", plain(content).strip("[]() .")) if part]
    return _three(listed)


def _three(listed: Sequence[Any]) -> tuple[int, ...]:
    if None in listed or len(listed) != len(FLAGS):
        count = sum(v is not None for v in listed)
        raise ParseError(f"{count} flags, not three" if count else "no flags")
    if any(isinstance(v, int | float) and v not in (0, 1) for v in listed):
        raise ParseError("a flag that is neither 0 nor 1")
    return tuple(_flag(str(int(v) if isinstance(v, bool) else v).strip()) for v in listed)


def flags(text: str, *, shown: str = "") -> Parsed[tuple[int, ...]]:
    """Three flags, 0 or 1, in the order of FLAGS (prompt 6). shown: the instruction under review, as in `scored`."""
    text = without_echoes(in_form(text), "flags", shown)
    found = between(text, "flags")
    if found is None:
        refuse(text)
    values = _flags(found.value if found else without_echoed_lines(text, shown), bare=found is None)
    return Parsed(values, found is None or found.repaired or found.value != str(list(values)))
