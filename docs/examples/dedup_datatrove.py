"""Near-duplicates of more rows than one curation node takes: MinHash with datatrove over candidates.parquet.

    pip install "datatrove[io]" spacy regex tokenizers       # into an environment of its own
    python docs/examples/dedup_datatrove.py OUT runs/synthesize-*/result/candidates.parquet [--tasks 8]

A rerun starts over: OUT/inputs, OUT/work and OUT/kept are made anew.

-> OUT/kept/*.jsonl, with ids of the form RUN/r0-000001 (every run counts from there): what review let pass, of
near-copies one. What differs from our curation: word n-grams in place of embeddings (paraphrases stay), the first of a
cluster stays in place of the best, and nothing is compared with the seeds. On a cluster replace LocalPipelineExecutor
by SlurmPipelineExecutor (partition=, time=, depends=): the four steps and their arguments stay as they are.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter
from datatrove.pipeline.filters import LambdaFilter
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.hashing import HashConfig

GOOD = ("kept", "duplicate", "surplus")
"""Fates of candidates that review let pass; `duplicate` is decided again here, over all runs together."""
MINHASH = MinhashConfig(n_grams=3, num_buckets=14, hashes_per_bucket=8, hash_config=HashConfig(hash_fc="sha1"))
"""Instructions are short: 3-grams of words. 14 x 8 hashes find 92% of the pairs of Jaccard similarity 0.8."""


def passed_review(document: object) -> bool:
    return document.metadata["fate"] in GOOD  # type: ignore[attr-defined]


def row(self: ParquetReader, data: dict[str, Any], path: str, id_in_file: int | str) -> dict[str, Any]:
    """A candidate as datatrove has it, under an id that no other run's has."""
    run = Path(path).stem.partition("-")[2]
    return {"text": data.pop("instruction"), "id": f"{run}/{data.pop('id')}", "metadata": {**data, "run": run}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("candidates", type=Path, nargs="+")
    parser.add_argument("--tasks", type=int, default=8, help="parallel tasks of the first and the last step")
    options = parser.parse_args()
    work, inputs = options.out / "work", options.out / "inputs"
    for made in (work, inputs, options.out / "kept"):
        shutil.rmtree(made, ignore_errors=True)
    inputs.mkdir(parents=True)
    for i, file in enumerate(options.candidates):  # one folder of files is what a reader takes
        run = file.absolute().parent.parent.name  # RUN/result/candidates.parquet
        shutil.copyfile(file, inputs / f"{i:05d}-{run}.parquet")

    read = [ParquetReader(str(inputs), adapter=row), LambdaFilter(passed_review)]
    signatures, buckets, remove = (f"{work}/{name}" for name in ("signatures", "buckets", "remove"))
    kept = JsonlWriter(f"{options.out}/kept", compression=None)
    steps = [
        ("signatures", options.tasks, [*read, MinhashDedupSignature(signatures, config=MINHASH)]),
        ("buckets", MINHASH.num_buckets, [MinhashDedupBuckets(signatures, buckets, config=MINHASH)]),
        ("clusters", 1, [MinhashDedupCluster(buckets, remove, config=MINHASH)]),
        ("filter", options.tasks, [*read, MinhashDedupFilter(remove), kept]),
    ]
    for name, tasks, pipeline in steps:
        LocalPipelineExecutor(pipeline, tasks=tasks, logging_dir=f"{work}/logs/{name}").run()


if __name__ == "__main__":
    main()
