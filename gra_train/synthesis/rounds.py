"""Rounds and waves: candidates are made until a round has its share of the target, then curated; the pool grows.

- A **wave** is a fixed range of indices. It is complete before anything looks at it.
- A **round** ends at the first wave after which the rows that curation would keep reach the round's share, or when
  `max_candidates` are used up (over all rounds); then the run says so and goes on with what it has.
- **Curation, then the cut.** Near-duplicates are removed from everything that the round accepted, in descending mu, as
  the paper does; the cut comes after it and *by index*: of the rows kept, the first `share` by index stay, the rest
  are SURPLUS and join nothing. Cutting first would make the number of rows left depend on which duplicates the cut
  severed; this way a round has exactly its share. The price: a duplicate's twin may itself be surplus.
- Which rows are kept therefore depends on seeds, configuration and answers, never on which candidate finished first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from gra_train.chat.protocol import Ask
from gra_train.records import Fate, Sample
from gra_train.schema import Synthesis
from gra_train.synthesis.adaptive import Experience
from gra_train.synthesis.annotate import summarise
from gra_train.synthesis.calls import KeyOf, no_key
from gra_train.synthesis.candidate import Candidate
from gra_train.synthesis.checker import Checker
from gra_train.synthesis.curation import BLOCK, Index, best_first, greedy, text_of
from gra_train.synthesis.draw import Corpus, draw
from gra_train.synthesis.embed import Encoder
from gra_train.synthesis.prompts import Family
from gra_train.synthesis.story import synthesise

log = logging.getLogger(__name__)


class Run(Protocol):
    """Runs stories and returns their results in order (OpenPool.run)."""

    def __call__(
        self, stories: Sequence[Any], *, block: int = ..., on_done: Callable[[int], None] | None = ...
    ) -> list[Any]: ...


@dataclass(frozen=True)
class Loop:
    """What a synthesis is made with. models: names of the pool, in its order."""

    seed: int
    synthesis: Synthesis
    models: Sequence[str]
    family: Family
    run: Run
    encode: Encoder
    checker: Checker | None = None
    key_of: KeyOf = no_key
    experience: Experience | None = None
    """With adaptive roles (adaptive.depends_on_previous_wave): what the waves before have shown."""


@dataclass(frozen=True)
class Round:
    """A finished round: every candidate with its fate, by index. ended_by: "target" or "max_candidates"."""

    number: int
    share: int
    waves: int
    candidates: list[Candidate]
    ended_by: str

    @property
    def kept(self) -> list[Candidate]:
        return [c for c in self.candidates if c.fate is Fate.KEPT]


def share_of(target: int, rounds: int, number: int) -> int:
    """Rows that round `number` (from 0) contributes to the target: the shares differ by at most one and add up."""
    return target * (number + 1) // rounds - target * number // rounds


def run_rounds(
    loop: Loop,
    seeds: Sequence[Sample],
    *,
    on_round: Callable[[Round], None],
    on_wave: Callable[[int, int, int], None] = lambda *_: None,
    on_done: Callable[[int], None] | None = None,
) -> list[Sample]:
    """The kept samples of all rounds, by round and index.

    seeds: D(0), annotated. on_round is given each finished round (and should write it: it is then forgotten).
    on_wave is told (round, candidates so far, kept so far) after each wave; on_done(n) of n finished candidates.
    """
    synthesis = loop.synthesis
    corpus, pool = Corpus.of(seeds), Index()
    if synthesis.dedup.include_seeds:
        pool.add([s.id for s in seeds], _embed(loop, seeds))
    kept: list[Sample] = []
    spent = 0
    for number in range(synthesis.rounds):
        if spent >= synthesis.max_candidates:
            break
        limit = synthesis.max_candidates - spent
        finished = _one_round(loop, number, corpus, pool, limit, len(kept), on_wave, on_done)
        spent += len(finished.candidates)
        if finished.ended_by == "max_candidates":
            log.warning(
                "round %d has %d of %d rows: synthesis.max_candidates=%d is used up; going on with what there is",
                number, len(finished.kept), finished.share, synthesis.max_candidates,
            )  # fmt: skip
        samples = [c.sample() for c in finished.kept]
        pool.add([s.id for s in samples], _embed(loop, samples))
        corpus = corpus.grown(samples)
        kept += samples
        on_round(finished)
    return kept


def _one_round(
    loop: Loop, number: int, corpus: Corpus, pool: Index, limit: int, kept_before: int,
    on_wave: Callable[[int, int, int], None], on_done: Callable[[int], None] | None,
) -> Round:  # fmt: skip
    synthesis = loop.synthesis
    share = share_of(synthesis.target, synthesis.rounds, number)
    candidates: list[Candidate] = []
    curated: list[Candidate] = []
    vectors: dict[str, Any] = {}
    waves = 0
    while sum(c.fate is Fate.KEPT for c in curated) < share and len(candidates) < limit:
        stop = min(len(candidates) + synthesis.wave, limit)
        candidates += make_wave(loop, number, range(len(candidates), stop), corpus, on_done)
        waves += 1
        # Curation only shrinks: it need not run before enough rows are there for it.
        if sum(c.fate is Fate.KEPT for c in candidates) >= share or len(candidates) >= limit:
            curated = curate(loop, candidates, pool, vectors)
        kept = sum(c.fate is Fate.KEPT for c in curated or candidates)
        on_wave(number, len(candidates), kept_before + min(kept, share))
    ended_by = "target" if sum(c.fate is Fate.KEPT for c in curated) >= share else "max_candidates"
    return Round(number, share, waves, _summarised(loop, cut(curated, share)), ended_by)


def make_wave(
    loop: Loop, number: int, indices: range, corpus: Corpus, on_done: Callable[[int], None] | None = None
) -> list[Candidate]:
    """The candidates of a range of indices, decided but not curated; with their true correctness where it is known."""
    weights = loop.experience.freeze(number, indices.start) if loop.experience else None
    draws = [
        draw(loop.seed, number, i, models=loop.models, corpus=corpus, synthesis=loop.synthesis, weights=weights)
        for i in indices
    ]
    stories = [partial(_story, one=d, loop=loop) for d in draws]
    made: list[Candidate] = loop.run(stories, block=loop.synthesis.block, on_done=on_done)
    if loop.experience:
        loop.experience.add(made)
    return [_checked(c, loop.checker) for c in made]


async def _story(ask: Ask, *, one: Any, loop: Loop) -> Candidate:
    return await synthesise(ask, one, family=loop.family, synthesis=loop.synthesis, key_of=loop.key_of)


def _checked(candidate: Candidate, checker: Checker | None) -> Candidate:
    """With `correct`: known False for an invalid instruction; None (unknown) where a response was never written."""
    if checker is None or not candidate.instruction:
        return candidate
    if not candidate.response:
        return candidate if checker.valid(candidate.instruction) else replace(candidate, correct=False)
    return replace(candidate, correct=checker.correct(candidate.instruction, candidate.response))


def curate(
    loop: Loop, candidates: Sequence[Candidate], pool: Index, vectors: dict[str, Any] | None = None
) -> list[Candidate]:
    """All candidates of a round, in their order, those accepted so far with fate KEPT, CONTAMINATED or DUPLICATE.

    vectors: by candidate id, those embedded before; the others are added (so that a wave is embedded once).
    """
    vectors = {} if vectors is None else vectors
    fates: dict[str, Candidate] = {}
    accepted = [c for c in candidates if c.fate is Fate.KEPT]
    if loop.checker is not None:
        fates = {c.id: replace(c, fate=Fate.CONTAMINATED) for c in accepted if loop.checker.held_out(c.instruction)}
    ordered = best_first([c for c in accepted if c.id not in fates])
    new = sorted((c for c in ordered if c.id not in vectors), key=lambda c: c.index)
    vectors.update(zip((c.id for c in new), _embed(loop, new), strict=True))
    stacked = _stack([vectors[c.id] for c in ordered])
    twins = greedy([c.id for c in ordered], stacked, pool, threshold=loop.synthesis.dedup.threshold)
    for candidate, twin in zip(ordered, twins, strict=True):
        if twin is not None:
            fates[candidate.id] = replace(candidate, fate=Fate.DUPLICATE, twin=twin.id, cosine=round(twin.cosine, 6))
    return [fates.get(c.id, c) for c in candidates]


def cut(candidates: Sequence[Candidate], share: int) -> list[Candidate]:
    """Of the kept candidates the first `share` by index; the others become SURPLUS."""
    kept = sorted(c.index for c in candidates if c.fate is Fate.KEPT)
    surplus = set(kept[share:])
    return [replace(c, fate=Fate.SURPLUS) if c.index in surplus else c for c in candidates]


def _summarised(loop: Loop, candidates: Sequence[Candidate]) -> list[Candidate]:
    """With the summary of every kept candidate, written by a random pool model."""
    kept = [c for c in candidates if c.fate is Fate.KEPT]
    written = loop.run([partial(_summary, candidate=c, loop=loop) for c in kept], block=loop.synthesis.block)
    summaries = dict(zip((c.id for c in kept), written, strict=True))
    return [
        replace(c, summary=summaries[c.id][0], attempts=(*c.attempts, *summaries[c.id][1])) if c.id in summaries else c
        for c in candidates
    ]


async def _summary(ask: Ask, *, candidate: Candidate, loop: Loop) -> Any:
    return await summarise(
        ask, candidate.instruction, candidate.id, seed=loop.seed, models=loop.models, family=loop.family,
        synthesis=loop.synthesis, key_of=loop.key_of,
    )  # fmt: skip


def _embed(loop: Loop, rows: Sequence[Sample] | Sequence[Candidate]) -> Any:
    """Vectors [n, dimensions] of the rows' texts, encoded block by block."""
    texts = [text_of(row, loop.synthesis.dedup) for row in rows]
    return _stack([vector for i in range(0, len(texts), BLOCK) for vector in loop.encode(texts[i : i + BLOCK])])


def _stack(vectors: Sequence[Any]) -> Any:
    import numpy as np

    return np.stack(vectors) if vectors else np.zeros((0, 1), np.float32)
