"""Every stage of the baselines on a tiny model: what it writes, and that nothing is asked twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from gra_train.collate.baselines.star import FAILED, FIRST, HINTED
from gra_train.collate.graph import READS
from gra_train.evaluation.stages import COLUMNS
from gra_train.records import read_jsonl, write_jsonl
from gra_train.runs import read_json
from gra_train.schema import Baselines, DataFile
from gra_train.settings import change, only
from gra_train.stages import STAGES, CollateStage
from tests.collate.test_stages import digest, first_loss, run

ANSWERING = ("direct", "cot", "self_consistency", "tot", "eot")


@pytest.fixture
def own(config: CollateStage) -> CollateStage:
    """Six votes; likelihood in the place of words, which this model does not know; tasks of which it knows some."""
    baselines = Baselines(start="ift", roles="likelihood", answer_tokens=4, samples=6, star_hints=3)
    given = [{**row, "rationale": ""} for row in read_jsonl(Path(config.collate.rationale_data.path))]
    known = Path(config.collate.task_data.path).with_name("known.jsonl")
    write_jsonl(known, given[:12])
    ift = change(config.collate.ift, steps=150, lr=1e-2)
    method = change(config.collate, baselines=baselines, ift=ift, task_data=DataFile(path=str(known)))
    return change(config, collate=method, evaluation=change(config.evaluation, tasks=["mini_math", "mini_coding"]))


def walk(config: CollateStage, root: Path) -> dict[str, Path]:
    done = {"ift": run("ift", config, {}, root / "ift")}
    for name in ANSWERING:
        done[name] = run(name, config, {"model": done["ift"]}, root / name)
    done["answers"] = run("answers", config, {}, root / "answers")
    first = change(config, iteration=1)
    start = {"model": done["ift"]}
    done["star"] = run("star", first, start, root / "star")
    done["star2"] = run("star", change(config, iteration=2), start | {"writer": done["star"]}, root / "star2")
    done["spin"] = run("spin", first, start | {"ift": done["ift"]}, root / "spin")
    played = {"ift": done["ift"], "model": done["spin"]}
    done["spin2"] = run("spin", change(config, iteration=2), played, root / "spin2")
    done["rewarding"] = run("self_rewarding", first, start, root / "rewarding")
    return done


def test_every_baseline_and_its_replay(own, tmp_path, monkeypatch):
    done = walk(own, tmp_path / "a")

    import pyarrow.parquet as pq

    for name in ANSWERING:
        table = pq.read_table(done[name] / "questions.parquet")
        rows = table.to_pylist()
        assert tuple(table.column_names) == COLUMNS
        assert len(rows) == len(list(read_jsonl(done[name] / "details.jsonl"))) == 6
        scores = read_json(done[name] / "scores.json")
        assert scores["average"]["n"] == 6
        assert scores["average"]["score"] == sum(row["correct"] for row in rows) / 6
        assert all(row["correct"] == (row["extracted"] == row["gold"]) for row in rows)
        details = read_jsonl(done[name] / "details.jsonl")
        for row, told in zip(rows, [one["rationale"] for one in details], strict=True):
            because = "" if name == "direct" else f" Because: {told}"
            assert row["prompt"] == f"Answer: {row['instruction']}{because}"
    effort = {name: read_json(done[name] / "effort.json") for name in ANSWERING}
    calls = {name: effort[name]["calls_per_question"] for name in ANSWERING}
    assert (calls["direct"], calls["cot"], calls["self_consistency"]) == (1, 2, 12)
    assert calls["eot"] >= 4  # two thoughts, each a rationale and an answer
    assert calls["tot"] > 3 * (1 + 2 + 2)
    assert effort["cot"]["scored_tokens_per_question"] == 0 < effort["tot"]["scored_tokens_per_question"]
    assert 0 < effort["self_consistency"]["mean_agreement"] < 1
    assert 0 < effort["eot"]["mean_rounds"] <= 3

    tasks = {row["instruction"]: row["answer"] for row in read_jsonl(Path(own.collate.task_data.path))}
    for name in ("star", "star2"):
        counts = read_json(done[name] / "statistics.json")
        assert counts["tasks"] == len(tasks) == 12
        assert counts["shares"][FIRST] + counts["shares"][HINTED] + counts["shares"][FAILED] == pytest.approx(1)
        assert counts["kept"] == len(list(read_jsonl(done[name] / "kept.jsonl"))) > 0
        assert 12 < counts["tries"] <= 24
        assert read_json(done[name] / "training.json")["examples"] == 2 * counts["kept"]

    for name, rows in (("spin", 20), ("spin2", 20), ("rewarding", 12)):
        counts = read_json(done[name] / "statistics.json")
        found = list(read_jsonl(done[name] / "pairs.jsonl"))
        assert len(found) == counts["pairs"] > 0
        assert counts.get("rows", counts.get("tasks")) == rows
        assert first_loss(done[name]) == pytest.approx(0.693147, abs=1e-5)  # the reference is the model itself
        for row in found:
            assert row["prompt"].startswith("Explain: what is")
            assert row["chosen"] != row["rejected"]
    assert all(row["chosen"].startswith("first") for row in read_jsonl(done["spin"] / "pairs.jsonl"))
    judged = {row["task_id"]: row for row in read_jsonl(done["rewarding"] / "judged.jsonl")}
    for row in read_jsonl(done["rewarding"] / "pairs.jsonl"):
        one = judged[row["task_id"]]
        values = dict(zip(one["texts"], one["values"], strict=True))
        assert values[row["chosen"]] == max(one["values"]) > min(one["values"]) == values[row["rejected"]]
    weights = [digest(done[name] / "model")["model.safetensors"] for name in ("ift", "spin", "spin2", "rewarding")]
    assert len(set(weights)) == 4

    from gra_train.chat.local import LocalModel

    def asked_again(*_):
        raise AssertionError("a finished call was asked for again")

    monkeypatch.setattr(LocalModel, "answer_batch", asked_again)
    again = walk(own, tmp_path / "b")
    for name in done:
        assert digest(again[name]) == digest(done[name])


class Killed(BaseException):
    """As if the process had ended here."""


@pytest.mark.parametrize("name", ["tot", "star", "self_rewarding"])
def test_a_stage_that_was_stopped_asks_for_the_rest_alone(own, tmp_path, monkeypatch, name):
    from gra_train.chat.local import LocalModel

    start = {"model": run("ift", own, {}, tmp_path / "ift")}
    answer, asked, stop_at = LocalModel.answer_batch, [], [0]

    def counted(model, prepared):
        if len(asked) + 1 == stop_at[0]:
            raise Killed
        asked.append(len(prepared))
        return answer(model, prepared)

    monkeypatch.setattr(LocalModel, "answer_batch", counted)
    whole = run(name, change(own, iteration=1, ledger=str(tmp_path / "other")), start, tmp_path / "whole" / name)
    undisturbed = list(asked)

    asked.clear()
    stop_at[0] = len(undisturbed) // 2 + 1
    config = change(own, iteration=1)
    with pytest.raises(Killed):
        run(name, config, start, tmp_path / name)
    stop_at[0] = 0
    again = change(config, collate=only(config.collate, *READS[name]))
    STAGES[name].load()(again, start, tmp_path / name / "result")
    assert asked == undisturbed
    assert digest(tmp_path / name / "result") == digest(whole)
