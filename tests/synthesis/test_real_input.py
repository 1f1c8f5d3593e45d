"""Real input: problems in GSM8K's format through the whole loop, against a real server process.

The models are the miniature's, which know nothing of such text: nearly every candidate is rejected or unparseable. What
is shown is that each has its reason, that nothing crashes, and that the counts add up.
"""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from gra_train.locate import model_folder
from gra_train.records import read_samples
from gra_train.schema import DataFile, Dedup, Model, Pool, Review, Synthesis
from gra_train.stages import SeedsStage, SynthesizeStage
from gra_train.synthesis.stages import seeds, synthesize

pytestmark = pytest.mark.slow

PROBLEMS = Path(__file__).with_name("problems.jsonl")


@pytest.fixture(scope="module")
def pool(transformers_server):
    """Five names for one model behind one server."""
    folder = model_folder("mini:wren")
    url = transformers_server(Path(folder))
    names = ("one", "two", "three", "four", "five")
    return Pool(
        name="served",
        models=[Model(name=n, url=url, served_name=folder, revision="mini", timeout_s=120) for n in names],
    )


def settings(**other):
    defaults = dict(
        target=4, rounds=2, max_candidates=8, wave=8, temperature=0.7, parse_retries=0, max_tokens=24, prompts="mini",
        review=Review(scoring="text"), dedup=Dedup(encoder="hashing"),
    )  # fmt: skip
    return Synthesis(**(defaults | other))


def through_the_loop(base, file, pool, synthesis):
    annotated, out = base / "seeds" / "result", base / "gra" / "result"
    for folder in (annotated, out):
        folder.mkdir(parents=True)
    seeds(SeedsStage(0, file, pool, synthesis, str(base / "ledger")), {}, annotated)
    synthesize(SynthesizeStage(0, pool, synthesis, str(base / "ledger")), {"seeds": annotated}, out)
    return annotated, out


def check(annotated, out):
    report = json.loads((out / "funnel.json").read_text())
    table = pq.read_table(out / "candidates.parquet").to_pylist()
    assert 0 < len(table) <= 8
    assert sum(report["fates"].values()) == report["candidates"] == len(table)
    assert report["fates"]["kept"] == len(read_samples(out))
    for row in table:
        assert (row["fate"] in ("kept", "duplicate", "surplus")) == (row["failed_at"] == "")
        if row["fate"] == "unparseable":
            last = [a["outcome"] for a in row["attempts"] if a["prompt"] == row["failed_at"]][-1]
            assert last not in ("ok", "repaired")
    usage = json.loads((out / "usage.json").read_text())
    assert usage["total"]["asked"] == sum(p["answers"] for p in report["prompts"].values())
    assert usage["total"]["completion_tokens"] > 0


def test_problems_in_the_format_of_gsm8k(tmp_path, pool):
    annotated, out = through_the_loop(tmp_path, DataFile(path=str(PROBLEMS), format="gsm8k"), pool, settings())
    rows = read_samples(annotated)
    assert len(rows) == 20
    assert rows[0].response.endswith("#### 192")
    check(annotated, out)


def test_the_real_gsm8k(tmp_path, pool, data_dir):
    file = DataFile(path=str(data_dir / "gsm8k" / "train.jsonl.gz"), limit=20)
    annotated, out = through_the_loop(tmp_path, file, pool, settings())
    assert len(read_samples(annotated)) == 20
    check(annotated, out)


def test_the_paper_prompts(tmp_path, pool):
    """Models that cannot answer in tags: nothing can be read, and everything says so."""
    few = DataFile(path=str(PROBLEMS), limit=3)
    annotated, out = through_the_loop(tmp_path, few, pool, settings(prompts="tags", parse_retries=0, max_candidates=4))
    assert sum(json.loads((annotated / "annotation.json").read_text())["missing"].values()) > 0
    assert all(s.domain and s.keywords and s.summary for s in read_samples(annotated))
    check(annotated, out)
