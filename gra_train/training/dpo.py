"""Learning from preference pairs, with TRL's trainers. By default direct preference optimisation (DPO):

loss = -ln sigmoid(beta * [(ln p(chosen) - ln p_ref(chosen)) - (ln p(rejected) - ln p_ref(rejected))])

with p the policy, p_ref the reference, and ln p summed over the tokens of a completion. It starts at ln 2. The others:
docs/training.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gra_train.errors import UserError
from gra_train.schema import Preference
from gra_train.settings import identity
from gra_train.training import adapters, fit, head, models, references, rows
from gra_train.training.arguments import Place, method, preference_arguments, preference_config, quantization


def train_dpo(
    model: str,
    examples: Sequence[dict[str, Any]],
    train: Preference,
    *,
    out: Path,
    seed: int,
    place: Place,
    beta: float,
    loss: str = "sigmoid",
    reference: str = "",
    base: str = "",
    data: str = "",
    trust_remote_code: bool = False,
    revision: str = "",
) -> None:
    """Tune `model` (a path) on preference examples (see `rows.pair`) -> out/model, out/training.json.

    reference: path of the reference model; by default `model` as it is at the start. Its log-probabilities are computed
    once, before the first step. base, data, revision, checkpoints and errors: as in `train_sft`.

    With adapters (train.lora.r > 0) nothing else has to be said either:
    - `model` is a model folder: a new adapter is trained on it; the reference is `model`, that is the adapter off.
      COLLATE's stage 2: train_dpo(M_IFT folder, ...), and with lora.merge=false RP_s(0) is an adapter on M_IFT;
    - `model` is an adapter folder (an earlier training with lora.merge=false): that adapter is trained on, on the same
      base; the reference is the adapter as it was. COLLATE's stage 3: train_dpo(RP_s(i-1) folder, ...) gives RP_s(i),
      again an adapter on M_IFT, and the reference is RP_s(i-1), not M_IFT.
    Either way the loss starts at ln 2. With lora.merge=true both give standard model folders.
    """
    fit.check(model, train, place, loss=loss)
    with fit.fresh(place, seed):
        from gra_train.training import preferences

        arguments = preference_arguments(
            train, place, folder=out.parent / "checkpoints", seed=seed, beta=beta, loss=loss
        )
        args = preference_config(loss)(**arguments)  # before the model is loaded: ZeRO-3 shards it at once
        network, tokenizer = models.load(
            model, lora=train.lora, dtype=train.dtype, trust_remote_code=trust_remote_code, revision=revision
        )
        adapter = adapters.arguments(network, train.lora, revision=adapters.pinned(model, revision))
        tokenised = rows.dpo_rows(tokenizer, examples)
        kept = rows.keep_fitting(tokenised, max_length=train.max_length, max_overlong=train.max_overlong)
        if loss == "kto":
            rows.mismatched(kept, max_length=train.max_length)
        trainer = preferences.TRAINERS[method(loss)](network, tokenizer, args, **adapter)
        other = _reference(reference, model, trainer, trust_remote_code)
        trainer.add_references(
            kept,
            model=other,
            digest=references.model_digest(reference or model),
            folder=out.parent.parent / "references",
            quantized=other is None and bool(quantization(train.lora, train.dtype)),
        )
        trainer.use(kept, seed=seed, batch=train.global_batch, by_length=train.group_by_length)
        settings = {**identity(train), "beta": beta, "loss": loss, "seed": seed}
        job = fit.Job(method(loss).upper(), model, base, data, examples, settings, trust_remote_code)
        fit.complete(trainer, train, job, out=out, examples=len(kept), overlong=len(tokenised) - len(kept))


def _reference(reference: str, model: str, trainer: Any, trust_remote_code: bool) -> Any:
    """The reference with a fused head; None when it is the policy itself at its start, or where none is needed.

    Raises UserError for another reference where the loss has none.
    """
    if not reference or reference == model:
        return None
    if not trainer.columns:
        raise UserError(f"reference={reference!r}: this loss compares with no reference model")
    from trl.trainer.utils import add_fused_lm_head

    network, _ = models.load(reference, trust_remote_code=trust_remote_code)
    add_fused_lm_head(network)
    if trainer.args.device.type == "cpu" and head.applies(network):
        head.add_plain_head(network)
    return network
