"""Reading what models write: one tolerant parser per output format (domain, summary, keywords, instruction, response).

Strict first: the answer stands between its tags, exactly once, in the asked form. Else it is *repaired* where its meaning
is beyond doubt (a missing closing tag, JSON in place of tags, a preamble, bold type, a numbered list), and counted as
such. What would need guessing raises ParseError with a short reason: the call is then tried again. Reasoning in
`<think>` is not part of an answer. Scores and flags are in `ratings`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Generic, TypeVar

from gra_train.records import DOMAINS

T = TypeVar("T")
MAX_SUMMARY_WORDS = 30
MAX_KEYWORDS = 3
MAX_KEYWORD_WORDS = 8


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

# --- shared steps


def without_thinking(text: str) -> str:
    """The answer after the model's reasoning. Raises ParseError where the reasoning never ends."""
    text = re.sub(r"<(think|thinking|reasoning)>.*?</\1>", "", text, flags=re.DOTALL | re.IGNORECASE)
    # Some chat templates open the block themselves, so that the answer begins inside it.
    text = re.split(r"</(?:think|thinking|reasoning)>", text, flags=re.IGNORECASE)[-1]
    if re.match(r"\s*<(?:think|thinking|reasoning)>", text, re.IGNORECASE):
        raise ParseError("reasoning without an end")
    if not text.strip():
        raise ParseError("empty answer")
    return text.strip()


def between(text: str, tag: str, *, free_text: bool = False) -> Parsed[str] | None:
    """What stands between `<tag>` and `</tag>`, or None where there is neither.

    free_text: the content may itself speak of the tag (a lesson on XML), so it reaches to the *last* closing tag.
    Of several blocks the last counts (a draft comes before its final form); that, and a missing tag, is a repair.
    """
    opening = list(re.finditer(rf"<\s*{tag}\s*>", text, re.IGNORECASE))
    closing = list(re.finditer(rf"<\s*/\s*{tag}\s*>", text, re.IGNORECASE))
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
    match = re.search(r"\{.*\}|\[.*\]|\{.*", text, re.DOTALL)
    if match is None:
        return None
    try:
        return json.loads(match[0])
    except json.JSONDecodeError:
        if not re.search(r"""["'].*?["']\s*[:,\]]""", match[0]):
            return None
        import json_repair

        value = json_repair.loads(match[0])
        return value if isinstance(value, dict | list) and value else None


def field(text: str, names: Sequence[str]) -> Any:
    """The value of the first of `names` in a JSON object in `text`, or None."""
    value = as_json(text)
    if not isinstance(value, dict):
        return None
    lowered = {str(k).lower().replace("_", " "): v for k, v in value.items()}
    return next((lowered[name] for name in names if name in lowered), None)


def plain(text: str) -> str:
    """One line or block without fences, bold type, headings and quotes around it."""
    text = re.sub(r"^\s*```[\w-]*\n?|\n?```\s*$", "", text.strip())
    text = re.sub(r"\*\*|__|^#+\s*|`", "", text, flags=re.MULTILINE)
    return text.strip().strip("\"'“”‘’«»").strip()


_REFUSAL = re.compile(
    r"^\W*(?:(?:i\s*[’']?\s*a?m|we are)\s+(?:very\s+|really\s+|so\s+)?(?:sorry|unable|afraid|not able)|sorry\b|apologies|i apologi[sz]e|"
    r"(?:unfortunately|regrettably),?\s+(?:i|we|as)\b|i (?:can\s?not|can[’']?t|won[’']?t|will not|must decline|do not feel|don[’']?t feel)\b|"
    r"as an? (?:ai|large language|language|artificial)|my apologies|it (?:would|is) not (?:be )?appropriate)",
    re.IGNORECASE,
)


_UNWILLING = re.compile(r"\b(?:can(?:not|[’']?t)|unable|not able|won[’']?t|will not|decline)\b", re.IGNORECASE)


def refuse(text: str, *, tagged: bool = False) -> None:
    """Raises ParseError where the model declines to answer. tagged: only if it also says so soon ("I'm sorry" may be content)."""
    text = text.strip()
    if _REFUSAL.match(text) and (not tagged or _UNWILLING.search(text[:150])):
        raise ParseError("refusal")


