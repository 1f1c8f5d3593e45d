import dataclasses

import pytest

from gra_train.errors import UserError
from gra_train.schema import Lora, Preference, Train
from gra_train.schema.training import LOSSES
from gra_train.training.arguments import (
    Place,
    accumulation,
    lora_arguments,
    preference_arguments,
    preference_config,
    quantization,
    sft_arguments,
)

OURS = {"max_overlong", "group_by_length", "save_steps", "save_minutes", "keep_checkpoints", "must_save_by",
        "max_loss_ratio", "peak_tflops", "packing", "samples", "lora"}  # fmt: skip
"""Settings that rows.py, batches.py, callbacks.py and models.py consume themselves."""

THEIRS = {
    "epochs": (3.0, {"num_train_epochs": 3.0}),
    "steps": (7, {"max_steps": 7}),
    "global_batch": (24, {"gradient_accumulation_steps": 6}),
    "device_batch": (8, {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2}),
    "lr": (0.5, {"learning_rate": 0.5}),
    "schedule": ("linear", {"lr_scheduler_type": "linear"}),
    "warmup": (0.25, {"warmup_steps": 0.25}),
    "weight_decay": (0.125, {"weight_decay": 0.125}),
    "adam_beta2": (0.75, {"adam_beta2": 0.75}),
    "max_grad_norm": (2.5, {"max_grad_norm": 2.5}),
    "max_length": (77, {"max_length": 77}),
    "dtype": ("bfloat16", {"bf16": True, "fp16": False}),
    "activation_checkpointing": (True, {"activation_checkpointing": True}),
}
BASE = {"global_batch": 16, "device_batch": 4, "dtype": "float32", "activation_checkpointing": False}


def test_every_setting_is_either_theirs_or_ours():
    names = {f.name for f in dataclasses.fields(Train)}
    assert names == set(THEIRS) | OURS
    assert {f.name for f in dataclasses.fields(Preference)} - names == {"sft_weight", "simpo_gamma"}


@pytest.mark.parametrize("name", THEIRS)
def test_a_setting_arrives_in_trl_under_its_name(name, tmp_path):
    from trl import DPOConfig, SFTConfig

    value, expected = THEIRS[name]
    changed = {**BASE, name: value}
    place = Place("cpu")
    sft = SFTConfig(**sft_arguments(Train(**changed), place, folder=tmp_path, seed=3))
    dpo = DPOConfig(**preference(changed, tmp_path, "ipo"))
    for config in (sft, dpo):
        assert {key: getattr(config, key) for key in expected} == expected
        assert config.seed == 3
    before = sft_arguments(Train(**BASE), place, folder=tmp_path, seed=3)
    assert any(before[key] != wanted for key, wanted in expected.items() if key != "fp16")


def preference(values, folder, loss):
    return preference_arguments(Preference(**values), Place("cpu"), folder=folder, seed=3, beta=0.3, loss=loss)


PREFERENCE = {
    "sigmoid": {"loss_type": ["sigmoid"]},
    "hinge": {"loss_type": ["hinge"]},
    "ipo": {"loss_type": ["ipo"]},
    "sigmoid+sft": {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.25]},
    "simpo": {"loss_type": "simpo", "simpo_gamma": 0.75, "cpo_alpha": 0.0},
    "orpo": {},
    "kto": {"loss_type": "kto"},
}


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_arrives_in_its_configuration(loss, tmp_path):
    given = preference({**BASE, "sft_weight": 0.25, "simpo_gamma": 0.75}, tmp_path, loss)
    config = preference_config(loss)(**given)
    for name, wanted in {"beta": 0.3, "disable_dropout": True, **PREFERENCE[loss]}.items():
        assert getattr(config, name) == wanted


def test_adapter_settings_are_real_fields_of_peft():
    from peft import LoraConfig

    assert lora_arguments(Lora()) is None
    given = lora_arguments(Lora(r=8, alpha=3, dropout=0.5, targets="q_proj,v_proj", dora=True))
    config = LoraConfig(**given)
    assert (config.r, config.lora_alpha, config.lora_dropout, config.use_dora) == (8, 3, 0.5, True)
    assert config.target_modules == {"q_proj", "v_proj"}


def test_quantisation_settings_are_real_fields_of_transformers():
    import torch
    from transformers import BitsAndBytesConfig

    assert quantization(Lora(r=8), "bfloat16") == {}
    config = BitsAndBytesConfig(**quantization(Lora(r=8, quantize=True), "bfloat16"))
    assert (config.load_in_4bit, config.bnb_4bit_quant_type, config.bnb_4bit_use_double_quant) == (True, "nf4", True)
    assert config.bnb_4bit_compute_dtype == torch.bfloat16


def test_accumulation():
    assert accumulation(256, 4, 8) == 8
    assert accumulation(16, 16, 1) == 1


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ((100, 8, 2), r"multiple of 16\. Nearest: global_batch=96 or 112, or device_batch=5 or 10"),
        ((4, 8, 1), r"multiple of 8\. Nearest: global_batch=8, or device_batch=2 or 4"),
        ((7, 2, 2), r"multiple of 4\. Nearest: global_batch=4 or 8\."),
    ],
)
def test_an_indivisible_batch_names_the_nearest_valid_choices(case, message):
    with pytest.raises(UserError, match=message):
        accumulation(*case)


def test_half_precision_and_cuda_need_a_gpu(tmp_path):
    import torch

    with pytest.raises(UserError, match="float16 needs a GPU"):
        sft_arguments(Train(**{**BASE, "dtype": "float16"}), Place("cpu"), folder=tmp_path, seed=0)
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="no CUDA device"):
            sft_arguments(Train(**BASE), Place("cuda"), folder=tmp_path, seed=0)


def test_ranks_and_deepspeed_must_be_started_as_configured(monkeypatch):
    with pytest.raises(UserError, match=r"resources\.ranks=2, but 1 process"):
        Place("cpu", 2).check()
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UserError, match="DeepSpeed needs torchrun"):
        Place("cpu", 1, {"zero_optimization": {"stage": 2}}).check()
