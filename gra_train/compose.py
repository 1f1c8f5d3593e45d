"""From files and overrides to a checked Config, and where each value came from. Beside cli.py, all that knows Hydra."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gra_train.errors import UserError, nearest
from gra_train.schema import Config
from gra_train.settings import build, plain, unknown

HYDRA_GROUPS = ("hydra", "hydra/launcher", "hydra/sweeper", "hydra/job_logging", "hydra/hydra_logging", "hydra/output")


def conf_dir() -> Path:
    """The folder of configuration files: inside an installed package, or beside it in a checkout."""
    here = Path(__file__).parent
    for folder in (here / "conf", here.parent / "conf"):
        if (folder / "config.yaml").is_file():
            return folder
    raise AssertionError("conf/ is missing from the installation")


def groups() -> dict[str, list[str]]:
    """Every configuration group and its options."""
    found: dict[str, list[str]] = {}
    for file in sorted(conf_dir().rglob("*.yaml")):
        relative = file.relative_to(conf_dir()).with_suffix("")
        for depth in range(1, len(relative.parts)):
            found.setdefault("/".join(relative.parts[:depth]), []).append("/".join(relative.parts[depth:]))
    return found


def register_schema() -> None:
    """Make the schema's defaults the first entry of every composition."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name="schema", node=plain(Config()))


def compose(overrides: Sequence[str]) -> Config:
    """The checked configuration. Raises UserError with name, expectation and nearest spelling."""
    return checked(_compose(check_overrides(overrides)))


def compose_plain(overrides: Sequence[str]) -> dict[str, Any]:
    """The composed values, not checked yet. Raises UserError where they cannot be composed."""
    return _resolved(_compose(check_overrides(overrides)))


def checked(data: Any) -> Config:
    """A Config from a composed DictConfig or plain data."""
    return build(Config, _resolved(data))


def _resolved(data: Any) -> dict[str, Any]:
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        values: Any = OmegaConf.to_container(data, resolve=True) if isinstance(data, DictConfig) else data
    except OmegaConfBaseException as error:
        raise UserError(f"configuration: {str(error).splitlines()[0]}") from None
    values.pop("hydra", None)
    return dict(values)


