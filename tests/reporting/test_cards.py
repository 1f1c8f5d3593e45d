"""The data set card: true to its run folder, readable by the Hub's own tools, the same every time."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from gra_train.records import Sample, write_samples
from gra_train.reporting.cards import dataset_card, write_card
from gra_train.runs import write_json
from gra_train.schema import Dedup, Model, Pool, Review, Synthesis
from gra_train.settings import plain
from gra_train.stages import SynthesizeStage
from tests.reporting.conftest import FUNNEL


def run(folder: Path, *, review: str = "committee", path: str = "mini:wren") -> Path:
    synthesis = Synthesis(review=Review(mode=review, scoring="likelihood"), dedup=Dedup(encoder="hashing"))
    stage = SynthesizeStage(3, Pool(name="small", models=[Model(name="alpha", path=path, revision="r1")]), synthesis)
    result = folder / "result"
    result.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({"stage": "synthesize", "config": plain(stage)}))
    write_samples(result, [Sample("1", "Say | it.", "It.", "Math"), Sample("2", "Say so.", "So so.", "Coding")])
    write_json(result / "funnel.json", FUNNEL)
    return result


def test_the_card_says_what_happened(tmp_path: Path) -> None:
    text = write_card(run(tmp_path / "a", path=str(tmp_path / "models" / "alpha-7b"))).read_text()
    assert "| alpha | alpha-7b | r1 | unknown |" in text
    assert "3 reviewers check the instruction" in text
    assert "Reviewers scored by likelihood" in text
    assert "| synthesis.T_mean | 8.0 |" in text
    assert "| synthesis.review.scoring | likelihood |" in text
    assert "| kept (no duplicate, in the target) | 4 | 100.0 [" in text
    assert "2 rows; mean words: instruction 2.5, response 1.5." in text
    assert "100.0% of the kept rows are right by an exact check" in text
    assert str(tmp_path) not in text
    unreviewed = dataset_card(run(tmp_path / "b", review="none"))
    assert "kept **without review**" in unreviewed
    assert "reviewers check" not in unreviewed


def test_the_hub_can_read_it(tmp_path: Path) -> None:
    from huggingface_hub import DatasetCard

    card = DatasetCard.load(write_card(run(tmp_path)))
    assert card.data.to_dict()["configs"] == [{"config_name": "default", "data_files": "data.jsonl"}]
    assert card.data.size_categories == ["n<1K"]


def test_same_run_same_bytes(tmp_path: Path) -> None:
    assert dataset_card(run(tmp_path / "a")) == dataset_card(run(tmp_path / "b"))


def test_a_set_without_a_checker_claims_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(tmp_path)
    steps = {"kept": {"rows": 4}}
    write_json(result / "funnel.json", FUNNEL | {"steps": steps})
    assert "judged by models alone" in dataset_card(result)
