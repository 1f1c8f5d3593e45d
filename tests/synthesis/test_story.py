"""One candidate's story under scripted models: every fate, retries, truncation, and who is asked what."""

import pytest

from gra_train.chat.protocol import Reply
from gra_train.records import Fate
from gra_train.schema import Review, Synthesis
from gra_train.synthesis.draw import Corpus, draw
from gra_train.synthesis.prompts import family
from gra_train.synthesis.story import synthesise

MODELS = ("ada", "bea", "cyd", "dot", "eve")


@pytest.fixture
def tell(seeds, scripted):
    def told(index=0, settings=None, **answers):
        synthesis = Synthesis(**(settings or {}))
        pool = scripted(**answers)
        one = draw(3, 0, index, models=MODELS, corpus=Corpus.of(seeds), synthesis=synthesis)
        story = lambda ask: synthesise(ask, one, family=family(synthesis.prompts), synthesis=synthesis)  # noqa: E731
        return pool.run([story])[0], pool

    return told


def scored(*values):
    """A writer of reviews: the value for each reviewer in the order of asking, then the last one again."""
    left = list(values)

    def write(model, request):
        value = left.pop(0) if len(left) > 1 else left[0]
        return f"<scores>{', '.join([str(value)] * 6)}</scores><review>v{value}</review>"

    return write


def test_an_accepted_candidate(tell):
    candidate, pool = tell()
    assert candidate.fate is Fate.KEPT
    assert candidate.mu == 9
    assert candidate.sigma == 0
    assert len(candidate.keywords) == 3
    assert [r.reviewer for r in candidate.reviews] == list(candidate.reviewers)
    assert [r.scores for r in candidate.reviews] == [(9,) * 6] * 3
    assert all(f.flags == (1, 1, 1) for f in candidate.instruction_reviews)
    assert pool.count() == {
        "generator/new_keywords": 1, "generator/instruction": 1, "generator/response": 1,
        "reviewer/instruction_review": 3, "reviewer/response_review": 3,
    }  # fmt: skip
    asked = {request.purpose.split("/")[0]: model for model, request in pool.asked}
    assert asked["generator"] == candidate.generator
    assert {m for m, r in pool.asked if r.purpose.startswith("reviewer")} == set(candidate.reviewers)
    assert len({r.seed for _, r in pool.asked}) == len(pool.asked)


def test_one_zero_rejects_the_instruction_before_a_response_is_written(tell):
    flags = iter(["[1, 1, 1]", "[1, 0, 1]", "[1, 1, 1]"])
    candidate, pool = tell(instruction_review=lambda m, r: f"<flags>{next(flags)}</flags>")
    assert (candidate.fate, candidate.failed_at) == (Fate.REJECTED_INSTRUCTION, "instruction_review")
    assert candidate.response == ""
    assert pool.count()["generator/response"] == 0


def test_responding_first_costs_a_call_and_changes_no_decision(tell):
    candidate, pool = tell(
        settings={"respond": "before_review"}, instruction_review=lambda m, r: "<flags>[0, 1, 1]</flags>"
    )
    assert candidate.fate is Fate.REJECTED_INSTRUCTION
    assert candidate.response
    assert pool.count()["generator/response"] == 1


def test_low_scores_reject(tell):
    candidate, _ = tell(response_review=scored(8, 8, 7))
    assert (candidate.fate, candidate.failed_at) == (Fate.REJECTED_SCORE, "response_review")


@pytest.mark.parametrize(("verdict", "fate"), [(8, Fate.KEPT), (7, Fate.REJECTED_ADJUDICATOR)])
def test_disagreement_goes_to_the_adjudicator_who_sees_all_reviews(tell, verdict, fate):
    candidate, pool = tell(response_review=scored(10, 10, 4), adjudication=scored(verdict))
    assert candidate.fate is fate
    assert candidate.adjudication is not None
    assert candidate.adjudication.reviewer == candidate.adjudicator
    (request,) = [r for m, r in pool.asked if r.purpose == "adjudicator/adjudication"]
    shown = request.messages[-1]["content"]
    assert all(text in shown for text in ("v10", "v4", candidate.instruction, candidate.response))
    assert candidate.mu == 8.0


def test_a_retry_has_another_seed_and_can_succeed(tell):
    texts = iter(["hm", "<keywords>p, q, r</keywords>"])
    candidate, pool = tell(new_keywords=lambda m, r: next(texts))
    assert candidate.fate is Fate.KEPT
    assert candidate.keywords == ("p", "q", "r")
    first, second = [r for _, r in pool.asked if r.purpose.endswith("new_keywords")]
    assert (first.attempt, second.attempt) == (0, 1)
    assert first.seed != second.seed
    assert [a.outcome for a in candidate.attempts[:2]] == ["fewer than three keywords", "ok"]


