"""The one place that knows how transformers, TRL and PEFT name their arguments."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gra_train.errors import UserError
from gra_train.schema import Lora, Preference, Train

SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}
LOG_STEPS = 10
"""Steps between two averages of TRL's own metrics; loss, learning rate and gradient norm are noted at every step."""


@dataclass(frozen=True)
class Place:
    """Where a training runs: device ("auto", "cpu" or "cuda"), ranks, and DeepSpeed's configuration (empty: none)."""

    device: str = "auto"
    ranks: int = 1
    deepspeed: dict[str, Any] | None = None

    @property
    def on_cpu(self) -> bool:
        import torch

        if self.device == "cuda" and not torch.cuda.is_available():
            raise UserError("resources.device=cuda, but there is no CUDA device here; use resources.device=cpu or auto")
        return self.device == "cpu" or (self.device == "auto" and not torch.cuda.is_available())

    def check(self) -> None:
        """Raises UserError if this process was not started as the configuration says."""
        started = int(os.environ.get("WORLD_SIZE", "1"))
        if started != self.ranks:
            raise UserError(
                f"resources.ranks={self.ranks}, but {started} process(es) were started. Start the stage with "
                f"`torchrun --nproc_per_node {self.ranks}`, as gra-train does, or set resources.ranks={started}."
            )
        if "RANK" not in os.environ:
            self.check_deepspeed()

    def check_deepspeed(self) -> None:
        """Raises UserError for DeepSpeed with one rank, which is not started by torchrun."""
        if self.deepspeed and self.ranks == 1:
            raise UserError(
                "DeepSpeed needs torchrun, also for one rank: set resources.ranks to 2 or more, or deepspeed=none."
            )


def accumulation(global_batch: int, device_batch: int, ranks: int) -> int:
    """Forward passes of one optimiser step on each rank: global_batch / (device_batch * ranks).

    Raises UserError with the nearest valid choices when that is not a whole number.
    """
    chunk = device_batch * ranks
    if global_batch % chunk == 0:
        return global_batch // chunk
    batches = sorted({max(chunk, global_batch // chunk * chunk), -(-global_batch // chunk) * chunk})
    share = global_batch // ranks if global_batch % ranks == 0 else 0
    devices = [d for d in range(1, share + 1) if share % d == 0]
    near = sorted(sorted(devices, key=lambda d: (abs(d - device_batch), d))[:2])
    also = f", or device_batch={' or '.join(map(str, near))}" if near else ""
    raise UserError(
        f"global_batch={global_batch} cannot be made of batches of device_batch={device_batch} on {ranks} rank(s): it "
        f"must be a multiple of {chunk}. Nearest: global_batch={' or '.join(map(str, batches))}{also}."
    )


def common(train: Train, place: Place, *, folder: Path, seed: int) -> dict[str, Any]:
    """Keyword arguments that SFTConfig and DPOConfig share. `folder` receives the checkpoints.

    The order of examples, logging, checkpoints and the model card are ours (trainers.py, callbacks.py), so the
    trainer's own are off.
    """
    if train.dtype == "float16" and place.on_cpu:
        raise UserError("dtype=float16 needs a GPU; use float32 or bfloat16 on a CPU")
    return {
        "output_dir": str(folder),
        "seed": seed,
        "num_train_epochs": train.epochs,
        "max_steps": -1 if train.steps is None else train.steps,
        "per_device_train_batch_size": train.device_batch,
        "gradient_accumulation_steps": accumulation(train.global_batch, train.device_batch, place.ranks),
        "learning_rate": train.lr,
        "lr_scheduler_type": SCHEDULES[train.schedule],
        "warmup_steps": min(train.warmup, 0.999999),  # below 1 it is a share of the steps
        "weight_decay": train.weight_decay,
        "adam_beta2": train.adam_beta2,
        "max_grad_norm": train.max_grad_norm,
        "max_length": train.max_length,
        "bf16": train.dtype == "bfloat16",
        "fp16": train.dtype == "float16",
        "activation_checkpointing": train.activation_checkpointing,
        "deepspeed": place.deepspeed or None,
        "use_cpu": place.on_cpu,
        "ddp_backend": "gloo" if place.on_cpu and place.ranks > 1 else None,
        "ddp_find_unused_parameters": False,
        "dataloader_pin_memory": not place.on_cpu,
        "dataloader_num_workers": 0,
        "remove_unused_columns": False,
        "optim": "adamw_torch_fused",
        "logging_strategy": "steps",
        "logging_steps": LOG_STEPS,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def sft_arguments(train: Train, place: Place, *, folder: Path, seed: int) -> dict[str, Any]:
    """Keyword arguments of trl.SFTConfig. Examples come tokenised, with the prompt masked out of the labels."""
    return common(train, place, folder=folder, seed=seed) | {
        "packing": False,
        "dataset_kwargs": {"skip_prepare_dataset": True},
    }


def method(loss: str) -> str:
    """dpo, simpo, orpo or kto."""
    return loss if loss in ("simpo", "orpo", "kto") else "dpo"


def preference_config(loss: str) -> Any:
    """TRL's configuration class for a loss."""
    from trl import DPOConfig, KTOConfig

    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.cpo import CPOConfig
    from trl.experimental.orpo import ORPOConfig

    return {"dpo": DPOConfig, "kto": KTOConfig, "simpo": CPOConfig, "orpo": ORPOConfig}[method(loss)]


def preference_arguments(
    train: Preference, place: Place, *, folder: Path, seed: int, beta: float, loss: str
) -> dict[str, Any]:
    """Keyword arguments of `preference_config(loss)`. Reference log-probabilities come before the training."""
    weights = [1.0, train.sft_weight] if loss == "sigmoid+sft" else None
    gamma = train.simpo_gamma
    own: dict[str, dict[str, Any]] = {
        "dpo": {"loss_type": loss.split("+"), "loss_weights": weights, "precompute_ref_log_probs": True},
        "kto": {"loss_type": "kto", "precompute_ref_log_probs": True},
        "simpo": {"loss_type": "simpo", "simpo_gamma": gamma, "cpo_alpha": 0.0},
        "orpo": {},
    }
    shared = common(train, place, folder=folder, seed=seed) | {"beta": beta, "disable_dropout": True}
    return shared | own[method(loss)]


def lora_arguments(lora: Lora) -> dict[str, Any] | None:
    """Keyword arguments of peft.LoraConfig; None for full-parameter training."""
    settings = {
        "r": lora.r,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "target_modules": lora.targets if lora.targets == "all-linear" else lora.targets.split(","),
        "use_dora": lora.dora,
        "task_type": "CAUSAL_LM",
    }
    return settings if lora.r else None


def quantization(lora: Lora, dtype: str) -> dict[str, Any]:
    """Keyword arguments of transformers.BitsAndBytesConfig for QLoRA (arXiv 2305.14314: NF4, double quantisation);
    empty: none."""
    if not (lora.r and lora.quantize):
        return {}
    return {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": dtype,
    }


LOAD = {"attention_dropout": 0.0}
"""Overrides of every model's configuration: TRL's disable_dropout misses attention (first DPO loss: not ln 2)."""
