"""Waves, rounds, the cut, the growing pool and the funnel, under scripted models."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, replace

import pytest

from gra_train.chat.dispatch import LoopThread, free_flow
from gra_train.mini.data import problems
from gra_train.records import Fate, Sample
from gra_train.runs import Stopped
from gra_train.schema import Dedup, Synthesis
from gra_train.synthesis import funnel
from gra_train.synthesis.checker import checker
from gra_train.synthesis.curation import Index
from gra_train.synthesis.draw import Corpus
from gra_train.synthesis.embed import hashing
from gra_train.synthesis.prompts import family
from gra_train.synthesis.rounds import Good, Loop, Round, Watch, curate, run_rounds, share_of

MODELS = ("ada", "bea", "cyd", "dot", "eve")


@dataclass
class Done:
    """A finished round with its candidates."""

    of: Round
    candidates: list

    @property
    def kept(self):
        return [c for c in self.candidates if c.fate is Fate.KEPT]

    def __getattr__(self, name):
        return getattr(self.of, name)


def told(loop, seeds, **options):
    """(kept samples, finished rounds) of a synthesis."""
    candidates, rounds = [], []

    def on_round(done):
        rounds.append(Done(done, list(candidates)))
        candidates.clear()

    count = run_rounds(loop, seeds, Watch(candidates.extend, on_round), **options)
    kept = [c.sample() for done in rounds for c in done.kept]
    assert count == len(kept)
    assert all((d.of.candidates, d.of.kept) == (len(d.candidates), len(d.kept)) for d in rounds)
    return kept, rounds


def made(pool, seeds, lockstep=True, **settings):
    """(kept samples, finished rounds, loop) of a synthesis."""
    dedup = settings.pop("dedup", Dedup(encoder="hashing"))
    check = settings.pop("check", None)
    synthesis = Synthesis(**({"target": 30, "rounds": 3, "wave": 8, "max_candidates": 400, "dedup": dedup} | settings))
    loop = Loop(5, synthesis, MODELS, family(synthesis.prompts), pool.stream, hashing, check, lockstep=lockstep)
    return *told(loop, seeds), loop


def test_shares_add_up():
    for target, rounds in ((50000, 5), (7, 3), (1, 5), (12, 2)):
        shares = [share_of(target, rounds, n) for n in range(rounds)]
        assert sum(shares) == target
        assert max(shares) - min(shares) <= 1


def test_a_round_ends_at_the_first_wave_with_enough_rows_and_is_cut_by_index(seeds, scripted):
    kept, rounds, _ = made(scripted(), seeds)
    assert len(kept) == 30
    for done in rounds:
        assert (len(done.kept), done.share, done.ended_by) == (10, 10, "target")
        assert len(done.candidates) == 8 * done.waves
        assert [c.index for c in done.candidates] == list(range(len(done.candidates)))
        surplus = [c.index for c in done.candidates if c.fate is Fate.SURPLUS]
        assert surplus
        assert min(surplus) > max(c.index for c in done.kept)
    assert [s.id for s in kept] == [c.id for done in rounds for c in done.kept]
    assert len({s.id for s in kept}) == 30


def test_every_candidate_has_one_fate_and_the_counts_add_up(seeds, scripted):
    flags = lambda m, r: "<flags>[1, 1, 0]</flags>" if r.seed % 7 == 0 else "<flags>[1, 1, 1]</flags>"  # noqa: E731
    review = lambda m, r: f"<scores>{', '.join([str(4 + r.seed % 7)] * 6)}</scores>" if r.seed % 11 else "hm"  # noqa: E731
    pool = scripted(instruction_review=flags, response_review=review, adjudication=review)
    kept, rounds, loop = made(pool, seeds, max_candidates=900, T_mean=7.0)
    candidates = [c for done in rounds for c in done.candidates]
    counts = funnel.Counts()
    for done in rounds:
        counts.update(funnel.count(done.candidates, T_mean=loop.synthesis.T_mean))
    report = funnel.render(counts, models=MODELS, rounds=[], scoring="text", checked=False)
    fates = Counter(c.fate.value for c in candidates)
    assert report["candidates"] == sum(report["fates"].values()) == len(candidates)
    assert {k: v for k, v in report["fates"].items() if v} == dict(fates)
    assert fates["kept"] == len(kept)
    assert all(fates[f] for f in ("rejected_instruction", "rejected_score", "unparseable", "rejected_adjudicator"))
    steps = {name: step["rows"] for name, step in report["steps"].items()}
    assert steps["proposed"] == len(candidates)
    assert steps["passed_instruction_review"] == len(candidates) - fates["rejected_instruction"]
    assert steps["reviewed"] == sum(c.mu is not None for c in candidates)
    assert steps["good"] == steps["accepted"] + steps["kept_by_adjudicator"]
    assert steps["good"] == fates["kept"] + fates["surplus"] + fates["duplicate"]
    asked = pool.count()
    for kind, answers in report["prompts"].items():
        assert answers["answers"] == sum(n for purpose, n in asked.items() if purpose.endswith(f"/{kind}"))
        assert answers["unparseable"] == sum(report["reasons"].get(kind, {}).values())
    assert sum(m["answers"]["answers"] for m in report["models"].values()) == len(pool.asked)
    assert sum(m["generator"]["good"] for m in report["models"].values()) == steps["good"]
    assert sum(m["reviewer"]["responses"] for m in report["models"].values()) == sum(len(c.reviews) for c in candidates)


def test_max_candidates_ends_the_run_with_what_it_has(seeds, scripted, caplog):
    pool = scripted(
        response_review=lambda m, r: f"<scores>{', '.join(['9' if r.seed % 29 == 0 else '5'] * 6)}</scores>"
    )
    kept, rounds, _ = made(pool, seeds, max_candidates=50, wave=16)
    assert [len(done.candidates) for done in rounds] == [50]
    assert rounds[-1].ended_by == "max_candidates"
    assert len(kept) < 30
    assert "synthesis.max_candidates=50 is used up" in caplog.text


def test_candidates_are_counted_over_all_rounds(seeds, scripted):
    _, rounds, _ = made(scripted(), seeds, max_candidates=44, wave=16)
    assert sum(len(done.candidates) for done in rounds) == 44
    assert [done.ended_by for done in rounds] == ["target", "target", "target"]


def test_the_pool_grows_for_the_next_round(seeds, scripted):
    _, rounds, _ = made(scripted(), seeds)
    first = {c.id for c in rounds[0].kept}
    examples = [{e for c in done.candidates for e in c.examples} for done in rounds]
    assert not examples[0] & first
    assert examples[1] & first
    assert all(c.summary == "A task." for done in rounds for c in done.kept)
    assert not any(c.summary for done in rounds for c in done.candidates if c.fate is not Fate.KEPT)


def test_the_result_does_not_depend_on_block_or_order(seeds, scripted):
    class Backwards(scripted):
        def run(self, stories, **options):
            return super().run(list(stories)[::-1], **options)[::-1]

        def order(self, results):
            return results[::-1]

    assert made(scripted(), seeds)[:2] == made(Backwards(), seeds, block=3)[:2]


def test_a_longer_wave_keeps_the_same_candidates(seeds, scripted):
    """The candidate of an index does not depend on its wave; only where the round ends does."""
    short = {
        c.id: replace(c, fate=Fate.KEPT, summary="", attempts=())
        for c in made(scripted(), seeds, wave=8)[1][0].candidates
    }
    long = {
        c.id: replace(c, fate=Fate.KEPT, summary="", attempts=())
        for c in made(scripted(), seeds, wave=20)[1][0].candidates
    }
    assert all(long[i] == short[i] for i in short.keys() & long.keys())


def twins(texts, mus, pool=None):
    """Twins by number of the text, after curation in descending mu."""
    goods = [Good(str(i), i, mu) for i, mu in enumerate(mus)]
    found = curate(goods, hashing(texts), pool or Index(), threshold=0.9)
    return {int(id): (twin.id, round(twin.cosine, 6)) for id, twin in found.items()}


def test_of_two_copies_the_better_stays_whatever_its_index():
    assert twins(["count the red boats", "count the red boats", "sing a song"], [8.2, 9.5, 8.0]) == {0: ("1", 1.0)}


def test_a_copy_of_the_pool_is_dropped_and_names_its_twin():
    pool = Index()
    pool.add(["seed-3"], hashing(["count the red boats"]))
    assert twins(["count the red boats"], [10.0], pool) == {0: ("seed-3", 1.0)}


def test_seeds_count_as_pool_items_unless_told_otherwise(seeds, scripted):
    echo = scripted(instruction=lambda m, r: f"<instruction>{seeds[r.seed % 9].instruction}</instruction>")
    kept, rounds, _ = made(echo, seeds, target=3, rounds=1, max_candidates=40)
    assert kept == []
    assert {c.twin for c in rounds[0].candidates} <= {s.id for s in seeds}
    kept, _, _ = made(echo, seeds, target=3, rounds=1, dedup=Dedup(encoder="hashing", include_seeds=False))
    assert len(kept) == 3


def test_test_problems_of_the_miniature_are_contaminated(scripted):
    texts = [p.instruction for split in ("train", "validation", "test") for p in problems(split, 30, 0)]
    seeds = [
        Sample(f"s{i}", p.instruction, p.response, p.domain, p.keywords, p.summary)
        for i, p in enumerate(problems("train", 9, 77))
    ]
    pool = scripted(instruction=lambda m, r: f"<instruction>{texts[r.seed % 90]}</instruction>")
    kept, rounds, _ = made(pool, seeds, target=12, rounds=1, wave=16, check=checker("mini"))
    held_out = set(texts[30:])
    candidates = rounds[0].candidates
    assert {c.instruction for c in candidates if c.fate is Fate.CONTAMINATED} <= held_out
    assert sum(c.fate is Fate.CONTAMINATED for c in candidates) > 5
    assert not {s.instruction for s in kept} & held_out


def test_true_correctness_is_reported_and_never_decides(scripted):
    """A reviewer who passes everything: precision is the share of correct proposals, recall is 1."""
    rows = problems("train", 40, 3)
    gold = {p.instruction: p.response for p in rows}
    seeds = [
        Sample(f"s{i}", p.instruction, p.response, p.domain, p.keywords, p.summary)
        for i, p in enumerate(problems("train", 9, 77))
    ]

    def respond(model, request):
        right = gold[request.messages[-1]["content"]]
        return f"<response>{right if request.seed % 2 else 'no idea #### 0'}</response>"

    pool = scripted(
        instruction=lambda m, r: f"<instruction>{rows[r.seed % 40].instruction}</instruction>", response=respond
    )
    kept, rounds, _ = made(pool, seeds, target=10, rounds=1, wave=32, check=checker("mini"))
    counts = funnel.count(rounds[0].candidates, T_mean=8.0)
    report = funnel.render(counts, models=MODELS, rounds=[], scoring="text", checked=True)
    candidates = rounds[0].candidates
    share = sum(c.correct for c in candidates) / len(candidates)
    assert report["steps"]["proposed"]["correct_share"] == pytest.approx(share, abs=1e-6)
    assert report["decision"] == {
        "votes": len(candidates),
        "precision": round(share, 6),
        "recall": 1.0,
        "balanced": 0.5,
    }
    assert sum(m["reviewer"]["votes"] for m in report["models"].values()) == 3 * len(candidates)
    kept_right = sum(gold[s.instruction] == s.response for s in kept)
    assert report["steps"]["kept"]["correct"] == kept_right


def test_an_unwritten_response_leaves_correctness_unknown(seeds, scripted):
    row = problems("train", 1, 0)[0]
    pool = scripted(
        instruction=lambda m, r: f"<instruction>{row.instruction if r.seed % 2 else 'no such task'}</instruction>",
        instruction_review=lambda m, r: "<flags>[0, 0, 0]</flags>",
    )
    _, rounds, _ = made(pool, seeds, target=1, rounds=1, max_candidates=30, check=checker("mini"))
    known = {c.instruction == row.instruction: c.correct for c in rounds[0].candidates}
    assert known == {True: None, False: False}


def test_the_corpus_needs_summaries(seeds, scripted):
    """A kept row whose summary could not be read stays in the data set, but is no example for the next round."""
    pool = scripted(summary=lambda m, r: "I can't do that." if r.seed % 2 else "<summary>A task.</summary>")
    kept, rounds, _ = made(pool, seeds, parse_retries=0)
    assert len(kept) == 30
    bare = {s.id for s in kept if not s.summary}
    assert bare
    assert not bare & {e for done in rounds for c in done.candidates for e in c.examples}
    assert Corpus.of(seeds).grown(kept).weights == {"Math": 6, "QA": 3}


def test_a_candidate_is_embedded_once(seeds, scripted):
    encoded = []

    def encode(texts):
        encoded.extend(texts)
        return hashing(texts)

    synthesis = Synthesis(target=20, rounds=1, wave=4, max_candidates=200, dedup=Dedup(encoder="hashing"))
    copies = scripted(instruction=lambda m, r: f"<instruction>Count to {r.seed % 40} and back</instruction>")
    loop = Loop(5, synthesis, MODELS, family("tags"), copies.stream, encode)
    _, rounds = told(loop, seeds)
    assert rounds[0].waves > 6  # duplicates: curation ran several times
    assert len(encoded) == len(seeds) + len(rounds[0].candidates)


class Served:
    """The scripted pool as if behind servers: calls take as long as they like, in a window of stories."""

    def __init__(self, scripted, window=16):
        self.scripted, self.window, self.waiting_for = scripted, window, None
        self.thread = LoopThread()

    async def answer(self, _, calls):
        self.scripted.asked += calls
        if self.waiting_for and calls[0][1].purpose == "generator/new_keywords" and len(self.scripted.asked) == 1:
            while len({r.seed for _, r in self.scripted.asked if "keywords" in r.purpose}) < self.waiting_for:
                await asyncio.sleep(0.01)
        await asyncio.sleep(calls[0][1].seed % 7 / 1000)
        return [self.scripted._reply(model, request) for model, request in calls]

    def stream(self, stories, *, block=64, on_done=None):
        return free_flow(stories, self.answer, self.thread.loop, window=lambda: self.window, on_done=on_done)


@pytest.fixture
def served(scripted):
    pools = []

    def build(**options):
        pools.append(Served(scripted(**options)))
        return pools[-1]

    yield build
    for pool in pools:
        pool.thread.close()


def mixed(model, request):
    return f"<scores>{', '.join([str(6 + request.seed % 5)] * 6)}</scores>"


@pytest.mark.parametrize("lookahead", [0, 1, 3])
def test_behind_servers_the_result_is_the_same(seeds, scripted, served, lookahead):
    options = {"wave": 5, "max_candidates": 3000}
    kept, rounds, _ = made(scripted(response_review=mixed), seeds, **options)
    again, others, _ = made(served(response_review=mixed), seeds, lockstep=False, lookahead=lookahead, **options)
    assert again == kept
    assert [d.candidates for d in others] == [d.candidates for d in rounds]
    assert all(done.in_vain <= 5 * lookahead for done in others)
    assert not any(done.in_vain for done in rounds)


def test_a_straggler_holds_up_nothing_that_is_certain_to_be_needed(seeds, scripted, served):
    """The first call is answered only when 60 candidates have begun: eight waves, whose end it does not wait for."""
    pool = served()
    pool.waiting_for = 60
    kept, rounds, _ = made(pool, seeds, lockstep=False, target=64, rounds=1, wave=8)
    assert kept == made(scripted(), seeds, target=64, rounds=1, wave=8)[0]
    assert rounds[0].in_vain <= 8


def test_a_stopped_synthesis_leaves_no_call_running(seeds, served):
    pool = served()

    def stop(done):
        raise Stopped("as asked")

    synthesis = Synthesis(target=30, rounds=1, wave=8, dedup=Dedup(encoder="hashing"))
    loop = Loop(5, synthesis, MODELS, family("tags"), pool.stream, hashing, lockstep=False)
    with pytest.raises(Stopped):
        run_rounds(loop, seeds, Watch(lambda _: None, on_done=stop))
    asked = len(pool.scripted.asked)
    time.sleep(0.05)
    assert len(pool.scripted.asked) == asked


def test_it_stops_after_a_round_and_later_rounds_are_as_ever(seeds, scripted):
    _, rounds, loop = made(scripted(), seeds)
    _, first = told(loop, seeds, stop_after=1)
    assert [d.candidates for d in first] == [rounds[0].candidates]
    assert told(loop, seeds, stop_after=0) == ([], [])
