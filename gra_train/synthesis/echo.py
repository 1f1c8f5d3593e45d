"""What a model repeats of the material that it was shown is never read as its own words.

Reviewed text may hold scores in our own form, and a reviewer may quote it. A passage is an echo when it stands in the
material, whatever its white space and capitals, and whether or not the model has turned the look-alikes of
`neutralise` back into brackets.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache, lru_cache

from gra_train.synthesis.prompts.rubrics import LOOKALIKES
from gra_train.synthesis.repair import ParseError, objects

_SIGNS = re.compile(r"[\s*_#>`-]+")
_SHORTEST = 6
"""Characters, white space aside, that a bare line must have to be called an echo: "9, 8" stands in many texts."""


def without_echoes(text: str, tag: str, shown: str) -> str:
    """`text` without the blocks `<tag>...</tag>` and the JSON objects that stand in `shown`."""
    if not shown:
        return text
    blocks = [m[0] for m in _block(tag).finditer(text)]
    for passage in (*blocks, *(passage for _, passage in objects(text))):
        if is_echo(passage, shown):
            text = text.replace(passage, "")
    return text


@cache
def _block(tag: str) -> re.Pattern[str]:
    return re.compile(rf"<\s*{tag}\s*>[^<]*<\s*/\s*{tag}\s*>", re.IGNORECASE)


def without_echoed_lines(text: str, shown: str) -> str:
    """`text` without the lines that stand in `shown`: for answers that no tag sets apart."""
    if not shown:
        return text
    lines = text.splitlines()
    return "\n".join(line for line in lines if len(_plain(line)) < _SHORTEST or not is_echo(line, shown))


def refuse_echo(text: str, keys: Sequence[str], shown: str) -> None:
    """Raises ParseError where `text`, from its first brace to the last number given for `keys`, stands in `shown`."""
    start = text.find("{")
    if shown and start >= 0:
        ends = [m.end() for m in re.finditer(rf"(?:{'|'.join(keys)})\W{{1,6}}\d+", text, re.IGNORECASE)]
        if ends and is_echo(text[start : max(ends)], shown):
            raise ParseError("only what it was shown")


def is_echo(passage: str, shown: str) -> bool:
    plain = _plain(passage)
    return bool(plain) and plain in _plain_material(shown)


def _plain(text: str) -> str:
    return _SIGNS.sub("", text.translate(LOOKALIKES)).casefold()


@lru_cache(maxsize=64)
def _plain_material(shown: str) -> str:
    """Kept: a sample's reviewers are shown the same, and answer while those of others do."""
    return _plain(shown)
