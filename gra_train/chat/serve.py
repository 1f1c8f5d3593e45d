"""Servers that we start: which one for which models, on which GPUs, and whether it can work at all.

Nothing is started here (servers.py does that), so everything wrong is said before work is spent. Models of one folder
share a server, as they share weights in process; with vLLM an adapter folder is a LoRA module of its base's server.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from gra_train.chat import engines
from gra_train.chat.guard import SECRET
from gra_train.chat.identity import OURS
from gra_train.chat.urls import base_urls
from gra_train.errors import UserError
from gra_train.locate import adapter_base, fingerprint, model_folder
from gra_train.schema import Model, Pool, Serve
from gra_train.settings import build, change, overlaid, plain


@dataclass(frozen=True)
class Plan:
    """A server to be started for `models`, which differ at most in their adapters.

    cpu: it computes without GPUs. replica: which of several equal servers.
    """

    models: tuple[Model, ...]
    settings: Serve
    cpu: bool
    gpus: tuple[str, ...] = ()
    replica: int = 0

    @property
    def name(self) -> str:
        return self.models[0].name + (f"-{self.replica + 1}" if self.replica else "")

    @property
    def names(self) -> list[str]:
        """The models that it answers for."""
        return [model.name for model in self.models]

    @property
    def port(self) -> int:
        """The port that is asked for, 0 for any."""
        return self.settings.port and self.settings.port + self.replica

    def served_name(self, model: Model, folder: Path) -> str:
        """The name that `model` has at this server; transformers serve knows it by its path alone."""
        if self.settings.engine == "transformers":
            return engines.sampling(model, folder)
        return engines.vllm_name(self.models, model)

    def command(self, port: int, folder: Path) -> list[str]:
        """The command line, for this port of 127.0.0.1. folder: where files of the server may be made."""
        if self.settings.engine == "transformers":
            command = engines.transformers(self.models[0], self.settings, port=port, cpu=self.cpu, folder=folder)
        else:
            command = engines.vllm(self.models, self.settings, port=port, cpu=self.cpu)
        return [*command, *self.settings.arguments]

    @cached_property
    def environment(self) -> dict[str, str]:
        """This process's environment with what the settings add; CUDA_VISIBLE_DEVICES names the server's GPUs."""
        found = dict(os.environ)
        found["PATH"] = f"{engines.interpreter(self.settings).parent}{os.pathsep}{found.get('PATH', '')}"
        if self.gpus:
            found["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpus)
        return found | self.settings.env


def resolve(pool: Pool) -> Pool:
    """The pool with each model's `serve` complete ({}: no server of ours). Raises UserError for what cannot be."""

    def complete(model: Model, path: str) -> Model:
        base_urls(model)
        serve = overlaid(pool.serve, model.serve, f"{path}.serve.")
        if model.serve and model.url:
            raise UserError(f"{path}: url= names a server that runs already, serve= one to be started: choose one.")
        return change(model, serve=plain(serve) if serve.engine != "none" and not model.url else {})

    models = [complete(model, f"pool.models.{i}") for i, model in enumerate(pool.models)]
    return change(pool, models=models, large=pool.large and complete(pool.large, "pool.large"))


def plan_servers(models: Sequence[Model]) -> list[Plan]:
    """The servers for those of `models` (resolved) that have one of ours.

    Raises UserError, with what to do, for a missing folder, interpreter or engine, too few GPUs, a port that is taken
    or given twice, and a key in the configuration.
    """
    groups: dict[str, list[Model]] = {}
    for model in models:
        if model.serve:
            if not model.path:
                raise UserError(f"model {model.name!r}: for a server of ours, give path=, its folder or Hub name.")
            groups.setdefault(_shared(model), []).append(model)
    plans = [
        replace(plan, replica=i)
        for plan in (_plan(tuple(group)) for group in groups.values())
        for i in range(plan.settings.replicas)
    ]
    _check_ports(plans)
    return _with_gpus(plans)


def identity(model: Model) -> str:
    """The `revision` of a model behind a server of ours: what its weights are (the content of a folder, the commit of a
    Hub name, both of an adapter and its base) and what changes its answers: engine, dtype, arguments.

    Raises UserError for a Hub name whose commit is neither given nor in the local cache.
    """
    serve = build(Serve, model.serve)
    paths = [model.path, *filter(None, [adapter_base(model.path)])]
    weights = [fingerprint(p) if Path(model_folder(p)).is_dir() else _commit(p, model) for p in paths]
    payload = json.dumps([serve.engine, weights, model.dtype, serve.arguments])
    return f"{OURS}{hashlib.sha256(payload.encode()).hexdigest()[:16]}"


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, by CUDA_VISIBLE_DEVICES or else by number."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]
    if not shutil.which("nvidia-smi"):
        return []
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [str(i) for i, line in enumerate(line for line in done.stdout.splitlines() if line.startswith("GPU "))]


