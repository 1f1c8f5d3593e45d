"""gra_train beside bare aiohttp, distilabel, curator and DataDesigner, against a server with a fixed latency.

    python benchmarks/bench.py                 the whole grid
    python benchmarks/bench.py --quick         two small cells, writes nothing
    python benchmarks/bench.py --no-peers      without the peers' environments

All sides run in one session: in every repetition each cell is given to each side in turn, in an order that rotates. A
run is one process of its own. What is measured and how: README.md beside this file. Writes results.md, results.jsonl.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import orjson
from environments import PEERS, Unavailable, python_of
from report import markdown, tables, targets
from runner import HERE, SIDES, Cell, Outcome, as_json, run, say, server

LIMIT_S = 300.0
CELLS = [
    Cell("plain", 0.1, 64, 1280),
    Cell("plain", 0.5, 256, 10240),
    Cell("plain", 1.0, 1024, 5120),
    Cell("plain", 0.5, 256, 2560, stragglers=0.01),
    Cell("gra", 0.1, 64, 128),
    Cell("gra", 0.5, 256, 1024),
    Cell("gra", 1.0, 1024, 1024),
    Cell("gra", 0.5, 256, 512, stragglers=0.01),
]
"""The target's cells take 20 s at best, so that filling and emptying the slots (a second) does not decide them."""
QUICK = [Cell("plain", 0.1, 64, 320), Cell("gra", 0.1, 64, 64)]
PEER_RUNS = {CELLS[0]: 1, CELLS[1]: 1, CELLS[2]: 1, CELLS[3]: 1, CELLS[5]: 1}
"""How often a peer is measured in a cell, at most: they take longer, and are far from each other."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two small cells, one repetition; writes nothing")
    parser.add_argument("--repeat", type=int, help="repetitions (default 3; 1 with --quick)")
    parser.add_argument("--no-peers", action="store_true", help="only gra_train and bare aiohttp")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=PEERS, help="which peers")
    parser.add_argument("--cells", help="only cells whose name contains this")
    parser.add_argument("--note", default="", help="what else was running, for results.md")
    return parser.parse_args()


def sides(peers: list[str]) -> tuple[dict[str, tuple[Path, Path]], dict[str, str]]:
    """({side: (interpreter, script)}, {peer: why it cannot be installed})."""
    found = {name: (Path(sys.executable), script) for name, script in SIDES.items()}
    missing = {}
    for peer in peers:
        try:
            found[peer] = (python_of(peer), HERE / "peers" / peer / "client.py")
        except Unavailable as error:
            missing[peer] = str(error)
    return found, missing


def measure(cells: list[Cell], repeat: int, peers: list[str]) -> tuple[dict[Cell, list[Outcome]], dict[str, str], str]:
    """Every cell, `repeat` times, by every side in turn. -> (results, peers that are missing, the server's loop)."""
    clients, missing = sides(peers)
    results: dict[Cell, list[Outcome]] = {cell: [] for cell in cells}
    with server() as at, suppress(KeyboardInterrupt):  # stopped early: what there is, is reported
        for turn in range(repeat):
            for cell in cells:
                names = [n for n in clients if n in SIDES or turn < PEER_RUNS.get(cell, cell in QUICK)]
                shift = turn % len(names)
                for side in names[shift:] + names[:shift]:
                    outcome = run(side, *clients[side], cell, at, limit_s=LIMIT_S + 4 * cell.calls / cell.ideal)
                    results[cell].append(outcome)
                    got = f"{outcome.throughput / cell.ideal:.1%}, {outcome.cpu_ms:.2f} ms/call"
                    say(f"[{turn + 1}/{repeat}] {cell.name} {side}: {outcome.failure or got}")
    order = list(clients)
    return {c: sorted(o, key=lambda r: order.index(r.side)) for c, o in results.items() if o}, missing, at.loop


def machine() -> str:
    name = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), ""
    )
    memory = next((line.split()[1] for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), "0")
    return f"{len(os.sched_getaffinity(0))} cores ({name or platform.machine()}), {int(memory) / 2**20:.0f} GiB"


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).is_file() else []


def main() -> None:
    options = arguments()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where it was started in the background
    cells = [c for c in (QUICK if options.quick else CELLS) if not options.cells or options.cells in c.name]
    repeat = options.repeat or (1 if options.quick else 3)
    before, began = os.getloadavg(), datetime.now(UTC)
    results, missing, loop = measure(cells, repeat, [] if options.no_peers else list(options.peers))
    after, took = os.getloadavg(), datetime.now(UTC) - began
    versions = {o.side: o.version for outcomes in results.values() for o in outcomes if o.version}
    held = [[what, got, "yes" if ok else "**no**"] for what, got, ok in targets(results)]
    server_cpu = max((o.server_cpu for outcomes in results.values() for o in outcomes), default=0)
    load = f"load average {before[0]:.1f} before and {after[0]:.1f} after"
    where = f"Machine: {machine()}, {load}. Python {platform.python_version()}. Took {took.seconds} s. {options.note}"
    text = "\n\n".join([
        where.strip(),
        "Versions: " + ", ".join(f"{side} {version}" for side, version in versions.items()) + ".",
        *(f"Not measured: {peer}: `{why}`" for peer, why in missing.items()),
        f"The server ({loop}) used at most {server_cpu:.0%} of a core.",
        markdown(("target", "measured", "held"), held), tables(results),
    ])  # fmt: skip
    print(text)
    if not options.quick and not options.cells:
        head = f"Measured {began:%Y-%m-%d} by `{' '.join(['python benchmarks/bench.py', *sys.argv[1:]])}`"
        head = f"# Benchmarks\n\n{head}; what the columns mean: [README](README.md)."
        (HERE / "results.md").write_text(f"{head}\n\n{text}\n")
        lines = [orjson.dumps(line) for cell, outcomes in results.items() for line in as_json(cell, outcomes)]
        (HERE / "results.jsonl").write_bytes(b"\n".join(lines) + b"\n")


if __name__ == "__main__":
    main()
