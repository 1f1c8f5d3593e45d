"""Near-duplicate removal at size: time, memory and recall of `synthesis.curation.greedy`, exact and by cells.

    python benchmarks/dedup.py                                # 10,000, 30,000 and 100,000 rows, both ways
    python benchmarks/dedup.py --rows 100000 1000000 --way cells

Vectors of 384 dimensions in clusters; 30% are noisy copies (cosine 0.91 to 0.99) of an earlier row that is no copy,
so that the right answer is known at every size. Each measurement is a process of its own, on one thread.

    seconds         CPU time; on a machine with other work, caches are shared and it grows faster than it should
    compared        with how many vectors and centres one search compares, on average: the work, whatever the machine
    given, peak MB  resident memory before and at most
    recall          copies that are dropped; right twin: and name the row that they are a copy of
    nearest found   of 1,000 rows moved a little, those whose nearest row is found
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import time
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
DIMENSIONS, COPIES, THRESHOLD, PROBES = 384, 0.3, 0.9, 1000


def vectors_of(n: int, seed: int = 0) -> tuple[Any, Any]:
    """(unit vectors [n, 384], source [n]: the row that a row is a copy of, or -1)."""
    import numpy as np

    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(n // 50, 1), DIMENSIONS), np.float32)
    vectors = np.empty((n, DIMENSIONS), np.float32)
    source = np.full(n, -1)
    copies = rng.random(n) < COPIES
    copies[0] = False
    originals = np.flatnonzero(~copies)
    for start in range(0, n, 10_000):  # in pieces: the noise of a million rows would double the memory
        rows = np.arange(start, min(start + 10_000, n))
        spread = rng.uniform(0.7, 1.5, len(rows)).astype(np.float32)  # cosines within a cluster: 0.3 to 0.67
        noise = rng.standard_normal((len(rows), DIMENSIONS), np.float32)
        vectors[rows] = _unit(centres[rng.integers(len(centres), size=len(rows))] + spread[:, None] * noise)
        mine = rows[copies[rows]]
        earlier = originals[(rng.random(len(mine)) * np.searchsorted(originals, mine)).astype(int)]
        cosine = rng.uniform(0.91, 0.99, len(mine)).astype(np.float32)
        noise = _unit(rng.standard_normal((len(mine), DIMENSIONS), np.float32))
        base = vectors[earlier]
        across = _unit(noise - (noise * base).sum(1, keepdims=True) * base)
        vectors[mine] = cosine[:, None] * base + np.sqrt(1 - cosine**2)[:, None] * across
        source[mine] = earlier
    return vectors, source


def _unit(vectors: Any) -> Any:
    import numpy as np

    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def measure(n: int, way: str) -> dict[str, Any]:
    """One measurement, in this process."""
    import numpy as np

    from gra_train.synthesis.curation import Index, greedy

    vectors, source = vectors_of(n)
    given = _megabytes()
    ids = [str(i) for i in range(n)]
    started = time.process_time()
    twins = greedy(ids, vectors, Index(n + 1 if way == "exact" else 0), threshold=THRESHOLD)
    seconds = time.process_time() - started
    peak = _megabytes()
    dropped = np.array([t is not None for t in twins])
    copies = source >= 0
    right = sum(t is not None and int(t.id) == s for t, s in zip(twins, source, strict=True) if s >= 0)
    compared, nearest = _searches(vectors[~dropped], exact=way == "exact")
    return {
        "rows": n,
        "way": way,
        "seconds": round(seconds, 1),
        "ns per n log n": round(1e9 * seconds / n / math.log2(n)),
        "compared": compared,
        "given MB": round(given),
        "peak MB": round(peak),
        "recall": round(float(dropped[copies].mean()), 5),
        "wrongly dropped": int(dropped[~copies].sum()),
        "right twin": round(right / int(copies.sum()), 5),
        "nearest found": nearest,
    }


def _searches(kept: Any, *, exact: bool) -> tuple[int, float]:
    """(vectors and centres compared in one search, share of nearest rows found), of 1,000 rows moved a little."""
    import faiss
    import numpy as np

    from gra_train.synthesis.cells import CELL
    from gra_train.synthesis.curation import Index

    if exact:
        return len(kept), 1.0
    ids = [str(i) for i in range(len(kept))]
    cells, every = Index(0), Index(len(kept) + 1)
    cells.add(ids, kept)
    every.add(ids, kept)
    noise = np.random.default_rng(1).standard_normal((PROBES, DIMENSIONS), np.float32)
    probes = _unit(kept[np.linspace(0, len(kept) - 1, PROBES).astype(int)] + 0.05 * noise)
    faiss.cvar.indexIVF_stats.reset()
    pairs = zip(cells.nearest(probes), every.nearest(probes), strict=True)
    found = sum(a is not None and b is not None and a.id == b.id for a, b in pairs)
    assert cells._cells is not None
    return cells._cells.size // CELL + faiss.cvar.indexIVF_stats.ndis // PROBES, found / PROBES


def _megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 30_000, 100_000])
    parser.add_argument("--way", choices=("both", "exact", "cells"), default="both")
    parser.add_argument("--one", action="store_true", help="measure here, print JSON")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.rows[0], given.way)))
        return
    columns: list[str] = []
    for n in given.rows:
        for way in ("exact", "cells") if given.way == "both" else (given.way,):
            command = [sys.executable, __file__, "--one", "--rows", str(n), "--way", way]
            row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            if not columns:
                columns = list(row)
                print("| " + " | ".join(columns) + " |\n|" + " --- |" * len(columns))
            print(
                "| " + " | ".join(f"{v:,}" if isinstance(v, int) else str(v) for v in row.values()) + " |", flush=True
            )


if __name__ == "__main__":
    main()
