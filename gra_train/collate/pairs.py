"""Preference pairs from merit: a pure function (section 3.3)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, quantiles
from typing import Any

from gra_train.collate.data import Task
from gra_train.collate.merit import Merit
from gra_train.records import PreferencePair

EQUAL, FILTERED, KEPT = "equal", "no_better_than_none", "kept"
LEAKED, LONGER, UNJUDGED = "states_the_answer", "much_longer", "unjudged"
UNWRITTEN, UNSCORED = "unwritten", "unscored"
DROPPED = (EQUAL, FILTERED, LEAKED, LONGER, UNJUDGED, UNWRITTEN, UNSCORED)


@dataclass(frozen=True)
class Rules:
    """Which pairs are kept: collate.filter, collate.leak_filter, collate.max_length_ratio."""

    filter: bool = True
    leak_filter: bool = False
    max_length_ratio: float | None = None


PUBLISHED = Rules()


def choose(
    texts: Sequence[str | None],
    merit: Merit,
    rules: Rules = PUBLISHED,
    *,
    answer: str = "",
    points: Sequence[float | None] | None = None,
) -> tuple[str, int, int]:
    """(fate, winner, loser) of one task: winner = argmax, loser = argmin of merit, as indices of its candidates.

    texts: None where none was written (a call that failed): that is no candidate.
    points: what a judge gave each candidate, in place of merit (None: it gave none, and the candidate is left out).
    EQUAL: one candidate, equal merits or equal texts. FILTERED: the winner does not make the answer strictly likelier
    than no rationale does. LEAKED: fewer than two candidates do not state the answer. LONGER: the winner has more than
    max_length_ratio times the loser's words. UNJUDGED: fewer than two candidates have points. UNWRITTEN: fewer than two
    were written. UNSCORED: fewer than two (or, for the filter, not the answer alone) have a merit.
    The first of several best (worst) candidates wins (loses).
    """
    values = merit.candidates if points is None else points
    if len(values) < 2:
        return EQUAL, 0, 0
    written = {s: text for s, text in enumerate(texts) if text is not None}
    scored = {s: value for s, value in enumerate(merit.candidates) if s in written and value is not None}
    judged = {s: value for s, value in enumerate(values) if s in scored and value is not None}
    usable = [s for s in judged if not (rules.leak_filter and leaks(written[s], answer))]
    for fate, left in ((UNWRITTEN, written), (UNSCORED, scored), (UNJUDGED, judged), (LEAKED, usable)):
        if len(left) < 2:
            return fate, 0, 0
    winner = max(usable, key=lambda s: judged[s])
    loser = min(usable, key=lambda s: judged[s])
    if judged[winner] == judged[loser] or written[winner].strip() == written[loser].strip():
        return EQUAL, winner, loser
    if rules.filter and merit.baseline is None:
        return UNSCORED, winner, loser
    if rules.filter and merit.baseline is not None and not scored[winner] > merit.baseline:
        return FILTERED, winner, loser
    longest = rules.max_length_ratio
    if longest is not None and words(written[winner]) > longest * max(words(written[loser]), 1):
        return LONGER, winner, loser
    return KEPT, winner, loser


def make_pairs(
    tasks: Sequence[Task],
    texts: Sequence[Sequence[str | None]],
    merits: Sequence[Merit],
    prompts: Sequence[str],
    rules: Rules = PUBLISHED,
    *,
    points: Sequence[Sequence[float | None]] | None = None,
) -> tuple[list[PreferencePair], list[str]]:
    """The kept pairs, in the order of the tasks, and every task's fate. prompts: the I -> R prompt of each task."""
    pairs, fates = [], []
    for i, (task, own, merit, prompt) in enumerate(zip(tasks, texts, merits, prompts, strict=True)):
        fate, winner, loser = choose(own, merit, rules, answer=task.answer, points=points[i] if points else None)
        fates.append(fate)
        if fate == KEPT:  # both have a text and a number
            margin = (merit.candidates[winner] or 0.0) - (merit.candidates[loser] or 0.0)
            info = {"winner": winner, "loser": loser, "baseline": merit.baseline}
            pairs.append(PreferencePair(task.id, prompt, own[winner] or "", own[loser] or "", margin, info))
    return pairs, fates


def words(text: str) -> int:
    """Length of a rationale, the same for every tokenizer."""
    return len(text.split())


def leaks(rationale: str, answer: str) -> bool:
    """Does the rationale state the answer word for word?"""
    return bool(answer.strip()) and bool(
        re.search(rf"(?<!\w){re.escape(answer.strip())}(?!\w)", rationale, re.IGNORECASE)
    )


def statistics(
    pairs: Sequence[PreferencePair], fates: Sequence[str], answers: Mapping[str, str], owners: Sequence[str]
) -> dict[str, Any]:
    """What an iteration's pairs are like; lengths in words, margins in nats, shares of the pairs.

    answers: gold answer by task id; owners: who wrote each candidate, in their order. Empty pairs: counts only.
    """
    counts = Counter(fates)
    found: dict[str, Any] = {
        "tasks": len(fates),
        "pairs": len(pairs),
        "kept_share": len(pairs) / max(len(fates), 1),
        "dropped": {reason: counts[reason] for reason in DROPPED if counts[reason] or reason in (EQUAL, FILTERED)},
    }
    if not pairs:
        return found
    margins = [pair.margin for pair in pairs]
    won = Counter(owners[pair.info["winner"]] for pair in pairs)
    return found | {
        "margin": {"mean": fmean(margins), **_quantiles(margins)},
        "won_share": {name: won[name] / len(pairs) for name in dict.fromkeys(owners)},
        "winner_words": fmean(words(pair.chosen) for pair in pairs),
        "loser_words": fmean(words(pair.rejected) for pair in pairs),
        "longer_wins_share": fmean(words(pair.chosen) > words(pair.rejected) for pair in pairs),
        "winner_leak_rate": fmean(leaks(pair.chosen, answers[pair.task_id]) for pair in pairs),
        "loser_leak_rate": fmean(leaks(pair.rejected, answers[pair.task_id]) for pair in pairs),
    }


def agreement(texts: Sequence[Sequence[str | None]]) -> dict[str, float]:
    """How alike the candidates of a task are: share of tasks whose candidates are all equal, and the words that two of
    them share (mean Jaccard index of their sets of words). What was not written (None) is left out."""
    written = [found for own in texts if (found := [text for text in own if text is not None])]
    pairs = [_jaccard(a, b) for own in written for a, b in combinations(own, 2)]
    equal = fmean(len(set(own)) == 1 for own in written) if written else 1.0
    return {"equal": equal, "words": fmean(pairs) if pairs else 1.0}


def _jaccard(a: str, b: str) -> float:
    one, other = set(a.split()), set(b.split())
    return len(one & other) / len(one | other) if one | other else 1.0


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    """10%, 25%, 50%, 75% and 90%."""
    cuts = quantiles(values, n=20, method="inclusive") if len(values) > 1 else [values[0]] * 19
    return {"q10": cuts[1], "q25": cuts[4], "median": cuts[9], "q75": cuts[14], "q90": cuts[17]}
