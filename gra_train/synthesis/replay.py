"""Deciding again over recorded proposals: other thresholds, smaller committees, other rules; no call is made.

A run records every proposal with its flags, reviews, scores and adjudication (candidates.parquet). From these the
decision under other settings follows, but for what was never asked: a response that was not written because the
instruction was rejected, a review of it, an adjudication. Such a candidate is *undecided*, and every count has bounds.

The proposals are held fixed. In a real run under other settings, later rounds would draw their examples from other
kept rows, and a round would end sooner or later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import Any

from gra_train.errors import UserError
from gra_train.records import Fate, Sample
from gra_train.schema import Synthesis
from gra_train.settings import change
from gra_train.synthesis.candidate import Candidate
from gra_train.synthesis.checker import Checker
from gra_train.synthesis.curation import Index, text_of
from gra_train.synthesis.decide import Decision, adjudicated, decide
from gra_train.synthesis.decontaminate import Benchmarks
from gra_train.synthesis.draw import Draw, committee_of, roles
from gra_train.synthesis.embed import Encoder
from gra_train.synthesis.rounds import Good, checked, curate
from gra_train.synthesis.vectors import BLOCK


class Verdict(StrEnum):
    """What the record says of a candidate under other settings."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    NO_RESPONSE = "no response"
    NO_REVIEW = "no review"
    NO_ADJUDICATION = "no adjudication"


UNDECIDED = (Verdict.NO_RESPONSE, Verdict.NO_REVIEW, Verdict.NO_ADJUDICATION)


@dataclass(frozen=True)
class Recorded:
    """A run to decide again. models: names of the pool; samples: what examples were drawn from, by id."""

    seed: int
    synthesis: Synthesis
    models: Sequence[str]
    candidates: Sequence[Candidate]
    seeds: Sequence[Sample]
    samples: Mapping[str, Sample]


@dataclass(frozen=True)
class Rule:
    """Other settings. members: of each committee only these models (None: all of it)."""

    T_mean: float
    T_std: float
    mode: str
    num_reviewers: int
    dedup: float
    members: frozenset[str] | None = None

    def settings(self, synthesis: Synthesis) -> Synthesis:
        """The settings of a run that decides by this rule."""
        return change(
            synthesis, T_mean=self.T_mean, T_std=self.T_std, num_reviewers=self.num_reviewers,
            review=change(synthesis.review, mode=self.mode),
            dedup=change(synthesis.dedup, threshold=self.dedup),
        )  # fmt: skip


def recorded_rule(synthesis: Synthesis) -> Rule:
    """The rule that the run itself went by."""
    return Rule(
        synthesis.T_mean, synthesis.T_std, synthesis.review.mode, synthesis.num_reviewers, synthesis.dedup.threshold
    )


def cast(run: Recorded, one: Candidate, rule: Rule) -> tuple[tuple[str, ...], str]:
    """(reviewers, adjudicator) that the candidate has under the rule: those of a run with these settings."""
    synthesis = rule.settings(run.synthesis)
    if run.synthesis.roles == "adaptive":  # the draw depended on what was learnt: only a part of it can be taken
        judge = one.adjudicator if rule.mode == "committee" else ""
        if rule.mode == "committee" and committee_of(synthesis) < len(one.reviewers):
            judge = one.reviewers[committee_of(synthesis)]
        reviewers = one.reviewers[: committee_of(synthesis)]
    else:
        _, reviewers, judge = roles(run.seed, one.round, one.index, run.models, synthesis)
    if rule.members is not None:
        reviewers = tuple(name for name in reviewers if name in rule.members)
    return reviewers, judge


def verdict(run: Recorded, one: Candidate, rule: Rule) -> Verdict:
    """The candidate's fate before curation, from the record alone. The order of the steps is the story's (story.py)."""
    if not one.instruction or one.failed_at == "response":
        return Verdict.REJECTED
    if rule.mode == "none":
        return Verdict.ACCEPTED if one.response else Verdict.NO_RESPONSE
    reviewers, judge = cast(run, one, rule)
    asked = run.synthesis.review.mode != "none"
    given = partial(_given, run, one)
    flags: list[Any] = _of(reviewers, one, given("instruction_review")) if asked else [None] * len(reviewers)
    if any(f is not None and (f == "unreadable" or not f.passes) for f in flags):
        return Verdict.REJECTED
    if not flags or None in flags:
        return Verdict.NO_REVIEW
    if not one.response:
        return Verdict.NO_RESPONSE
    answered = len(one.instruction_reviews) == len(one.reviewers) and all(f.passes for f in one.instruction_reviews)
    reviews: list[Any] = _of(reviewers, one, given("response_review")) if answered else [None] * len(reviewers)
    if "unreadable" in reviews:
        return Verdict.REJECTED
    if None in reviews:
        return Verdict.NO_REVIEW
    weights = (
        [w for w, name in zip(one.weights, one.reviewers, strict=True) if name in reviewers] if one.weights else []
    )
    decision = decide(
        [r.mean for r in reviews], T_mean=rule.T_mean, T_std=rule.T_std, mode=rule.mode, weights=weights
    )  # fmt: skip
    if decision is not Decision.ADJUDICATE:
        return Verdict.ACCEPTED if decision is Decision.ACCEPT else Verdict.REJECTED
    return _adjudication(run, one, rule, reviewers, judge)


