"""Adaptive roles: weights frozen per wave, draws a function of them, reviewers weighed by what their votes show."""

import random
from collections import Counter

import pytest

from gra_train.errors import UserError
from gra_train.records import Fate, Review
from gra_train.schema import Review as ReviewSettings
from gra_train.schema import Synthesis
from gra_train.synthesis.adaptive import MIN_REVIEWED, Experience, Weights, depends_on_previous_wave
from gra_train.synthesis.candidate import Candidate
from gra_train.synthesis.draw import Corpus, check_pool, draw, draw_for, roles
from gra_train.synthesis.prompts import family
from gra_train.synthesis.story import refine, synthesise

MODELS = ("ada", "bea", "cyd", "dot", "eve")
ADAPTIVE = Synthesis(roles="adaptive")
KNOWN = Weights(
    0, 8, {"Math": {"ada": (90, 100), "bea": (5, 100)}}, {"Math": {"ada": 0.95, "bea": 0.5, "cyd": 0.7, "dot": 0.99}}
)


def reviewed(index, generator, votes, domain="Math", fate=Fate.KEPT):
    return Candidate(
        f"r0-{index:06d}", 0, index, domain, generator, tuple(votes), "", (), fate=fate, mu=8.0,
        reviews=tuple(Review(model, (9 if vote else 4,) * 6) for model, vote in votes.items()),
    )  # fmt: skip


def test_only_adaptive_roles_with_reviews_wait_for_the_wave_before():
    assert depends_on_previous_wave(ADAPTIVE)
    assert not depends_on_previous_wave(Synthesis())
    assert not depends_on_previous_wave(Synthesis(roles="adaptive", review=ReviewSettings(mode="none")))


def test_generators_are_drawn_by_acceptance_with_exploration():
    drawn = Counter(roles(0, 0, i, MODELS, ADAPTIVE, domain="Math", weights=KNOWN)[0] for i in range(2000))
    assert drawn["ada"] > 800  # .2 are drawn uniformly; cyd, dot and eve, yet unseen, have their chance too
    assert drawn["bea"] < 150
    assert all(drawn[model] > 100 for model in ("cyd", "dot", "eve"))
    elsewhere = Counter(roles(0, 0, i, MODELS, ADAPTIVE, domain="QA", weights=KNOWN)[0] for i in range(2000))
    assert all(300 < n < 500 for n in elsewhere.values())
    only = Synthesis(roles="adaptive", explore=1.0)
    uniform = Counter(roles(0, 0, i, MODELS, only, domain="Math", weights=KNOWN)[0] for i in range(2000))
    assert all(320 < n < 480 for n in uniform.values())


def test_a_draw_is_a_function_of_seed_round_index_and_weights(seeds):
    corpus = Corpus.of(seeds)

    def drawn(weights):
        return [draw(3, 0, i, models=MODELS, corpus=corpus, synthesis=ADAPTIVE, weights=weights) for i in range(50)]

    assert drawn(KNOWN) == drawn(Weights.from_dict(KNOWN.to_dict()))
    for one in drawn(KNOWN):
        assert len({one.generator, *one.reviewers, one.adjudicator}) == 5
        assert len(one.weights) == 3
    plain = [draw(3, 0, i, models=MODELS, corpus=corpus, synthesis=Synthesis()) for i in range(50)]
    assert [(d.domain, d.examples) for d in drawn(KNOWN)] == [(d.domain, d.examples) for d in plain]
    assert not any(d.weights for d in plain)


def test_the_weights_of_reviewers_are_bounded_log_odds():
    ada, bea, dot = KNOWN.of_reviewers(("ada", "bea", "dot"), "Math")
    assert ada == dot == pytest.approx(2.944439)  # ln 19: no estimate is taken as certain
    assert bea == pytest.approx(0.200671)  # and none as worse than a guess
    assert KNOWN.of_reviewers(("eve",), "Math")[0] == pytest.approx(1.295046)  # unseen: the mean reliability, .785
    assert KNOWN.of_reviewers(("ada", "bea"), "QA") == (1.0, 1.0)


