"""Values between the judge and the guest, as JSON: plain data is copied, everything else stays behind as a handle.

Only exact contents cross: a list subclass arrives as a list, so that no `__eq__` of the sender's is ever asked.
Standard library only: the guest sees this file and nothing else of the package.
"""

import base64
import builtins
import collections
import importlib
import types
from typing import Any

DEEPEST = 200
"""Nested containers of a value, at most."""
READY = '"ready"'
"""The guest's first line, before it has read the program."""
MODULES = {
    *("bisect", "cmath", "collections", "copy", "datetime", "decimal", "fractions", "functools", "heapq", "itertools"),
    *("math", "operator", "random", "re", "statistics", "string", "sys", "typing"),
}
"""Modules that cross by name: what tests use of a program's imports. Others stay behind as handles, for to import a
module is to run it (`this` prints, `antigravity` opens a browser)."""


def encode(value, handle, depth=0):
    """A JSON value. handle(object) -> number, for what is not plain data; ValueError for what is nested too deeply."""
    if depth > DEEPEST:
        raise ValueError(f"a value of more than {DEEPEST} levels")
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return str.__str__(value).encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    if isinstance(value, int):
        return {"i": hex(value)}
    if isinstance(value, float):
        return {"f": float.hex(value)}
    if isinstance(value, complex):
        return {"c": [float.hex(value.real), float.hex(value.imag)]}
    if isinstance(value, bytes | bytearray):
        return {"b": base64.b64encode(value).decode()}

    def items(values):
        return [encode(one, handle, depth + 1) for one in values]

    if isinstance(value, dict):
        return {"d": [[encode(k, handle, depth + 1), encode(v, handle, depth + 1)] for k, v in dict.items(value)]}
    for kind, tag in ((list, "l"), (tuple, "t"), (set, "s"), (frozenset, "z"), (collections.deque, "l")):
        if isinstance(value, kind):
            plain: Any = kind
            return {tag: items(plain.__iter__(value))}
    if isinstance(value, range):
        return {"r": [value.start, value.stop, value.step]}
    if hasattr(type(value), "dtype") and hasattr(value, "tolist"):  # numpy's arrays and scalars
        return encode(value.tolist(), handle, depth + 1)
    name = getattr(value, "__name__", None)
    if isinstance(name, str) and isinstance(value, type) and getattr(builtins, name, None) is value:
        return {"y": name}
    if isinstance(value, types.ModuleType) and isinstance(name, str) and name in MODULES:
        return {"m": name}
    return {"h": handle(value)}


def decode(value, of_handle):
    """The inverse; of_handle(number) -> object. ValueError for what is no encoded value."""
    if value is None or isinstance(value, bool | str):
        return value
    if not isinstance(value, dict) or len(value) != 1:
        raise ValueError("not an encoded value")
    ((tag, content),) = value.items()
    if tag == "i":
        return int(content, 16)
    if tag == "f":
        return float.fromhex(content)
    if tag == "c":
        return complex(*map(float.fromhex, content))
    if tag == "b":
        return base64.b64decode(content)
    if tag == "d":
        return {decode(k, of_handle): decode(v, of_handle) for k, v in content}
    if tag == "r":
        return range(*content)
    if tag == "y":
        found = getattr(builtins, content, None)
        if not isinstance(found, type):
            raise ValueError("not a builtin type")
        return found
    if tag == "m":  # the receiver's own, so that a program's `math` decides nothing
        if content not in MODULES:
            raise ValueError("not a module that may cross")
        return importlib.import_module(content)
    if tag == "h":
        return of_handle(content)
    kinds = {"l": list, "t": tuple, "s": set, "z": frozenset}
    if tag not in kinds:
        raise ValueError("not an encoded value")
    return kinds[tag](decode(one, of_handle) for one in content)