def _shared(model: Model) -> str:
    """Equal for models that one server can answer for."""
    base = adapter_base(model.path) if model.serve["engine"] == "vllm" else ""
    return json.dumps(
        [model_folder(base or model.path), model.revision, model.dtype, model.trust_remote_code, model.serve]
    )


def _plan(models: tuple[Model, ...]) -> Plan:
    first = models[0]
    for model in models:
        model_folder(adapter_base(model.path) or model.path)
    settings = build(Serve, first.serve)
    secret = next((name for name in settings.env if SECRET.search(name)), None)
    secret = secret or next((a for a in settings.arguments if a.split("=")[0] in ("--api-key", "--hf-token")), None)
    if secret:
        raise UserError(
            f"model {first.name!r}: serve has {secret}; a key in a configuration ends up in run folders. Set it in the "
            "environment of this command: servers that we start inherit it."
        )
    torch = engines.check(first.name, settings)
    if settings.engine == "transformers":
        if adapter_base(first.path):
            raise UserError(f"model {first.name!r}: adapter folders are served by engine=vllm only.")
        if settings.tensor_parallel > 1:
            raise UserError(f"model {first.name!r}: tensor_parallel > 1 needs engine=vllm.")
    cpu = "+cpu" in torch or (settings.engine == "transformers" and not visible_gpus())
    if cpu and settings.gpus:
        raise UserError(
            f"model {first.name!r}: serve.gpus={settings.gpus}, but "
            + (f"{engines.interpreter(settings)} has a CPU build of torch." if "+cpu" in torch else "there is no GPU.")
        )
    return Plan(models, settings, cpu)


def _check_ports(plans: Sequence[Plan]) -> None:
    given: dict[int, str] = {}
    for plan in plans:
        if plan.port in given:
            raise UserError(
                f"servers {given[plan.port]!r} and {plan.name!r}: both serve.port={plan.port}; leave it out."
            )
        if plan.port:
            given[plan.port] = plan.name
            reserve_port(plan.port, plan.name).close()


def reserve_port(port: int, name: str) -> socket.socket:
    """A socket that is bound to `port` (0: a free one) of 127.0.0.1 and never listens: others are not given the port,
    while a server that binds with SO_REUSEADDR, as servers do, still gets it. Raises UserError if it is taken."""
    place = socket.socket()
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        place.bind(("127.0.0.1", port))
    except OSError as error:
        place.close()
        raise UserError(
            f"model {name!r}: serve.port={port} cannot be had ({error.strerror}); leave it out for a free one."
        ) from None
    return place


def _with_gpus(plans: Sequence[Plan]) -> list[Plan]:
    """GPUs that are given by hand first; the free ones are spread over the other servers, in their order."""
    visible = visible_gpus()
    wanting = [plan for plan in plans if not plan.cpu]
    for plan in wanting:
        given, ranks, replicas = plan.settings.gpus, plan.settings.tensor_parallel, plan.settings.replicas
        if given and len(given) != ranks * replicas:
            raise UserError(
                f"model {plan.name!r}: serve.gpus={given} but tensor_parallel={ranks} and replicas={replicas}; give "
                f"{ranks * replicas}."
            )
        if wrong := [g for g in given if not 0 <= g < len(visible)]:
            raise UserError(f"model {plan.name!r}: serve.gpus={wrong}: this machine shows {len(visible)} GPUs.")
    taken = {g for plan in wanting for g in plan.settings.gpus}
    free = [g for g in range(len(visible)) if g not in taken]
    need = sum(plan.settings.tensor_parallel for plan in wanting if not plan.settings.gpus)
    if need > len(free):
        raise UserError(
            f"the servers of {', '.join(p.name for p in wanting if not p.settings.gpus)} need {need} GPUs; "
            f"{len(free)} of the {len(visible)} on this machine are free. Use fewer, or url= for servers elsewhere; "
            "models may share one by hand: serve: {gpus: [0], arguments: [--gpu-memory-utilization, '0.4']}."
        )
    placed = []
    for plan in plans:
        if not plan.cpu:
            ranks = plan.settings.tensor_parallel
            own = plan.settings.gpus[ranks * plan.replica : ranks * (plan.replica + 1)]
            numbers = own or [free.pop(0) for _ in range(ranks)]
            plan = replace(plan, gpus=tuple(visible[g] for g in numbers))
        placed.append(plan)
    return placed


def _commit(path: str, model: Model) -> str:
    """The commit of a Hub name that is in the local cache (the server has loaded it from there)."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(path, "config.json", revision=model.revision or None)
    if isinstance(found, str):
        return Path(found).parent.name
    if model.revision:
        return model.revision
    raise UserError(
        f"model {model.name!r}: {path} is not in the local Hub cache, so its commit is unknown: give revision=."
    )
