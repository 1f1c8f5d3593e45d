"""Loading the weights that a path names: a model folder, a Hub name, mini:NAME, or an adapter on its base.

Whatever reads a model that training saved (a later training, the chat models, the evaluation) loads it here, so that
an adapter folder is a model like any other.
"""

from __future__ import annotations

from typing import Any

from gra_train.locate import adapter_base, model_folder


def load_weights(path: str, *, trainable: bool = False, revision: str = "", **options: Any) -> Any:
    """The causal language model at `path`. `options` go to AutoModelForCausalLM.from_pretrained (dtype, ...).

    An adapter is merged into its base; with `trainable` it is kept apart, as a PeftModel whose adapter "default" can be
    trained and whose base is frozen. A base may itself be an adapter folder: that one is merged in either case.
    revision: of a Hub name; of an adapter's base the one that the adapter names.
    Raises UserError for a path that names nothing, OSError, ValueError or KeyError for a folder that cannot be loaded.
    """
    folder = model_folder(path)
    if base := adapter_base(path):
        from peft import PeftConfig, PeftModel

        config = PeftConfig.from_pretrained(folder)
        network = load_weights(base, revision=config.revision or "", **options)
        whole = not any(hasattr(p, "ds_id") for p in network.parameters())  # ZeRO-3 wants one dtype for everything
        config.base_model_name_or_path = base  # not as it is named, relative to the folder
        adapted = PeftModel.from_pretrained(
            network, folder, is_trainable=trainable, config=config, autocast_adapter_dtype=whole
        )
        return adapted if trainable else adapted.merge_and_unload().requires_grad_(True)  # PEFT froze the base
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, **({"revision": revision} if revision else {}), **options)
