"""The ledger at size: opening, look-up, memory per row, writing.

    python benchmarks/ledger.py                # a million rows: about half a minute and 0.6 GB of disk
    python benchmarks/ledger.py --rows 100000 --json

Every measurement is a process of its own on one thread, with the file in the page cache. Targets: opens in under 1 s,
look-up under 50 microseconds (median, random keys), under 300 bytes of memory per row.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TEXT = "Reverse the list, then drop what stands second. " * 6  # 288 characters


def resident() -> int:
    """Bytes of memory that this process has now."""
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * 4096


def write(folder: Path, rows: int) -> dict[str, float]:
    from gra_train.chat.ledger import Ledger, key_of

    with Ledger(folder / "warm") as ledger:
        ledger.put(key_of(0), 0)
    before, began, cpu = resident(), time.perf_counter(), time.process_time()
    with Ledger(folder / "rows") as ledger:
        for i in range(rows):
            value = [f"{TEXT}{i}", "stop", 120, 60]
            ledger.put(key_of(i), value, kind="completion", model="llama", purpose="generator/response", latency_ms=900)
        used = (resident() - before) / rows
    return {
        "write_us": (time.perf_counter() - began) / rows * 1e6,
        "write_cpu_us": (time.process_time() - cpu) / rows * 1e6,
        "writer_bytes_per_row": used,
        "disk_bytes_per_row": sum(f.stat().st_size for f in (folder / "rows").iterdir()) / rows,
    }


def scan(folder: Path, rows: int) -> dict[str, float]:
    """Opening without the index file, as after a copy: every segment is read."""
    from gra_train.chat.ledger import Ledger

    (folder / "rows" / "index").unlink()
    began = time.perf_counter()
    with Ledger(folder / "rows") as ledger:
        assert len(ledger) == rows
        return {"rebuild_s": time.perf_counter() - began}


def read(folder: Path, rows: int) -> dict[str, float]:
    from gra_train.chat.ledger import Ledger, key_of

    Ledger(folder / "warm").close()  # imports and first touches are not the ledger's rows
    before, began, cpu = resident(), time.perf_counter(), time.process_time()
    ledger = Ledger(folder / "rows")
    opened, opened_cpu, used = time.perf_counter() - began, time.process_time() - cpu, resident() - before
    assert len(ledger) == rows
    rng = random.Random(0)
    numbers = [rng.randrange(rows) for _ in range(20_000)]
    keys, seconds = [key_of(number) for number in numbers], []
    cpu = time.process_time()
    for number, key in zip(numbers, keys, strict=True):
        began = time.perf_counter()
        value = ledger.get(key)
        seconds.append(time.perf_counter() - began)
        assert value[0].endswith(str(number))
    cpu = time.process_time() - cpu
    absent = []
    for number in range(20_000):
        began = time.perf_counter()
        assert ledger.get(key_of(-1 - number)) is None
        absent.append(time.perf_counter() - began)
    ledger.close()
    return {
        "open_s": opened,
        "open_cpu_s": opened_cpu,
        "bytes_per_row": used / rows,
        "lookup_us": statistics.median(seconds) * 1e6,
        "lookup_p99_us": statistics.quantiles(seconds, n=100)[98] * 1e6,
        "lookup_cpu_us": cpu / len(numbers) * 1e6,
        "miss_us": statistics.median(absent) * 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where to write it (default: a temporary folder, deleted after)")
    parser.add_argument("--json", action="store_true", help="numbers only")
    parser.add_argument("--part", choices=["write", "scan", "read"], help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.part:
        print(json.dumps({"write": write, "scan": scan, "read": read}[words.part](words.folder, words.rows)))
        return
    folder = words.folder or Path(tempfile.mkdtemp(prefix="ledger-"))
    found: dict[str, Any] = {}
    try:
        for part in ("write", "scan", "read"):
            command = [sys.executable, __file__, "--rows", str(words.rows), "--folder", str(folder), "--part", part]
            found |= json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    finally:
        if words.folder is None:
            shutil.rmtree(folder)
    if words.json:
        print(json.dumps(found))
        return
    lines = [
        ("open", f"{found['open_s']:.3f} s", "< 1 s", found["open_s"] < 1),
        ("look-up, median", f"{found['lookup_us']:.1f} us", "< 50 us", found["lookup_us"] < 50),
        ("memory of a reader", f"{found['bytes_per_row']:.0f} bytes/row", "< 300", found["bytes_per_row"] < 300),
        ("memory of the writer", f"{found['writer_bytes_per_row']:.0f} bytes/row", "< 300",
         found["writer_bytes_per_row"] < 300),
        ("look-up, 99th percentile", f"{found['lookup_p99_us']:.1f} us", "", None),
        ("look-up of an absent key, median", f"{found['miss_us']:.1f} us", "", None),
        ("write", f"{found['write_us']:.1f} us", "", None),
        ("open without the index file", f"{found['rebuild_s']:.2f} s", "", None),
        ("disk", f"{found['disk_bytes_per_row']:.0f} bytes/row", "", None),
    ]  # fmt: skip
    print(f"{words.rows:,} rows of {len(TEXT) + 6} characters\n\n| | measured | target | |\n|---|--:|--:|---|")
    for name, value, target, held in lines:
        print(f"| {name} | {value} | {target} | {'' if held is None else 'holds' if held else 'MISSED'} |")


if __name__ == "__main__":
    main()
