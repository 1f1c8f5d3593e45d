"""Reading what models write: one tolerant parser per output format (domain, summary, keywords, instruction, response).

Strict first: the answer stands between its tags, exactly once, in the asked form. Else it is *repaired* where its
meaning is beyond doubt (a missing closing tag, JSON in place of tags, a preamble, bold type, a numbered list), and
counted as such. What would need guessing raises ParseError with a short reason: the call is then tried again.
Reasoning in `<think>` is not part of an answer. Scores and flags are in `ratings`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from gra_train.records import DOMAINS
from gra_train.synthesis.repair import (
    Parsed,
    ParseError,
    as_json,
    between,
    field,
    free_text,
    in_form,
    plain,
    refuse,
    unlabelled,
    without_epilogue,
)

MAX_SUMMARY_WORDS = 30
MAX_KEYWORDS = 3
MAX_KEYWORD_WORDS = 8

_ALIASES = {
    "coding": "Coding", "code": "Coding", "programming": "Coding", "math": "Math", "maths": "Math",
    "mathematics": "Math", "qa": "QA", "q&a": "QA", "question answering": "QA", "reasoning": "Reasoning",
    "logical reasoning": "Reasoning", "role play": "Role Play", "roleplay": "Role Play", "role playing": "Role Play",
    "roleplaying": "Role Play", "language": "Language", "creation": "Creation",
}  # fmt: skip
_NAMED = re.compile(
    r"(?<![\w-])(coding|programming|math(?:s|ematics)?|QA|Q&A|question[\s-]answering|(?:logical )?reasoning"
    r"|role[\s-]?play(?:ing)?|language|creation)(?![\w-])",
    re.IGNORECASE,
)
_SAID = re.compile(
    r"(?:domain|category|answer|class(?:ification)?|belongs to|falls (?:under|in|into)|fits (?:best )?(?:in|into)"
    r"|choose|pick|label)\W+(?:(?:is|that|this|of|the|domain|category|would|be|best|most|in|as|under)\W+){0,5}"
    r"[\"'*`\[(]*" + _NAMED.pattern,
    re.IGNORECASE,
)


def _domain_name(word: str) -> str | None:
    return _ALIASES.get(re.sub(r"[\s-]+", " ", word.strip().lower().rstrip(".")))


def domain(text: str) -> Parsed[str]:
    """One of the seven domains (prompt 1)."""
    text = in_form(text)
    found = between(text, "domain")
    content = found.value if found else text
    if found and not found.repaired and content in DOMAINS:
        return Parsed(content)
    value = field(content, ("domain", "category", "label", "answer"))
    if isinstance(value, str):
        content = value
    if (name := _domain_name(plain(content))) is not None:
        return Parsed(name, True)
    if found is None:
        refuse(text)
    named = {_domain_name(m[1]) for m in _NAMED.finditer(content)}
    if len(named) == 1:
        return Parsed(str(named.pop()), True)
    said = {_domain_name(m[1]) for m in _SAID.finditer(content)}
    if len(said) == 1:
        return Parsed(str(said.pop()), True)
    raise ParseError("several domains" if named else "none of the seven domains")


def summary(text: str) -> Parsed[str]:
    """One sentence of at most 30 words (prompt 2); of a longer answer the first sentence, if that is short enough."""
    parsed = free_text(text, "summary", "summary|abstract|tl;?dr|one-sentence summary")
    value = " ".join(plain(parsed.value).split())
    repaired = parsed.repaired or value != parsed.value
    if len(value.split()) <= MAX_SUMMARY_WORDS:
        return Parsed(value, repaired)
    first = re.split(r"(?<=[.!?])\s+(?=[A-Z\"“])", value)[0]
    if len(first.split()) <= MAX_SUMMARY_WORDS:
        return Parsed(first, True)
    raise ParseError("more than 30 words")


def _items(content: str) -> list[str]:
    """The entries of a list, however it is written: JSON, bullets, numbers, semicolons, commas, lines."""
    value = as_json(content) if content.lstrip("`json \n").startswith(("[", "{")) else None
    if isinstance(value, dict):
        value = next((v for k, v in value.items() if str(k).lower() == "keywords"), list(value.values()))
    if isinstance(value, str):
        content, value = value, None
    if isinstance(value, list):
        return [str(v.get("keyword", v) if isinstance(v, dict) else v) for v in value]
    content = plain(content).strip("[]").strip()
    lines = [line for line in content.splitlines() if line.strip()]
    if len(lines) == 1 and len(inline := re.split(r"(?:^|\s)\(?\d[.)]\s+", content)) > 2:
        return [part for part in inline if part.strip()]
    marked = [line for line in lines if re.match(r"\s*(?:[-*•–+]|\(?\d+[.):])\s*\S", line)]
    if len(marked) >= 2 or (marked and len(marked) == len(lines)):
        return marked
    if len(lines) > 1 and not any("," in line or ";" in line for line in lines):
        return lines
    separator = ";" if ";" in content else "," if "," in content else "|" if "|" in content else "\n"
    return content.replace("\n", separator).split(separator)


def _keyword(item: str) -> str:
    item = re.sub(r"^\s*(?:[-*•–+]|\(?\d+[.):])\s*", "", item)
    item = re.sub(
        r"\((?:abstract|concrete)[^)]*\)|^(?:abstract|concrete)(?: \w+)?\s*:|\s[-–:]\s.*$|:\s.*$",
        "",
        plain(item),
        flags=re.IGNORECASE,
    )
    item = re.sub(r"^(?:and|keyword \d\W*)\s+", "", item.strip(), flags=re.IGNORECASE)
    return " ".join(item.strip(" \t\"'“”‘’.,;#").split())


def _keyword_tuple(content: str) -> tuple[str, ...]:
    words = tuple(word for item in _items(content) if (word := _keyword(item)))
    if not words:
        raise ParseError("no keywords")
    if any(len(word.split()) > MAX_KEYWORD_WORDS for word in words):
        raise ParseError("sentences in place of keywords")
    first: dict[str, str] = {}
    for word in words:
        first.setdefault(word.casefold(), word)
    return tuple(first.values())


def keywords(text: str) -> Parsed[tuple[str, ...]]:
    """One to three keywords (prompt 3)."""
    text = in_form(text)
    found = between(text, "keywords")
    if found is None:
        refuse(text)
        content = without_epilogue(unlabelled(text, "(?:the )?key\\s?words?(?: are)?"))
    else:
        content = found.value
    words = _keyword_tuple(content)
    if len(words) > MAX_KEYWORDS:
        raise ParseError("more than three keywords")
    return Parsed(words, found is None or found.repaired or ", ".join(words) != content)


def new_keywords(text: str, *, domain: str = "", taken: Iterable[Sequence[str]] = ()) -> Parsed[tuple[str, ...]]:
    """Three different keywords (prompt 4), not the set of an example; a domain other than the asked one is an error.

    That exactly one is abstract cannot be checked here: the prompt asks for it, in the last place.
    """
    body = in_form(text)
    stated = between(body, "domain")
    if stated is not None:
        body = re.sub(r"<\s*domain\s*>.*?<\s*/\s*domain\s*>", "", body, flags=re.DOTALL | re.IGNORECASE)
    named = stated.value if stated else field(body, ("domain",))
    if domain and isinstance(named, str) and _domain_name(plain(named)) not in (None, _domain_name(domain)):
        raise ParseError("another domain than asked for")
    body = re.sub(r"^[\s*#_]*domain[\s*_]*:[^\n]*\n", "", body, flags=re.IGNORECASE)
    parsed = keywords(body)
    if len(parsed.value) != MAX_KEYWORDS:
        raise ParseError("fewer than three keywords")
    check_new(parsed.value, taken)
    return parsed


def check_new(words: Sequence[str], taken: Iterable[Sequence[str]]) -> None:
    """Raises ParseError for the keywords of an example, in any order."""
    new = {word.casefold() for word in words}
    if any(new == {word.casefold() for word in example} for example in taken):
        raise ParseError("the keywords of an example")


def instruction(text: str) -> Parsed[str]:
    """An instruction (prompt 5)."""
    parsed = free_text(text, "instruction", "(?:new |the |generated )?(?:instruction|task|prompt|question)")
    refuse(parsed.value, tagged=True)
    if len(parsed.value.split()) < 2:
        raise ParseError("too short for an instruction")
    return parsed


def response(text: str) -> Parsed[str]:
    """A response (prompt 7). A refusal between the tags is one, for the reviewers to judge; a bare refusal is none."""
    return free_text(text, "response", "response|(?:the )?(?:final )?(?:answer|solution)")
