"""How much memory a whole synthesis takes, over its course: the stage `synthesize` with 100,000 samples.

    python benchmarks/memory.py                      100,000 kept samples, full review: 1.1 million calls, 10-15 minutes
    python benchmarks/memory.py --review none        three calls and a summary per sample
    python benchmarks/memory.py --rows 5000          smaller

Against the stub server with a latency of 10 ms, in the environment that a run gives its workers. Prints resident memory
when a share of the calls was made, and the peak; writes memory.md for the default size.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from bench import machine
from report import markdown
from runner import HERE, OURS, Cell, Server, Watch, run, say, server

from gra_train.warm import environment

SHARES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


class Course(Watch):
    """Also notes, once a second, how many calls the server has had."""

    def __init__(self, pid: int, at: Server) -> None:
        super().__init__(pid)
        self._at, self.calls = at, [(0.0, 0)]

    def sampled(self) -> None:
        if self.samples and self.samples[-1][0] - self.calls[-1][0] >= 1:
            self.calls.append((self.samples[-1][0], self._at.stats()["calls"]))

    def memory_at(self, calls: float) -> float:
        """Resident MB when so many calls had been made."""
        when = next((moment for moment, made in self.calls if made >= calls), self.samples[-1][0])
        return next((memory for moment, _, memory in self.samples if moment >= when), self.samples[-1][2]) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--review", choices=("committee", "none"), default="committee")
    parser.add_argument("--limit", type=float, default=7200, help="seconds after which it is given up")
    options = parser.parse_args()
    cell = Cell("gra" if options.review == "committee" else "plain", 0.01, 64, options.rows)
    courses: list[Course] = []
    os.environ |= environment(threads=1)
    began = time.monotonic()
    with server() as at:

        def watch(pid: int) -> Watch:
            courses.append(Course(pid, at))
            return courses[0]

        script = HERE / "sides" / "synthesis.py"
        done = run(OURS, Path(sys.executable), script, cell, at, limit_s=options.limit, watch=watch)
    if done.failure:
        sys.exit(done.failure)
    rows = [[f"{share:.0%}", f"{done.calls * share:,.0f}", f"{courses[0].memory_at(done.calls * share):.0f}"]
            for share in SHARES]  # fmt: skip
    text = "\n\n".join([
        f"{done.rows:,} samples kept of {options.rows:,} wanted, review {options.review}, {done.calls:,} calls, "
        f"{done.cpu_ms:.2f} ms of client CPU per call with curation and lineage, {time.monotonic() - began:.0f} s.",
        f"Peak {done.peak_mb:.0f} MB (target: under 500 MB). Machine: {machine()}.",
        markdown(("share of the calls", "calls", "resident MB"), rows),
    ])  # fmt: skip
    print(text)
    if options.rows == parser.get_default("rows"):
        head = f"# Memory of a synthesis\n\nMeasured {datetime.now(UTC):%Y-%m-%d} by `python {' '.join(sys.argv)}`."
        (HERE / "memory.md").write_text(f"{head}\n\n{text}\n")
        say("written: benchmarks/memory.md")


if __name__ == "__main__":
    main()
