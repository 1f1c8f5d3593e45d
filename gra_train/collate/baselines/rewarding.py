"""Self-Rewarding (Yuan et al. 2024, arXiv 2401.10020) on rationales: a model judges its own candidates."""

from __future__ import annotations

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
from gra_train.records import PreferencePair, Record

PAIR, EQUAL, UNPARSEABLE = "pair", "equal", "unparseable"


@dataclass(frozen=True, slots=True)
class Judged(Record):
    """A task's candidates with the judge's values (None: unparseable)."""

    task_id: str
    texts: tuple[str, ...]
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
    texts = [reply.text.strip() for reply in written]
    values = await judge(ask, thinker, task.instruction, texts, roles=roles)
    return Judged(task.id, tuple(texts), tuple(values))


def pairs(judged: Sequence[Judged], prompts: Sequence[str]) -> tuple[list[PreferencePair], dict[str, Any]]:
    """Best against worst of each task, and counts. prompts: the I -> R prompt of each task."""
    found, fates = [], Counter[str]()
    for one, prompt in zip(judged, prompts, strict=True):
        fate, best, worst = choose(one)
        fates[fate] += 1
        if fate == PAIR:
            margin = float((one.values[best] or 0) - (one.values[worst] or 0))
            info = {"winner": best, "loser": worst}
            found.append(PreferencePair(one.task_id, prompt, one.texts[best], one.texts[worst], margin, info))
    values = [value for one in judged for value in one.values]
    counts = {
        "tasks": len(judged),
        "pairs": len(found),
        "kept_share": len(found) / max(len(judged), 1),
        "dropped": {fate: fates[fate] for fate in (EQUAL, UNPARSEABLE)},
        "judgements": len(values),
        "unparseable_judgements": sum(value is None for value in values),
        "mean_margin": fmean(pair.margin for pair in found) if found else None,
    }
    return found, counts
