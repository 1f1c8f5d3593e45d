"""The Hub's data sets, where the Hub may be out of reach: a compute node, a laptop on a train.

Its libraries try a host that is not there for half a minute, data set by data set. Here each loading looks first, and
takes what is in the Hub's cache where there is no way to the Hub itself.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from urllib.parse import urlsplit
from urllib.request import getproxies

log = logging.getLogger(__name__)
_PATIENCE_S = 3.0
_BELIEVED_S = 60.0
_away: dict[str, float] = {}
"""Endpoint -> until when it is taken to be out of reach."""


@contextmanager
def at_hand() -> Iterator[None]:
    """Within, the Hub's libraries work from their cache alone if the Hub is out of reach, and fail at once for what is
    not in it. HF_HUB_OFFLINE=1 says so beforehand; through a proxy nothing is looked at."""
    import datasets.config
    from huggingface_hub import constants

    said = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    away = not any(said) and _out_of_reach(constants.ENDPOINT)
    if away:
        constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        if away:
            constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = said


def forget() -> None:
    """Look again, and tell it again: for a process that begins something else."""
    _away.clear()


def _out_of_reach(endpoint: str) -> bool:
    """Whether no connection to `endpoint` (a URL) comes about, a minute ago or now; if it is found now, it is told."""
    parts = urlsplit(endpoint)
    if {"all", parts.scheme} & getproxies().keys():
        return False
    if monotonic() < _away.get(endpoint, 0.0):
        return True
    why = _no_way(parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443))
    if why:
        log.warning("the Hub is out of reach (%s): only what its cache holds can be loaded", why)
        _away[endpoint] = monotonic() + _BELIEVED_S
    return bool(why)


def _no_way(host: str, port: int) -> str:
    """Why no connection comes about in time, or "". In a thread: nothing bounds the look-up of a name."""
    found = [f"{host}: no answer within {_PATIENCE_S:g} s"]

    def look() -> None:
        try:
            socket.create_connection((host, port), timeout=_PATIENCE_S).close()
            found.append("")
        except OSError as error:
            found.append(f"{host}: {error.strerror or error}")

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(_PATIENCE_S)
    return found[-1]
