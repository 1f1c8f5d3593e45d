"""COLLATE as nodes: what arms share, what their settings change, what is refused."""

import pytest

from gra_train.compose import compose
from gra_train.errors import UserError
from gra_train.experiment import plan


def nodes_of(arms, *overrides):
    return plan(compose(["experiment=mini", f"arms={arms}", "compare.baseline=gra", *overrides]))


ABLATION = "{gra: {data: gra, method: collate}, no_filter: {data: gra, method: collate, collate: {filter: false}}}"


def test_arms_share_what_their_settings_do_not_change():
    nodes = nodes_of(ABLATION)
    made = [node.stage for node in nodes]
    assert [made.count(stage) for stage in ("ift", "distinct", "merit", "tune")] == [1, 2, 4, 8]
    first = [n for n in nodes if n.stage == "merit" and n.config.iteration == 1]
    assert [n.config.collate.filter for n in first] == [True, False]
    assert first[0].inputs == first[1].inputs


def test_a_row_that_says_what_an_earlier_one_says_is_left_out():
    rows = [label for label in nodes_of(ABLATION)[-1].inputs if label.endswith(".scores")]
    assert [label for label in rows if label.startswith("no_filter")] == [
        "no_filter + COLLATE iteration 1.scores",
        "no_filter + COLLATE iteration 2.scores",
        "no_filter + COLLATE answerer.scores",
    ]
    assert rows.count("gra + COLLATE stage 2.scores") == 1


def test_an_ablation_adds_nothing_to_the_identities_of_others():
    alone = {n.run_id for n in nodes_of("{gra: {data: gra, method: collate}}") if n.stage != "compare"}
    assert alone < {n.run_id for n in nodes_of(ABLATION)}


@pytest.mark.parametrize(
    ("arm", "words"),
    [
        ("{data: gra, method: colate}", "Did you mean 'collate'"),
        ("{data: gra, method: none, collate: {filter: false}}", "method=none reads no settings of COLLATE"),
        ("{data: gra, method: collate, collate: {filtre: false}}", r"arms.gra.collate.filtre'. Did you mean"),
        ("{data: gra, method: collate, collate: {beta: -1}}", r"arms.gra.collate.beta=-1.0 is not valid"),
    ],
)
def test_what_an_arm_cannot_have_is_refused(arm, words):
    with pytest.raises(UserError, match=words):
        nodes_of(f"{{gra: {arm}}}")


def test_ablations_and_extensions_are_arms():
    arms = (
        "{gra: {data: gra, method: collate},"
        " own: {data: gra, method: collate, collate: {own_data: rationales}},"
        " two: {data: gra, method: collate, collate: {families: [finch, wren], iterations: 1, answerer_each: true}},"
        " adapters: {data: gra, method: collate, collate: {share: adapters, iterations: 0}}}"
    )
    nodes = {(n.stage, n.label): n for n in nodes_of(arms)}
    data = nodes["dataset", "gra"]
    assert nodes["ift", "own"].inputs["data"] is nodes["distinct", "own-p0"].inputs["data"] is data
    assert "data" not in nodes["merit", "own-i1"].inputs
    assert [nodes["distinct", f"two-p{s}"].config.model.name for s in range(2)] == ["finch", "wren"]
    assert nodes["distinct", "two-p1"].inputs["ift"] is nodes["ift", "two-wren"]
    assert nodes["merit", "two-i1"].inputs["ift"] is nodes["ift", "gra"]
    assert ("answerer", "two-stage 2, answerer") in nodes
    assert ("ift", "adapters") not in nodes
    assert nodes["distinct", "adapters-p0"].inputs["ift"] is nodes["ift", "gra"]
    assert nodes["distinct", "adapters-p0"].config.collate.stage2.lora.merge is False


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("{families: [fink]}", "the pool has no 'fink'. Did you mean 'finch'"),
        ("{own_data: both}", "no rows of its own"),
    ],
)
def test_what_an_arm_cannot_use_is_refused(settings, words):
    with pytest.raises(UserError, match=words):
        nodes_of(f"{{gra: {{data: none, method: collate, collate: {settings}}}}}")