@pytest.mark.parametrize("prompt", ["new_keywords", "instruction", "instruction_review", "response", "response_review"])
def test_unparseable_after_two_retries(tell, prompt):
    candidate, pool = tell(**{prompt: lambda m, r: "I'm sorry, I can't do that."})
    assert (candidate.fate, candidate.failed_at) == (Fate.UNPARSEABLE, prompt)
    asked = 3 if prompt.endswith("review") else 1
    assert pool.count()[("reviewer/" if asked == 3 else "generator/") + prompt] == 3 * asked
    assert sum(a.outcome == "refusal" for a in candidate.attempts) == 3 * asked


def test_an_unparseable_adjudication_rejects(tell):
    candidate, _ = tell(response_review=scored(10, 10, 4), adjudication=lambda m, r: "hm")
    assert (candidate.fate, candidate.failed_at) == (Fate.UNPARSEABLE, "adjudication")
    assert candidate.mu == 8.0


def test_one_missing_review_is_not_imputed(tell):
    texts = iter(["<scores>9 9 9 9 9 9</scores>", "<scores>9 9 9 9 9 9</scores>", "hm", "hm", "hm"])
    candidate, pool = tell(response_review=lambda m, r: next(texts))
    assert candidate.fate is Fate.UNPARSEABLE
    assert len(candidate.reviews) == 2
    assert pool.count()["reviewer/response_review"] == 5  # only the missing one is asked again


def test_a_zero_rejects_even_if_another_review_is_missing(tell):
    texts = iter(["<flags>[1, 1, 0]</flags>", "hm", "<flags>[1, 1, 1]</flags>", "hm", "hm"])
    candidate, _ = tell(instruction_review=lambda m, r: next(texts))
    assert candidate.fate is Fate.REJECTED_INSTRUCTION


def test_the_json_family_sends_its_schemas_and_counts_repairs(tell):
    f = family("json")
    candidate, pool = tell(
        settings={"prompts": "json"},
        new_keywords=lambda m, r: '{"keywords": ["p", "q", "r"]}',
        instruction=lambda m, r: f.instruction("Math", "pqr", []).write("Count to three."),
        instruction_review=lambda m, r: f.instruction_review("").write((1, 1, 1)),
        response=lambda m, r: "```json\n" + f.response("").write("1, 2, 3") + "\n```",
        response_review=lambda m, r: f.response_review("", "").write(((9,) * 6, "right")),
    )
    assert (candidate.fate, candidate.response) == (Fate.KEPT, "1, 2, 3")
    assert {a.prompt for a in candidate.attempts if a.outcome == "repaired"} == {"response", "new_keywords"}
    sent = {r.purpose.split("/")[1]: r.schema for _, r in pool.asked}
    assert sent == {kind: getattr(f, kind)(*args).schema for kind, args in {
        "new_keywords": ("Math", []), "instruction": ("Math", [], []), "instruction_review": ("",), "response": ("",),
        "response_review": ("", ""),
    }.items()}  # fmt: skip


def test_an_answer_cut_at_max_tokens_is_not_read(tell):
    candidate, _ = tell(response=lambda m, r: Reply("<response>17 + 8 =</response>", finish="length"))
    assert (candidate.fate, candidate.failed_at) == (Fate.UNPARSEABLE, "response")
    assert sum(a.truncated for a in candidate.attempts) == 3


def test_greedy_decoding_is_not_retried(tell):
    candidate, pool = tell(settings={"temperature": 0.0}, response=lambda m, r: "")
    assert candidate.fate is Fate.UNPARSEABLE
    assert pool.count()["generator/response"] == 1


def test_without_review_every_readable_candidate_is_kept(tell):
    candidate, pool = tell(
        settings={"review": Review(mode="none")}, response=lambda m, r: "<response>rubbish</response>"
    )
    assert candidate.fate is Fate.KEPT
    assert candidate.mu is None
    assert set(pool.count()) == {"generator/new_keywords", "generator/instruction", "generator/response"}


def test_one_model_in_all_roles_reviews_with_three_seeds(tell):
    candidate, pool = tell(settings={"roles": "single"})
    assert {m for m, _ in pool.asked} == {candidate.generator}
    reviews = [r for _, r in pool.asked if r.purpose == "reviewer/response_review"]
    assert len({r.seed for r in reviews}) == 3


def test_the_temperature_of_responses_alone(tell):
    _, pool = tell(settings={"temperature": 0.2, "response_temperature": 0.7, "max_tokens": 99})
    sampling = {r.purpose: r.sampling for _, r in pool.asked}
    assert sampling["generator/response"].temperature == 0.7
    assert sampling["reviewer/response_review"].temperature == 0.2
    assert {s.max_tokens for s in sampling.values()} == {99}
