"""Make the miniature's models from nothing: `gra-train mini build --out DIR [--only NAME] [--workers 2] [--seed N]`.

Ten minutes on two idle cores for all seven. Each model is a standard Hugging Face folder; it is complete or absent.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gra_train.errors import UserError
from gra_train.mini.models import MODELS_DIR, NAMES, Recipe, recipe

Report = Callable[[str], None]


def build(
    out: Path,
    *,
    only: Sequence[str] = (),
    workers: int = 2,
    seed: int = 0,
    steps: int | None = None,
    progress: Report = print,
) -> list[Path]:
    """Train the models (those named in `only`, or all) into `out`/<name>/ and return the folders.

    workers: processes, one thread each (so a build repeats on one kind of machine). seed: another number makes
    another pool of the same kind. steps: in place of the recipes' (to try the machinery). progress: called with a line
    of text, now and then.
    Raises UserError for unknown names and RuntimeError when a worker dies.
    """
    names = [name for name in NAMES if not only or name in only]
    for name in only:
        recipe(name)
    if workers < 1:
        raise UserError(f"workers={workers}: at least one process is needed")
    out.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    reports: Any = context.Queue()
    waiting = [recipe(name, seed=seed) for name in names]
    if steps is not None:
        waiting = [replace(job, schedule=replace(job.schedule, steps=steps)) for job in waiting]
    cost = {r.name: r.schedule.steps * r.shape.layers * r.shape.hidden for r in waiting}
    done: dict[str, float] = dict.fromkeys(names, 0.0)
    running: dict[str, Any] = {}
    start = said = time.monotonic()
    while waiting or running:
        while waiting and len(running) < workers:
            job = waiting.pop(0)
            running[job.name] = context.Process(target=_make, args=(job, out, reports), daemon=True)
            running[job.name].start()
        while running:
            try:
                name, share, loss = reports.get(timeout=1.0)
            except Exception:  # queue.Empty: nothing said for a second
                dead = [n for n, p in running.items() if p.exitcode not in (None, 0)]
                if dead:
                    raise RuntimeError(f"building {', '.join(dead)} failed; its error is above") from None
                continue
            done[name] = share
            finished = share >= 1.0
            if finished:
                running.pop(name).join()
            if finished or time.monotonic() - said > 5:
                said = time.monotonic()
                whole = sum(cost[n] * done[n] for n in names) / sum(cost.values())
                left = (said - start) * (1 - whole) / max(whole, 1e-9)
                progress(
                    f"{name}: {share:.0%}, loss {loss:.3f}; all: {whole:.0%}, {said - start:.0f} s, {left:.0f} s left"
                )
            if finished:
                break
    return [out / name for name in names]


def _make(job: Recipe, out: Path, reports: Any) -> None:
    """One worker: train, save, report. Runs in a process of its own with one thread."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import torch

    from gra_train.mini.tokenizer import build_tokenizer
    from gra_train.mini.train import train

    torch.set_num_threads(1)
    steps, last = job.schedule.steps, 0.0

    def say(step: int, loss: float) -> None:
        nonlocal last
        last = loss
        reports.put((job.name, min(step / steps, 0.999), loss))

    tokenizer = build_tokenizer()
    model = train(job.shape, job.schedule, job.example, tokenizer, seed=job.seed, progress=say)
    folder, partial = out / job.name, out / f".{job.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    model.half().save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    (partial / "README.md").write_text(card(job, parameters=sum(p.numel() for p in model.parameters())))
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    reports.put((job.name, 1.0, last))


def card(job: Recipe, *, parameters: int) -> str:
    """The model card, with the hash of the recipe that made it."""
    profile, schedule = job.profile, job.schedule
    trained = (
        f"Domains Math, Reasoning, Coding in the proportions {':'.join(map(str, profile.weights))}; "
        f"misconceptions: {', '.join(profile.misconceptions) or 'none'}."
        if profile
        else "It has read instructions, single facts and conclusions that follow from given steps, and no solutions."
    )
    return f"""---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
tags: [gra-train, miniature]
---
# {job.name}: {job.purpose}

A Llama of {parameters:,} parameters that knows nothing but the closed language of gra_train's miniature world
(`gra_train/mini/`). It exists to run and test the whole method on two CPU cores; it is of no use for anything else.

{trained}
Trained from nothing on generated problems of the train split: {schedule.steps} steps of {schedule.tokens} tokens,
learning rate {schedule.lr:g}, seed {job.seed}. Made by `gra-train mini build`.

recipe: {job.digest()}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the miniature's models from nothing.")
    parser.add_argument("--out", type=Path, default=MODELS_DIR)
    parser.add_argument("--only", action="append", default=[], help="a model's name; may be repeated")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    build(given.out, only=given.only, workers=given.workers, seed=given.seed)


if __name__ == "__main__":
    main()
