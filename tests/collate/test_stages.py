import hashlib
import json
from pathlib import Path

import pytest

from gra_train.collate.graph import READS
from gra_train.records import read_jsonl
from gra_train.settings import change, only
from gra_train.stages import STAGES, CollateStage


def run(name: str, config: CollateStage, inputs: dict[str, Path], folder: Path) -> Path:
    out = folder / "result"
    out.mkdir(parents=True)
    as_planned = change(config, collate=only(config.collate, *READS[name]))
    STAGES[name].load()(as_planned, inputs, out)
    return out


def walk(config: CollateStage, root: Path) -> dict[str, Path]:
    """Every stage once, with one iteration."""
    done = {"ift": run("ift", config, {}, root / "ift")}
    for s in range(2):
        done[f"distinct{s}"] = run("distinct", change(config, provider=s), {"ift": done["ift"]}, root / f"distinct{s}")
    writers = {"ift": done["ift"], "provider_0": done["distinct0"], "provider_1": done["distinct1"]}
    done["merit"] = run("merit", change(config, iteration=1), writers, root / "merit")
    for s in range(2):
        inputs = {"provider": done[f"distinct{s}"], "merit": done["merit"]}
        done[f"tune{s}"] = run("tune", change(config, provider=s, iteration=1), inputs, root / f"tune{s}")
    writers = {"ift": done["ift"], "provider_0": done["tune0"], "provider_1": done["tune1"]}
    done["rationales"] = run("rationales", config, writers, root / "rationales")
    done["answerer"] = run("answerer", config, {"rationales": done["rationales"]}, root / "answerer")
    return done


def digest(folder: Path) -> dict[str, str]:
    files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def first_loss(result: Path) -> float:
    return json.loads((result.parent / "metrics.jsonl").read_text().splitlines()[-3])["loss"]


def test_the_whole_method_and_its_replay(config, tmp_path, monkeypatch):
    done = walk(config, tmp_path / "a")

    splits = json.loads((done["ift"] / "splits.json").read_text())
    assert (len(splits["train"]), len(splits["validation"])) == (20, 4)
    assert json.loads((done["ift"] / "modes.json").read_text()) == {"I->R": 20, "[I;R]->A": 20, "I->A": 20}

    parts = [{row["task_id"] for row in read_jsonl(done[f"distinct{s}"] / "pairs.jsonl")} for s in range(2)]
    assert not parts[0] & parts[1]
    assert parts[0] | parts[1] <= set(splits["train"])
    for row in read_jsonl(done["distinct0"] / "pairs.jsonl"):
        assert row["prompt"].startswith("Explain: what is")
        assert row["chosen"].startswith("first")
    for stage in ("distinct0", "distinct1"):
        assert first_loss(done[stage]) == pytest.approx(0.693147, abs=1e-5)

    found = json.loads((done["merit"] / "statistics.json").read_text())
    assert found["tasks"] == 12
    assert found["pairs"] + sum(found["dropped"].values()) == 12
    assert len(list(read_jsonl(done["merit"] / "rationales.jsonl"))) == 24
    pairs = [list(read_jsonl(done["merit"] / f"pairs_{s}.jsonl")) for s in range(2)]
    assert found["pairs"] == sum(map(len, pairs)) > 0
    for row in (row for part in pairs for row in part):
        assert row["margin"] > 0
    assert set(found["mean_log_likelihood_per_token"]) == {"none", "RP_0", "RP_1"}

    for s in range(2):  # ln 2 at the first step: the reference of stage 3 is RP_s(0), which is not M_IFT
        assert first_loss(done[f"tune{s}"]) == pytest.approx(0.693147, abs=1e-5)
        assert digest(done[f"distinct{s}"] / "model") != digest(done["ift"] / "model")

    pick = json.loads((done["rationales"] / "pick.json").read_text())
    assert pick["pick"] == max(("RP_0", "RP_1"), key=pick["mean_log_likelihood_per_token"].get)
    assert len(list(read_jsonl(done["rationales"] / "train.jsonl"))) == 12
    test = list(read_jsonl(done["rationales"] / "test.jsonl"))
    assert len(test) == 3
    assert {"task", "question_id", "instruction", "gold", "rationale"} <= set(test[0])
    assert (done["answerer"] / "model" / "model.safetensors").exists()

    learned = {"ift": "`rationales.jsonl`", "distinct1": "pairs of `distinct1`", "tune0": "pairs of `merit`",
               "answerer": "rationales of `rationales`"}  # fmt: skip
    for name, data in learned.items():
        assert f"Data: {data} (content hash" in (done[name] / "model" / "README.md").read_text()

    from gra_train.chat.local import LocalModel

    def asked_again(*_):
        raise AssertionError("a finished call was asked for again")

    monkeypatch.setattr(LocalModel, "answer_batch", asked_again)
    again = walk(config, tmp_path / "b")
    for name in done:
        assert digest(again[name]) == digest(done[name])


def test_a_provider_without_pairs_is_passed_on_unchanged(config, tmp_path):
    ift = run("ift", config, {}, tmp_path / "ift")
    merit = tmp_path / "merit"
    merit.mkdir()
    (merit / "pairs_0.jsonl").write_text("")
    tuned = run("tune", config, {"provider": ift, "merit": merit}, tmp_path / "tune")
    assert digest(tuned / "model") == digest(ift / "model")
    assert json.loads((tuned / "training.json").read_text())["examples"] == 0
