"""GRA-Refine: what becomes of a seed, under scripted models and on the miniature's real ones."""

import json

import pytest

from gra_train.records import Fate, read_samples
from gra_train.schema import DataFile, Dedup, Model, Pool, Review, Synthesis
from gra_train.stages import RefineStage, SeedsStage
from gra_train.synthesis import stages
from gra_train.synthesis.embed import hashing
from gra_train.synthesis.prompts import family
from gra_train.synthesis.refine import refine_seeds
from gra_train.synthesis.rounds import Loop, Watch

MODELS = ("ada", "bea", "cyd", "dot", "eve")


def scores(value):
    return f"<scores>{', '.join([str(value)] * 6)}</scores>"


def refined(pool, seeds, **settings):
    """(candidates, how many were kept)."""
    synthesis = Synthesis(**({"wave": 4, "dedup": Dedup(encoder="hashing")} | settings))
    loop = Loop(5, synthesis, MODELS, family("tags"), pool.stream, hashing)
    candidates = []
    return candidates, refine_seeds(loop, seeds, Watch(candidates.extend))


def test_every_seed_gets_a_new_response_and_keeps_all_else(seeds, scripted):
    candidates, kept = refined(scripted(), seeds)
    assert kept == len(candidates) == len(seeds) == 9
    for seed, candidate in zip(seeds, candidates, strict=True):
        row = candidate.sample()
        assert row.response != seed.response
        assert row.source == candidate.generator in MODELS
        for part in ("id", "instruction", "domain", "keywords", "summary"):
            assert getattr(row, part) == getattr(seed, part)
        assert len({candidate.generator, *candidate.reviewers, candidate.adjudicator}) == 5


def test_a_response_that_does_not_pass_review_takes_its_seed_with_it(seeds, scripted):
    low = scripted(
        response_review=lambda m, r: f"<scores>{', '.join([str(6 + 4 * ('7' in str(r.messages)))] * 6)}</scores>"
    )
    candidates, kept = refined(low, seeds)
    assert 0 < kept < 9
    assert {c.fate for c in candidates} == {Fate.KEPT, Fate.REJECTED_SCORE}


@pytest.mark.parametrize("wave", [1, 4, 100])
def test_the_length_of_a_wave_changes_nothing(seeds, scripted, wave):
    assert refined(scripted(), seeds, wave=wave) == refined(scripted(), seeds, wave=3)


def test_the_miniature_refines_its_seeds(tmp_path):
    pool = Pool(
        name="mini", models=[Model(name=n, path=f"mini:{n}") for n in ("wren", "robin", "finch", "lark", "swift")]
    )
    synthesis = Synthesis(
        prompts="mini", max_tokens=48, wave=8, block=8, temperature=0.4, review=Review(scoring="likelihood"),
        checker="mini", dedup=Dedup(encoder="hashing"),
    )  # fmt: skip
    ledger, annotated, out = str(tmp_path / "ledger"), tmp_path / "seeds" / "result", tmp_path / "refine" / "work-1"
    for folder in (annotated, out):
        folder.mkdir(parents=True)
    stages.seeds(SeedsStage(0, DataFile(path="mini:seeds", limit=20), pool, synthesis, ledger), {}, annotated)
    stages.refine(RefineStage(0, pool, synthesis, ledger), {"seeds": annotated}, out)
    before = {s.id: s for s in read_samples(annotated)}
    rows = read_samples(out)
    assert 0 < len(rows) <= 20
    assert all(row.instruction == before[row.id].instruction for row in rows)
    assert {row.source for row in rows} <= {m.name for m in pool.models}
    report = json.loads((out / "funnel.json").read_text())
    assert report["candidates"] == 20
    assert report["fates"]["kept"] == len(rows)
    assert "data-round-1.jsonl" not in {file.name for file in out.iterdir()}
