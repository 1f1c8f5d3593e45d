"""Replay: what follows from the record is what a run would have decided; the rest is undecided, and can be paid for."""

import asyncio
import csv
import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
import yaml

from gra_train.compose import compose
from gra_train.errors import UserError
from gra_train.experiment import synthesis_only
from gra_train.records import Fate, read_samples
from gra_train.runs import lease
from gra_train.schema import Review, Synthesis
from gra_train.settings import change, plain
from gra_train.stages import STAGES
from gra_train.synthesis import replay
from gra_train.synthesis.draw import Corpus, draw
from gra_train.synthesis.prompts import family
from gra_train.synthesis.replay import UNDECIDED, Recorded, Rule, Verdict, recorded_rule, verdict
from gra_train.synthesis.replay_command import combinations
from gra_train.synthesis.replay_command import main as command
from gra_train.synthesis.story import synthesise

MODELS = ("ada", "bea", "cyd", "dot", "eve")


def whimsical(scripted):
    """Reviewers of all moods, some of whom cannot be read."""
    return scripted(
        instruction_review=lambda m, r: "hm" if r.seed % 31 == 0 else f"<flags>[1, 1, {int(r.seed % 7 != 0)}]</flags>",
        response_review=lambda m, r: "hm" if r.seed % 29 == 0 else scores(5 + r.seed % 6),
        adjudication=lambda m, r: "hm" if r.seed % 5 == 0 else scores(6 + r.seed % 5),
        response=lambda m, r: (
            "" if "amber" in r.messages[-1]["content"] else f"<response>it is {r.seed % 1000}</response>"
        ),
    )


def scores(value):
    return f"<scores>{', '.join([str(min(value, 10))] * 6)}</scores><review>so it is</review>"


def told(scripted, seeds, synthesis, count=120):
    """The candidates of round 0 under these settings, curated by nobody."""
    corpus, pool = Corpus.of(seeds), whimsical(scripted)

    async def tell():
        made = []
        for i in range(count):
            one = draw(7, 0, i, models=MODELS, corpus=corpus, synthesis=synthesis)
            made.append(await synthesise(pool.ask, one, family=family("tags"), synthesis=synthesis))
        return made

    return asyncio.run(tell())


def of(synthesis, candidates, seeds):
    return Recorded(7, synthesis, MODELS, candidates, seeds, {s.id: s for s in seeds})


BASE = Synthesis(T_mean=7.5, T_std=1.0)


COMBINATIONS = [("committee", mode) for mode in ("committee", "majority", "single", "none")]
COMBINATIONS += [("single", "committee"), ("none", "majority")]


@pytest.mark.parametrize("respond", ["after_review", "before_review"])
@pytest.mark.parametrize(("recorded", "mode"), COMBINATIONS)
def test_what_is_decided_is_what_a_run_decides(scripted, seeds, respond, recorded, mode):
    base = change(BASE, respond=respond, review=Review(mode=recorded))
    run = of(base, told(scripted, seeds, base, 60), seeds)
    seen = set()
    for T_mean, T_std, size in ((7.5, 1.0, 3), (6.0, 0.5, 3), (7.0, 0.0, 2)):
        rule = Rule(T_mean, T_std, mode, size, 0.9)
        for before, fresh in zip(run.candidates, told(scripted, seeds, rule.settings(base), 60), strict=True):
            found = verdict(run, before, rule)
            seen.add(found)
            if found not in UNDECIDED:
                assert (found is Verdict.ACCEPTED) == (fresh.fate is Fate.KEPT), (before.id, rule)
    assert Verdict.REJECTED in seen
    assert Verdict.ACCEPTED in seen or recorded != "committee"


def test_under_its_own_rule_nothing_is_undecided(scripted, seeds):
    run = of(BASE, told(scripted, seeds, BASE), seeds)
    found = [verdict(run, c, recorded_rule(BASE)) for c in run.candidates]
    assert not set(found) & set(UNDECIDED)
    assert [v is Verdict.ACCEPTED for v in found] == [c.fate is Fate.KEPT for c in run.candidates]


def test_what_was_never_asked_is_undecided_and_bounds_hold_what_a_run_would_do(scripted, seeds):
    run = of(BASE, told(scripted, seeds, BASE), seeds)
    kinds = set()
    for rule in (Rule(6.5, 0.2, "committee", 3, 0.9), Rule(7.5, 1.0, "committee", 2, 0.9)):
        found = [verdict(run, c, rule) for c in run.candidates]
        kinds |= set(found)
        count = replay.count(run, found, list, checker=False)
        fresh = sum(c.fate is Fate.KEPT for c in told(scripted, seeds, rule.settings(BASE)))
        least, most = count.accepted
        assert least < fresh < most
        assert sum(count.undecided.values()) == most - least
    assert {Verdict.NO_ADJUDICATION, Verdict.NO_RESPONSE} <= kinds


