"""One shard of a round: its blocks of candidates, asked for into the ledger, so that curation finds them there.

Shard i of n makes every n-th block of `synthesis.block` indices, wave after wave, until what it accepted lets expect
that the round has enough. It decides nothing about the data set: the unsharded synthesis, run afterwards, asks the same
again, finds the answers in the ledger, curates, and makes what is missing. A lost shard therefore costs calls, never
correctness, and the result is that of a run without shards.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

from gra_train.chat.protocol import Ask
from gra_train.errors import UserError
from gra_train.records import Fate, Sample
from gra_train.schema import Synthesis
from gra_train.synthesis.adaptive import depends_on_previous_wave
from gra_train.synthesis.candidate import Candidate
from gra_train.synthesis.draw import Corpus, draw
from gra_train.synthesis.rounds import Loop, Round, share_of, summary_story
from gra_train.synthesis.story import synthesise


def parse_shard(text: str, synthesis: Synthesis) -> tuple[int, int]:
    """(i, n) of synthesis.shard="i/n", i from 1. Raises UserError, also for roles that cannot be sharded."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    shard, of = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= shard <= of:
        raise UserError(f"synthesis.shard={text!r}: expected i/n with i from 1 to n, e.g. 2/8")
    if depends_on_previous_wave(synthesis):
        raise UserError(
            "synthesis.roles=adaptive cannot be sharded: a wave's draws need the results of the wave before it. "
            "Choose synthesis.roles=random, or leave synthesis.shard out."
        )
    return shard, of


def indices_of(wave: int, *, shard: int, of: int, synthesis: Synthesis, limit: int) -> list[range]:
    """The blocks of a wave that belong to a shard: every block to exactly one, consecutive ones to different ones."""
    first, stop = min(wave * synthesis.wave, limit), min((wave + 1) * synthesis.wave, limit)
    blocks = [range(i, min(i + synthesis.block, stop)) for i in range(first, stop, synthesis.block)]
    before = wave * math.ceil(synthesis.wave / synthesis.block)
    return [block for j, block in enumerate(blocks, before) if j % of == shard - 1]


def make_shard(
    loop: Loop, seeds: list[Sample], rows: list[Sample], rounds: list[Round], *, shard: int, of: int,
    on_done: Callable[[int], None] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Make a shard of the round after `rounds`, whose kept rows are `rows`; what was made, as counts."""
    synthesis, number = loop.synthesis, len(rounds)
    bare = [replace(row, instruction="", response="") for row in rows]
    corpus = Corpus.of(seeds).grown(bare)
    limit = synthesis.max_candidates - sum(done.candidates for done in rounds)
    unique = rounds[-1].unique / rounds[-1].accepted if rounds and rounds[-1].accepted else 1.0
    need = share_of(synthesis.target, synthesis.rounds, number) * (1 + synthesis.margin) / max(unique, 0.01) / of
    counts = {"round": number, "waves": 0, "candidates": 0, "accepted": 0}
    given = 0

    async def story(ask: Ask, *, index: int) -> Candidate:
        one = draw(loop.seed, number, index, models=loop.models, corpus=corpus, synthesis=synthesis)
        told = await synthesise(ask, one, family=loop.family, synthesis=synthesis, key_of=loop.key_of)
        if told.fate is Fate.KEPT and not loop.lockstep:  # in process, who is summarised with whom is up to curation
            await summary_story(told.instruction, told.id, ask, loop=loop)
        return told

    def stories() -> Iterator[Any]:
        nonlocal given
        while counts["waves"] * synthesis.wave < limit and counts["accepted"] < need:
            rate = counts["accepted"] / counts["candidates"] if counts["candidates"] else 1.0
            unfinished = given - counts["candidates"]
            if unfinished and counts["accepted"] + rate * unfinished >= need:
                yield None
                continue
            wave = counts["waves"]
            counts["waves"] += 1
            for block in indices_of(wave, shard=shard, of=of, synthesis=synthesis, limit=limit):
                given += len(block)
                yield from (partial(story, index=i) for i in block)
                if loop.lockstep:
                    yield None

    with closing(loop.stream(stories(), block=synthesis.block, on_done=on_done)) as finished:  # type: ignore[type-var]
        for _, candidate in finished:
            counts["candidates"] += 1
            counts["accepted"] += candidate.fate is Fate.KEPT
    return counts
