"""The synthesis stages on the miniature's real models: results, baselines, interruption and resumption."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from gra_train.errors import UserError
from gra_train.mini.language import parse, split_of
from gra_train.records import CRITERIA, read_samples
from gra_train.runs import Reached
from gra_train.schema import DataFile, Dedup, Model, Pool, Review, Synthesis
from gra_train.settings import change
from gra_train.stages import DistillStage, SeedsStage, ShardStage, SynthesizeStage
from gra_train.synthesis.stages import distill, seeds, shard, synthesize

NAMES = ("wren", "robin", "finch", "lark", "swift")
POOL = Pool(name="mini", models=[Model(name=n, path=f"mini:{n}") for n in NAMES])
LARGE = Model(name="heron72", path="mini:heron72")


def small(**settings):
    defaults = dict(
        target=6, rounds=2, max_candidates=48, wave=16, block=16, temperature=0.5, prompts="mini", max_tokens=48,
        review=Review(scoring="likelihood"), dedup=Dedup(encoder="hashing"), checker="mini",
    )  # fmt: skip
    return Synthesis(**(defaults | settings))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder with a ledger and annotated seeds, shared by the tests: runs share a ledger."""
    folder = tmp_path_factory.mktemp("synthesis")
    out = folder / "seeds" / "result"
    out.mkdir(parents=True)
    seeds(SeedsStage(0, DataFile(path="mini:seeds", limit=24), POOL, small(), str(folder / "ledger")), {}, out)
    return folder


def run(base, name, synthesis, *, pool=POOL, ledger="ledger", seed=0):
    out = base / name / "work-1"
    out.mkdir(parents=True, exist_ok=True)
    config = SynthesizeStage(seed, pool, synthesis, str(base / ledger))
    synthesize(config, {"seeds": base / "seeds" / "result"}, out)
    return out


def contents(out):
    return {p.name: p.read_bytes() for p in out.iterdir()}


def computed(out):
    return json.loads((out.parent / "usage.json").read_text())["total"]["computed"]


def test_seeds_are_annotated_by_the_pool_in_rotation(base):
    rows = read_samples(base / "seeds" / "result")
    assert len(rows) == 24
    truth = {p.instruction: p for p in map(parse, (r.instruction for r in rows)) if p}
    assert sum(r.domain == truth[r.instruction].domain for r in rows) >= 20
    assert sum(len(r.keywords) == 3 and bool(r.summary) for r in rows) >= 18
    report = json.loads((base / "seeds" / "result" / "annotation.json").read_text())
    assert sum(report["domains"].values()) == report["seeds"] == 24
    usage = json.loads((base / "seeds" / "result" / "usage.json").read_text())
    asked = {m: sum(c["asked"] for c in purposes.values()) for m, purposes in usage["by_model"].items()}
    assert set(asked) == set(NAMES)
    assert max(asked.values()) - min(asked.values()) <= 12  # the rotation is even but for retries


def test_synthesize_writes_every_candidate_with_its_fate(base):
    out = run(base, "gra", small())
    exports = ["data-round-1.jsonl", "data-round-2.jsonl"]
    assert sorted(contents(out)) == ["candidates.parquet", *exports, "data.jsonl", "funnel.json", "usage.json"]
    kept, table = read_samples(out), pq.read_table(out / "candidates.parquet").to_pylist()
    report = json.loads((out / "funnel.json").read_text())
    assert report["candidates"] == len(table)
    assert [c["id"] for c in table if c["fate"] == "kept"] == [s.id for s in kept]
    assert report["scoring"] == "likelihood"
    for row in table:
        assert len({row["generator"], *row["reviewers"], row["adjudicator"]}) == 5
        for review in row["reviews"]:
            assert len(review["scores"]) == len(CRITERIA)
            assert all(1 <= s <= 10 for s in review["scores"])
        if row["fate"] == "duplicate":
            assert row["twin"]
            assert row["cosine"] >= 0.9
    for sample in kept:
        problem = parse(sample.instruction)
        assert problem is None or split_of(problem) == "train"
    first, both = (read_samples(out / name) for name in exports)
    assert first == [s for s in kept if s.id.startswith("r0-")]
    assert len(first) == 3
    assert both == kept
    metrics = [json.loads(line) for line in (out.parent / "metrics.jsonl").read_text().splitlines()]
    assert metrics[-1]["synthesis/kept/rows"] == len(kept)


