"""Language models, the pool of them, and the servers that we start."""

from __future__ import annotations

# fmt: off  (one setting, one line: this file reads as a table)
from dataclasses import dataclass
from typing import Any

from gra_train.settings import Section, setting

DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Serve(Section):
    """How the server of a model is started (`engine` none: it is not)."""

    engine: str = setting("none", "server to start for a model without url", choices=("none", "vllm", "transformers"))
    python: str = setting("", "interpreter of the environment the server is installed in (default: this one)",
                          identity=False)  # fmt: skip
    gpus: list[int] = setting([], "GPUs of the server, by number; empty: free ones are assigned", identity=False)
    tensor_parallel: int = setting(1, "GPUs that hold one model together (vLLM)", min=1, identity=False)
    replicas: int = setting(1, "servers of the model side by side, each on GPUs of its own", min=1, identity=False)
    port: int = setting(0, "port (of replicas the first); 0: a free one", min=0, max=65535, identity=False)
    env: dict[str, str] = setting({}, "environment variables of the server, beside this process's", identity=False)
    arguments: list[str] = setting([], "further arguments, e.g. [--max-model-len, '8192']; part of the ledger's keys")
    start_timeout_s: float = setting(900.0, "until the server answers", unit="s", min=1, identity=False)
    restarts: int = setting(5, "times that a server which ended is started again", min=0, identity=False)


@dataclass(frozen=True)
class Model(Section):
    """A language model: a local folder (or Hub name, or mini:NAME) in process, or a name behind a server."""

    name: str = setting("", "short name, used in reports and roles")
    path: str = setting("", "model folder, Hub name or mini:NAME; in process")
    url: str = setting(
        "",
        "base URLs of OpenAI-compatible servers of this model, separated by commas, e.g. http://localhost:8000/v1",
        identity=False,
    )
    served_name: str = setting("", "the model's name at that server (default: name)")
    revision: str = setting(
        "", "what the weights are: Hub revision or your own label; required where a server gives no log-probabilities"
    )
    api: str = setting(
        "chat",
        "behind a server: chat, or completions (rendered here with the tokenizer of path)",
        choices=("chat", "completions"),
    )
    api_key_env: str = setting("", "name of the environment variable that holds the API key", identity=False)
    license: str = setting("", "licence of the weights, told on cards (empty: unknown)", identity=False)
    dtype: str = setting("float32", "weights in process", choices=DTYPES)
    trust_remote_code: bool = setting(False, "allow this model's own Python code to run")
    max_concurrency: int = setting(
        64, "calls in flight at each endpoint; 0: found from 429 and from latency", unit="calls", min=0, identity=False
    )
    connect_timeout_s: float = setting(10.0, "making a connection", unit="s", min=0.001, identity=False)
    timeout_s: float = setting(600.0, "one call, total", unit="s", min=0.001, identity=False)
    retries: int = setting(
        8, "extra tries of a call that fails while its server answers others", unit="tries", min=0, identity=False
    )
    give_up_s: float = setting(
        600.0, "the run ends when no endpoint of the model has answered for this long", unit="s", min=0, identity=False
    )
    on_failed_call: str = setting(
        "skip",
        "a call that fails while others are answered: its sample lacks it, or the run stops",
        choices=("skip", "stop"),
    )
    serve: dict[str, Any] = setting({}, "what differs from pool.serve for this model, e.g. {gpus: [4]}")
    price_in: float | None = setting(None, "of prompt tokens", unit="money/1M tokens", min=0, identity=False)
    price_out: float | None = setting(None, "of answer tokens", unit="money/1M tokens", min=0, identity=False)


@dataclass(frozen=True)
class Pool(Section):
    """The pool M of small models, and the large model they are measured against."""

    name: str = setting("", "name of the pool, used in reports")
    models: list[Model] = setting([], "the small models; roles are drawn among them")
    large: Model | None = setting(None, "the baseline's large model (the papers' 72B), for solo and distill")
    batch_tokens: int = setting(
        16384, "in process: tokens of one forward batch, padding included", unit="tokens", min=1
    )
    continuous_batching: bool = setting(
        False,
        "in process: calls join the batch as they come; answers depend, in the last bits of floats, on timing",
    )
    serve: Serve = setting(Serve, "servers that we start for models without url", identity=False)
