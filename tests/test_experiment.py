"""The graph of an experiment: what identities depend on, what is shared, what is refused."""

import pytest

from gra_train.collate.graph import READS
from gra_train.compose import compose
from gra_train.errors import UserError
from gra_train.experiment import plan
from gra_train.session import run_experiment, select
from gra_train.stages import STAGES
from gra_train.synthesis.draw import check_pool


def ids(*overrides, until="compare"):
    return {f"{n.stage}:{n.label}": n.run_id for n in select(compose(["experiment=mini", *overrides]), until)}


def changed(*overrides):
    before, after = ids(), ids(*overrides)
    assert before.keys() == after.keys()
    return {name.split(":")[0] for name in before if before[name] != after[name]}


def test_a_sweep_over_beta_makes_nothing_of_what_comes_before_dpo():
    assert changed("collate.beta=0.2") == {"distinct", "merit", "tune", "rationales", "answerer", "evaluate", "compare"}
    same = {k for k, v in ids().items() if ids("collate.beta=0.2")[k] == v}
    assert {"synthesize:gra", "ift:gra", "sft:gra", "evaluate:gra"} <= same


def test_thresholds_leave_the_annotated_seeds_alone():
    assert "seeds" not in changed("synthesis.T_mean=9")
    assert "synthesize" in changed("synthesis.T_mean=9")


def test_where_and_how_fast_it_runs_is_no_part_of_an_identity():
    assert changed("resources.workers=1", "resources.threads=2", "runs_dir=elsewhere", "tracking=off") == set()


def test_the_seed_changes_everything():
    assert changed("seed=1") == {n.stage for n in plan(compose(["experiment=mini"]))}


def test_another_seed_file_is_another_identity(tmp_path):
    file = tmp_path / "seeds.jsonl"
    file.write_text('{"instruction": "a", "response": "b"}\n')
    first = ids(f"seeds.path={file}")
    other = tmp_path / "copy.jsonl"
    other.write_bytes(file.read_bytes())
    assert ids(f"seeds.path={other}") == first, "the same content under another name is the same work"
    changed_file = tmp_path / "changed.jsonl"
    changed_file.write_text('{"instruction": "a", "response": "c"}\n')
    assert ids(f"seeds.path={changed_file}")["seeds:annotated"] != first["seeds:annotated"]


def test_inputs_come_before_their_users_and_nothing_is_made_twice():
    nodes = plan(compose(["experiment=mini"]))
    seen = set()
    for node in nodes:
        assert all(earlier.run_id in seen for earlier in node.inputs.values())
        assert node.run_id not in seen
        seen.add(node.run_id)
    assert [n.stage for n in nodes].count("seeds") == 1
    assert nodes[-1].stage == "compare"


def test_commands_run_what_they_need():
    assert {name.split(":")[0] for name in ids(until="synthesize")} == {"seeds", "synthesize"}
    assert "evaluate" not in {name.split(":")[0] for name in ids(until="sft")}
    assert {"merit", "tune"} <= {name.split(":")[0] for name in ids(until="collate")}


def test_every_stage_of_the_registry_loads():
    for name, stage in STAGES.items():
        assert callable(stage.load()), name
    assert set(READS) <= set(STAGES)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["pool.models=[]"], "pool.models is empty"),
        (["pool.large=null"], "needs pool.large"),
        (["seeds.path=''"], "seeds.path is empty"),
        (["+arms.own.data=own"], "needs data.path"),
        (["pool.models=[{name: a, path: nowhere/at/all}]", "synthesis.roles=single"], "does not exist"),
        (["pool.models=[{name: a, path: 'mini:wren'}]"], "needs a pool of at least 5 models"),
    ],
)
def test_what_cannot_be_made_is_refused(overrides, words):
    with pytest.raises(UserError, match=words):
        plan(compose(["experiment=mini", *overrides]))


