"""COLLATE's options, each through the stages that read it."""

import json
from pathlib import Path

import pytest

from gra_train.collate import modes
from gra_train.collate.baselines.answering import make_thinker
from gra_train.collate.graph import READS, _adapters
from gra_train.errors import UserError
from gra_train.records import read_jsonl, write_jsonl
from gra_train.schema import Baselines, DataFile, Decontaminate, Lora, Resources
from gra_train.settings import change, only
from gra_train.stages import STAGES


def run(name, config, inputs, folder: Path) -> Path:
    out = folder / "result"
    out.mkdir(parents=True)
    as_planned = change(config, collate=only(config.collate, *READS[name]))
    STAGES[name].load()(as_planned, inputs, out)
    return out


@pytest.fixture
def ift(config, tmp_path):
    return run("ift", config, {}, tmp_path / "ift")


def merit(config, ift, folder, **settings):
    """Iteration 1 with M_IFT as the only provider."""
    method = change(config.collate, **{"providers": 1, "candidates": 2, **settings})
    return run("merit", change(config, collate=method, iteration=1), {"ift": ift, "provider_0": ift}, folder)


def read(folder, name="statistics.json"):
    return json.loads((folder / name).read_text())


def test_every_mode_has_its_loss_on_held_out_rows(ift):
    found = read(ift, "losses.json")
    assert found["rows"] == 4
    assert set(found["loss"]["M_IFT"]) == {"I->R", "[I;R]->A", "I->A"}
    assert all(loss > 0 for losses in found["loss"].values() for loss in losses.values())
    assert found["loss"]["M_IFT"]["I->R"] < found["loss"]["before"]["I->R"]  # 20 steps teach no sums, but the form


def test_one_provider_that_writes_twice_makes_pairs(config, ift, tmp_path):
    out = merit(config, ift, tmp_path / "two")
    found = read(out)
    assert found["pairs"] > 0
    assert found["won_share"] == {"RP_0": 1.0}
    assert found["agreement"]["words"] < 1
    rows = list(read_jsonl(out / "rationales.jsonl"))
    assert [row["provider"] for row in rows] == ["RP_0"] * 24
    assert read(merit(config, ift, tmp_path / "one", candidates=1))["dropped"]["equal"] == 12


def test_judges(config, ift, tmp_path):
    """The tiny model cannot write points, so the written judge gives none; its certainty can always be had."""
    certain = merit(config, ift, tmp_path / "certain", selection="judge", judging="likelihood", filter=False)
    by_merit = merit(config, ift, tmp_path / "merit", filter=False)
    assert read(certain)["pairs"] > 0
    assert (certain / "pairs_0.jsonl").read_bytes() != (by_merit / "pairs_0.jsonl").read_bytes()
    assert any(row["margin"] < 0 for row in read_jsonl(certain / "pairs_0.jsonl"))  # it does not see the gold answer
    assert read(merit(config, ift, tmp_path / "text", selection="judge"))["dropped"]["unjudged"] == 12


def test_what_a_judge_wrote():
    assert modes.read_points("It is about it.\nScore: 4") == 4.0
    assert modes.read_points("Score: 1 no, score: 3") == 3.0
    assert modes.read_points("Score: 42") is None
    assert modes.read_points("good") is None
    assert "0 to 5" in modes.judge("Q", "R")


def test_a_revision_wins_where_its_merit_is_higher(config, ift, tmp_path):
    plain = {r["task_id"]: r for r in read_jsonl(merit(config, ift, tmp_path / "plain") / "pairs_0.jsonl")}
    out = merit(config, ift, tmp_path / "refined", refine=True)
    rows = {r["task_id"]: r for r in read_jsonl(out / "pairs_0.jsonl")}
    assert rows.keys() == plain.keys()
    revised = [name for name, row in rows.items() if "refined" in row["info"]]
    assert read(out)["refined"]["share"] == len(revised) / len(rows) > 0
    for name, row in rows.items():
        before = plain[name]
        assert row["rejected"] == before["rejected"]
        if name in revised:
            assert row["margin"] > before["margin"]
            assert row["info"]["refined"] == before["chosen"] != row["chosen"]
        else:
            assert row["chosen"] == before["chosen"]


def test_an_arms_own_rows_as_data(config, tmp_path):
    own = tmp_path / "dataset" / "result"
    own.mkdir(parents=True)
    rows = [
        {"id": str(i), "instruction": f"what is {i} + 1 ?", "response": f"first {i} #### {i + 1}"} for i in range(20)
    ]
    write_jsonl(own / "data.jsonl", [*rows, {"id": "x", "instruction": "what ?", "response": "no mark"}])
    given = change(config, collate=change(config.collate, own_data="both", rationale_data=DataFile()))
    ift = run("ift", given, {"data": own}, tmp_path / "own-ift")
    splits = read(ift, "splits.json")
    assert len(splits["train"]) + len(splits["validation"]) == 20
    out = run("merit", change(given, iteration=1), {"ift": ift, "provider_0": ift, "data": own}, tmp_path / "own-merit")
    assert read(out)["tasks"] == 21  # as tasks, all have an answer


