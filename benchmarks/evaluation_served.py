"""How well an evaluation behind a server fills its slots: the stage `evaluate` beside bare aiohttp, at a fixed latency.

    python benchmarks/evaluation_served.py [--rows 2560] [--repeat 3]

GSM8K-shaped questions through the whole stage, against the stub server with an answer after 0.5 s, 256 calls at once.
What is measured: README.md beside this file. Both sides run in turn. Prints a table; writes nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from statistics import median

from report import tables
from runner import BARE, HERE, OURS, SIDES, Cell, Outcome, run, say, server

LATENCY_S, CONCURRENCY, TARGET = 0.5, 256, 0.95


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, default=2560, help="questions (default: ten full windows)")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    cell = Cell("plain", LATENCY_S, CONCURRENCY, options.rows)
    scripts = {OURS: HERE / "sides" / "evaluation.py", BARE: SIDES[BARE]}
    outcomes: list[Outcome] = []
    with server() as at:
        for turn in range(options.repeat):
            for side in list(scripts)[:: 1 if turn % 2 else -1]:
                one = run(side, Path(sys.executable), scripts[side], cell, at, limit_s=300)
                outcomes.append(one)
                say(f"[{turn + 1}/{options.repeat}] {side}: {one.failure or f'{one.throughput / cell.ideal:.1%}'}")
    outcomes.sort(key=lambda one: one.side != OURS)
    print(f"load average {', '.join(f'{x:.1f}' for x in os.getloadavg())}; evaluation behind a server\n")
    print(tables({cell: outcomes}))
    done = [one for one in outcomes if one.side == OURS and not one.failure]
    if done:
        share = median(one.throughput for one in done) / cell.ideal
        lost, extra = sum(one.lost for one in done), sum(one.calls - cell.calls for one in done)
        held = "held" if share >= TARGET else "NOT held"
        print(f"\nat least {TARGET:.0%} of the latency-bound ideal: {share:.1%}, {held}")
        print(f"no question lost, no call sent twice: {lost} lost, {extra} extra")


if __name__ == "__main__":
    main()