def test_one_model_in_several_places_is_taken_place_by_place(scripted, seeds, tmp_path):
    """roles=single: a smaller committee is the first places, also where a review among them could not be read."""
    import pyarrow.parquet as pq

    from gra_train.synthesis.candidate import CandidateTable
    from gra_train.synthesis.replay_command import _candidate

    base = change(BASE, roles="single", parse_retries=0)
    with CandidateTable(tmp_path / "c.parquet") as table:
        table.append(told(scripted, seeds, base))
    run = of(base, [_candidate(row) for row in pq.read_table(tmp_path / "c.parquet").to_pylist()], seeds)
    partly = [c for c in run.candidates if 0 < len(c.instruction_reviews) < 3 or 0 < len(c.reviews) < 3]
    assert partly
    for size in (1, 2):
        rule = replace(recorded_rule(base), num_reviewers=size, mode="majority")
        decided = 0
        for before, fresh in zip(run.candidates, told(scripted, seeds, rule.settings(base)), strict=True):
            found = verdict(run, before, rule)
            decided += before in partly and found not in UNDECIDED
            if found not in UNDECIDED:
                assert (found is Verdict.ACCEPTED) == (fresh.fate is Fate.KEPT), (before.id, size)
        assert decided > 0


@pytest.mark.parametrize(
    ("recorded", "models", "options", "lacking"),
    [
        ({}, MODELS, {"committee": "3,4"}, "mode=committee with committee=4 needs 6 models"),
        ({"num_reviewers": 4, "review": Review(mode="majority")}, MODELS, {"mode": "committee"}, "needs 6 models"),
        (
            {"review": Review(mode="single")},
            MODELS[:2],
            {"mode": "majority,committee"},
            "mode=majority .* has 2: ada, b",
        ),
        ({"roles": "adaptive"}, MODELS, {"committee": "4", "mode": "majority"}, None),
        ({"roles": "adaptive", "num_reviewers": 2}, MODELS, {"committee": "4"}, "drew 3 for each candidate"),
        ({"roles": "single"}, MODELS[:1], {"committee": "7"}, None),
        ({}, MODELS, {"committee": "4", "mode": "majority,none"}, None),
    ],
)
def test_a_committee_that_the_pool_has_not_is_refused(seeds, recorded, models, options, lacking):
    run = replace(of(change(BASE, **recorded), [], seeds), models=models)
    if lacking is None:
        assert combinations(run, options)
        return
    with pytest.raises(UserError, match=lacking):
        combinations(run, options)


def test_named_reviewers_decide_where_they_were_asked(scripted, seeds):
    run = of(BASE, told(scripted, seeds, BASE), seeds)
    rule = replace(recorded_rule(BASE), members=frozenset({"ada", "eve"}), mode="majority")
    for one in run.candidates:
        found = verdict(run, one, rule)
        asked = [name for name in one.reviewers if name in rule.members]
        if not asked and one.instruction and one.failed_at != "response":
            assert found is Verdict.NO_REVIEW
        flags = [f for f in one.instruction_reviews if f.reviewer in asked]
        if any(not f.passes for f in flags):
            assert found is Verdict.REJECTED


def test_bounds_of_correctness():
    class One:
        def __init__(self, correct):
            self.correct = correct

    good, unsure = [One(True)] * 6 + [One(False)] * 2, [One(True), One(False), One(None)]
    assert replay._correct(good, unsure) == pytest.approx((6 / 10, 8 / 10))
    assert replay._correct(good, []) == (0.75, 0.75)
    assert replay._correct([], []) is None


def test_sweeps_are_lists_and_ranges(seeds):
    run = of(BASE, [], seeds)
    rules = combinations(run, {"T_mean": "7:8:0.5", "T_std": "1,2", "committee": "2,ada+bea", "dedup": "0.8"})
    assert len(rules) == 12
    assert [r.T_mean for r in rules[:3]] == [7.0, 7.5, 8.0]
    assert {r.members for r in rules} == {None, frozenset({"ada", "bea"})}
    for wrong in ({"T_mean": "7:8"}, {"T_mean": "11"}, {"committee": "0"}, {"committee": "adda"}, {"mode": "majoritty"},
                  {"committee": "5"}):  # fmt: skip
        with pytest.raises(UserError, match=r"expected|the pool has"):
            combinations(run, wrong)


