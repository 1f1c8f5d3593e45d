"""What chance decides about a candidate, drawn before any model is asked: domain, roles, examples, sampling seeds.

A draw is a function of (seed, round, index), the pool's names and the corpus alone (with adaptive roles also of the
wave's frozen weights), the same on any machine, so that candidates can be made in any order, in shards, and again.
Each decision has its own generator: a larger committee does not change who generates, and an ablation without review
sees the same proposals.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from gra_train.errors import UserError
from gra_train.records import Sample
from gra_train.schema import Synthesis
from gra_train.synthesis.adaptive import Weights, depends_on_previous_wave


def number(*parts: object) -> int:
    """63 bits that depend on all of `parts` (by their text) and on nothing else."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) >> 1


@dataclass(frozen=True, slots=True)
class Corpus:
    """The data pool D(t) that examples are drawn from: samples with domain, keywords and summary, in a fixed order.

    weights: how often each domain occurs in the seeds (a candidate's domain is drawn by it).
    """

    by_domain: dict[str, tuple[Sample, ...]]
    weights: dict[str, int]

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Corpus:
        """The corpus D(0). Samples that lack an annotation are left out; UserError if none is left."""
        usable = [s for s in samples if s.domain and s.keywords and s.summary]
        if not usable:
            raise UserError(
                f"none of the {len(samples)} seeds has a domain, keywords and a summary: "
                "there is nothing to draw examples from. Annotate them first (stage seeds), or give them these columns."
            )
        domains = sorted({s.domain for s in usable})
        grouped = {d: tuple(s for s in usable if s.domain == d) for d in domains}
        return cls(grouped, dict(sorted(Counter(s.domain for s in usable).items())))

    def grown(self, samples: Sequence[Sample]) -> Corpus:
        """D(t+1): with the samples that a round kept. The weights stay those of the seeds."""
        usable = [s for s in samples if s.domain in self.by_domain and s.keywords and s.summary]
        grouped = {d: (*old, *(s for s in usable if s.domain == d)) for d, old in self.by_domain.items()}
        return Corpus(grouped, self.weights)


@dataclass(frozen=True, slots=True)
class Draw:
    """One candidate's draw. Roles are names of pool members; pairwise different unless `roles=single`.

    weights: how much each reviewer counts (adaptive roles), or (): all alike, as published.
    """

    seed: int
    round: int
    index: int
    domain: str
    generator: str
    reviewers: tuple[str, ...]
    adjudicator: str
    examples: tuple[Sample, ...]
    weights: tuple[float, ...] = ()

    @property
    def id(self) -> str:
        return f"r{self.round}-{self.index:06d}"

    def call_seed(self, prompt: str, model: str, place: int, attempt: int) -> int:
        """Sampling seed of one call; `place` tells reviewers apart where one model plays them all."""
        return number(self.seed, self.round, self.index, prompt, model, place, attempt)


def check_names(models: Sequence[str], *, pool: str) -> None:
    """Raises UserError for a pool without models or with two of one name."""
    if not models:
        raise UserError(f"pool {pool!r} has no models. Give pool.models at least one, or choose another pool=.")
    if len(set(models)) < len(models):
        twice = next(name for name, count in Counter(models).items() if count > 1)
        raise UserError(f"pool {pool!r} has two models named {twice!r}; give each its own pool.models.<i>.name.")


def check_pool(models: Sequence[str], synthesis: Synthesis, *, pool: str) -> None:
    """Raises UserError where the pool has too few models for the roles, before any work is spent."""
    check_names(models, pool=pool)
    if synthesis.min_examples > synthesis.max_examples:
        raise UserError(
            f"synthesis.min_examples={synthesis.min_examples} is above synthesis.max_examples={synthesis.max_examples}."
        )
    if synthesis.roles == "single" or synthesis.review.mode == "none":
        return
    committee, adjudicator = committee_of(synthesis), synthesis.review.mode == "committee"
    needed = 1 + committee + adjudicator
    if len(models) < needed:
        single = synthesis.review.mode == "single"
        asked = "synthesis.review.mode=single" if single else f"synthesis.num_reviewers={committee}"
        roles = ["1 generator", f"{committee} reviewer{'s' * (committee > 1)}", *["1 adjudicator"] * adjudicator]
        raise UserError(
            f"{asked} needs a pool of at least {needed} models ({' + '.join(roles)}); "
            f"pool {pool!r} has {len(models)}: {', '.join(models)}.\n"
            "Use a larger pool, or synthesis.roles=single to let one model play every role."
        )