_INTERJECTION = r"(?:sure|certainly|of course|okay|ok|great|absolutely|no problem|understood|got it|alright|gladly)\b"
_OUTPUT = r"(?:instruction|task|prompt|question|answer|response|solution|summary|abstract|key\s?words?)s?\b"
_PREAMBLE = re.compile(
    rf"(?:{_INTERJECTION}[^\n]{{0,200}}?:|(?:here|below|the following)\b[^\n:]{{0,100}}{_OUTPUT}[^\n:]{{0,100}}:)[*_ ]*\n+(?=\S)"
    rf"|(?:{_INTERJECTION}[^\n:]{{0,80}}:|here(?:['’]s| is| are)[^\n:]{{0,40}}{_OUTPUT}[^\n:]{{0,40}}:)\s*(?=\S)",
    re.IGNORECASE,
)


def _unlabelled(text: str, labels: str) -> str:
    """`text` without a preamble ("Sure! Here is ...:") and without a label ("**Summary:**") before it.

    A sentence that ends in a colon is a preamble only if it opens with an interjection or names what was asked for: "Given the
    following text, count its nouns:" is part of an instruction.
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


def _without_epilogue(text: str) -> str:
    """`text` without a last paragraph that speaks to the person who asked."""
    return re.sub(
        r"\n\s*\n(?:---+\s*\n\s*)?\W{0,3}(?:let me know|i hope|hope this|feel free|if you (?:need|want|would|have)|please let|would you like|note:|"
        r"\(?note that this|\(?this (?:instruction|task|summary|prompt))[^\n]*(?:\n[^\n]+)*\s*$", "", text, flags=re.IGNORECASE).strip()  # fmt: skip


def _free_text(text: str, tag: str, labels: str) -> Parsed[str]:
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
    bare = _without_epilogue(_unlabelled(text, labels))
    fenced = re.fullmatch(r"```[\w-]*\n(.*?)\n?```", bare, re.DOTALL)
    if fenced and "```" not in fenced[1] and not re.match(r"```(?!text|markdown|plain|xml|html)\w", bare):
        bare = fenced[1].strip()
    if not bare or re.fullmatch(r"\W*", bare):
        raise ParseError("empty answer")
    return Parsed(bare, True)


# --- the formats

_ALIASES = {
    "coding": "Coding", "code": "Coding", "programming": "Coding", "math": "Math", "maths": "Math",
    "mathematics": "Math", "qa": "QA", "q&a": "QA", "question answering": "QA", "questionanswering": "QA", "reasoning": "Reasoning",
    "logical reasoning": "Reasoning", "role play": "Role Play", "roleplay": "Role Play", "role playing": "Role Play",
    "roleplaying": "Role Play", "language": "Language", "creation": "Creation",
}  # fmt: skip
_NAMED = re.compile(
    r"(?<![\w-])(coding|programming|math(?:s|ematics)?|QA|Q&A|question[\s-]answering|(?:logical )?reasoning|role[\s-]?play(?:ing)?|language|creation)"
    r"(?![\w-])", re.IGNORECASE)  # fmt: skip
_SAID = re.compile(
    r"(?:domain|category|answer|class(?:ification)?|belongs to|falls (?:under|in|into)|fits (?:best )?(?:in|into)|choose|pick|label)"
    r"\W+(?:(?:is|that|this|of|the|domain|category|would|be|best|most|in|as|under)\W+){0,5}[\"'*`\[(]*" + _NAMED.pattern,
    re.IGNORECASE)  # fmt: skip


def _domain_name(word: str) -> str | None:
    return _ALIASES.get(re.sub(r"[\s-]+", " ", word.strip().lower().rstrip(".")))


def domain(text: str) -> Parsed[str]:
    """One of the seven domains (prompt 1)."""
    text = without_thinking(text)
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
    parsed = _free_text(text, "summary", "summary|abstract|tl;?dr|one-sentence summary")
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
    text = without_thinking(text)
    found = between(text, "keywords")
    if found is None:
        refuse(text)
        content = _without_epilogue(_unlabelled(text, "(?:the )?key\\s?words?(?: are)?"))
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
    body = without_thinking(text)
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
    new = {word.casefold() for word in parsed.value}
    if any(new == {word.casefold() for word in words} for words in taken):
        raise ParseError("the keywords of an example")
    return parsed


def instruction(text: str) -> Parsed[str]:
    """An instruction (prompt 5)."""
    parsed = _free_text(text, "instruction", "(?:new |the |generated )?(?:instruction|task|prompt|question)")
    refuse(parsed.value, tagged=True)
    if len(parsed.value.split()) < 2:
        raise ParseError("too short for an instruction")
    return parsed


def response(text: str) -> Parsed[str]:
    """A response (prompt 7). A refusal between the tags is a response, for the reviewers to judge; a bare one is none."""
    return _free_text(text, "response", "response|(?:the )?(?:final )?(?:answer|solution)")
