"""The Hub's data sets, where the Hub may be out of reach: a compute node, a laptop on a train.

Its libraries try a host that is not there for half a minute, data set by data set. Here each loading looks first, and
takes what is in the Hub's cache where there is no way to the Hub itself.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from urllib.parse import urlsplit
from urllib.request import getproxies

log = logging.getLogger(__name__)
_PATIENCE_S = 3.0


@contextmanager
def at_hand() -> Iterator[None]:
    """Within, the Hub's libraries work from their cache alone if the Hub is out of reach, and fail at once for what is
    not in it. HF_HUB_OFFLINE=1 says so beforehand; through a proxy nothing is looked at."""
    import datasets.config
    from huggingface_hub import constants

    said = constants.HF_HUB_OFFLINE
    away = "" if said or getproxies().get("https") else _out_of_reach(constants.ENDPOINT)
    if away:
        _tell(away)
        constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        if away:
            constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = said


@cache
def _tell(away: str) -> None:
    """Once, not for every data set."""
    log.warning("the Hub is out of reach (%s): only what its cache holds can be loaded", away)


def _out_of_reach(endpoint: str) -> str:
    """Why no connection to `endpoint` (a URL) comes about, or ""."""
    parts = urlsplit(endpoint)
    port = parts.port or (80 if parts.scheme == "http" else 443)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=_PATIENCE_S).close()
    except OSError as error:
        return f"{parts.hostname}: {error.strerror or error}"
    return ""
