"""Low-rank adapters: what a training starts from, and what it leaves behind.

`lora.r > 0` on a model folder: a new adapter; its reference in DPO is the model with the adapter off. On an adapter
folder: that adapter is trained on, on its frozen base; its reference in DPO is the adapter as it was.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from pathlib import Path
from typing import Any

from gra_train.errors import UserError
from gra_train.locate import adapter_base, model_folder
from gra_train.schema import Lora
from gra_train.training.arguments import Place, lora_arguments
from gra_train.weights import load_weights

COMPARED = ("r", "lora_alpha", "use_dora")
"""What an adapter that is trained on must share with the settings."""


def check(model: str, lora: Lora, place: Place) -> None:
    """Raises UserError, before anything is loaded, for adapters that cannot be trained or saved so, here and on this
    model."""
    check_settings(lora, place)
    wanted = lora_arguments(lora)
    if wanted is None:
        return
    if lora.quantize and place.on_cpu:
        raise UserError("lora.quantize=true (QLoRA) needs a GPU; on a CPU use lora.quantize=false.")
    if is_adapter(model):
        held = json.loads((Path(model_folder(model)) / "adapter_config.json").read_text())
        if different := [name for name in COMPARED if held.get(name, False) != wanted[name]]:
            raise UserError(
                f"{model!r} is an adapter with {', '.join(f'{n}={held.get(n)}' for n in different)}, the settings say "
                f"{', '.join(f'{n}={wanted[n]}' for n in different)}. An adapter is trained on as it is: give the "
                "same lora settings, or lora.merge=true where it was trained to start from a merged model."
            )


def check_settings(lora: Lora, place: Place) -> None:
    """Raises UserError for settings that cannot work on any model, nor on any machine."""
    stage = zero_stage(place)
    if not lora.r:
        if lora.dora or lora.quantize or not lora.merge:
            given = "lora.dora=true" if lora.dora else "lora.quantize=true" if lora.quantize else "lora.merge=false"
            raise UserError(f"{given} is about adapters, but lora.r=0 trains every weight: set lora.r to 8, say.")
        return
    if lora.quantize:
        _check_quantization(place, stage)
    if lora.dora and stage == 3:
        raise UserError(
            "lora.dora=true measures whole weights when it starts, and deepspeed=zero3 has sharded them: use "
            "deepspeed=zero2, or lora.dora=false."
        )


def _check_quantization(place: Place, stage: int) -> None:
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            "lora.quantize=true (QLoRA) needs the package bitsandbytes, which is not installed: pip install "
            "bitsandbytes, or lora.quantize=false."
        )
    if place.device == "cpu":
        raise UserError("lora.quantize=true (QLoRA) needs a GPU; on a CPU use lora.quantize=false.")
    if stage == 3:
        raise UserError("lora.quantize=true cannot be sharded by deepspeed=zero3: use deepspeed=zero2 or none.")


def zero_stage(place: Place) -> int:
    """DeepSpeed's ZeRO stage; 0 without DeepSpeed."""
    return ((place.deepspeed or {}).get("zero_optimization") or {}).get("stage", 0)


def is_adapter(model: str) -> bool:
    return bool(adapter_base(model))


def pinned(model: str, revision: str) -> str:
    """The revision that a model is loaded at: as set for a Hub name, "" for a folder, which has none."""
    return "" if Path(model_folder(model)).is_dir() else revision


def arguments(network: Any, lora: Lora, *, revision: str = "") -> dict[str, Any]:
    """The trainer's keywords for a new adapter; none for full parameters, and none where one is loaded already.

    revision: of the base, which the adapter will name with it.
    """
    from peft import LoraConfig, PeftModel

    settings = lora_arguments(lora)
    if settings is None or isinstance(network, PeftModel):
        return {}
    return {"peft_config": LoraConfig(**settings, revision=revision or None)}


def write(model: Any, folder: Path, *, weights: dict[str, Any], dtype: Any, base: str, place: Path) -> None:
    """Save the adapter "default" of a PeftModel into `folder`, as it will stand in `place`.

    base: path of the model it stands on; a local folder is named relative to `place`, so that results hold no absolute
    paths and can be moved together.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    own = get_peft_model_state_dict(model, state_dict=weights, adapter_name="default", save_embedding_layers=False)
    folder.mkdir(parents=True)
    tensors = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in sorted(own.items())}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {k: sorted(v) if isinstance(v, set) else v for k, v in model.peft_config["default"].to_dict().items()}
    named = os.path.relpath(Path(base).absolute(), place.absolute()) if Path(base).is_dir() else base
    config |= {"base_model_name_or_path": named, "inference_mode": True}
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1, sort_keys=True, default=str) + "\n")


def merged(folder: Path, base: str, **options: Any) -> Any:
    """The adapter in `folder` merged into its base, which is loaded anew: whole, on the CPU, in full precision.

    For what training has sharded, cast or quantised; the folder is used up.
    """
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()  # or ZeRO-3 would shard this model too
    config = json.loads((folder / "adapter_config.json").read_text())
    local = str(Path(model_folder(base)).absolute()) if Path(model_folder(base)).is_dir() else base
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": local}))
    network = load_weights(str(folder), **options)
    shutil.rmtree(folder)
    return network
