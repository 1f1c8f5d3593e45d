"""When a training has to save, and when it has to stop: a STOP file, SIGTERM, the end of its time, minutes gone by."""

from __future__ import annotations

import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from gra_train import cluster
from gra_train.errors import UserError
from gra_train.runs import stop_requested

REASONS = ("asked by a STOP file", "asked by SIGTERM", "its time is nearly up")
MARGIN_S = 5.0
SAFETY = 1.5
"""A save may take this much longer than the longest one so far."""


def deadline(wanted: str) -> float | None:
    """Unix time of must_save_by: "auto" (the end of the SLURM job, if there is one), "off", or ISO 8601.

    Raises UserError for anything else.
    """
    if wanted == "off":
        return None
    if wanted == "auto":
        return cluster.job_end()
    try:
        return datetime.fromisoformat(wanted).timestamp()
    except ValueError:
        raise UserError(
            f"must_save_by={wanted!r}: expected auto, off, or a time such as 2026-01-31T18:00 (local unless it names "
            "its zone)."
        ) from None


class Stopping:
    """Asked at every step. SIGTERM to any rank, and the rest on rank 0, are told to all ranks by the caller, so that
    all save and stop at the same step.

    save_s: seconds that a save is expected to take, until one has been measured.
    """

    def __init__(
        self,
        out: Path,
        *,
        must_save_by: float | None,
        save_minutes: float,
        save_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.out, self.must_save_by, self.save_s, self.clock = out, must_save_by, save_s, clock
        self.every_s = save_minutes * 60
        self.terminated = False
        self._steps: deque[float] = deque(maxlen=20)
        self._last_step = self._last_save = clock()
        self._measured = False
        self._before: Any = None

    def __enter__(self) -> Stopping:
        """Catch SIGTERM, unless somebody above us does (a warm worker's launcher answers it with a STOP file). Only a
        process's main thread can."""
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            self._before = signal.signal(signal.SIGTERM, self._terminate)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _terminate(self, *_: object) -> None:
        self.terminated = True

    def wishes(self, *, first: bool) -> list[float]:
        """1.0 for each of REASONS that holds, then 1.0 if minutes gone by ask for a save. first: on rank 0."""
        now = self.clock()
        self._steps.append(now - self._last_step)
        self._last_step = now
        late = self.must_save_by is not None and now + self.needed_s() >= self.must_save_by
        due = bool(self.every_s) and now - self._last_save >= self.every_s
        return [float(first and stop_requested(self.out)), float(self.terminated), float(first and late),
                float(first and due)]  # fmt: skip

    def needed_s(self) -> float:
        """Seconds from now to a checkpoint on disk, if one more step is made first."""
        return max(self._steps, default=0.0) + SAFETY * self.save_s + MARGIN_S

    def saved(self, seconds: float) -> None:
        """A save took this long."""
        self.save_s = max(self.save_s, seconds) if self._measured else seconds
        self._measured = True
        self._last_save = self._last_step = self.clock()


def save_seconds(size_bytes: int) -> float:
    """A guess before the first save: 100 MB a second, as a busy shared disk gives."""
    return 1.0 + size_bytes / 1e8
