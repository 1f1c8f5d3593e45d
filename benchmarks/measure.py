"""What every client of the benchmark shares: its task, and how its own work is measured. Standard library only.

A client is a script that is started with one JSON argument (see `Task`), does the work inside `measured()` and hands it
the number of complete rows. Imports come before and are not counted: they are paid once, whatever the size of the work.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Task:
    """shape: "plain" (one call a row) or "gra" (ten). prompts: {kind: {"system": text, "user": template}}."""

    url: str
    shape: str
    rows: int
    concurrency: int
    work: Path
    prompts: dict[str, dict[str, str]]

    @classmethod
    def read(cls) -> Task:
        values = json.loads(sys.argv[1])
        prompts = json.loads(Path(values.pop("prompts")).read_text())
        return cls(**values | {"work": Path(values["work"]), "prompts": prompts})

    def messages(self, kind: str, **fields: Any) -> list[dict[str, str]]:
        """The conversation of a prompt, its placeholders filled in."""
        prompt = self.prompts[kind]
        return [
            {"role": "system", "content": prompt["system"]},
            {"role": "user", "content": fill(prompt["user"], **fields)},
        ]


def fill(template: str, **fields: Any) -> str:
    """`template` with each {name} replaced; other braces are left alone."""
    for name, value in fields.items():
        template = template.replace("{" + name + "}", str(value))
    return template


def cpu_s() -> float:
    """CPU time of this process and of its children that have ended, user and system."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


@contextmanager
def measured(**extra: Any) -> Iterator[dict[str, Any]]:
    """Yields a dict that the caller gives `rows`; on exit, prints it as JSON with the block's wall_s and cpu_s.

    started and cpu_before_s say when the block began (CLOCK_MONOTONIC) and what had been spent by then.
    """
    result: dict[str, Any] = dict(extra)
    wall, cpu = time.perf_counter(), cpu_s()
    yield result
    result |= {"started": wall, "wall_s": time.perf_counter() - wall, "cpu_before_s": cpu, "cpu_s": cpu_s() - cpu}
    sys.stdout.flush()
    os.write(1, b"\n" + json.dumps(result).encode() + b"\n")
