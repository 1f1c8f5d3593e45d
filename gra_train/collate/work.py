"""What the stages of COLLATE share: names, how models are called, where a training runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from gra_train.collate.providers import Calls
from gra_train.errors import UserError
from gra_train.schema import Serve
from gra_train.stages import CollateStage
from gra_train.training.arguments import Place

Inputs = Mapping[str, Path]
SCORER = "M_IFT"


def writers(inputs: Inputs) -> dict[str, Path]:
    """provider_0, provider_1, ... -> RP_0, RP_1, ... in order."""
    named = {name: path for name, path in inputs.items() if name.startswith("provider_")}
    found = sorted((int(name.removeprefix("provider_")), path) for name, path in named.items())
    if not found:
        raise UserError("this stage of COLLATE needs providers: inputs provider_0, provider_1, ...")
    return {f"RP_{s}": path for s, path in found}


def calls(config: CollateStage, out: Path, *, served: bool = True) -> Calls:
    """How the models of a stage that writes or scores rationales are called. served: through servers, if set."""
    method = config.collate
    ledger = Path(config.ledger) if config.ledger else out.parent / "ledger"
    serve = method.serve if served else Serve()
    return Calls(method.prompts, method.block, ledger, config.device, serve, out.parent)


def place(config: CollateStage) -> Place:
    return Place(config.device, config.ranks, config.deepspeed)


def first_rank() -> bool:
    return os.environ.get("RANK", "0") == "0"
