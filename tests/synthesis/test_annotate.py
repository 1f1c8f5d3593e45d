"""Annotation of the seeds: who is asked, what is kept, and what happens where no answer can be read."""

from collections import Counter
from functools import partial

import pytest

from gra_train.records import Sample
from gra_train.schema import Synthesis
from gra_train.synthesis.annotate import annotate, completed, summarise
from gra_train.synthesis.prompts import family

MODELS = ("ada", "bea", "cyd", "dot", "eve")
BARE = [Sample(f"s{i}", f"How much is {i} + 1?", str(i + 1)) for i in range(20)]


@pytest.fixture
def annotated(scripted):
    def run(samples, **answers):
        pool = scripted(**answers)
        tell = partial(annotate, seed=1, models=MODELS, family=family("tags"), synthesis=Synthesis(parse_retries=1))
        results = pool.run([partial(tell, sample=s, place=i) for i, s in enumerate(samples)])
        return [sample for sample, _ in results], pool

    return run


def test_every_model_annotates_equally_often(annotated):
    samples, pool = annotated(BARE)
    assert Counter(model for model, _ in pool.asked) == dict.fromkeys(MODELS, 12)
    assert {(s.domain, s.keywords, s.summary) for s in samples} == {("Math", ("a", "b", "c"), "A task.")}
    first = [model for model, r in pool.asked if r.purpose == "annotator/domain"]
    assert first[:5] != first[5:10]  # a new order in every pass over the pool


def test_what_a_seed_brings_is_kept(annotated):
    own = Sample("s", "x y", "z", domain="Coding", keywords=("k",))
    (sample,), pool = annotated([own])
    assert (sample.domain, sample.keywords, sample.summary) == ("Coding", ("k",), "A task.")
    assert pool.count() == {"annotator/summary": 1}


def test_an_unreadable_answer_is_asked_of_the_next_model(annotated):
    bad = None

    def domain(model, request):
        nonlocal bad
        bad = bad or model
        return "hm" if model == bad else "<domain>QA</domain>"

    (sample,), pool = annotated(BARE[:1], domain=domain)
    assert sample.domain == "QA"
    assert [m == bad for m, r in pool.asked if r.purpose == "annotator/domain"] == [True, True, False]


def test_what_no_model_can_give_is_made_from_the_text(annotated):
    samples, pool = annotated(
        BARE[:3], domain=lambda m, r: "hm", keywords=lambda m, r: "", summary=lambda m, r: "I can't."
    )
    assert all(not s.domain and not s.keywords and not s.summary for s in samples)
    assert pool.count()["annotator/domain"] == 3 * 2 * 2
    made = completed([*samples, Sample("t", "Translate the letter. It is long.", "x", "Language", ("k",), "")])
    assert [s.domain for s in made] == ["Language"] * 4
    assert made[0].keywords == ("much", "how", "is")
    assert made[3].summary == "Translate the letter."
    assert completed(samples)[0].domain == "QA"


def test_a_summary_that_cannot_be_read_stays_empty(scripted):
    pool = scripted(summary=lambda m, r: "I can't.")
    tell = partial(
        summarise, instruction="x", id="r0-1", seed=1, models=MODELS, family=family("tags"), synthesis=Synthesis()
    )
    ((text, attempts),) = pool.run([tell])
    assert text == ""
    assert [a.outcome for a in attempts] == ["refusal"] * 3