def committee_of(synthesis: Synthesis) -> int:
    """How many reviewers a sample has."""
    return {"none": 0, "single": 1}.get(synthesis.review.mode, synthesis.num_reviewers)


def roles(
    seed: int, round: int, index: int, models: Sequence[str], synthesis: Synthesis, *, domain: str = "",
    weights: Weights | None = None,
) -> tuple[str, tuple[str, ...], str]:  # fmt: skip
    """(generator, reviewers, adjudicator).

    random: generator uniform over the pool, committee without it (GRA, section 3.1). fixed: in the pool's order.
    single: one model, drawn uniformly for each candidate, plays all roles. adaptive: the generator by what `weights`
    know of `domain`, the others as in random. Without review there is only a generator, the same one as with it; of
    review.mode=single the reviewer is the committee's first; only a committee has an adjudicator ("": none).
    """
    committee = committee_of(synthesis)
    if synthesis.roles == "fixed":
        generator, others = models[0], list(models[1:])
    else:
        chosen = number(seed, round, index, "generator")
        generator = models[chosen % len(models)]
        if depends_on_previous_wave(synthesis):
            generator = (weights or Weights()).generator(models, domain, explore=synthesis.explore, seed=chosen)
        others = [m for m in models if m != generator]
        random.Random(number(seed, round, index, "committee")).shuffle(others)
    adjudicator = synthesis.review.mode == "committee"
    if synthesis.roles == "single":
        return generator, (generator,) * committee, generator if adjudicator else ""
    return generator, tuple(others[:committee]), others[committee] if adjudicator else ""


def draw(
    seed: int, round: int, index: int, *, models: Sequence[str], corpus: Corpus, synthesis: Synthesis,
    weights: Weights | None = None,
) -> Draw:  # fmt: skip
    """The draw of candidate `index` of `round` (counted from 0). weights: with adaptive roles, those of its wave.

    The domain follows the seeds' distribution, or is uniform over the domains that occur in them; the examples are 2
    to 4 different samples of it (GRA, section 3.2), fewer where the corpus has no more.
    """
    domains = list(corpus.weights)
    shares = [1] * len(domains) if synthesis.domains == "uniform" else list(corpus.weights.values())
    domain = random.Random(number(seed, round, index, "domain")).choices(domains, shares)[0]
    rng = random.Random(number(seed, round, index, "examples"))
    available = corpus.by_domain[domain]
    count = min(rng.randint(synthesis.min_examples, synthesis.max_examples), len(available))
    examples = tuple(available[i] for i in rng.sample(range(len(available)), count))
    return _drawn(seed, round, index, domain, examples, models, synthesis, weights)


def draw_for(
    sample: Sample, seed: int, round: int, index: int, *, models: Sequence[str], synthesis: Synthesis,
    weights: Weights | None = None,
) -> Draw:  # fmt: skip
    """The draw for a given sample (GRA-Refine): roles as for any candidate; its domain, and itself as the example."""
    return _drawn(seed, round, index, sample.domain, (sample,), models, synthesis, weights)


def _drawn(
    seed: int, round: int, index: int, domain: str, examples: tuple[Sample, ...], models: Sequence[str],
    synthesis: Synthesis, weights: Weights | None,
) -> Draw:  # fmt: skip
    generator, reviewers, adjudicator = roles(seed, round, index, models, synthesis, domain=domain, weights=weights)
    counted: tuple[float, ...] = ()
    if depends_on_previous_wave(synthesis):
        counted = (weights or Weights()).of_reviewers(reviewers, domain)
    return Draw(seed, round, index, domain, generator, reviewers, adjudicator, examples, counted)
