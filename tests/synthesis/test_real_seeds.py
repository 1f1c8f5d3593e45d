"""Real seed sets: all of them load, and some are annotated by models in this process.

The miniature's models know nothing of such text: what they cannot annotate is counted, and made from the seed's own
text.
"""

import json

import pytest

from gra_train.compose import compose
from gra_train.data.load import load
from gra_train.experiment import synthesis_only
from gra_train.records import read_samples
from gra_train.settings import change
from gra_train.synthesis.stages import seeds

SETS = {"self_instruct": ("self_instruct/seed_tasks", 175), "gsm8k": ("gsm8k/train", 7473)}


@pytest.mark.parametrize("name", SETS)
def test_a_preset_loads_all_and_annotates_some(tmp_path, data_dir, name):
    file, rows = SETS[name]
    config = compose([f"seeds={name}", f"seeds.path={data_dir}/{file}.jsonl.gz", "pool=mini", "synthesis=mini",
                      "synthesis.max_tokens=16", "synthesis.parse_retries=0"])  # fmt: skip
    everything = load(config.seeds)
    assert len(everything) == rows
    assert all(s.instruction and s.response for s in everything)
    node = synthesis_only(change(config, seeds=change(config.seeds, limit=2)))[0]
    seeds(change(node.config, ledger=str(tmp_path / "ledger")), {}, tmp_path)
    annotated = read_samples(tmp_path)
    assert [s.instruction for s in annotated] == [s.instruction for s in everything[:2]]
    assert all(s.domain and s.keywords and s.summary for s in annotated)
    report = json.loads((tmp_path / "annotation.json").read_text())
    assert report["seeds"] == 2
    assert report["answers"] >= 6  # domain, keywords and summary of each, and every other model that was asked
    assert report["answers"] - report["unparseable"] == 6 - sum(report["missing"].values())
