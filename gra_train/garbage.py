"""Collections of garbage that libraries ask for, made cheap: each looks at every object of the process, a third of a
second once torch and transformers are there."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def passed_over() -> Iterator[None]:
    """What is there at the start is not looked at meanwhile; what is made meanwhile is collected as ever."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
