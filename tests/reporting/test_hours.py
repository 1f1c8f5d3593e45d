"""What is left to run, estimated: by arithmetic that can be checked by hand. What is not known is not nothing."""

from __future__ import annotations

import pytest

from gra_train.compose import compose
from gra_train.experiment import plan
from gra_train.graph import Node
from gra_train.reporting.hours import Hours, hours, parameters, training_hours


def nodes(*words: str) -> dict[str, Node]:
    return {f"{node.stage}-{node.label}": node for node in plan(compose(list(words)))}


def test_the_size_in_a_models_name() -> None:
    assert parameters("Qwen/Qwen2.5-7B") == 7e9
    assert parameters("qwen2.5-7b Qwen/Qwen2.5-0.5B") == 0.5e9
    assert parameters("openlm-research/open_llama_7b_v2") == 7e9
    assert parameters("chick mini:chick") is None


def test_training_by_hand() -> None:
    """50,000 rows of 600 tokens once through 7e9 parameters, 8 operations each, at 0.4 x 989e12 a second: 1.2 hours."""
    made = nodes("experiment=gra/paper")
    assert training_hours(made["sft-gra"]) == pytest.approx(8 * 7e9 * 50_000 * 600 / (0.4 * 989e12) / 3600)
    assert training_hours(made["sft-seed"]) is None, "the seeds' number is known when they are read"


def test_what_is_not_known_is_counted() -> None:
    config, made = compose(["experiment=gra/paper"]), nodes("experiment=gra/paper")
    total = hours(config, [made["sft-gra"], made["sft-seed"], made["evaluate-gra"]], {})
    assert (round(total.gpu, 2), total.unknown) == (1.18, 2)
    assert str(total) == "about 1 GPU-hours, 2 stages not estimated"
    served = hours(config, [made["synthesize-gra"]], {})
    assert served.gpu > 1
    assert served.unknown == 0
    assert str(Hours()) == "next to nothing"


def test_the_miniatures_minutes_are_measured_or_unknown() -> None:
    config, made = compose(["experiment=mini"]), nodes("experiment=mini")
    total = hours(config, [made["sft-gra"], made["sft-solo"]], {"sft-gra": 90.0})
    assert (total.minutes, total.unknown, total.gpu) == (1.5, 1, 0.0)