def _compose(overrides: list[str]) -> Any:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    register_schema()
    try:
        with initialize_config_dir(str(conf_dir().absolute()), version_base="1.3"):
            return hydra_compose("config", overrides=overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(f"configuration: {' '.join(str(error).split())}") from None


def check_overrides(overrides: Sequence[str]) -> list[str]:
    """Overrides with files in place of options rewritten; every name checked before Hydra sees it.

    `seeds=FILE` and `data=FILE` mean seeds.path=FILE; `pool=FILE.yaml` reads a pool from that file.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    options = groups()
    ready: list[str] = []
    for text in overrides:
        try:
            one = OverridesParser.create().parse_override(text)
        except HydraException:
            raise UserError(
                f"cannot read {text!r}: expected NAME=VALUE, e.g. sft.lr=1e-4 (quote lists and spaces)."
            ) from None
        name = one.key_or_group
        if name.split(".")[0] == "hydra" or name in HYDRA_GROUPS:
            ready.append(text)
        elif name in options:
            ready.extend(_option(name, one, text, options[name]))
        else:
            free = _check_setting(name, options)
            plain_value = not (one.is_add() or one.is_force_add() or one.is_delete())
            ready.append(f"++{text}" if free and plain_value else text)  # Hydra wants new keys announced; people do not
    return ready


def _option(name: str, override: Any, text: str, known: list[str]) -> Iterator[str]:
    values = list(override.sweep_string_iterator()) if override.is_sweep_override() else [override.value()]
    if name == "sweep" and isinstance(values[0], list):  # a grid and a launcher: sweep=[seeds5,joblib]
        values = values[0]
    for value in values:
        if isinstance(value, (dict, list)):
            raise UserError(
                f"{name}={value!r}: {name} is a group; choose one of {', '.join(known)}, or set {name}.<setting>=..."
            )
        if value is None or str(value).strip("'\"") in known:
            continue
        file = Path(str(value))
        if name in ("seeds", "data") and file.exists():
            yield f"{name}=own"
            yield f"{name}.path={_literal(str(value))}"
            return
        if name == "pool" and file.is_file():
            yield from (f"++pool.{k}={v}" for k, v in _pool_file(file).items())  # ++: groups with keys of their own
            return
        hint = f", or a path to a file ({value!r} does not exist)" if name in ("seeds", "data", "pool") else ""
        raise UserError(f"{name}={value}: no such option.{nearest(str(value), known)} Known: {', '.join(known)}{hint}.")
    yield text


def _pool_file(file: Path) -> dict[str, str]:
    import yaml

    try:
        data = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"pool={file}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(data, dict):
        raise UserError(f"pool={file}: expected settings of a pool (name, models, ...), as in conf/pool/mini.yaml")
    return {key: _literal(value) for key, value in data.items()}


def _literal(value: Any) -> str:
    """A value in Hydra's override grammar: like JSON, with bare keys."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{k}:{_literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_literal(v) for v in value) + "]"
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _check_setting(name: str, options: dict[str, list[str]]) -> bool:
    """Walk the schema along a dotted name. True: on the way is what a file need not have (arms, list entries, ...)."""
    kind: Any = Config
    walked, free, in_list = "", False, False
    for part in name.split("."):
        if dataclasses.is_dataclass(kind):
            hints = typing.get_type_hints(kind)
            if in_list and part.isdigit():
                in_list, free, walked = False, True, f"{walked}{part}."
                continue
            if part not in hints:
                known = list(hints) + (sorted(options) if not walked else [])
                raise UserError(unknown(walked + part, part, known))
            kind = hints[part]
            in_list = typing.get_origin(kind) is list
            free = free or type(None) in typing.get_args(kind)  # a section that need not be there
            if not _is_dict(kind):
                kind = next((a for a in typing.get_args(kind) if dataclasses.is_dataclass(a)), kind)
        elif _is_dict(kind):
            kind = (*typing.get_args(kind), Any)[1]
        else:
            return free  # inside a list or free-form value: checked when it is built
        free = free or _is_dict(kind)
        walked += part + "."
    return free


def _is_dict(kind: Any) -> bool:
    return kind is dict or typing.get_origin(kind) is dict


def origins(overrides: Sequence[str]) -> dict[str, str]:
    """Where each value comes from: dotted name -> file of conf/, "default" or "command line"."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    register_schema()
    ready = check_overrides(overrides)
    found: dict[str, str] = {}
    with initialize_config_dir(str(conf_dir().absolute()), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        defaults = loader.compute_defaults_list("config", ready, RunMode.RUN)
        for entry in defaults.defaults:
            if entry.config_path is None or entry.config_path.startswith("hydra"):
                continue
            content = loader.repository.load_config(entry.config_path)
            if content is None:
                continue
            prefix = f"{entry.package}." if entry.package else ""
            source = "default" if entry.config_path == "schema" else f"conf/{entry.config_path}.yaml"
            for name in _leaves(content.config, prefix):
                found[name] = source
    for text in ready:
        name = text.split("=", 1)[0].lstrip("+~")
        for known in [k for k in found if k == name or k.startswith(name + ".")] or [name]:
            found[known] = "command line"
    return found


def _leaves(config: Any, prefix: str) -> Iterator[str]:
    from omegaconf import DictConfig, OmegaConf

    data = OmegaConf.to_container(config, resolve=False) if isinstance(config, DictConfig) else config

    def walk(value: Any, name: str) -> Iterator[str]:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                if key not in ("defaults", "hydra"):
                    yield from walk(inner, f"{name}.{key}" if name else str(key))
        else:
            yield name

    yield from walk(data, prefix.rstrip("."))