def made(folder, *words):
    """A finished run of round 0 of the miniature, made in this process."""
    config = compose(["experiment=mini", f"runs_dir={folder}", *words])
    seeds, node = synthesis_only(config)
    for one, inputs in ((seeds, {}), (node, {"seeds": seeds.run(folder).result})):
        run = one.run(folder)
        if run.is_done():
            continue
        with lease(run, wait=False) as held:
            frozen = {"stage": one.stage, "config": plain(one.config), "inputs": {"seeds": seeds.run_id}}
            (run.folder / "config.yaml").write_text(yaml.dump(frozen))
            STAGES[one.stage].load()(one.config, inputs, held.out)
            held.finish(0.0)
    return node.run(folder)


SMALL = ["seeds.limit=20", "synthesis.rounds=1", "synthesis.wave=16", "synthesis.block=8",
         "synthesis.max_candidates=32", "synthesis.target=600", "synthesis.T_mean=9"]  # fmt: skip


def rows(out):
    return list(csv.DictReader((out / "sweep.csv").open()))


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """(runs_dir, a finished run): made once."""
    folder = tmp_path_factory.mktemp("runs")
    return folder, made(folder, *SMALL)


def test_replay_with_fill_decides_as_a_fresh_run_of_the_miniature(shared, tmp_path, capsys):
    """Under other thresholds only adjudications are new; filled in, every decision is that of a real run."""
    runs, run = shared
    other = ["T_mean=6", "T_std=0.3"]
    assert command([str(run.folder), *other, f"out={tmp_path / 'dry'}"]) == 0
    (dry,) = rows(tmp_path / "dry")
    assert int(dry["no_adjudication"]) > 0
    assert not (tmp_path / "dry" / "data.jsonl").exists()

    assert command([str(run.folder), *other, "--fill", f"out={tmp_path / 'paid'}"]) == 0
    (paid,) = rows(tmp_path / "paid")
    assert paid["no_adjudication"] == "0"
    assert int(dry["accepted_least"]) <= int(paid["accepted_least"]) <= int(dry["accepted_most"])
    capsys.readouterr()
    assert command([str(run.folder), *other, "--fill", f"out={tmp_path / 'paid'}"]) == 0
    assert "calls to models: 0 made" in capsys.readouterr().out

    fresh = made(runs, *SMALL, "synthesis.T_mean=6", "synthesis.T_std=0.3")
    funnel = json.loads((fresh.result / "funnel.json").read_text())
    assert int(paid["accepted_least"]) == funnel["steps"]["good"]["rows"]
    assert [s.id for s in read_samples(tmp_path / "paid")] == [s.id for s in read_samples(fresh.result)]
    assert [s.response for s in read_samples(tmp_path / "paid")] == [s.response for s in read_samples(fresh.result)]
    usage = json.loads((fresh.folder / "usage.json").read_text())["total"]
    summaries = sum(c["fate"] == "kept" for c in candidates(fresh))
    assert usage["computed"] <= 2 * summaries  # all else had been paid for by then


def candidates(run):
    import pyarrow.parquet as pq

    return pq.read_table(run.result / "candidates.parquet").to_pylist()


def test_a_sweep_prints_a_table_and_writes_csv_and_a_plot(shared, capsys):
    runs, run = shared
    assert command(["experiment=mini", f"runs_dir={runs}", *SMALL, "T_mean=8:9.5:0.5", "T_std=0.5,1.5"]) == 0
    printed = capsys.readouterr().out
    assert "as run" in printed
    assert "correct % of accepted" in printed
    assert "held fixed" in printed
    out = run.folder / "replay"
    table = rows(out)
    assert len(table) == 8
    (as_run,) = [r for r in table if r["as_run"] == "1"]
    fates = [c["fate"] for c in candidates(run)]
    assert int(as_run["kept_none"]) == int(as_run["kept_all"]) == sum(f in ("kept", "surplus") for f in fates)
    for row in table:
        assert int(row["accepted_least"]) <= int(row["accepted_most"])
        assert float(row["correct_least"]) <= float(row["correct_most"])
    assert ET.parse(out / "sweep.svg").getroot().tag.endswith("svg")
    assert run.is_done()  # the run's own results are untouched


def test_wrong_words_are_refused(tmp_path):
    with pytest.raises(UserError, match="give one run folder"):
        command(["T_mean=8"])
    with pytest.raises(UserError, match="no finished synthesis there"):
        command([str(tmp_path)])
    with pytest.raises(UserError, match="no option '--fil'"):
        command([str(tmp_path), "--fil"])
