"""A program."""

from __future__ import annotations

import ast
import re
import textwrap

from gra_train.evaluation.answers.found import NOTHING, Found, without_thinking

_FENCE = re.compile(r"```[ \t]*([\w+-]*)[ \t]*\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL)


_PYTHON = ("", "py", "python", "python3")


def code(text: str, entry_point: str = "", *, prompt: str = "") -> Found:
    """The Python program of an answer.

    entry_point: a function that it must define; of several fenced blocks the last that does so is taken, with those
    before it that it could need (imports, helpers). prompt: the beginning that was given (HumanEval): an answer that
    goes on from it in place of repeating it is put behind it.
    Without a fence, the text is taken as it is, up to the first line that is no Python any more ("last": a guess).
    """
    text = without_thinking(text)
    blocks = [textwrap.dedent(body) for language, body in _FENCE.findall(text) if language.lower() in _PYTHON]
    if blocks:
        defining = [i for i, block in enumerate(blocks) if _defines(block, entry_point)]
        if defining:
            earlier = blocks[: defining[-1]] if entry_point else []
            helpers = [block for block in earlier if not _defines(block, entry_point) and _helps(block)]
            return Found("\n\n".join([*helpers, blocks[defining[-1]]]), "block")
        return Found(_continued(prompt, blocks[-1]), "block")
    if not text.strip():
        return NOTHING
    if prompt and not _defines(text, entry_point):
        return Found(_longest(_continued(prompt, text), keep=prompt.count("\n")), "last")
    return Found(_longest(text), "last")


def _defines(block: str, name: str) -> bool:
    return bool(re.search(rf"^(?:async\s+)?(?:def|class)\s+{re.escape(name)}\b", block, re.MULTILINE)) if name else True


def _helps(block: str) -> bool:
    """Definitions and imports only: a block that shows a use of the function would run it."""
    allowed = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef | ast.Assign
    return _parses(block) and all(isinstance(node, allowed) for node in ast.parse(block).body)


def _continued(prompt: str, body: str) -> str:
    """A body behind the beginning of its function, with the indent that it lacks."""
    if not prompt:
        return body
    first = next((line for line in body.splitlines() if line.strip()), "")
    if first and not first[0].isspace() and not re.match(r"(?:async\s+)?(?:def|class|import|from|@)\b", first):
        body = textwrap.indent(body, "    ")
    return prompt + ("" if prompt.endswith("\n") else "\n") + body


def _parses(block: str) -> bool:
    try:
        ast.parse(block)
        return True
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _longest(text: str, *, keep: int = 0) -> str:
    """The longest beginning (in lines, at least `keep`) that is Python; the text itself where none is."""
    lines = text.splitlines()
    for end in range(len(lines), max(keep, 0), -1):
        if _parses("\n".join(lines[:end])):
            return "\n".join(lines[:end])
    return text
