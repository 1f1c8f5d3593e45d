"""Scores by likelihood: what is asked of whom, and how probabilities become flags and scores."""

from math import log

import pytest

from gra_train.chat.protocol import Likelihood, TokenLogProbs
from gra_train.records import Fate
from gra_train.schema import Review, Synthesis
from gra_train.synthesis.draw import Corpus, draw
from gra_train.synthesis.likelihood import instruction_flags, response_scores
from gra_train.synthesis.prompts import family
from gra_train.synthesis.story import synthesise

MODELS = ("ada", "bea", "cyd", "dot", "eve")


def probs(*values, tokens=()):
    return TokenLogProbs(tuple(log(v) for v in values), tokens or tuple(f"t{i}" for i in range(len(values))))


@pytest.fixture
def tell(seeds, scripted):
    def told(log_probs, name="tags", index=0, **settings):
        synthesis = Synthesis(prompts=name, review=Review(scoring="likelihood"), **settings)
        corpus, prompts = Corpus.of(seeds), family(name)
        one = draw(3, 0, index, models=MODELS, corpus=corpus, synthesis=synthesis)
        pool = scripted(log_probs=log_probs)
        story = lambda ask: synthesise(ask, one, family=prompts, synthesis=synthesis)  # noqa: E731
        return pool.run([story])[0], pool

    return told


def test_reviewers_are_asked_for_the_texts_under_their_own_prompts(tell):
    candidate, pool = tell(lambda m, r: probs(0.99, 0.98))
    assert candidate.fate is Fate.KEPT
    assert all(flags.flags == (1, 1, 1) for flags in candidate.instruction_reviews)
    for review in candidate.reviews:
        assert len(review.scores) == 6
        assert all(isinstance(s, int) and 1 <= s <= 10 for s in review.scores)
        assert review.text
    scored = [(m, r) for m, r in pool.asked if isinstance(r, Likelihood)]
    assert {m for m, _ in scored} == set(candidate.reviewers)
    tags = family("tags")
    continuations = {
        tags.response("").write(candidate.response),
        tags.instruction("", (), ()).write(candidate.instruction),
    }
    assert {r.continuation for _, r in scored} == continuations
    responses = [r for _, r in scored if r.continuation == tags.response("").write(candidate.response)]
    assert all(r.messages == tags.response(candidate.instruction).messages for r in responses)
    assert {a.role for a in candidate.attempts} == {"generator", "reviewer"}
    assert not any(a.failed for a in candidate.attempts if a.role == "reviewer"), "a likelihood is never unparseable"


def test_an_unlikely_token_flags_the_instruction(tell):
    candidate, _ = tell(lambda m, r: probs(0.9, 0.02 if m == "bea" else 0.5), index=1)
    rejected = "bea" in candidate.reviewers
    assert (candidate.fate is Fate.REJECTED_INSTRUCTION) == rejected


def test_an_unlikely_response_is_rejected_and_disagreement_adjudicated_by_likelihood(tell):
    def unlikely_to(*models):
        return lambda m, r: probs(0.9, 1e-6 if m in models and "<response>" in r.continuation else 0.9)

    candidate, _ = tell(unlikely_to(*MODELS))
    assert candidate.fate is Fate.REJECTED_SCORE
    first = candidate.reviewers[0]
    candidate, pool = tell(unlikely_to(first), T_mean=6.0)
    assert candidate.fate is Fate.KEPT
    assert candidate.adjudication is not None
    assert candidate.adjudication.reviewer == candidate.adjudicator
    assert any(r.purpose.startswith("adjudicator") and m == candidate.adjudicator for m, r in pool.asked)
    candidate, _ = tell(unlikely_to(first, candidate.adjudicator), T_mean=6.0)
    assert candidate.fate is Fate.REJECTED_ADJUDICATOR


@pytest.mark.parametrize(("kind", "step"), [("<instruction>", "instruction_review"), ("<response>", "response_review")])
def test_a_likelihood_that_a_server_does_not_answer_costs_the_sample(tell, kind, step):
    candidate, pool = tell(lambda m, r: TokenLogProbs((), failed=True) if kind in r.continuation else probs(0.9, 0.9))
    assert (candidate.fate, candidate.failed_at) == (Fate.UNPARSEABLE, step)
    assert {a.outcome for a in candidate.attempts if a.failed} == {"the server did not answer it"}
    assert all(r.may_fail for _, r in pool.asked if isinstance(r, Likelihood))


def test_flags_are_thresholds_on_the_least_likely_token():
    assert instruction_flags(probs(0.5, 0.0301), min_token_prob=0.03) == (1, 1, 1)
    assert 0 in instruction_flags(probs(0.5, 0.0299), min_token_prob=0.03)


def test_certain_text_scores_ten_and_impossible_text_one():
    certain, impossible = probs(1.0, 1.0, 1.0), probs(1e-30, 1e-30, 1e-30)
    assert response_scores(certain, certain, slope=0.667)[0] == (10,) * 6
    scores, text = response_scores(impossible, impossible, slope=0.667)
    assert scores == (1,) * 6
    assert isinstance(text, str)


def test_a_wrong_answer_lowers_its_score_most():
    tokens = ("2", "+", "3", "=", "5", ".", "####", "6")
    right = response_scores(probs(*[0.99] * 8, tokens=tokens), probs(0.9), slope=0.667)[0]
    wrong = response_scores(probs(*[0.99] * 7, 0.001, tokens=tokens), probs(0.9), slope=0.667)[0]
    assert wrong[0] < 7 <= right[0]
    assert sum(wrong) < sum(right)


def test_the_criteria_read_different_parts():
    tokens = ("2", "+", "3", "=", "5", ".", "5", "-", "1", "=", "4", ".", "####", "4")
    sure = [0.999] * 14
    doubtful_step = [*sure[:4], 0.05, *sure[5:]]
    right = probs(0.99)
    correctness, clarity, completeness, relevance, coherence, ethicality = response_scores(
        probs(*doubtful_step, tokens=tokens), right, slope=2.0
    )[0]
    assert correctness == coherence < clarity < ethicality
    assert (completeness, relevance) == (10, 10)
    assert response_scores(probs(*sure, tokens=tokens), probs(0.9, 0.05), slope=2.0)[0] == (10, 10, 10, 4, 10, 10)


def test_one_dissenter_of_three_goes_to_the_adjudicator():
    from gra_train.synthesis.decide import Decision, decide

    tokens = ("5", ".", "####", "5")
    means = []
    for step in (0.99, 0.97, 0.01):
        scores, _ = response_scores(probs(step, 0.99, 0.99, 0.99, tokens=tokens), probs(0.99), slope=2.0)
        means.append(sum(scores) / 6)
    assert decide(means) is Decision.ADJUDICATE
