"""The loss of each of COLLATE's three modes, on rows that train nothing."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from gra_train import progress
from gra_train.chat.protocol import Ask, Likelihood, TokenLogProbs
from gra_train.collate import modes
from gra_train.collate.data import Task
from gra_train.collate.merit import known
from gra_train.collate.providers import Calls
from gra_train.schema import Model
from gra_train.settings import change

log = logging.getLogger(__name__)
ROWS = 256
"""Rows that are scored at most: a loss with a standard error of some hundredths."""


def losses_by_mode(models: Mapping[str, str], rows: Sequence[Task], base: Model, *, calls: Calls) -> dict[str, Any]:
    """{"rows": n, "loss": {name: {mode: mean cross-entropy}}} of models, given by name and path; nats per token of the
    target, its end-of-turn token not counted. Targets without a likelihood (`merit.known`) are left out (all of
    them: None) and, if there are any, counted: "left_out", as "loss"."""
    rows = rows[:ROWS]
    found, left_out = {}, {}
    for name, path in models.items():
        model = change(base, name=name, path=path)
        with calls.open([model]) as pool, progress.task(f"losses of {name}", total=len(rows), unit="rows") as bar:
            bar.also = pool.health
            stories = [_story(name, row, calls.prompts) for row in rows]
            scored = pool.run(stories, block=calls.block, on_done=bar.advance)
        found[name] = {mode: _mean([one[mode] for one in scored]) for mode in scored[0]}
        left_out[name] = {mode: sum(known(one[mode]) is None for one in scored) for mode in scored[0]}
    missing = sum(count for counts in left_out.values() for count in counts.values())
    if missing:
        log.warning("losses.json: %d targets are left out of the means: beyond the window, or not scored", missing)
    return {"rows": len(rows), "loss": found} | ({"left_out": left_out} if missing else {})


def _story(name: str, row: Task, family: str) -> Any:
    targets = {
        "I->R": (modes.rationale(family, row.instruction), row.rationale),
        "[I;R]->A": (modes.answer_with_rationale(family, row.instruction, row.rationale), row.answer),
        "I->A": (modes.answer(family, row.instruction), row.answer),
    }

    async def tell(ask: Ask) -> dict[str, TokenLogProbs]:
        asked = (
            (name, Likelihood(({"role": "user", "content": prompt},), target, purpose="losses", may_fail=True))
            for prompt, target in targets.values()
        )
        return dict(zip(targets, await ask(*asked), strict=True))

    return tell


def _mean(scored: Sequence[TokenLogProbs]) -> float | None:
    told = [(total, len(one.logprobs)) for one in scored if (total := known(one)) is not None]
    return -math.fsum(total for total, _ in told) / max(sum(n for _, n in told), 1) if told else None
