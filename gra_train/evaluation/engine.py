"""How the evaluated model is reached: lm-eval's own way, or as a model of the chat layer (evaluation.engine)."""

from __future__ import annotations

from gra_train.errors import UserError
from gra_train.locate import adapter_base
from gra_train.schema import Model, Serve
from gra_train.settings import change, overlaid, plain
from gra_train.stages import EvaluateStage


def answering(config: EvaluateStage, trained: str = "") -> Model | None:
    """The model that the stage evaluates, as the chat layer knows it; None where lm-eval's own HFLM is to load it.

    trained: the folder of what was trained on config.model ("": that as it is; where it has a url, at its server).
    Raises UserError for settings of a server where none is started, and for an adapter on an adapter behind one.
    """
    evaluation, model = config.evaluation, config.model
    engine, serve = evaluation.engine, evaluation.serve
    if serve and engine in ("hf", "chat"):
        raise UserError(f"evaluation.serve is for evaluation.engine=vllm or transformers; engine={engine} starts none.")
    name = model.name or "student"
    if not trained and model.url:
        return change(model, name=name, serve={})
    if engine == "hf":
        return None
    path = trained or model.path
    own = change(model, name=name, path=path, url="", served_name="", dtype=evaluation.dtype, serve={}, api="chat")
    if trained:
        own = change(own, revision="")
    if engine == "chat":
        return own
    if (base := adapter_base(path)) and adapter_base(base):
        raise UserError(
            f"evaluation.engine={engine}: {path} is an adapter on an adapter, which no server loads; use "
            "evaluation.engine=hf or chat, where they are merged."
        )
    return change(own, serve=plain(overlaid(Serve(engine=engine), serve, "evaluation.serve.")))


def planned(config: EvaluateStage, *, trained: bool) -> Model | None:
    """`answering` before anything is trained: the base stands in for what will be trained on it."""
    return answering(config, config.model.path if trained else "")
