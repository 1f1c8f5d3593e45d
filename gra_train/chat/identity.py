"""Which weights answer behind a served name: a revision that the user gives, or a fingerprint that is taken.

The fingerprint is the log-probabilities of the likeliest first tokens of a greedy answer to one fixed prompt. It is
stored beside the ledger when a (served name, revision) is first met, and compared whenever a server is opened: other
weights under the same name are refused, for the ledger would mix their answers. Floats differ between machines, so
the comparison has a tolerance; weights that were barely trained further pass it. Where a server gives no
log-probabilities, `revision` is all there is.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from statistics import fmean

import orjson

from gra_train.errors import UserError
from gra_train.schema import Model

PROMPT = "Name one colour, one animal and one number."
TOKENS, TOP = 4, 5
_TOLERANCE = 0.25  # mean difference of log-probabilities; bfloat16 on other hardware gives a tenth of that or so
OURS = "served:"
"""How the revision of a server that we started begins (serve.identity)."""
Probe = list[dict[str, float]]
"""For each token of the answer: the likeliest tokens and their natural-log probabilities."""


def distance(a: Probe, b: Probe) -> float:
    """Mean absolute difference of log-probabilities, over positions up to the first at which the answers part."""
    found: list[float] = []
    for left, right in zip(a, b, strict=False):
        if not left or not right:
            break
        floors = min(left.values()), min(right.values())  # a token that is not listed is at most as likely
        found += [abs(left.get(t, floors[0]) - right.get(t, floors[1])) for t in left.keys() | right.keys()]
        if max(left, key=lambda t: left[t]) != max(right, key=lambda t: right[t]):
            break
    return fmean(found) if found else float("inf")


def fingerprint(folder: Path, model: Model, served_name: str, probe: Probe) -> str:
    """The identity of the weights for the ledger's keys. probe: [] where the server gives no log-probabilities.

    Raises UserError if there is neither a revision nor a probe, or if the probe is not the one that was stored.
    """
    name, revision = model.name, model.revision
    if revision.startswith(OURS):  # says what the weights are, wherever they are served under whatever name
        served_name = OURS
    if not revision and not probe:
        raise UserError(
            f"model {name!r}: revision is required behind a server that gives no log-probabilities (a Hub revision, "
            "or a label of your own that changes with the weights): a served name alone does not say which weights "
            "answered."
        )
    # rendered by the server or not, a prompt is not the same prompt: neither for the probe nor for the ledger
    api = [model.api] if model.api != "chat" else []
    stored = _stored(folder / "probes" / f"{_digest(served_name, revision, *api)}.json", model, served_name, probe)
    if probe and (apart := distance(stored, probe)) > _TOLERANCE:
        raise UserError(
            f"model {name!r}: the weights behind {served_name!r} are not those that answered under "
            + (f"revision={revision!r}" if revision else "this name")
            + f" before: log-probabilities of a fixed prompt differ by {apart:.2f} on average (tolerance "
            f"{_TOLERANCE}). Set revision= to a new label if that is meant; correct url= or served_name= if not."
        )
    what = revision or hashlib.sha256(orjson.dumps(stored, option=orjson.OPT_SORT_KEYS)).hexdigest()
    return f"http:{_digest(served_name, what, *api)}"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _stored(file: Path, model: Model, served_name: str, probe: Probe) -> Probe:
    """The probe of the first who asked; ours, if nobody has. Two who ask at once get the same."""
    if not probe:
        return []
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(f".{os.getpid()}.tmp")
        value = {"served_name": served_name, "revision": model.revision, "api": model.api, "prompt": PROMPT}
        temporary.write_bytes(orjson.dumps(value | {"probe": probe}, option=orjson.OPT_INDENT_2))
        try:
            os.link(temporary, file)
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
    try:
        return [{str(k): float(v) for k, v in row.items()} for row in orjson.loads(file.read_bytes())["probe"]]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{file} is damaged: delete it to take the fingerprint of {served_name!r} anew") from None
