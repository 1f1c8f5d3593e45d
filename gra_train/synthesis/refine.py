"""GRA-Refine: the pool answers the seeds' instructions anew; the answers are reviewed and adjudicated as ever.

No instruction is written and nothing is compared. A seed's refined row takes its place; a seed whose new response does
not pass review is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

from gra_train.chat.protocol import Ask
from gra_train.records import Fate, Sample
from gra_train.synthesis.candidate import Candidate
from gra_train.synthesis.draw import draw_for
from gra_train.synthesis.rounds import Loop, Watch, checked
from gra_train.synthesis.story import refine
from gra_train.synthesis.waves import Rates, Spool, Waves


def refine_seeds(loop: Loop, seeds: Sequence[Sample], watch: Watch) -> int:
    """Tell watch.on_candidates of every seed's candidate, by the seeds' order; how many were kept.

    A candidate has the id, keywords and summary of its seed.
    """
    synthesis, kept = loop.synthesis, 0

    def story(index: int) -> object:
        sample = seeds[index]
        one = draw_for(sample, loop.seed, 0, index, models=loop.models, synthesis=synthesis)

        async def told(ask: Ask) -> Candidate:
            made = await refine(ask, one, sample, family=loop.family, synthesis=synthesis, key_of=loop.key_of)
            return replace(made, id=sample.id, summary=sample.summary)

        return told

    with closing(Spool(loop.folder)) as spool:
        waves = Waves(  # no share ends it: all are certain to be needed
            size=synthesis.wave, limit=len(seeds), share=len(seeds) + 1, ahead=not loop.lockstep, lookahead=0,
            cut_blocks=loop.lockstep, rates=Rates(), spool=spool, story=story, start=lambda _: None,
            finish=lambda made: [checked(c, loop.checker, loop.benchmarks) for c in made],
        )  # fmt: skip
        running = loop.stream(waves.stories(), block=synthesis.block, on_done=watch.on_done)
        with closing(running) as finished:  # type: ignore[type-var]
            for _, candidate in finished:
                for wave in waves.take(candidate):
                    made = spool.get(wave)
                    kept += sum(c.fate is Fate.KEPT for c in made)
                    watch.on_candidates(made)
                    watch.on_wave(0, waves.indices(wave).stop, kept)
                    waves.over = waves.indices(wave).stop == len(seeds)
                    if waves.over:
                        return kept
    return kept