def test_data_that_overlap_with_a_benchmark_are_left_out(config, tmp_path):
    asked = tmp_path / "benchmark.jsonl"
    row = next(read_jsonl(Path(config.collate.task_data.path)))
    asked.write_text(json.dumps({"question": f"Now {row['instruction']}"}) + "\n")
    apart = Decontaminate(against=[str(asked)], ngram=4)
    given = change(
        config, collate=change(config.collate, decontaminate=apart), benchmarks={"b": DataFile(path=str(asked))}
    )
    ift = run("ift", given, {}, tmp_path / "ift-clean")
    assert read(ift, "contamination.json")["benchmarks"]["b"]["questions"] == 1
    out = run("merit", change(given, iteration=1), {"ift": ift, "provider_0": ift}, tmp_path / "clean")
    assert read(out)["tasks"] == 12 - len(list(read_jsonl(out / "contaminated.jsonl"))) < 12


def test_more_providers_than_rows_are_refused(config, ift, tmp_path):
    many = change(config, provider=29, collate=change(config.collate, providers=30))
    with pytest.raises(UserError, match=r"collate\.providers=30, but 20 rows .* 4 are for validation: provider 29 has"):
        run("distinct", many, {"ift": ift}, tmp_path / "distinct")


def test_worked_examples_of_the_baselines_are_no_test_questions(config, tmp_path):
    asked = tmp_path / "benchmark.jsonl"
    row = next(read_jsonl(Path(config.collate.rationale_data.path)))
    asked.write_text(json.dumps({"question": row["instruction"]}) + "\n")
    apart = Decontaminate(against=[str(asked)], ngram=4)
    method = change(config.collate, decontaminate=apart, baselines=Baselines(shots=20))
    given = change(config, collate=method, benchmarks={"b": DataFile(path=str(asked))})
    thinker = make_thinker(given, {})
    assert len(thinker.examples) == 20
    assert row["instruction"] not in [one.instruction for one in thinker.examples]
    without = make_thinker(change(given, benchmarks={}, collate=change(method, baselines=Baselines(shots=24))), {})
    assert row["instruction"] in [one.instruction for one in without.examples]


def test_adapters_learn_on_from_the_previous_adapter(config, ift, tmp_path):
    """Providers as adapters on one M_IFT: at iteration 2 the reference is RP_s(1), and that is not M_IFT."""
    from gra_train.training.arguments import Place
    from gra_train.training.dpo import train_dpo
    from gra_train.training.rows import pair

    method = _adapters(change(config.collate, share="adapters", adapter_lr=3e-2), Resources(device="cpu"))
    assert method.stage3.lora == Lora(r=16, alpha=32, merge=False)
    assert _adapters(config.collate, Resources(device="cuda")).stage2.lora.r == 16
    assert _adapters(config.collate, Resources(device="cpu")) == config.collate
    given = change(config, collate=method)
    made = [run("distinct", given, {"ift": ift}, tmp_path / "distinct")]
    pairs = list(read_jsonl(made[0] / "pairs.jsonl"))
    (tmp_path / "merit").mkdir()
    write_jsonl(tmp_path / "merit" / "pairs_0.jsonl", pairs)
    for i in (1, 2):
        inputs = {"provider": made[-1], "merit": tmp_path / "merit"}
        made.append(run("tune", change(given, iteration=i), inputs, tmp_path / f"tune{i}"))
    for result in made:
        names = {file.name for file in (result / "model").iterdir()}
        assert "adapter_model.safetensors" in names
        assert "model.safetensors" not in names
        assert first_loss(result) == pytest.approx(0.693147, abs=1e-5)
        held = json.loads((result / "model" / "adapter_config.json").read_text())["base_model_name_or_path"]
        assert (result / "model" / held).resolve() == (ift / "model").resolve()

    other = tmp_path / "other" / "result"
    other.mkdir(parents=True)
    examples = [pair(p["prompt"], p["chosen"], p["rejected"]) for p in pairs]
    train_dpo(str(made[1] / "model"), examples, method.stage3, out=other, seed=0, place=Place("cpu", 1, {}), beta=0.1,
              reference=str(ift / "model"))  # fmt: skip
    assert abs(first_loss(other) - 0.693147) > 1e-3


def first_loss(result: Path) -> float:
    return next(row["loss"] for row in map(json.loads, (result.parent / "metrics.jsonl").read_text().splitlines())
                if "loss" in row)  # fmt: skip


def test_unknown_judges_are_refused():
    from gra_train.schema import Collate
    from gra_train.settings import build

    with pytest.raises(UserError, match=r"collate\.selection"):
        build(Collate, {"selection": "jury"}, "collate.")