def test_a_task_that_takes_no_rationale_is_planned_and_refused_before_anything_runs(tmp_path):
    config = compose(["experiment=mini", "evaluation.tasks=[lm-eval:gsm8k]", f"runs_dir={tmp_path / 'runs'}"])
    assert plan(config)
    with pytest.raises(UserError, match="cannot be scored on lm-eval:gsm8k"):
        run_experiment(config)
    assert not (tmp_path / "runs").exists()


def test_an_arm_may_have_its_own_synthesis_settings_and_equal_stages_are_shared():
    arms = "arms={gra: {data: gra}, strict: {data: gra, synthesis: {T_mean: 9, review: {score_slope: 1.0}}},"
    arms += " same: {data: gra, synthesis: {T_mean: 8}}}"
    nodes = plan(compose(["experiment=mini", "compare.baseline=gra", arms]))
    made = [n for n in nodes if n.run_id.startswith("synthesize-gra-")]
    assert [(n.config.synthesis.T_mean, n.config.synthesis.review.score_slope) for n in made] == [(8, 2.0), (9, 1.0)]
    assert [n.stage for n in nodes].count("seeds") == 1
    assert nodes[-1].inputs["synthesis"] is nodes[-1].inputs["synthesis.same"] is made[0]
    with pytest.raises(UserError, match=r"No setting 'arms.gra.synthesis.T_men'. Did you mean 'arms.gra.synthesis.T_m"):
        plan(compose(["experiment=mini", "arms.gra.synthesis={T_men: 9}"]))


def test_an_arm_may_take_the_data_of_the_first_rounds():
    arms = "arms={gra: {data: gra}, one: {data: gra, rounds: 1}, all: {data: gra, rounds: 9}}"
    nodes = plan(compose(["experiment=mini", "compare.baseline=gra", "synthesis.target=700", arms]))
    assert [(n.stage, n.label) for n in nodes].count(("synthesize", "gra")) == 1
    data = {n.label: n.config for n in nodes if n.stage == "dataset"}
    assert {name: (data[name].rounds, data[name].rows) for name in ("gra", "one", "all")} == {
        "gra": (None, 700), "one": (1, 233), "all": (9, 700),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arm", "words"),
    [("gold: {data: gold, synthesis: {T_mean: 9}}", "is not synthesised"), ("solo: {data: solo, rounds: 2}", "rounds")],
)
def test_what_an_arm_cannot_change_is_refused(arm, words):
    with pytest.raises(UserError, match=words):
        plan(compose(["experiment=mini", f"arms={{{arm}}}", f"compare.baseline={arm.split(':')[0]}"]))


def test_refined_seeds_take_the_place_of_the_seeds():
    arms = "arms={refine: {data: refine}, integrated: {data: integrated, rounds: 2}, gra: {data: gra}}"
    nodes = plan(compose(["experiment=mini", "compare.baseline=gra", "synthesis.rounds=3", arms]))
    data = {n.label: n for n in nodes if n.stage == "dataset"}
    (refined,) = (n for n in nodes if n.stage == "refine")
    (gra,) = (n for n in nodes if (n.stage, n.label) == ("synthesize", "gra"))
    assert data["refine"].inputs == {"source": refined}
    assert data["integrated"].inputs == {"seeds": refined, "source": gra}
    assert (data["refine"].config.rows, data["integrated"].config.rows) == (None, 466)
    assert data["gra"].inputs["source"] is gra
    for node in (refined, gra):  # reads only what is part of their identity
        check_pool([m.name for m in node.config.pool.models], node.config.synthesis, pool="mini")


def test_a_shard_has_a_run_of_its_own_for_each_round(tmp_path):
    words = [f"runs_dir={tmp_path}", "synthesis.shard=2/3"]
    whole = ids(*words[:1], until="synthesize")
    first = ids(*words, until="synthesize")
    assert set(first) == {"seeds:annotated", "shard:round1-2of3"}
    run = tmp_path / whole["synthesize:gra"]
    run.mkdir()
    (run / "rounds.json").write_text("[{}]")
    assert set(ids(*words, until="synthesize")) == {"seeds:annotated", "shard:round2-2of3"}
    with pytest.raises(UserError, match="for gra-train synthesize alone"):
        ids(*words)