def _adjudication(run: Recorded, one: Candidate, rule: Rule, reviewers: tuple[str, ...], judge: str) -> Verdict:
    """A recorded adjudication counts if it is the one that this rule would ask for: same model, same reviews shown."""
    shown = reviewers == one.reviewers or run.synthesis.review.scoring == "likelihood"
    if judge != one.adjudicator or not shown:
        return Verdict.NO_ADJUDICATION
    if one.adjudication is None:
        return Verdict.REJECTED if one.failed_at == "adjudication" else Verdict.NO_ADJUDICATION
    return Verdict.ACCEPTED if adjudicated(one.adjudication.mean, T_mean=rule.T_mean) else Verdict.REJECTED


def _of(wanted: Iterable[str], one: Candidate, given: Sequence[Any]) -> list[Any]:
    """For each wanted reviewer what it gave, and None where it was never asked; one model in several places (roles of
    one model) is taken place by place."""
    left = list(zip(one.reviewers, given, strict=True))
    result: list[Any] = []
    for name in wanted:
        place = next((i for i, (drawn, _) in enumerate(left) if drawn == name), None)
        result.append(None if place is None else left.pop(place)[1])
    return result


def _given(run: Recorded, one: Candidate, prompt: str) -> list[Any]:
    """What each of the candidate's reviewers gave, by place; "unreadable" where it was asked in vain.

    Only what could be read is on record. Of one model in several places the sampling seeds of its attempts tell which.
    """
    found: Sequence[Any] = one.instruction_reviews if prompt == "instruction_review" else one.reviews
    if len(found) == len(one.reviewers):
        return list(found)
    if len(set(one.reviewers)) == len(one.reviewers):
        by_name = {record.reviewer: record for record in found}
        return [by_name.get(name, "unreadable") for name in one.reviewers]
    readable = {a.seed for a in one.attempts if a.prompt == prompt and not a.failed}
    draw = Draw(run.seed, one.round, one.index, one.domain, one.generator, one.reviewers, one.adjudicator, ())
    tries, left = range(run.synthesis.parse_retries + 1), iter(found)
    return [
        next(left) if any(draw.call_seed(prompt, name, place, i) in readable for i in tries) else "unreadable"
        for place, name in enumerate(one.reviewers)
    ]


@dataclass(frozen=True)
class Count:
    """What a rule makes of the proposals: bounds as (at least, at most).

    accepted: by review. kept: after curation, uncut, if none and if all of the undecided are accepted. correct: share
    of the accepted that is right (None: no checker, or nothing accepted).
    """

    candidates: int
    accepted: tuple[int, int]
    kept: tuple[int, int]
    undecided: Mapping[str, int]
    correct: tuple[float, float] | None


def count(
    run: Recorded, verdicts: Sequence[Verdict], keep: Callable[[Sequence[Candidate]], list[Candidate]], *, checker: bool
) -> Count:
    """keep: what curation leaves of the accepted candidates."""
    good = [c for c, v in zip(run.candidates, verdicts, strict=True) if v is Verdict.ACCEPTED]
    open_ = [c for c, v in zip(run.candidates, verdicts, strict=True) if v in UNDECIDED]
    least = len(keep(good))
    most = len(keep(sorted([*good, *open_], key=lambda c: (c.round, c.index)))) if open_ else least
    undecided = Counter(v.value for v in verdicts if v in UNDECIDED)
    return Count(
        len(verdicts), (len(good), len(good) + len(open_)), (least, most), dict(undecided),
        _correct(good, open_) if checker else None,
    )  # fmt: skip


def _correct(good: Sequence[Candidate], open_: Sequence[Candidate]) -> tuple[float, float] | None:
    """Bounds of the share of right rows: every undecided row that may be wrong joins, or every one that may be right.

    A row of unknown correctness (a response never written) may be either.
    """
    right = sum(c.correct is True for c in good)
    unknown = sum(c.correct is None for c in good)
    may_be_wrong = sum(c.correct is not True for c in open_)
    may_be_right = sum(c.correct is not False for c in open_)
    if not good and not open_:
        return None
    worst = right / max(1, len(good) + may_be_wrong)
    best = (right + unknown + may_be_right) / max(1, len(good) + may_be_right)
    return worst, best


class Curation:
    """Contamination and near-duplicates among accepted candidates, round after round; a text is embedded once."""

    def __init__(
        self, run: Recorded, encode: Encoder | None, checker: Checker | None, benchmarks: Benchmarks | None = None
    ) -> None:
        """encode: None where nothing is compared (GRA-Refine, whose instructions are the seeds')."""
        self._run, self._encode, self._checker, self._benchmarks = run, encode, checker, benchmarks
        self._vectors: dict[str, Any] = {}
        self._clean: dict[str, bool] = {}

    def keep(self, accepted: Sequence[Candidate], *, threshold: float) -> list[Candidate]:
        """What curation leaves of the accepted candidates (sorted by round and index). Rounds are not cut."""
        clean = [c for c in accepted if self._is_clean(c)]
        if self._encode is None:
            return clean
        dedup = self._run.synthesis.dedup
        pool = Index(dedup.exact_below)
        if dedup.include_seeds:
            self._embed([(s.id, text_of(s, dedup)) for s in self._run.seeds])
            pool.add([s.id for s in self._run.seeds], self._stack([s.id for s in self._run.seeds]))
        self._embed([(c.id, text_of(c, dedup)) for c in clean])
        kept: list[Candidate] = []
        for number in sorted({c.round for c in clean}):
            goods = [c for c in clean if c.round == number]
            plain = [Good(c.id, c.index, c.mu) for c in goods]
            twins = curate(plain, self._stack([c.id for c in goods]), pool, threshold=threshold)
            unique = [c for c in goods if c.id not in twins]
            pool.add([c.id for c in unique], self._stack([c.id for c in unique]))
            kept += unique
        return kept

    def _is_clean(self, one: Candidate) -> bool:
        if one.id not in self._clean:
            known = one.fate is Fate.CONTAMINATED
            fate = one.fate if known else checked(replace(one, fate=Fate.KEPT), self._checker, self._benchmarks).fate
            self._clean[one.id] = fate is Fate.KEPT
        return self._clean[one.id]

    def _embed(self, texts: Sequence[tuple[str, str]]) -> None:
        assert self._encode is not None
        new = [(name, text) for name, text in texts if name not in self._vectors]
        for start in range(0, len(new), BLOCK):
            part = new[start : start + BLOCK]
            self._vectors |= dict(zip([n for n, _ in part], self._encode([t for _, t in part]), strict=True))

    def _stack(self, names: Sequence[str]) -> Any:
        import numpy as np

        return np.stack([self._vectors[n] for n in names]) if names else np.zeros((0, 1), np.float32)


def fill(
    run: Recorded, rule: Rule, verdicts: Sequence[Verdict], models: Any, checker: Checker | None, *, refined: bool
) -> list[Candidate]:
    """The candidates with what was undecided asked: by the story itself, under the rule, through the ledger.

    models: an open pool. What is on record is answered from the ledger; new calls have the seeds that a real run's
    would have. In process whole waves are told again where one candidate is undecided: the ledger's unit is a batch.
    refined: of GRA-Refine, whose instructions are given.
    Raises UserError where the ledger no longer holds the run's own calls.
    """
    from gra_train.synthesis.prompts import family
    from gra_train.synthesis.story import refine, synthesise

    synthesis = rule.settings(run.synthesis)
    undecided = {c.id for c, v in zip(run.candidates, verdicts, strict=True) if v in UNDECIDED}

    def wave(one: Candidate) -> tuple[int, int]:
        return one.round, one.index // synthesis.wave

    waves = {wave(c) for c in run.candidates if c.id in undecided}
    told = [c for c in run.candidates if (wave(c) in waves if models.lockstep else c.id in undecided)]
    prompts = family(synthesis.prompts)

    def story(one: Candidate) -> Any:
        examples = tuple(run.samples[name] for name in one.examples)
        reviewers, judge = cast(run, one, rule)
        weights = tuple(w for w, name in zip(one.weights, one.reviewers, strict=True) if name in reviewers) \
            if one.weights else ()  # fmt: skip
        draw = Draw(run.seed, one.round, one.index, one.domain, one.generator, reviewers, judge, examples, weights)
        if refined:
            return partial(refine, draw=draw, sample=examples[0], family=prompts, synthesis=synthesis)
        return partial(synthesise, draw=draw, family=prompts, synthesis=synthesis)

    found: dict[str, Candidate] = {}
    for number in sorted(waves):
        part = [c for c in told if wave(c) == number]
        made = models.run([story(c) for c in part], block=synthesis.block)
        for before, after in zip(part, made, strict=True):
            if (before.keywords, before.instruction) != (after.keywords, after.instruction):
                raise UserError(
                    f"{before.id} was told again and is another proposal: the ledger does not hold this run's calls "
                    "(or a model has changed), so what is missing cannot be filled in."
                )
            if before.id in undecided:
                found[before.id] = replace(after, correct=checked(after, checker).correct)
    return [found.get(c.id, c) for c in run.candidates]


def filled_verdict(one: Candidate) -> Verdict:
    """The verdict over a candidate that was told under the rule itself."""
    return Verdict.ACCEPTED if one.fate is Fate.KEPT else Verdict.REJECTED