def test_lineage_names_every_call(base):
    """Each call with its key in the ledger: what was sampled with its seed, what was scored without."""
    out = run(base, "gra", small())
    table = pq.read_table(out / "candidates.parquet").to_pylist()
    counted = json.loads((out / "usage.json").read_text())["total"]["asked"]
    calls = [a for row in table for a in row["attempts"]]
    assert len(calls) == counted
    assert all(len(bytes.fromhex(a["key"].partition("/")[0])) == 16 for a in calls)
    assert all((a["seed"] is None) == (a["outcome"] == "scored") for a in calls)
    sampled = [(a["key"], a["seed"]) for a in calls if a["seed"] is not None]
    assert len(set(sampled)) == len(sampled)
    for row in table:
        if row["mu"] is not None:  # instruction and response under three reviewers, with each one's own prompts
            assert sum(a["outcome"] == "scored" and a["role"] == "reviewer" for a in row["attempts"]) == 3 + 6


def test_adaptive_roles_write_their_weights_and_come_back_to_the_same_bytes(base):
    settings = small(roles="adaptive", rounds=1, max_candidates=64, target=40)
    first, second = run(base, "adaptive-1", settings), run(base, "adaptive-2", settings)
    assert contents(first) == contents(second)
    assert computed(second) == 0
    weights = [json.loads(line) for line in (first / "weights.jsonl").read_text().splitlines()]
    assert [w["first"] for w in weights] == [0, 16, 32, 48]
    assert weights[0]["acceptance"] == {}
    proposed = [sum(n for known in w["acceptance"].values() for _, n in known.values()) for w in weights]
    assert proposed == [0, 16, 32, 48]
    table = pq.read_table(first / "candidates.parquet").to_pylist()
    for row in table:
        assert (row["weighted_decision"] is None) == (row["decision"] is None)
        assert len(row["weights"]) == 3
    rules = json.loads((first / "funnel.json").read_text())["agreement"]["adaptive"]
    decided = sum(row["decision"] is not None for row in table)
    assert all(sum(d["rows"] for d in rules[rule].values()) == decided for rule in ("plain", "weighted"))


def test_the_second_time_nothing_is_computed_and_every_byte_is_the_same(base):
    first = run(base, "again-1", small())
    second = run(base, "again-2", small())
    assert contents(first) == contents(second)
    assert computed(second) == 0


def test_two_rounds_of_two_shards_make_what_one_process_makes(base):
    """Models in this process. Behind servers: tests/faults/test_shards.py, and as SLURM's jobs tests/slurm."""
    settings = small(block=4, margin=3)
    whole = run(base, "unsharded", settings, ledger="ledger-unsharded")
    for round in (0, 1):
        for part in ("1/2", "2/2"):
            out = base / f"shard-{round}-{part[0]}" / "work-1"
            out.mkdir(parents=True)
            config = ShardStage(0, POOL, settings, part, round, str(base / "curated"), str(base / "ledger-sharded"))
            shard(config, {"seeds": base / "seeds" / "result"}, out)
            made = json.loads((out / "shard.json").read_text())
            assert (made["round"], made["candidates"] > 0) == (round, True)
        if round == 0:
            with pytest.raises(Reached, match="1 of 2 rounds"):
                run(base, "curated", change(settings, lookahead=0, stop_after=1), ledger="ledger-sharded")
    curated = run(base, "curated", change(settings, lookahead=0), ledger="ledger-sharded")
    assert contents(curated) == contents(whole)
    assert computed(whole) > 100
    asked = json.loads((curated.parent / "usage.json").read_text())["by_model"].values()
    new = {purpose for counts in asked for purpose, n in counts.items() if n["asked"] > n["from_ledger"]}
    assert new <= {"annotator/summary"}  # a batch of summaries depends on who is kept: shards cannot make them


@pytest.mark.parametrize("after", [1, 9, 30])
def test_an_interrupted_run_goes_on_without_repeating_a_call(base, monkeypatch, after):
    from gra_train.chat.local import LocalModel

    whole = run(base, f"whole-{after}", small(), ledger=f"ledger-whole-{after}", seed=after)
    original, batches = LocalModel.answer_batch, []

    def stops(self, rows):
        if len(batches) == after:
            raise KeyboardInterrupt
        batches.append(len(rows))
        return original(self, rows)

    monkeypatch.setattr(LocalModel, "answer_batch", stops)
    with pytest.raises(KeyboardInterrupt):
        run(base, f"part-{after}", small(), ledger=f"ledger-part-{after}", seed=after)
    monkeypatch.setattr(LocalModel, "answer_batch", original)
    rest = run(base, f"part-{after}", small(), ledger=f"ledger-part-{after}", seed=after)
    assert contents(rest) == contents(whole)
    assert computed(rest) + sum(batches) == computed(whole)
    lines = [(out.parent / "metrics.jsonl").read_text() for out in (rest, whole)]
    assert lines[0] == lines[1], "what the interrupted attempt had logged is not there twice"


