"""The strict builder: types, bounds, choices, nearest spellings, withheld settings, recorded reads."""

import pytest

from gra_train import settings
from gra_train.errors import UserError
from gra_train.schema import Collate, Config, Train
from gra_train.settings import build, change, identity, only, plain


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"sft": {"lrr": 1}}, ["sft.lrr", "'sft.lr'"]),
        ({"sft": {"lr": "fast"}}, ["sft.lr='fast'", "float", "peak learning rate"]),
        ({"sft": {"lr": True}}, ["sft.lr=True"]),
        ({"seed": 1.5}, ["seed=1.5", "int"]),
        ({"synthesis": {"T_mean": 11}}, ["synthesis.T_mean=11", "<= 10"]),
        ({"synthesis": {"roles": "randm"}}, ["one of random, fixed, single", "'random'"]),
        ({"pool": {"models": {"name": "a"}}}, ["pool.models"]),
        ({"pool": {"models": [{"nme": "a"}]}}, ["pool.models.0.nme", "'pool.models.0.name'"]),
        ({"arms": {"gra": {}}}, ["arms.gra.data is required"]),
        ({"sft": 3}, ["sft.=3"]),
    ],
)
def test_wrong_input_names_the_setting(data, words):
    with pytest.raises(UserError) as error:
        build(Config, data)
    for word in words:
        assert word in str(error.value)


def test_build_is_the_inverse_of_plain():
    config = build(
        Config, {"arms": {"a": {"data": "gra"}}, "pool": {"models": [{"name": "x"}], "large": {"name": "y"}}}
    )
    assert build(Config, plain(config)) == config


def test_integers_are_accepted_as_floats():
    assert build(Train, {"lr": 1}).lr == 1.0


def test_identity_leaves_out_what_cannot_change_a_result():
    train = Train()
    assert "save_steps" not in identity(train)
    assert identity(change(train, save_steps=7)) == identity(train)
    assert identity(change(train, lr=7.0)) != identity(train)


def test_a_withheld_setting_cannot_be_read():
    frozen = build(Collate, plain(only(Collate(), "beta", "ift")), partial=True)
    assert frozen.beta == 0.1
    assert frozen.ift.lr == Train().lr
    with pytest.raises(AssertionError, match=r"Collate\.loss"):
        _ = frozen.loss


def test_reads_are_recorded_and_copies_are_not_reads():
    config = build(Config, {})
    settings.reads.clear()
    copy = change(config.sft, lr=1.0)
    identity(config), plain(config)
    assert settings.reads == {"Config.sft"}
    assert copy.lr == 1.0
    assert settings.reads == {"Config.sft", "Train.lr"}
