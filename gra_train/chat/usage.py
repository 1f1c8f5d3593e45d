"""What was asked: calls, answers from disk, tokens, truncated and failed answers; what it cost and how long it took.

Counts are per model and purpose ("role/prompt"). Tokens and failures are of all that was asked, whenever it was paid
for, so they are the same after a resume and may go into results. Times and what was computed anew are not: they go to
the run folder.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil, log
from typing import Any

from gra_train.chat.protocol import Answer, Reply
from gra_train.schema import Model

_STEP = log(1.05)  # percentiles are exact to 5%, in a few hundred numbers however many calls there were


@dataclass
class Count:
    """asked: requests of stories. from_ledger: those answered from disk (the others were computed or called).

    prompt_tokens: of completions, and of likelihoods behind servers, where they are paid for.
    """

    asked: int = 0
    from_ledger: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    scored_tokens: int = 0
    truncated: int = 0
    failed: int = 0

    def add(self, answer: Answer, *, from_ledger: bool) -> None:
        self.asked += 1
        self.from_ledger += from_ledger
        self.prompt_tokens += answer.prompt_tokens
        self.failed += answer.failed
        if isinstance(answer, Reply):
            self.completion_tokens += answer.completion_tokens
            self.truncated += answer.finish == "length"
        else:
            self.scored_tokens += len(answer.logprobs)


Counts = dict[tuple[str, str], Count]
"""By (model, purpose)."""


class Times:
    """Durations in seconds, as a histogram of logarithmic buckets."""

    def __init__(self) -> None:
        self._buckets: dict[int, int] = defaultdict(int)
        self._most = 0.0

    def add(self, seconds: float) -> None:
        self._buckets[ceil(log(max(seconds, 1e-6)) / _STEP)] += 1
        self._most = max(self._most, seconds)

    def to_dict(self) -> dict[str, float]:
        """{"calls", "p50", "p90", "p99", "max"}; seconds."""
        total = sum(self._buckets.values())
        shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
        found: dict[str, float] = {"calls": total}
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            for name in [name for name, share in shares.items() if seen >= share * total]:
                found[name] = round(min(2.718281828459045 ** (bucket * _STEP), self._most), 4)
                del shares[name]
        return found | {"max": round(self._most, 4)}


class Usage:
    """Counts and times per (model, purpose)."""

    def __init__(self) -> None:
        self._counts: Counts = defaultdict(Count)
        self._vain: Counts = defaultdict(Count)
        self._held: dict[tuple[object, int], Counts] = defaultdict(lambda: defaultdict(Count))
        self._times: dict[tuple[str, str], Times] = defaultdict(Times)

    def add(
        self, model: str, purpose: str, answer: Answer, *, from_ledger: bool, story: tuple[object, int] | None = None
    ) -> None:
        """story: (stream, number) of the story that asked, where it is not yet known whether its result will count."""
        counts = self._counts if story is None else self._held[story]
        counts[model, purpose].add(answer, from_ledger=from_ledger)

    def settle(self, stream: object, stop: int | None, *, end: bool = False) -> None:
        """What stories before `stop` (None: all) asked counts; `end`: what the others asked was in vain."""
        for story in [s for s in list(self._held) if s[0] is stream]:  # copied at once: answers come in another thread
            if stop is None or story[1] < stop:
                _merge(self._counts, self._held.pop(story))
            elif end:
                _merge(self._vain, self._held.pop(story))

    def took(self, model: str, purpose: str, seconds: float) -> None:
        """How long a server took for an answer (its last try; without the wait for a slot)."""
        self._times[model, purpose].add(seconds)

    def to_dict(self) -> dict[str, Any]:
        """{"total": {...}, "by_model": {model: {purpose: {...}}}}, ready for JSON, in sorted order."""
        total: dict[str, int] = asdict(Count())
        models: dict[str, dict[str, dict[str, int]]] = {}
        for (model, purpose), count in sorted(self._counts.items()):
            row = asdict(count)
            models.setdefault(model, {})[purpose] = row
            total = {k: total[k] + row[k] for k in total}
        total["computed"] = total["asked"] - total["from_ledger"]
        return {"total": total, "by_model": models}

    def in_vain(self) -> dict[str, int]:
        """Calls and tokens of stories whose result was not used: how many there were depends on timing."""
        total = asdict(Count())
        for count in self._vain.values():
            total = {k: total[k] + v for k, v in asdict(count).items()}
        return total

    def latencies(self) -> dict[str, dict[str, dict[str, float]]]:
        """{model: {purpose: percentiles}} of the calls made now."""
        found: dict[str, dict[str, dict[str, float]]] = {}
        for (model, purpose), times in sorted(self._times.items()):
            found.setdefault(model, {})[purpose] = times.to_dict()
        return found

    def cost(self, models: Sequence[Model]) -> dict[str, Any]:
        """{"total", "by_model": {model: {purpose: money}}} at the models' prices, whenever it was paid.

        None where a model has no price: what is not known is not counted as nothing.
        """
        prices = {m.name: (m.price_in, m.price_out) for m in models}
        by_model: dict[str, dict[str, float | None]] = {}
        for (name, purpose), count in sorted(self._counts.items()):
            by_model.setdefault(name, {})[purpose] = _money(count, *prices.get(name, (None, None)))
        values = [money for row in by_model.values() for money in row.values()]
        known = [money for money in values if money is not None]
        return {"total": round(sum(known), 6) if len(known) == len(values) else None, "by_model": by_model}


def together(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """`to_dict` of several pools, one after the other, as that of one."""
    by_model: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    total: Counter[str] = Counter()
    for report in reports:
        total.update(report["total"])
        for model, purposes in report["by_model"].items():
            for purpose, row in purposes.items():
                by_model[model][purpose].update(row)
    return {"total": dict(total), "by_model": {m: {p: dict(r) for p, r in of.items()} for m, of in by_model.items()}}


def _merge(into: Counts, more: Counts) -> None:
    for key, count in more.items():
        mine = into[key]
        for name, value in vars(count).items():
            setattr(mine, name, getattr(mine, name) + value)


def _money(count: Count, price_in: float | None, price_out: float | None) -> float | None:
    if price_in is None or price_out is None:
        return None
    read = count.prompt_tokens + count.scored_tokens  # what is scored is sent as part of the prompt (as in estimate.py)
    return round((read * price_in + count.completion_tokens * price_out) / 1e6, 6)