def test_killed_from_outside(base):
    """SIGKILL in the middle; the rerun gives the bytes of an undisturbed run."""
    whole = run(base, "calm", small(), ledger="ledger-calm", seed=5)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; import test_stages as t\n"
        "print('ready', flush=True); t.run(Path(sys.argv[2]), 'killed', t.small(), ledger='ledger-killed', seed=5)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(Path(__file__).parent), str(base)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    process.stdout.readline()
    ledger = base / "ledger-killed"
    deadline = time.monotonic() + 120
    while sum(p.stat().st_size for p in ledger.rglob("*") if p.is_file()) < 4000 and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (base / "killed" / "work-1" / "data.jsonl").exists()
    rest = run(base, "killed", small(), ledger="ledger-killed", seed=5)
    assert contents(rest) == contents(whole)
    assert 0 < computed(rest) < computed(whole)


def test_unreviewed_and_reviewed_data_share_their_proposals(base):
    """review.mode=none is the same generator: the proposals of the first wave are the same candidates."""
    reviewed = pq.read_table(run(base, "gra", small()) / "candidates.parquet").to_pylist()
    out = run(base, "unreviewed", small(review=Review(mode="none"), rounds=1, num_reviewers=1))
    plain = pq.read_table(out / "candidates.parquet").to_pylist()
    assert [(c["id"], c["generator"], c["domain"], c["examples"]) for c in plain[:16]] == [
        (c["id"], c["generator"], c["domain"], c["examples"]) for c in reviewed[:16]
    ]
    assert not any(c["reviews"] for c in plain)
    assert len(read_samples(out)) == 6
    assert json.loads((out / "funnel.json").read_text())["scoring"] == "none"


def test_solo_is_one_large_model_without_review(base):
    pool = Pool(name="large", models=[LARGE])
    out = run(base, "solo", small(review=Review(mode="none"), roles="single", rounds=1), pool=pool)
    assert {s.source for s in read_samples(out)} == {"heron72"}


def test_written_scores_go_through_the_same_interface(base):
    out = run(base, "text", small(review=Review(scoring="text"), max_candidates=16))
    report = json.loads((out / "funnel.json").read_text())
    assert report["prompts"]["instruction_review"]["answers"] > 0
    assert sum(report["fates"].values()) == 16


@pytest.mark.parametrize("name", ["tags", "json"])
def test_the_paper_prompts_on_models_that_cannot_follow_them(base, name):
    """A model of this size cannot answer in such forms: every candidate ends with a reason, and the counts add up."""
    out = run(base, name, small(prompts=name, review=Review(), max_candidates=16, parse_retries=1))
    report = json.loads((out / "funnel.json").read_text())
    assert sum(report["fates"].values()) == 16
    assert report["fates"]["kept"] == len(read_samples(out)) == 0
    assert report["fates"]["unparseable"] > 0
    assert sum(sum(r.values()) for r in report["reasons"].values()) > 0


def test_a_pool_that_is_too_small_is_refused_before_a_model_is_loaded(base):
    duo = Pool(name="duo", models=[Model(name="llama-a", path="/nowhere"), Model(name="llama-b", path="/nowhere")])
    with pytest.raises(UserError, match=r"needs a pool of at least 5 models .* pool 'duo' has 2: llama-a, llama-b"):
        run(base, "refused", small(), pool=duo)
    assert not contents(base / "refused" / "work-1")


def test_distill_answers_given_instructions(base):
    out = base / "distill" / "work-1"
    out.mkdir(parents=True)
    config = DistillStage(
        0, Pool(models=[LARGE]), DataFile(path="mini:instructions"), 20, small(), str(base / "ledger")
    )
    distill(config, {"seeds": base / "seeds" / "result"}, out)
    rows = read_samples(out)
    assert 15 <= len(rows) <= 20
    assert all(r.source == "heron72" and r.response for r in rows)
    known = {s.instruction for s in read_samples(base / "seeds" / "result")}
    assert not known & {r.instruction for r in rows}
    assert json.loads((out / "distill.json").read_text())["rows"] == len(rows)


def test_distill_answers_the_seeds_where_no_instructions_are_given(base):
    out = base / "distill-seeds" / "work-1"
    out.mkdir(parents=True)
    config = DistillStage(0, Pool(models=[LARGE]), DataFile(), 10, small(), str(base / "ledger"))
    distill(config, {"seeds": base / "seeds" / "result"}, out)
    known = [s.instruction for s in read_samples(base / "seeds" / "result")]
    assert {r.instruction for r in read_samples(out)} <= set(known[:10])
