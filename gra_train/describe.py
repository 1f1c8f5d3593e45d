"""Printing the configuration: the schema as a table, the resolved values with their origins."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from gra_train.compose import compose, origins
from gra_train.schema import Config
from gra_train.settings import plain


def describe_config(overrides: Sequence[str]) -> str:
    """Resolved values as YAML-like lines with `# origin`; values that nobody set are left to --schema's defaults."""
    config = plain(compose(overrides))
    found = origins(overrides)
    lines = [(f"{name}: {_short(value)}", _origin(name, found)) for name, value in _flatten(config, "")]
    width = min(64, max(len(text) for text, _ in lines))
    needs = config["resources"]["needs"]
    head = [f"# hardware: {needs}"] if needs else []
    return "\n".join([*head, *(f"{text:<{width}}  # {origin}" for text, origin in lines)])


def describe_schema() -> str:
    """Every setting: name, type, default, bounds, unit, help."""
    return "\n".join(_settings(Config, ""))


def _settings(cls: type, prefix: str) -> Iterator[str]:
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind):
            yield from _settings(typing.cast(type, kind), f"{prefix}{field.name}.")
            continue
        meta = field.metadata
        default = field.default if field.default is not dataclasses.MISSING else ""
        what = "|".join(meta["choices"]) or (str(kind) if typing.get_args(kind) else kind.__name__)
        low, high = meta["min"], meta["max"]
        bounds = ("" if low is None else f" >= {low:g}") + ("" if high is None else f" <= {high:g}")
        unit = f" [{meta['unit']}]" if meta["unit"] else ""
        yield f"{prefix}{field.name} = {_short(default)}  ({what}{bounds}){unit}  {meta['help']}"
        for part in typing.get_args(kind):  # of lists and dictionaries of sections: what one of them can say
            if dataclasses.is_dataclass(part):
                one = "NAME" if typing.get_origin(kind) is dict else "N"
                yield from _settings(typing.cast(type, part), f"{prefix}{field.name}.{one}.")


def _flatten(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flatten(inner, f"{name}.{key}" if name else key)
    else:
        yield name, value


def _origin(name: str, found: dict[str, str]) -> str:
    while name:
        if name in found:
            return found[name]
        name = name.rpartition(".")[0]
    return "default"


def _short(value: Any) -> str:
    import json

    return (
        json.dumps(value)
        if isinstance(value, (list, dict, str, bool)) or value is None
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )
