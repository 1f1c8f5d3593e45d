"""Baselines as nodes: what each method makes, what methods share, what is refused before anything runs."""

from __future__ import annotations

import pytest

from gra_train.compose import compose
from gra_train.errors import UserError
from gra_train.experiment import plan
from gra_train.session import select

WORDS = ("experiment=mini", "collate.baselines.roles=prompt")


def nodes_of(*overrides):
    return plan(compose(["experiment=mini/baselines", *overrides]))


def labels(nodes):
    return [name.removesuffix(".scores") for name in nodes[-1].inputs if name.endswith(".scores")]


def test_every_method_has_its_rows_on_one_student():
    nodes = nodes_of()
    made = [node.stage for node in nodes]
    assert made.count("sft") == made.count("ift") == made.count("answers") == 1
    assert [made.count(stage) for stage in ("star", "spin", "self_rewarding")] == [3, 3, 2]
    assert labels(nodes) == [
        "gold", "gold + DSS", "cot + CoT", "self_consistency + self-consistency", "tot + ToT", "eot + EoT", "sft + SFT",
        "star + STaR", "spin + SPIN", "spin + SPIN answerer", "self_rewarding + Self-Rewarding",
        "self_rewarding + Self-Rewarding answerer",
    ]  # fmt: skip


def test_iterations_build_on_each_other():
    nodes = nodes_of()
    ift = next(node for node in nodes if node.stage == "ift")
    star, spin = ([node for node in nodes if node.stage == stage] for stage in ("star", "spin"))
    assert [node.inputs for node in star] == [
        {"model": ift},
        {"model": ift, "writer": star[0]},  # training starts anew, only the writer moves on
        {"model": ift, "writer": star[1]},
    ]
    assert [node.inputs["model"] for node in spin] == [ift, spin[0], spin[1]]
    assert {node.inputs["ift"] for node in spin} == {ift}


def test_an_identity_holds_what_its_stage_reads():
    before = {node.stage: node.run_id for node in nodes_of()}
    after = {node.stage: node.run_id for node in nodes_of("collate.baselines.samples=8")}
    changed = {stage for stage in before if before[stage] != after[stage]}
    assert changed == {"self_consistency", "compare"}
    assert {"tot"} == changed_by(before, "collate.baselines.tot_beam=1")
    assert {"star", "cot"} <= changed_by(before, "collate.baselines.star_hints=1")  # cot: of what STaR trained


def test_worked_examples_are_kept_apart_from_benchmarks_where_there_are_any():
    """Only there: settings that nothing reads are no part of an identity."""
    apart = "collate.decontaminate.against=[mini_math]"
    [plain] = [node for node in nodes_of("collate.baselines.start=base") if node.label == "cot-CoT"]
    [same] = [node for node in nodes_of("collate.baselines.start=base", apart) if node.label == "cot-CoT"]
    assert (same.run_id, same.config.benchmarks) == (plain.run_id, {})
    few = nodes_of("collate.baselines.start=base", "collate.baselines.shots=2", apart)
    [shown] = [node for node in few if node.label == "cot-CoT"]
    assert shown.config.benchmarks


def changed_by(before, override):
    after = {node.stage: node.run_id for node in nodes_of(override)}
    return {stage for stage in before if before[stage] != after[stage]} - {"compare"}


def test_the_base_is_prompted_as_published():
    nodes = nodes_of("collate.baselines.start=base")
    student = next(node for node in nodes if node.stage == "sft")
    assert next(node for node in nodes if node.label == "cot-CoT").inputs == {"model": student}
    assert next(node for node in nodes if node.stage == "star").inputs == {"model": student}
    bare = nodes_of("collate.baselines.start=base", "arms.bare={data: none, method: cot}")
    assert next(node for node in bare if node.label == "bare-CoT").inputs == {}


def test_self_play_for_answers_is_scored_without_a_rationale():
    nodes = nodes_of("collate.baselines.spin_target=answer")
    assert "spin + SPIN answerer" not in labels(nodes)
    assert nodes[-1].inputs["spin + SPIN.scores"].stage == "direct"


@pytest.mark.parametrize("method", ["tot", "eot", "star", "self_rewarding"])
def test_words_that_a_model_has_not_learned_are_refused(method):
    with pytest.raises(UserError, match=r"set collate\.baselines\.roles=likelihood"):
        plan(compose([f"arms.more={{data: gold, method: {method}}}", *WORDS]))


def test_until_says_what_is_trained_and_what_is_scored():
    config = compose(["experiment=mini/baselines"])
    assert {"star", "spin", "self_rewarding", "answers", "answerer"} <= {n.stage for n in select(config, "collate")}
    assert {"cot", "self_consistency", "tot", "eot", "direct"} <= {n.stage for n in select(config, "evaluate")}
    assert not {"cot", "tot", "compare"} & {n.stage for n in select(config, "collate")}
