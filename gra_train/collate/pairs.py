"""Preference pairs from merit: a pure function (section 3.3)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean, quantiles
from typing import Any

from gra_train.collate.data import Task
from gra_train.collate.merit import Merit
from gra_train.records import PreferencePair

EQUAL, FILTERED, KEPT = "equal", "no_better_than_none", "kept"


def choose(texts: Sequence[str], merit: Merit, *, filter: bool = True) -> tuple[str, int, int]:
    """(fate, winner, loser) of one task: winner = argmax, loser = argmin of merit, as indices of its candidates.

    EQUAL: one candidate, equal merits or equal texts. FILTERED: the winner does not make the answer strictly likelier
    than no rationale does. The first of several best (worst) candidates wins (loses).
    """
    values = merit.candidates
    winner = max(range(len(values)), key=lambda s: values[s])
    loser = min(range(len(values)), key=lambda s: values[s])
    if values[winner] == values[loser] or texts[winner].strip() == texts[loser].strip():
        return EQUAL, winner, loser
    if filter and not values[winner] > merit.baseline:
        return FILTERED, winner, loser
    return KEPT, winner, loser


def make_pairs(
    tasks: Sequence[Task],
    texts: Sequence[Sequence[str]],
    merits: Sequence[Merit],
    prompts: Sequence[str],
    *,
    filter: bool = True,
) -> tuple[list[PreferencePair], list[str]]:
    """The kept pairs, in the order of the tasks, and every task's fate. prompts: the I -> R prompt of each task."""
    pairs, fates = [], []
    for task, own, merit, prompt in zip(tasks, texts, merits, prompts, strict=True):
        fate, winner, loser = choose(own, merit, filter=filter)
        fates.append(fate)
        if fate == KEPT:
            margin = merit.candidates[winner] - merit.candidates[loser]
            info = {"winner": winner, "loser": loser, "baseline": merit.baseline}
            pairs.append(PreferencePair(task.id, prompt, own[winner], own[loser], margin, info))
    return pairs, fates


def leaks(rationale: str, answer: str) -> bool:
    """Does the rationale state the answer word for word?"""
    return bool(answer.strip()) and bool(
        re.search(rf"(?<!\w){re.escape(answer.strip())}(?!\w)", rationale, re.IGNORECASE)
    )


def statistics(
    pairs: Sequence[PreferencePair], fates: Sequence[str], answers: Mapping[str, str], names: Sequence[str]
) -> dict[str, Any]:
    """What an iteration's pairs are like; lengths in words, margins in nats, shares of the pairs.

    answers: gold answer by task id; names: the providers in the order of the candidates. Empty pairs: counts only.
    """
    counts = Counter(fates)
    found: dict[str, Any] = {
        "tasks": len(fates),
        "pairs": len(pairs),
        "kept_share": len(pairs) / max(len(fates), 1),
        "dropped": {reason: counts[reason] for reason in (EQUAL, FILTERED)},
    }
    if not pairs:
        return found
    margins = [pair.margin for pair in pairs]
    won = Counter(pair.info["winner"] for pair in pairs)
    return found | {
        "margin": {"mean": fmean(margins), **_quartiles(margins)},
        "won_share": {name: won[s] / len(pairs) for s, name in enumerate(names)},
        "winner_words": fmean(len(pair.chosen.split()) for pair in pairs),
        "loser_words": fmean(len(pair.rejected.split()) for pair in pairs),
        "winner_leak_rate": fmean(leaks(pair.chosen, answers[pair.task_id]) for pair in pairs),
        "loser_leak_rate": fmean(leaks(pair.rejected, answers[pair.task_id]) for pair in pairs),
    }


def _quartiles(values: Sequence[float]) -> dict[str, float]:
    cuts = quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return dict(zip(("q25", "median", "q75"), cuts, strict=True))
