"""Adaptive roles: who generates and how much a reviewer counts, learnt from the waves before (the paper's future work).

- Generators are drawn by Thompson sampling over their acceptance in the candidate's domain, a share `explore` of them
  uniformly.
- Reviewers are drawn as ever and *weighted*: by the log-odds of their reliability in the domain, which is the balanced
  accuracy that the model of Dawid and Skene (1979) estimates from the votes alone, no true answer being known.
  (Log-odds are the best weights for independent voters: Nitzan and Paroush, 1982.)

What results decide is frozen before a wave and written down (`Weights`, one line of weights.jsonl per wave); draws stay
a function of (seed, round, index, weights). Acceptance is what the reviewers say, so a generator that pleases them is
drawn more often whether or not it is right.
"""

from __future__ import annotations

import random
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import isfinite, log
from typing import TYPE_CHECKING

from gra_train.records import Record
from gra_train.schema import Synthesis

if TYPE_CHECKING:
    from gra_train.synthesis.candidate import Candidate

MIN_REVIEWED = 50
"""Reviewed candidates of a domain below which its reviewers count alike."""
MOST_REVIEWED = 20_000
"""The latest reviewed candidates of a domain that reliability is estimated from (about two seconds of one core)."""
_LEAST, _MOST = 0.55, 0.95  # reliabilities are taken as no lower and no higher: an estimate is not a certainty


def depends_on_previous_wave(synthesis: Synthesis) -> bool:
    """Whether a wave's draws need the results of the waves before it (then neither streamed nor sharded)."""
    return synthesis.roles == "adaptive" and synthesis.review.mode != "none"


@dataclass(frozen=True, slots=True)
class Weights(Record):
    """What was known before the wave that starts at candidate `first` of `round`.

    acceptance: domain -> model -> [accepted, proposed] as generator. reliability: domain -> model -> 0 to 1.
    """

    round: int = 0
    first: int = 0
    acceptance: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)
    reliability: dict[str, dict[str, float]] = field(default_factory=dict)

    def generator(self, models: Sequence[str], domain: str, *, explore: float, seed: int) -> str:
        """One of `models`: with probability `explore` any, else the best draw from Beta(1 + accepted, 1 + not)."""
        rng = random.Random(seed)
        if rng.random() < explore:
            return rng.choice(models)
        known = self.acceptance.get(domain, {})
        chances = {}
        for model in models:
            accepted, proposed = known.get(model, (0, 0))
            chances[model] = rng.betavariate(1 + accepted, 1 + proposed - accepted)
        return max(chances, key=chances.__getitem__)

    def of_reviewers(self, reviewers: Sequence[str], domain: str) -> tuple[float, ...]:
        """A weight for each reviewer; all 1 in a domain about which too little is known."""
        known = self.reliability.get(domain)
        if not known:
            return (1.0,) * len(reviewers)
        unseen = sum(known.values()) / len(known)
        return tuple(_log_odds(known.get(reviewer, unseen)) for reviewer in reviewers)


def _log_odds(reliability: float) -> float:
    p = min(_MOST, max(_LEAST, reliability))
    return round(log(p / (1 - p)), 6)


class Experience:
    """What the finished waves have shown, a few bytes per vote."""

    def __init__(self, models: Sequence[str], *, T_mean: float) -> None:
        self._models, self._T_mean = list(models), T_mean
        self._acceptance: dict[str, dict[str, tuple[int, int]]] = {}
        self._votes: dict[str, tuple[array[int], array[int], array[int]]] = {}  # domain -> candidate, model, vote
        self.frozen: list[Weights] = []

    def add(self, candidates: Iterable[Candidate]) -> None:
        """The candidates of a wave, decided; in the order of their indices."""
        for candidate in candidates:
            generators = self._acceptance.setdefault(candidate.domain, {})
            accepted, proposed = generators.get(candidate.generator, (0, 0))
            generators[candidate.generator] = (accepted + candidate.good, proposed + 1)
            if candidate.mu is not None:
                self._add_votes(candidate)

    def _add_votes(self, candidate: Candidate) -> None:
        tasks, models, votes = self._votes.setdefault(candidate.domain, (array("I"), array("H"), array("b")))
        number = tasks[-1] + 1 if tasks else 0
        for review in candidate.reviews:
            tasks.append(number)
            models.append(self._models.index(review.reviewer))
            votes.append(round(review.mean, 9) >= self._T_mean)

    def freeze(self, round: int, first: int) -> Weights:
        """The weights for the wave that starts at candidate `first`; kept in `frozen`."""
        acceptance = {domain: dict(sorted(known.items())) for domain, known in sorted(self._acceptance.items())}
        reliability = {
            domain: self._reliability(*known)
            for domain, known in sorted(self._votes.items())
            if known[0][-1] + 1 >= MIN_REVIEWED
        }
        weights = Weights(round, first, acceptance, {d: known for d, known in reliability.items() if known})
        self.frozen.append(weights)
        return weights

    def _reliability(self, tasks: array[int], models: array[int], votes: array[int]) -> dict[str, float]:
        first = bisect_left(tasks, tasks[-1] + 1 - MOST_REVIEWED)
        return _reliability([self._models[m] for m in models[first:]], tasks[first:], votes[first:])


def _reliability(models: Sequence[str], tasks: Sequence[int], votes: Sequence[int]) -> dict[str, float]:
    """Balanced accuracy of each model as a voter, by Dawid and Skene; {} where all votes are alike.

    Rounded to four decimals, so that the last bits of another machine's arithmetic decide nothing.
    """
    if len(set(votes)) < 2:
        return {}
    import pandas as pd
    from crowdkit.aggregation import DawidSkene

    table = pd.DataFrame({"task": list(tasks), "worker": list(models), "label": list(votes)})
    errors = DawidSkene(n_iter=100).fit(table).errors_  # [worker, observed label] x true label
    assert errors is not None
    found = {}
    for model in sorted(set(models)):
        right = [errors[label].get((model, label), 0.0) for label in (0, 1)]
        if all(isfinite(share) for share in right):
            found[model] = round(float(sum(right)) / 2, 4)
    return found
