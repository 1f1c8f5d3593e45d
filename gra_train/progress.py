"""Progress of the stage at hand, as a small file that any watcher can read.

A stage says `with progress.task("proposals", total=900) as bar: bar.advance(32)`. The numbers go to
`progress.json` in the run folder (at most five times a second), whoever runs the stage: a warm worker, a rank of
torchrun, a SLURM job. The launcher reads the file and draws. Without a run folder nothing is written.

Where a stage reports progress it can also be stopped: what it has done is in the ledger. Training, which must save
first, says `stoppable=False` and looks for itself.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gra_train.runs import Stopped, stop_requested

_file: Path | None = None
_RECENT_S = 60.0


def write_to(path: Path | None) -> None:
    """Send this process's progress to `path` (None: nowhere)."""
    global _file
    _file = path


class Bar:
    """Counts units of work done; `total` may be None when it is not known.

    The rate is that of the last minute: what a resumed stage finds in the ledger says nothing of what is still to come.
    `note` and, asked for at each writing, `also` are shown beside the numbers.
    """

    def __init__(self, label: str, total: int | None, unit: str, stoppable: bool) -> None:
        self.label, self.total, self.unit, self.done = label, total, unit, 0
        self.stoppable = stoppable
        self.note = ""
        self.also: Callable[[], str] = str
        self._marks: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
        self._started, self._written = time.monotonic(), 0.0

    def advance(self, n: int = 1, *, note: str | None = None) -> None:
        self.update(self.done + n, note=note)

    def update(self, done: int, *, note: str | None = None) -> None:
        self.done = done
        self.note = self.note if note is None else note
        now = time.monotonic()
        if now - self._written >= 0.2:
            self._written = now
            self._write(now)
            if self.stoppable and _file is not None and stop_requested(_file):
                raise Stopped(f"stopped at {self.label} {self.done}, as asked")

    def _write(self, now: float) -> None:
        if _file is None:
            return
        self._marks.append((now, self.done))
        while len(self._marks) > 2 and now - self._marks[0][0] > _RECENT_S:
            self._marks.popleft()
        since, before = self._marks[0]
        rate = (self.done - before) / (now - since) if now > since else 0.0
        note = ", ".join(filter(None, (self.note, self.also())))
        state = {"label": self.label, "done": self.done, "total": self.total, "unit": self.unit,
                 "elapsed_s": round(now - self._started, 2), "rate": round(rate, 4), "note": note}  # fmt: skip
        temporary = _file.with_name(_file.name + ".tmp")
        try:
            temporary.write_text(json.dumps(state))
            temporary.replace(_file)
        except OSError:  # progress is a courtesy: a full disk must not end the work here
            pass


@contextmanager
def task(label: str, *, total: int | None = None, unit: str = "", stoppable: bool = True) -> Iterator[Bar]:
    """Raises Stopped from `advance` and `update` when the run was asked to stop (unless stoppable=False)."""
    bar = Bar(label, total, unit, stoppable)
    bar._write(time.monotonic())
    yield bar
    bar._write(time.monotonic())
