"""The names of lm-eval's own tasks, read off its files: a quarter of a second, where lm-eval's index takes seven.

So a misspelt task is refused before anything is trained. A word that stands in a file without being a task passes here;
lm-eval's index, built when its tasks are asked for, has the last word.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from importlib.util import find_spec

_GIVEN = re.compile(rb"^(?:task|group|tag): *[\"']?([\w.+-]+)", re.MULTILINE)
_OTHERS = (".py", ".pyc", ".md", ".json", ".sh")
"""What is no definition. A definition may include files of any other name: "flores", "_common_yaml"."""


def missing(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Those of `names` that no file of lm-eval's tasks holds as a word: it has no such task, group or tag. And, where
    there are any, the names that it has, for a suggestion."""
    left = {name: re.compile(rb"(?<![\w.+-])" + re.escape(name.encode()) + rb"(?![\w.+-])") for name in names}
    given: set[bytes] = set()
    for text in files() if left else ():
        given.update(_GIVEN.findall(text))
        for name in [name for name, word in left.items() if name.encode() in text and word.search(text)]:
            del left[name]
        if not left:
            return [], []
    return list(left), sorted(name.decode() for name in given)


def files() -> Iterator[bytes]:
    """The content of each file that lm-eval may define a task in."""
    spec = find_spec("lm_eval")
    assert spec is not None
    for package in spec.submodule_search_locations or ():
        for folder, _, found in os.walk(os.path.join(package, "tasks")):  # pathlib takes three times as long
            for name in found:
                if not name.endswith(_OTHERS):
                    with open(os.path.join(folder, name), "rb") as file:
                        yield file.read()