@pytest.fixture(scope="module")
def experience():
    """400 candidates whose true worth is known to us alone; reviewers right in 95, 85, 75 and 55% of the cases."""
    rng, skill = random.Random(0), {"bea": 0.95, "cyd": 0.85, "dot": 0.75, "eve": 0.55}
    learnt = Experience(MODELS, T_mean=8.0)
    for wave in range(4):
        rows = []
        for i in range(100):
            worth = rng.random() < 0.5
            votes = {m: worth == (rng.random() < skill[m]) for m in rng.sample(sorted(skill), 3)}
            rows.append(reviewed(100 * wave + i, "ada", votes, fate=Fate.KEPT if worth else Fate.REJECTED_SCORE))
        learnt.freeze(0, 100 * wave)
        learnt.add(rows)
    learnt.freeze(0, 400)
    return learnt


def test_reliability_is_estimated_from_votes_alone(experience):
    last = experience.frozen[-1].reliability["Math"]
    assert sorted(last, key=last.__getitem__, reverse=True) == ["bea", "cyd", "dot", "eve"]
    for model, skill in (("bea", 0.95), ("cyd", 0.85), ("dot", 0.75), ("eve", 0.55)):
        assert last[model] == pytest.approx(skill, abs=0.07)


def test_weights_are_frozen_before_each_wave(experience):
    assert [w.first for w in experience.frozen] == [0, 100, 200, 300, 400]
    first, second = experience.frozen[:2]
    assert (first.acceptance, first.reliability) == ({}, {})
    assert second.acceptance["Math"]["ada"][1] == 100
    assert set(second.reliability["Math"]) == {"bea", "cyd", "dot", "eve"}


def test_too_few_or_equal_votes_weigh_all_alike():
    few, equal = Experience(MODELS, T_mean=8.0), Experience(MODELS, T_mean=8.0)
    few.add(reviewed(i, "ada", {"bea": i % 2, "cyd": 1, "dot": i % 3 == 0}) for i in range(MIN_REVIEWED - 1))
    equal.add(reviewed(i, "ada", {"bea": 1, "cyd": 1, "dot": 1}) for i in range(MIN_REVIEWED))
    assert few.freeze(0, 1).reliability == equal.freeze(0, 1).reliability == {}


def tell(pool, one, synthesis):
    story = lambda ask: synthesise(ask, one, family=family("tags"), synthesis=synthesis)  # noqa: E731
    return pool.run([story])[0]


def test_the_weighted_decision_is_acted_on_and_both_are_reported(seeds, scripted):
    """A reviewer who counts little finds fault: counting alike it goes to the adjudicator, weighed it is accepted."""
    weights = Weights(reliability={"Math": {"ada": 0.95, "bea": 0.55, "cyd": 0.95, "dot": 0.95, "eve": 0.95}})
    corpus = Corpus.of(seeds)
    drawn = (draw(3, 0, i, models=MODELS, corpus=corpus, synthesis=ADAPTIVE, weights=weights) for i in range(99))
    one = next(d for d in drawn if d.domain == "Math" and "bea" in d.reviewers)
    pool = scripted(response_review=lambda m, r: f"<scores>{', '.join(['4' if m == 'bea' else '10'] * 6)}</scores>")
    candidate = tell(pool, one, ADAPTIVE)
    assert (candidate.mu, candidate.decision) == (8.0, "adjudicate")
    assert candidate.weighted_decision == candidate.decided == "accept"
    assert candidate.weighted_mu > 9.7
    assert candidate.weighted_sigma < 1.5
    assert candidate.fate is Fate.KEPT
    assert pool.count()["adjudicator/adjudication"] == 0
    assert sorted(candidate.weights)[0] == pytest.approx(0.200671)


