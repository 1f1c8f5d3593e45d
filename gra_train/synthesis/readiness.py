"""Is what a synthesis needs there? Servers, model folders, GPUs, room on the disk. For `gra-train validate`."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gra_train.chat.dialects import listed_window, recognise
from gra_train.chat.serve import plan_servers, resolve
from gra_train.data.benchmarks import HUB, LM_EVAL, questions
from gra_train.doctor import Finding
from gra_train.errors import UserError
from gra_train.evaluation.engine import planned
from gra_train.experiment import Node
from gra_train.locate import MINI, model_folder
from gra_train.schema import Config, Model
from gra_train.settings import Section
from gra_train.stages import MULTI_RANK
from gra_train.synthesis import embed
from gra_train.synthesis.estimate import endpoints, ways

PROBE_S = 10.0
GB = 1e9
CHECKPOINT_BYTES = 12
"""Of one parameter in a checkpoint: weights and both moments of AdamW, at most 4 bytes each."""


def models(config: Config, nodes: Sequence[Node], windows: dict[str, int], *, offline: bool) -> Iterator[Finding]:
    """One finding for each model that a stage asks (pool, large one, scorer, judge), and for the student.

    windows: takes what running servers say of theirs (the smallest of a model's), by the model's name.
    """
    try:
        pool = resolve(config.pool)
    except UserError as error:
        yield Finding("problem", "pool", str(error))
        return
    looking = (config.compare.quality.scorer, config.compare.quality.judge) if config.arms else ()
    asked = {name for node in nodes for name in _names(node.config)} if nodes else None
    everyone = [
        model for model in (*pool.models, pool.large, *looking) if model and (asked is None or model.name in asked)
    ]
    if not offline:
        answers = asyncio.run(_probe([(m, url) for m in everyone for url in endpoints(m)], windows))
    for model in everyone:
        topic = model.name or "(no name)"
        if not ways(model):
            yield _folder(topic, model)
        if endpoints(model) and not model.revision:
            text = "revision is empty: its weights are told by log-probabilities, which the server must give"
            yield Finding("note", topic, text)
        if model.api_key_env and not os.environ.get(model.api_key_env):
            yield Finding("problem", topic, f"api_key_env names {model.api_key_env}, which is not set", "export it")
        for url in endpoints(model):
            yield Finding("note", topic, f"{url} not asked (offline)") if offline else answers[model.name, url]
    yield from _started([model for model in pool.models if model in everyone])
    large = [pool.large] if pool.large and pool.large in everyone else []
    yield from _started(large)  # in stages of its own: its GPUs may be the others'
    trains = any(arm.data != "none" for arm in config.arms.values())
    if config.arms and (config.student.path or (config.student.name and (trains or not config.student.url))):
        yield _folder("student", config.student)


def _names(value: Any) -> Iterator[str]:
    """Names of all models in a stage's configuration."""
    if isinstance(value, Model):
        yield value.name
    elif isinstance(value, Section):
        for part in vars(value).values():
            yield from _names(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _names(part)


def encoders(nodes: Sequence[Node]) -> Iterator[Finding]:
    """Are the packages of the sentence encoders there?"""
    for name in sorted({n.config.synthesis.dedup.encoder for n in nodes if n.stage == "synthesize"}):
        try:
            embed.check(name)
        except UserError as error:
            yield Finding("problem", "encoder", str(error))
        else:
            yield Finding("ok", "encoder", name)


def evaluated(nodes: Sequence[Node], *, offline: bool) -> Iterator[Finding]:
    """Can the student be asked the benchmarks' questions? Its server, or what one of ours needs."""
    asked = {node.label: (node.config, "model" in node.inputs) for node in nodes if node.stage == "evaluate"}
    found: list[Model] = []
    try:
        for config, trained in asked.values():
            model = planned(config, trained=trained)
            if model and (model.url or model.serve) and model not in found:
                found.append(model)
    except UserError as error:
        yield Finding("problem", "evaluation", str(error))
        return
    yield from _started([model for model in found if model.serve])
    for model in found:
        urls = endpoints(model)
        if offline:
            yield from (Finding("note", model.name, f"{url} not asked (offline)") for url in urls)
        elif urls:
            yield from asyncio.run(_probe([(model, url) for url in urls], {})).values()


def _started(models: Sequence[Model]) -> Iterator[Finding]:
    """The servers that we start: interpreter, engine, folder, GPUs and ports, all looked at, nothing started."""
    asked = [m for m in models if m.serve]
    if not asked:
        return
    try:
        plans = plan_servers(asked)
    except UserError as error:
        yield Finding("problem", "servers", str(error))
        return
    for plan in plans:
        where = "on the CPU" if plan.cpu else f"on GPU {', '.join(plan.gpus)}"
        names = ", ".join(model.name for model in plan.models)
        yield Finding("ok", plan.name, f"{plan.settings.engine} will be started {where} for {names}")


def _folder(topic: str, model: Model) -> Finding:
    if not model.path:
        return Finding("problem", topic, "neither path= (in process) nor url= (behind a server)", "give one of them")
    try:
        folder = model_folder(model.path)
    except UserError as error:
        return Finding("problem", topic, str(error))
    if model.path.startswith(MINI) or Path(folder).is_dir():
        return Finding("ok", topic, f"in process, {model.path} ({_weights(Path(folder)) / GB:.3g} GB of weights)")
    return Finding(
        "note", topic, f"in process, {model.path}: no folder here, so it is fetched from the Hub at first use"
    )


def _weights(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.glob("*") if f.suffix in (".safetensors", ".bin", ".pt"))


async def _probe(asked: Sequence[tuple[Model, str]], windows: dict[str, int]) -> dict[tuple[str, str], Finding]:
    """What GET /models says at every endpoint: there, key accepted, model listed."""
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=PROBE_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        found = await asyncio.gather(*(_probe_one(session, model, url.rstrip("/"), windows) for model, url in asked))
    return {(model.name, url): one for (model, url), one in zip(asked, found, strict=True)}


async def _probe_one(session: Any, model: Model, url: str, windows: dict[str, int]) -> Finding:
    import aiohttp

    key = os.environ.get(model.api_key_env, "") if model.api_key_env else ""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        async with session.get(f"{url}/models", headers=headers, allow_redirects=False) as response:
            status = response.status
            listed = await response.json(content_type=None) if status == 200 else None
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, RecursionError) as error:
        cause = "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
        return Finding("problem", model.name, f"no server answers at {url} ({cause})", "start it, or correct url=")
    if status in (401, 403):
        named = f"in {model.api_key_env}" if model.api_key_env else "(none is set: api_key_env names its variable)"
        return Finding("problem", model.name, f"{url} refuses the API key {named}, status {status}", "mend the key")
    if status != 200:
        return Finding("note", model.name, f"{url} is there, but lists no models (status {status})")
    if window := listed_window(listed, model.served_name or model.name):
        windows[model.name] = min(window, windows.get(model.name, window))
    _, names = recognise(listed)
    served = model.served_name or model.name
    if names and served not in names:
        hidden = [n.replace(key, "***") if key else n for n in names[:5]]  # a server may send the key back
        shown = ", ".join(re.sub(r"[^\x20-\x7e]", "?", n)[:80] for n in hidden)
        return Finding("problem", model.name, f"{url} does not serve {served!r}; it lists {shown}", "set served_name=")
    return Finding("ok", model.name, f"{url} serves {served}" if names else f"{url} is there (it lists no models)")


def benchmarks(nodes: Sequence[Node], *, offline: bool) -> Iterator[Finding]:
    """Are the questions at hand that rows are kept apart from (synthesis.decontaminate)?"""
    files = {k: file for node in nodes for k, file in getattr(node.config, "benchmarks", {}).items()}
    said: dict[str, list[str]] = {"counted": [], "later": [], "left out": []}
    for name, file in files.items():
        if not file.path:
            said["left out"].append(name)
        elif offline and file.path.startswith((LM_EVAL, HUB)):
            said["later"].append(name)
        else:
            try:
                said["counted"].append(f"{name} {len(questions(name, file))}")
            except UserError as error:
                yield Finding("problem", "benchmarks", str(error))
    for state, key, text in (
        ("ok", "counted", "questions to keep rows apart from"),
        ("note", "later", "questions that come from the Hub or through lm-eval, not loaded (offline)"),
        ("note", "left out", "no questions at hand, left out (synthesis.decontaminate.missing=skip)"),
    ):
        if said[key]:
            yield Finding(state, "benchmarks", f"{text}: {', '.join(said[key])}")


def disk(config: Config, nodes: Sequence[Node]) -> Iterator[Finding]:
    """Room for the models that training will write; the ledger and the data are small beside them."""
    folder = Path(config.runs_dir)
    existing = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(existing).free
    todo = [n for n in nodes if n.stage in MULTI_RANK and n.run(folder).status["state"] != "done"]
    parameters, how = _parameters(config.student)
    if not todo or parameters is None:
        state = "problem" if free < 1 * GB else "note" if todo else "ok"
        lacks = f"; the {len(todo)} models that training writes are not counted: {how}" if todo else ""
        yield Finding(state, "disk", f"{folder}: {free / GB:.0f} GB free" + lacks,
                      "make room: at least 1 GB" if state == "problem" else "")  # fmt: skip
        return
    trains = [getattr(n.config, "train", config.sft) for n in todo]
    saved = max(2 if "16" in train.dtype else 4 for train in trains)
    kept = 1 + max(train.keep_checkpoints for train in trains)  # the newest, and the best
    at_once = min(config.resources.workers, len(todo))  # a finished training drops its checkpoints
    need = (len(todo) * saved + at_once * kept * CHECKPOINT_BYTES) * parameters
    text = (
        f"{folder}: {free / GB:.0f} GB free, about {need / GB:.3g} GB needed: {len(todo)} models of {parameters:.3g} "
        f"parameters ({how}) at {saved} bytes, and, of {at_once} at a time, {kept} checkpoints at {CHECKPOINT_BYTES} "
        "bytes per parameter"
    )
    lacking = need > free
    yield Finding("problem" if lacking else "ok", "disk", text,
                  "make room, set runs_dir=... elsewhere, or keep fewer checkpoints" if lacking else "")  # fmt: skip


def _parameters(student: Model) -> tuple[float | None, str]:
    """(number, how it is known): from the folder's weights, else from a size in the name, else None."""
    if student.path:
        try:
            folder = Path(model_folder(student.path))
        except UserError:
            folder = Path(student.path)
        if folder.is_dir() and (size := _weights(folder)):
            bytes_each = _bytes_of_a_weight(folder)
            return size / bytes_each, f"its files, {bytes_each} bytes each"
    named = re.search(r"(\d+(?:\.\d+)?)[bB]\b", f"{student.path} {student.name}")
    if named:
        return float(named[1]) * 1e9, f"assumed from its name, {named[0]}"
    return None, "the student's size is not known"


def _bytes_of_a_weight(folder: Path) -> int:
    from gra_train.runs import read_json

    said = str((read_json(folder / "config.json") or {}).get("dtype") or "float32")
    return 2 if "16" in said else 4
