"""Self-Rewarding (Yuan et al. 2024, arXiv 2401.10020) on rationales: a model judges its own candidates."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from gra_train.chat.protocol import Ask
from gra_train.collate import modes
from gra_train.collate.baselines.judging import judge
from gra_train.collate.baselines.thinking import Thinker
from gra_train.collate.data import Task
from gra_train.collate.providers import told
from gra_train.records import PreferencePair, Record

PAIR, EQUAL, UNPARSEABLE = "pair", "equal", "unparseable"


@dataclass(frozen=True, slots=True)
class Judged(Record):
    """A task's candidates (None: the call failed) with the judge's values (None: unparseable)."""

    task_id: str
    texts: tuple[str | None, ...]
    values: tuple[float | None, ...]


def choose(judged: Judged) -> tuple[str, int, int]:
    """(fate, best, worst): the first of the highest and of the lowest values, as indices of the candidates.

    UNPARSEABLE: fewer than two candidates have a value. EQUAL: best and worst have one value, or one text.
    """
    valued = [(value, i) for i, value in enumerate(judged.values) if value is not None]
    if len(valued) < 2:
        return UNPARSEABLE, 0, 0
    high, best = max(valued, key=lambda v: (v[0], -v[1]))
    low, worst = min(valued)
    same = high == low or judged.texts[best] == judged.texts[worst]
    return (EQUAL if same else PAIR), best, worst


async def compete(
    ask: Ask, thinker: Thinker, task: Task, *, seed: int, candidates: int, temperature: float, roles: str
) -> Judged:
    """`candidates` rationales of one task and what their own writer thinks of them."""
    asked = [modes.rationale(thinker.family, task.instruction)] * candidates
    written = await thinker.write(ask, asked, seed=seed, temperature=temperature, purpose="candidate")
    texts = [told(reply) for reply in written]
    judged = [text for text in texts if text is not None]
    values = iter(await judge(ask, thinker, task.instruction, judged, roles=roles) if judged else ())
    return Judged(task.id, tuple(texts), tuple(None if text is None else next(values) for text in texts))


def pairs(judged: Sequence[Judged], prompts: Sequence[str]) -> tuple[list[PreferencePair], dict[str, Any]]:
    """Best against worst of each task, and counts. prompts: the I -> R prompt of each task."""
    found, fates, margins = [], Counter[str](), list[float]()
    for one, prompt in zip(judged, prompts, strict=True):
        fate, best, worst = choose(one)
        fates[fate] += 1
        if fate == PAIR:
            margin = float((one.values[best] or 0) - (one.values[worst] or 0))
            margins += [margin] if math.isfinite(margin) else []  # not: one of them led to no answer at all
            info = {"winner": best, "loser": worst}
            chosen, rejected = one.texts[best] or "", one.texts[worst] or ""
            found.append(PreferencePair(one.task_id, prompt, chosen, rejected, margin, info))
    values = [value for one in judged for text, value in zip(one.texts, one.values, strict=True) if text is not None]
    failed = sum(one.texts.count(None) for one in judged)
    counts = {
        "tasks": len(judged),
        "pairs": len(found),
        "kept_share": len(found) / max(len(judged), 1),
        "dropped": {fate: fates[fate] for fate in (EQUAL, UNPARSEABLE)},
        "judgements": len(values),
        "unparseable_judgements": sum(value is None for value in values),
        "mean_margin": fmean(margins) if margins else None,
    }
    return found, counts | ({"failed": failed} if failed else {})