@pytest.mark.parametrize(
    ("values", "mode", "fate"),
    [
        ((10, 10, 5), "majority", Fate.KEPT),
        ((10, 7.84, 6.17), "majority", Fate.REJECTED_SCORE),
        ((10, 8, 5), "majority", Fate.REJECTED_SCORE),  # two of three, but mu is below the threshold
        ((8,), "single", Fate.KEPT),
        ((7,), "single", Fate.REJECTED_SCORE),
    ],
)
def test_review_without_an_adjudicator(seeds, scripted, values, mode, fate):
    synthesis = Synthesis(review=ReviewSettings(mode=mode))
    one = draw(3, 0, 0, models=MODELS, corpus=Corpus.of(seeds), synthesis=synthesis)
    assert one.adjudicator == ""
    assert len(one.reviewers) == len(values)
    left = list(values)

    def review(model, request):
        total = round(6 * left.pop(0))
        six = [total // 6 + (i < total % 6) for i in range(6)]
        return f"<scores>{', '.join(map(str, six))}</scores>"

    pool = scripted(response_review=review)
    candidate = tell(pool, one, synthesis)
    assert candidate.fate is fate
    assert candidate.decision in ("accept", "reject")
    assert "adjudicator/adjudication" not in pool.count()


def test_the_single_reviewer_is_the_first_of_the_committee():
    for index in range(20):
        generator, committee, _ = roles(0, 0, index, MODELS, Synthesis())
        single = Synthesis(review=ReviewSettings(mode="single"))
        assert roles(0, 0, index, MODELS, single) == (generator, committee[:1], "")


def test_a_pool_needs_as_many_models_as_the_mode_has_roles():
    check_pool(MODELS[:4], Synthesis(review=ReviewSettings(mode="majority")), pool="four")
    check_pool(MODELS[:2], Synthesis(review=ReviewSettings(mode="single")), pool="two")
    with pytest.raises(UserError, match=r"at least 4 models \(1 generator \+ 3 reviewers\); pool 'three' has 3"):
        check_pool(MODELS[:3], Synthesis(review=ReviewSettings(mode="majority")), pool="three")
    with pytest.raises(UserError, match=r"review.mode=single needs a pool of at least 2 models \(1 generator \+ 1 rev"):
        check_pool(MODELS[:1], Synthesis(review=ReviewSettings(mode="single")), pool="one")


def test_refine_answers_a_seed_anew_and_reviews_it(seeds, scripted):
    seed = seeds[0]
    synthesis = Synthesis()
    one = draw_for(seed, 3, 0, 7, models=MODELS, synthesis=synthesis)
    assert (one.domain, one.examples, one.id) == (seed.domain, (seed,), "r0-000007")
    pool = scripted(response=lambda m, r: "<response>a better answer</response>")
    story = lambda ask: refine(ask, one, seed, family=family("tags"), synthesis=synthesis)  # noqa: E731
    candidate = pool.run([story])[0]
    assert (candidate.fate, candidate.instruction, candidate.response) == (
        Fate.KEPT, seed.instruction, "a better answer",
    )  # fmt: skip
    assert candidate.examples == (seed.id,)
    assert candidate.keywords == seed.keywords
    assert pool.count() == {
        "generator/response": 1, "reviewer/instruction_review": 3, "reviewer/response_review": 3,
    }  # fmt: skip


def test_every_attempt_has_its_seed_and_key(seeds, scripted):
    one = draw(3, 0, 0, models=MODELS, corpus=Corpus.of(seeds), synthesis=Synthesis())
    keys = []

    def key_of(model, request):
        keys.append((model, request.seed, request.purpose))
        return bytes([len(keys)])

    pool = scripted()
    story = lambda ask: synthesise(ask, one, family=family("tags"), synthesis=Synthesis(), key_of=key_of)  # noqa: E731
    candidate = pool.run([story])[0]
    assert [a.key for a in candidate.attempts] == [bytes([i + 1]) for i in range(9)]
    assert [(a.model, a.seed, f"{a.role}/{a.prompt}") for a in candidate.attempts] == keys
    assert [r.seed for _, r in pool.asked] == [a.seed for a in candidate.attempts]
