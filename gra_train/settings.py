"""The machinery behind the schema: dataclass fields with help, unit and bounds; strict building; recorded reads.

`build(cls, data)` is strict: unknown names, wrong types and values out of bounds are UserErrors that name the setting
by its full dotted path, say what was expected and offer the nearest spelling.

A stage's identity holds only the settings it reads: `only(section, ...)` withholds the others, and reading a withheld
setting is an assertion error, so an identity can never miss what a stage depends on.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from gra_train.errors import UserError, nearest

T = TypeVar("T")
reads: set[str] = set()
"""`Class.field` of every setting that was read in this process (the worker and the launcher write it down)."""


class _Withheld:
    def __repr__(self) -> str:
        return "WITHHELD"


WITHHELD: Any = _Withheld()


def setting(
    default: Any = dataclasses.MISSING,
    help: str = "",
    *,
    unit: str = "",
    min: float | None = None,
    max: float | None = None,
    choices: Sequence[str] = (),
    identity: bool = True,
) -> Any:
    """A dataclass field. identity=False: the value cannot change a result, so it is left out of a run's identity."""
    metadata = {"help": help, "unit": unit, "min": min, "max": max, "choices": tuple(choices), "identity": identity}
    if isinstance(default, (list, dict)) or (isinstance(default, type) and dataclasses.is_dataclass(default)):
        factory = default if isinstance(default, type) else (lambda: type(default)(default))
        return dataclasses.field(default_factory=factory, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


class Section:
    """Base of every schema dataclass; notes which of its settings were read."""

    def __getattribute__(self, name: str) -> Any:
        value = object.__getattribute__(self, name)
        if not name.startswith("_"):
            assert value is not WITHHELD, f"{type(self).__name__}.{name} is read but not part of the stage's identity"
            reads.add(f"{type(self).__name__}.{name}")
        return value


def change(section: T, **values: Any) -> T:
    """A copy with other values (dataclasses.replace would count as reading every setting)."""
    return type(section)(**{**vars(section), **values})


def only(section: T, *names: str) -> T:
    """A copy in which every setting but `names` is withheld; "group.name" leaves that of a nested section."""
    inner: dict[str, list[str]] = {}
    for group, dot, name in (one.partition(".") for one in names):
        inner.setdefault(group, []).extend([name] if dot else [])
    unknown_names = set(inner) - set(vars(section))
    assert not unknown_names, f"{type(section).__name__} has no {unknown_names}"
    kept = {k: only(v, *inner[k]) if inner.get(k) else v for k, v in vars(section).items() if k in inner}
    return type(section)(**{k: kept.get(k, WITHHELD) for k in vars(section)})


def overlaid(section: T, values: Mapping[str, Any], path: str) -> T:
    """A copy with other values, nested ones merged, checked as any configuration (`path` is where they are given)."""
    return build(type(section), _merged(plain(section), values), path) if values else section


def _merged(below: Any, above: Any) -> Any:
    if not (isinstance(below, Mapping) and isinstance(above, Mapping)):
        return above
    return {**below, **{k: _merged(below.get(k), v) for k, v in above.items()}}


def build(cls: type[T], data: Mapping[str, Any], path: str = "", *, partial: bool = False) -> T:
    """An instance of dataclass `cls` from plain nested data. Raises UserError (see above).

    partial: settings that `data` does not hold are withheld, not defaulted (a stage's frozen configuration).
    """
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if not isinstance(data, Mapping):
        raise UserError(f"{path or 'configuration'}={data!r} should be a group of settings: {', '.join(fields)}")
    values = {}
    for key, value in data.items():
        if key not in fields:
            raise UserError(unknown(f"{path}{key}", str(key), list(fields)))
        values[key] = _convert(hints[key], value, f"{path}{key}", {**fields[key].metadata, "partial": partial})
    if partial:
        return cls(**{name: values.get(name, WITHHELD) for name in fields})
    missing = [
        name
        for name, f in fields.items()
        if name not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise UserError(f"{path}{missing[0]} is required: {fields[missing[0]].metadata.get('help', '')}")
    return cls(**values)


def problems(kind: Any, value: Any, path: str = "") -> dict[str, str]:
    """Everything that `build` would refuse, one setting at a time: dotted name -> the sentence. Empty: it builds."""
    cls = next((k for k in (kind, *typing.get_args(kind)) if isinstance(k, type) and dataclasses.is_dataclass(k)), None)
    if cls is None or not isinstance(value, (Mapping, list, tuple)):
        return {}
    if typing.get_origin(kind) in (dict, list):
        inner = value.items() if isinstance(value, Mapping) else enumerate(value)
        return {k: v for name, one in inner for k, v in problems(cls, one, f"{path}{name}.").items()}
    found: dict[str, str] = {}
    hints = typing.get_type_hints(cls)
    if not isinstance(value, Mapping):
        return {}
    for name, one in value.items():
        deeper = problems(hints[name], one, f"{path}{name}.") if name in hints else {}
        try:
            build(cls, {name: one}, path, partial=True)
        except UserError as error:
            deeper = deeper or {f"{path}{name}": str(error)}
        found |= deeper
    if not found:
        try:
            build(cls, value, path)
        except UserError as error:  # something required is missing
            found[path.removesuffix(".")] = str(error)
    return found


def unknown(path: str, key: str, known: list[str]) -> str:
    """The sentence for a setting that does not exist."""
    listed = ", ".join(sorted(set(known))[:12]) + (", ..." if len(set(known)) > 12 else "")
    return f"No setting {path!r}.{nearest(key, known, path.removesuffix(key))} Known here: {listed}."


def plain(value: Any) -> Any:
    """The inverse of build: nested dicts and lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {k: plain(v) for k, v in vars(value).items() if v is not WITHHELD}
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def identity(value: Any) -> Any:
    """Like `plain`, without the settings that cannot change a result (identity=False)."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        counted = [f.name for f in dataclasses.fields(value) if f.metadata.get("identity", True)]
        return {k: identity(v) for k, v in vars(value).items() if k in counted and v is not WITHHELD}
    if isinstance(value, Mapping):
        return {k: identity(v) for k, v in value.items()}
    return [identity(v) for v in value] if isinstance(value, (list, tuple)) else value


def _convert(kind: Any, value: Any, path: str, meta: Mapping[str, Any]) -> Any:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in args:
            return None
        kinds = [a for a in args if a is not type(None)]
        if len(kinds) == 1:
            return _convert(kinds[0], value, path, meta)
        for one in kinds:
            try:
                return _convert(one, value, path, meta)
            except UserError:
                continue
        raise UserError(_expected(path, value, kind, meta))
    if origin is list:
        if not isinstance(value, (list, tuple)):
            raise UserError(_expected(path, value, kind, meta))
        return [_convert(args[0], v, f"{path}.{i}", meta) for i, v in enumerate(value)]
    if origin is dict or kind is dict:
        if not isinstance(value, Mapping):
            raise UserError(_expected(path, value, kind, meta))
        return {
            str(k): _convert(args[1] if args else Any, v, f"{path}.{k}", {"partial": meta.get("partial")})
            for k, v in value.items()
        }
    if dataclasses.is_dataclass(kind):
        return build(typing.cast(type, kind), value, f"{path}.", partial=bool(meta.get("partial")))
    if kind is Any:
        return value
    return _scalar(kind, value, path, meta)


def _scalar(kind: type, value: Any, path: str, meta: Mapping[str, Any]) -> Any:
    accepted: tuple[type, ...] = (int, float) if kind is float else (kind,)
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise UserError(_expected(path, value, kind, meta))
    value = float(value) if kind is float else value  # type: ignore[arg-type]
    low, high, choices = meta.get("min"), meta.get("max"), meta.get("choices")
    if choices and value not in choices:
        raise UserError(_expected(path, value, kind, meta) + nearest(str(value), list(choices)))
    if (low is not None and value < low) or (high is not None and value > high):
        raise UserError(_expected(path, value, kind, meta))
    return value


def _expected(path: str, value: Any, kind: Any, meta: Mapping[str, Any]) -> str:
    name = getattr(kind, "__name__", str(kind)) if typing.get_origin(kind) is None else str(kind).replace("typing.", "")
    what = f"one of {', '.join(meta['choices'])}" if meta.get("choices") else name
    low, high = meta.get("min"), meta.get("max")
    bounds = f" >= {low}" * (low is not None) + f" and <= {high}" * (high is not None)
    unit = f" ({meta['unit']})" if meta.get("unit") else ""
    text = f" {meta['help'].rstrip('.')}." if meta.get("help") else ""
    return f"{path}={value!r} is not valid: expected {what}{bounds}{unit}.{text}"
