"""Rounds: candidates are made in waves until a round has its share of the target, then curated; the pool grows.

- A **wave** is a fixed range of indices. It is complete before anything looks at it.
- A **round** ends at the first wave after which the rows that curation would keep reach the round's share, or when
  `max_candidates` are used up (over all rounds); then the run says so and goes on with what it has. Behind servers
  later waves may have been started by then (waves.py); they are dropped.
- **Curation, then the cut.** Near-duplicates are removed from everything that the round accepted, in descending mu, as
  the paper does; the cut comes after it and *by index*: of the rows kept, the first `share` by index stay, the rest
  are SURPLUS and join nothing. Cutting first would make the number of rows left depend on which duplicates the cut
  severed; this way a round has exactly its share. The price: a duplicate's twin may itself be surplus.
- Which rows are kept therefore depends on seeds, configuration and answers, never on which candidate finished first.

Texts are in memory while they are made and once more when they are written; in between a file holds them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from gra_train.chat.protocol import Ask
from gra_train.records import Fate, Sample
from gra_train.schema import Synthesis
from gra_train.synthesis.adaptive import Experience
from gra_train.synthesis.annotate import summarise
from gra_train.synthesis.calls import KeyOf, no_key
from gra_train.synthesis.candidate import Candidate
from gra_train.synthesis.checker import Checker
from gra_train.synthesis.curation import Index, Twin, best_first, greedy, text_of
from gra_train.synthesis.decontaminate import Benchmarks
from gra_train.synthesis.draw import Corpus, draw
from gra_train.synthesis.embed import Encoder
from gra_train.synthesis.prompts import Family
from gra_train.synthesis.story import synthesise
from gra_train.synthesis.vectors import BLOCK, Stored, Vectors
from gra_train.synthesis.waves import Rates, Spool, Waves

log = logging.getLogger(__name__)


class Stream(Protocol):
    """Runs stories, drawn lazily, and gives (number, result) as they finish (OpenPool.stream)."""

    def __call__(
        self, stories: Iterable[Any], *, block: int = ..., on_done: Callable[[int], None] | None = ...
    ) -> Iterator[tuple[int, Any]]: ...


@dataclass(frozen=True)
class Loop:
    """What a synthesis is made with. models: names of the pool, in its order.

    lockstep: a model is in process, and consecutive stories are batched together: one wave after another.
    settle: told up to which story of a stream results count, so that usage is what was needed (OpenPool.settle).
    health: which servers do not answer now, for the progress line.
    experience: with adaptive roles, what the waves before have shown. folder: where unfinished rounds are kept.
    """

    seed: int
    synthesis: Synthesis
    models: Sequence[str]
    family: Family
    stream: Stream
    encode: Encoder
    checker: Checker | None = None
    key_of: KeyOf = no_key
    experience: Experience | None = None
    lockstep: bool = True
    settle: Callable[[int], None] = lambda _: None
    health: Callable[[], str] = str
    folder: Path | None = None
    benchmarks: Benchmarks | None = None


@dataclass(frozen=True)
class Round:
    """A finished round. ended_by: "target" or "max_candidates".

    accepted: by review; unique: of those, what curation left; kept: of those, what the cut left. in_vain: candidates
    started beyond the last wave (it depends on timing, and no result does on it).
    """

    number: int
    share: int
    waves: int
    candidates: int
    accepted: int
    unique: int
    kept: int
    ended_by: str
    in_vain: int


@dataclass(slots=True)
class Watch:
    """Who is told what. on_candidates: a round's candidates with their final fates, wave after wave, by index; then
    on_round. on_wave: (round, candidates so far, kept so far) after each wave. on_done(n): n candidates finished."""

    on_candidates: Callable[[list[Candidate]], None]
    on_round: Callable[[Round], None] = lambda _: None
    on_wave: Callable[[int, int, int], None] = lambda *_: None
    on_done: Callable[[int], None] | None = None


def share_of(target: int, rounds: int, number: int) -> int:
    """Rows that round `number` (from 0) contributes to the target: the shares differ by at most one and add up."""
    return target * (number + 1) // rounds - target * number // rounds


def run_rounds(loop: Loop, seeds: Sequence[Sample], watch: Watch, *, stop_after: int | None = None) -> int:
    """Make and curate all rounds (or the first `stop_after`); how many rows were kept. seeds: D(0), annotated."""
    synthesis = loop.synthesis
    corpus, pool, rates = Corpus.of(seeds), Index(synthesis.dedup.exact_below, loop.folder), Rates()
    if synthesis.dedup.include_seeds:
        pool.add([s.id for s in seeds], _embed(loop, [text_of(s, synthesis.dedup) for s in seeds]))
    kept = spent = 0
    for number in range(synthesis.rounds if stop_after is None else min(stop_after, synthesis.rounds)):
        if spent >= synthesis.max_candidates:
            break
        with closing(Spool(loop.folder)) as spool, ThreadPoolExecutor(1) as beside:
            one = _Round(loop, number, corpus, pool, rates, spool, beside, synthesis.max_candidates - spent, watch)
            one.make(kept)
            done, samples = one.finish()
        spent, kept = spent + done.candidates, kept + done.kept
        corpus = corpus.grown(samples)
        if done.ended_by == "max_candidates":
            log.warning(
                "round %d has %d of %d rows: synthesis.max_candidates=%d is used up; going on with what there is",
                number, done.kept, done.share, synthesis.max_candidates,
            )  # fmt: skip
        watch.on_round(done)
    return kept


@dataclass(frozen=True, slots=True)
class Good:
    """What curation needs of a candidate that review let pass."""

    id: str
    index: int
    mu: float | None


@dataclass
class _Round:
    """One round in the making."""

    loop: Loop
    number: int
    corpus: Corpus
    pool: Index
    rates: Rates
    spool: Spool
    beside: Executor
    """Encodes what is complete while further calls go on."""
    limit: int
    watch: Watch
    _encoding: dict[int, Future[range]] = field(default_factory=dict)
    _goods: dict[int, list[Good]] = field(default_factory=dict)
    _unique: list[Good] | None = None
    _twins: dict[str, Twin] = field(default_factory=dict)
    _weights: Any = None
    _last: int = -1
    _told: int = 0

    def __post_init__(self) -> None:
        synthesis = self.loop.synthesis
        self.share = share_of(synthesis.target, synthesis.rounds, self.number)
        self._vectors = Stored(self.loop.folder)
        self.waves = Waves(
            size=synthesis.wave, limit=self.limit, share=self.share, lookahead=synthesis.lookahead, rates=self.rates,
            ahead=not (self.loop.lockstep or self.loop.experience), cut_blocks=self.loop.lockstep, spool=self.spool,
            story=self._story, start=self._freeze, finish=self._checked,
        )  # fmt: skip

    def make(self, kept_before: int) -> None:
        """Candidates, until the round has its share or nothing is left to make."""
        synthesis, waves = self.loop.synthesis, self.waves
        running = self.loop.stream(waves.stories(), block=synthesis.block, on_done=self.watch.on_done)
        with closing(running) as finished:  # type: ignore[type-var]
            for _, candidate in finished:
                for wave in waves.take(candidate):
                    kept, made = self._look(wave), waves.indices(wave).stop
                    self.loop.settle(made)
                    self.watch.on_wave(self.number, made, kept_before + min(kept, self.share))
                    if waves.over:
                        return

    def _look(self, wave: int) -> int:
        """How many rows there are after this wave; says when the round is over."""
        if self.loop.experience:
            self.loop.experience.add(self.spool.get(wave))
        self._last, made = wave, self.waves.indices(wave).stop
        goods = self._accepted()
        # Curation only shrinks: it need not run before enough rows are there for it.
        if len(goods) < self.share and made < self.limit:
            return len(goods)
        threshold = self.loop.synthesis.dedup.threshold
        self._twins = curate(goods, self._vectors, self.pool, threshold=threshold, places=self._places())
        self._unique = [g for g in goods if g.id not in self._twins]
        self.rates.kept = len(self._unique) / len(goods) if goods else self.rates.kept
        self.waves.over = len(self._unique) >= self.share or made >= self.limit
        return len(self._unique)

    def finish(self) -> tuple[Round, list[Sample]]:
        """The finished round, and what its rows add to the corpus; every candidate is handed on with its fate."""
        assert self._unique is not None
        kept, goods = self._unique[: self.share], self._accepted()
        summaries = self._summaries({g.id for g in kept})
        samples: list[Sample] = []
        for wave in range(self._last + 1):
            final = [self._final(c, summaries) for c in self.spool.get(wave)]
            self.watch.on_candidates(final)
            # Later prompts show an example's domain, keywords and summary, never its text.
            samples += [replace(c.sample(), instruction="", response="") for c in final if c.fate is Fate.KEPT]
        if self.number + 1 < self.loop.synthesis.rounds:  # else there is nobody to be compared with them
            places = dict(zip((g.id for g in goods), self._places(), strict=True))
            for i in range(0, len(kept), BLOCK):
                ids = [g.id for g in kept[i : i + BLOCK]]
                self.pool.add(ids, self._vectors[[places[id] for id in ids]])
        made = self.waves.indices(self._last).stop
        ended_by = "target" if len(self._unique) >= self.share else "max_candidates"
        return Round(
            self.number, self.share, self._last + 1, made, len(goods), len(self._unique), len(kept), ended_by,
            max(0, self._told - made),
        ), samples  # fmt: skip

    def _final(self, candidate: Candidate, summaries: dict[str, Any]) -> Candidate:
        if candidate.fate is not Fate.KEPT:
            return candidate
        if twin := self._twins.get(candidate.id):
            return replace(candidate, fate=Fate.DUPLICATE, twin=twin.id, cosine=round(twin.cosine, 6))
        if candidate.id not in summaries:
            return replace(candidate, fate=Fate.SURPLUS)
        summary, attempts = summaries[candidate.id]
        return replace(candidate, summary=summary, attempts=(*candidate.attempts, *attempts))

    def _summaries(self, kept: set[str]) -> dict[str, Any]:
        """(summary, attempts) by id of every kept candidate, written by a random pool model."""
        ids: list[str] = []

        def stories() -> Iterator[Any]:
            for wave in range(self._last + 1):
                for candidate in self.spool.get(wave):
                    if candidate.id in kept:
                        ids.append(candidate.id)
                        yield partial(summary_story, candidate.instruction, candidate.id, loop=self.loop)

        return {ids[i]: found for i, found in self.loop.stream(stories(), block=self.loop.synthesis.block)}

    def _story(self, index: int) -> Any:
        loop = self.loop
        one = draw(
            loop.seed, self.number, index, models=loop.models, corpus=self.corpus, synthesis=loop.synthesis,
            weights=self._weights,
        )  # fmt: skip

        async def story(ask: Ask) -> Candidate:
            self._told = max(self._told, index + 1)
            return await synthesise(ask, one, family=loop.family, synthesis=loop.synthesis, key_of=loop.key_of)

        return story

    def _freeze(self, first: int) -> None:
        self._weights = self.loop.experience.freeze(self.number, first) if self.loop.experience else None

    def _checked(self, candidates: list[Candidate]) -> list[Candidate]:
        """A complete wave, with what is known of each candidate by itself; those that are good go to be encoded."""
        loop, wave = self.loop, candidates[0].index // self.waves.size
        known = [checked(c, loop.checker, loop.benchmarks) for c in candidates]
        good = [c for c in known if c.fate is Fate.KEPT]
        self._goods[wave] = [Good(c.id, c.index, c.mu) for c in good]
        texts = [text_of(c, loop.synthesis.dedup) for c in good]
        self._encoding[wave] = self.beside.submit(lambda: self._vectors.add(_embed(loop, texts)))
        return known

    def _accepted(self) -> list[Good]:
        return [good for wave in range(self._last + 1) for good in self._goods[wave]]

    def _places(self) -> list[int]:
        """Where the vectors of what is accepted are."""
        return [place for wave in range(self._last + 1) for place in self._encoding[wave].result()]


def checked(candidate: Candidate, checker: Checker | None, benchmarks: Benchmarks | None = None) -> Candidate:
    """With `correct`: known False for an invalid instruction; None (unknown) where a response was never written.

    What was accepted and is a test problem, or overlaps with a benchmark's question, is CONTAMINATED.
    """
    if benchmarks is not None and candidate.fate is Fate.KEPT:
        match = benchmarks.match(candidate.instruction, candidate.response)
        if match is not None:
            candidate = replace(
                candidate, fate=Fate.CONTAMINATED, benchmark=match.benchmark, question=match.question, ngram=match.ngram
            )
    if checker is None or not candidate.instruction:
        return candidate
    if candidate.fate is Fate.KEPT and checker.held_out(candidate.instruction):
        candidate = replace(candidate, fate=Fate.CONTAMINATED)
    if not candidate.response:
        return candidate if checker.valid(candidate.instruction) else replace(candidate, correct=False)
    return replace(candidate, correct=checker.correct(candidate.instruction, candidate.response))


def curate(
    goods: Sequence[Good], vectors: Vectors, pool: Index, *, threshold: float, places: Sequence[int] | None = None
) -> dict[str, Twin]:
    """The near-duplicates among the good candidates of a round and their twins, by id.

    vectors: [n, dimensions]; places: where each one's vector is (None: in the same order).
    """
    where = dict(zip((g.id for g in goods), range(len(goods)) if places is None else places, strict=True))
    order = best_first(goods)
    twins = greedy([g.id for g in order], vectors, pool, threshold=threshold, places=[where[g.id] for g in order])
    return {good.id: twin for good, twin in zip(order, twins, strict=True) if twin is not None}


async def summary_story(instruction: str, id: str, ask: Ask, *, loop: Loop) -> Any:
    """The summary of one instruction, and the attempts at it."""
    return await summarise(
        ask, instruction, id, seed=loop.seed, models=loop.models, family=loop.family, synthesis=loop.synthesis,
        key_of=loop.key_of,
    )  # fmt: skip


def _embed(loop: Loop, texts: Sequence[str]) -> Any:
    """Vectors [n, dimensions], encoded block by block."""
    import numpy as np

    if not texts:
        return np.zeros((0, 1), np.float32)
    return np.concatenate([loop.encode(texts[i : i + BLOCK]) for i in range(0, len(texts), BLOCK)])
