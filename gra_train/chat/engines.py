"""The commands of the servers that we start, and what their environments must hold: vLLM, transformers serve."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from gra_train.errors import UserError
from gra_train.locate import adapter_base, model_folder
from gra_train.schema import Model, Serve

_NEEDS = {"vllm": ("vllm",), "transformers": ("transformers", "fastapi", "uvicorn", "openai")}
_INSTALL = {"vllm": "see 'Servers that we start' in docs/models.md", "transformers": "pip install 'gra-train[serving]'"}
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # LoRA ranks that vLLM makes room for
_PROBE = """
import importlib.util, importlib.metadata, json, sys
missing = [name for name in sys.argv[1:] if importlib.util.find_spec(name) is None]
print(json.dumps([missing, importlib.metadata.version("torch") if importlib.util.find_spec("torch") else ""]))
"""


def interpreter(settings: Serve) -> Path:
    """The Python that runs the server. Links are kept: a virtual environment is known by them."""
    return Path(settings.python or sys.executable).expanduser().absolute()


def check(name: str, settings: Serve) -> str:
    """The torch version of the server's environment. Raises UserError if it lacks the engine (nothing is imported)."""
    python, engine = interpreter(settings), settings.engine
    if not python.is_file():
        raise UserError(
            f"model {name!r}: serve.python={settings.python!r} does not exist; give the interpreter of the environment "
            f"that {engine} is installed in."
        )
    missing, torch = _probe(python, engine, tuple(sorted(settings.env.items())))
    if missing:
        raise UserError(
            f"model {name!r}: serve.engine={engine}, but {python} has no {', '.join(missing)}; {_INSTALL[engine]}, or "
            "name the interpreter of another environment in serve.python."
        )
    return torch


@cache
def _probe(python: Path, engine: str, env: tuple[tuple[str, str], ...]) -> tuple[list[str], str]:
    command = [str(python), "-c", _PROBE, *_NEEDS[engine]]
    try:
        done = subprocess.run(
            command, env={**os.environ, **dict(env)}, capture_output=True, text=True, timeout=60, check=True
        )
        missing, torch = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise UserError(f"serve.python={str(python)!r} cannot be run as Python ({error})") from None
    return missing, torch


def vllm_name(models: Sequence[Model], model: Model) -> str:
    """The name of `model` at the server of `models`: an adapter's own, else that of the first with weights."""
    return model.name if adapter_base(model.path) else next(m.name for m in models if not adapter_base(m.path))


def vllm(models: Sequence[Model], settings: Serve, *, port: int, cpu: bool) -> list[str]:
    """`vllm serve` of the models' common base, adapters as LoRA modules.

    On the CPU prompts are read in one piece: a seeded request whose prompt is read in several ends the engine there
    ("CPU Generator does not use offset", docs/log.md).
    """
    first = models[0]
    adapters = {m.name: model_folder(m.path) for m in models if adapter_base(m.path)}
    base = model_folder(adapter_base(first.path) or first.path)
    own = [m.name for m in models if m.name not in adapters][:1] or [f"{first.name}-base"]
    # what `vllm serve` runs; that command itself asks for the distribution "vllm", which other builds have not
    command = [str(interpreter(settings)), "-m", "vllm.entrypoints.openai.api_server", "--model", base]
    command += ["--served-model-name", *own, "--host", "127.0.0.1", "--port", str(port), "--dtype", first.dtype]
    # decoding is what a request asks for, not what generation_config.json adds (its end tokens still count)
    command += ["--generation-config", "vllm", "--disable-uvicorn-access-log"]
    command += ["--no-enable-chunked-prefill"] * cpu
    if settings.tensor_parallel > 1:
        command += ["--tensor-parallel-size", str(settings.tensor_parallel)]
    if first.revision and not Path(base).is_dir():
        command += ["--revision", first.revision]
    if first.trust_remote_code:
        command += ["--trust-remote-code"]
    if adapters:
        ranks = [json.loads((Path(p) / "adapter_config.json").read_text())["r"] for p in adapters.values()]
        command += ["--enable-lora", "--max-loras", str(len(adapters))]
        command += ["--max-lora-rank", str(next((r for r in _RANKS if r >= max(ranks)), max(ranks)))]
        command += ["--lora-modules", *(f"{name}={path}" for name, path in adapters.items())]
    return command


def transformers(model: Model, settings: Serve, *, port: int, cpu: bool, folder: Path) -> list[str]:
    """`transformers serve` of one model. Not with --continuous-batching: that would take temperature and top_p from the
    first request that it meets, for all (docs/log.md)."""
    from huggingface_hub import constants

    Path(constants.HF_HUB_CACHE).mkdir(parents=True, exist_ok=True)  # without it, /v1/models is a 500
    command = [str(interpreter(settings).with_name("transformers")), "serve", sampling(model, folder)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", model.dtype]
    command += ["--device", "cpu" if cpu else "cuda"]
    return command + ["--trust-remote-code"] * model.trust_remote_code


def sampling(model: Model, folder: Path) -> str:
    """The model's folder with a generation_config.json that samples as requests ask for: links in `folder`.

    transformers serve samples only where that file says so, and adds the file's top_k and penalties. A Hub name is
    returned as it is.
    """
    own = Path(model_folder(model.path))
    if not own.is_dir():
        return str(own)
    folder.mkdir(parents=True, exist_ok=True)
    for file in own.iterdir():
        link = folder / file.name
        if not link.exists() and file.name != "generation_config.json":
            link.symlink_to(file.absolute())
    config = own / "generation_config.json"
    values = json.loads(config.read_text()) if config.is_file() else {}
    plain = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0}
    (folder / config.name).write_text(json.dumps(values | plain))
    return str(folder.absolute())
