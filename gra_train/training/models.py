"""Loading a model to train, and saving what was trained: standard Hugging Face folders."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gra_train.errors import UserError
from gra_train.locate import adapter_base, model_folder
from gra_train.schema import Lora, Train
from gra_train.training import adapters
from gra_train.training.arguments import LOAD, quantization
from gra_train.weights import load_weights


def load(
    path: str,
    *,
    lora: Lora | None = None,
    dtype: str = "float32",
    trust_remote_code: bool = False,
    revision: str = "",
) -> Any:
    """(model in float32, tokenizer). Lower precision is the trainer's: weights stay exact, the computation is cast.

    lora: with r > 0 an adapter folder is loaded to be trained on (else it is merged), and the base in 4 bits if that is
    asked for (it computes in `dtype`). revision: of a Hub name, for weights and tokenizer.
    Raises UserError for a folder without weights or tokenizer, and a tokenizer with more tokens than the model.
    """
    import torch
    from transformers import AutoTokenizer, BitsAndBytesConfig

    options: dict[str, Any] = {"dtype": torch.float32, "trust_remote_code": trust_remote_code, **LOAD}
    if lora and (in_bits := quantization(lora, dtype)):
        options["quantization_config"] = BitsAndBytesConfig(**in_bits)
    try:
        pinned = adapters.pinned(path, revision)
        tokenizer = AutoTokenizer.from_pretrained(
            model_folder(path), trust_remote_code=trust_remote_code, **({"revision": pinned} if pinned else {})
        )
        model = load_weights(path, trainable=bool(lora and lora.r), revision=pinned, **options)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path!r} cannot be loaded as a causal language model with its tokenizer: {error}") from None
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows > 0:  # 0: sharded by ZeRO-3
        raise UserError(
            f"the tokenizer of {path!r} has {len(tokenizer)} tokens, its model embeds only {rows}: they do not belong "
            "together; use the tokenizer that came with the model."
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer


def unfinished(folder: Path) -> Path:
    """Where `save` writes before it renames."""
    return folder.with_name(folder.name + ".tmp")


def save_bytes(model: Any, train: Train) -> int:
    """What `save` writes: the weights in train.dtype, or the adapter's alone."""
    kept = bool(train.lora.r and not train.lora.merge)
    width = 4 if train.dtype == "float32" else 2
    sizes = [(getattr(p, "ds_numel", p.numel()), p.requires_grad) for p in model.parameters()]
    return sum(n * width for n, trained in sizes if trained or not kept)


def save(trainer: Any, folder: Path, train: Train, *, start: str, card: str, trust_remote_code: bool = False) -> None:
    """Write model (in train.dtype), tokenizer and card; no optimiser states. All ranks call it.

    start: path of the model that the training started from. An adapter is merged, or kept as it is (lora.merge).
    """
    import torch

    dtype = getattr(torch, train.dtype)
    model = trainer.accelerator.unwrap_model(trainer.model)
    weights = trainer.accelerator.get_state_dict(trainer.deepspeed) if trainer.is_deepspeed_enabled else None
    if not trainer.is_world_process_zero():
        return
    temporary = unfinished(folder)
    shutil.rmtree(temporary, ignore_errors=True)
    if train.lora.r:
        base = adapter_base(start) or start
        held = model.state_dict() if weights is None else weights
        if not train.lora.merge:
            adapters.write(model, temporary, weights=held, dtype=dtype, base=base, place=folder)
        elif weights is None and not train.lora.quantize:
            model = model.merge_and_unload()
        else:
            adapters.write(model, temporary, weights=held, dtype=torch.float32, base=base, place=folder)
            model = adapters.merged(temporary, base, dtype=torch.float32, trust_remote_code=trust_remote_code)
            weights = None
    if train.lora.merge or not train.lora.r:
        weights = model.state_dict() if weights is None else weights
        weights = {k: v.to(dtype) if v.is_floating_point() else v for k, v in weights.items()}
        model.config.dtype, model.config.use_cache = dtype, True  # the trainer switched the cache off
        model.save_pretrained(temporary, state_dict=weights)
    trainer.processing_class.save_pretrained(temporary)
    (temporary / "README.md").write_text(card)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def card(
    *, title: str, base: str, method: str, data: str, settings: dict[str, Any], counts: dict[str, Any], adapter: bool
) -> str:
    """README.md of a trained model: base, data, settings, results of the training, how to load. No times, no absolute
    paths."""
    lines = "\n".join(f"| {name} | {value} |" for name, value in _flat(settings | counts))
    load = LOAD_ADAPTER if adapter else LOAD_MODEL
    return (
        f"---\nlibrary_name: {'peft' if adapter else 'transformers'}\ntags: [gra-train, {method}]\n---\n# {title}\n\n"
        f"Base: `{base}`. Method: {method}. Data: {data}.\n\n"
        f"| setting | value |\n|---|---|\n{lines}\n\n```python\n{load}```\n"
    )


def _flat(values: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


LOAD_MODEL = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("model")
tokenizer = AutoTokenizer.from_pretrained("model")
"""
LOAD_ADAPTER = """\
from transformers import AutoTokenizer

from gra_train.weights import load_weights

model = load_weights("model")  # on the base that adapter_config.json names
tokenizer = AutoTokenizer.from_pretrained("model")
"""
