"""What a person sees while an experiment runs: one live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

from gra_train.runs import read_json

PLAIN_EVERY_S = 15.0


class View:
    """Draws the progress files of the running stages. Use as a context manager; `note` prints a line that stays."""

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self.running: dict[str, Path] = {}
        self.started: dict[str, float] = {}
        self._live: Any = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.terminal = sys.stderr.isatty()

    def __enter__(self) -> View:
        if self.terminal:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), refresh_per_second=4, get_renderable=self._table)
            self._live.__enter__()
        else:
            self._thread = threading.Thread(target=self._print, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        if self._live:
            self._live.__exit__(*error)

    def start(self, run_id: str, folder: Path) -> None:
        self.running[run_id], self.started[run_id] = folder, time.monotonic()

    def finish(self, run_id: str, how: str) -> None:
        self.running.pop(run_id, None)
        seconds = time.monotonic() - self.started.pop(run_id, time.monotonic())
        self.done += 1
        if how != "reused":
            self.note(f"[{self.done}/{self.total}] {run_id}  {how} in {clock(seconds)}")

    def note(self, text: str) -> None:
        if self._live:
            self._live.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def _table(self) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        table = Table.grid(padding=(0, 2))
        for run_id, folder in list(self.running.items()):
            state = read_json(folder / "progress.json") or {"done": 0, "total": None}
            bar = ProgressBar(total=state["total"], completed=state["done"], width=16, pulse=not state["total"])
            table.add_row(f"[{self.done + 1}/{self.total}]", run_id, bar, line(folder, self.started.get(run_id)))
        return table

    def _print(self) -> None:
        while not self._stop.wait(PLAIN_EVERY_S):
            for run_id, folder in list(self.running.items()):
                self.note(f"    {run_id}  {line(folder, self.started.get(run_id))}")


def line(folder: Path, started: float | None) -> str:
    """`proposals 640/900 (71%), 85/s, 3 s left` from a run's progress file."""
    state = read_json(folder / "progress.json")
    waited = clock(time.monotonic() - started) if started else ""
    if not state:
        return waited
    done, total, rate = state["done"], state["total"], state["rate"]
    parts = [
        f"{state['label']} {done}" + (f"/{total} ({done / total:.0%})" if total else "") + f" {state['unit']}".rstrip()
    ]
    if rate:
        parts.append(f"{rate:.3g}/s")
        if total:
            parts.append(f"{clock(max(0, total - done) / rate)} left")
    if state["note"]:
        parts.append(state["note"])
    return ", ".join([*parts, waited])


def clock(seconds: float) -> str:
    """12 s, 3 min 05 s, 2 h 07 min."""
    whole = int(seconds + 0.5)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
