"""Is a refused call the fault of its request, or of everything? The former, if the model has answered any other."""

from __future__ import annotations

import asyncio

from gra_train.chat.protocol import ModelError

_REFUSALS = 20  # in a row, after which it is not the requests that are wrong


class Evidence:
    """What a model's calls came to. `answered`: it has answered one, now or in an earlier run."""

    def __init__(self) -> None:
        self.answered = False
        self._open = self._doubtful = self._row = 0
        self._news = asyncio.Event()

    def begin(self) -> None:
        """A call starts; `end` it."""
        self._open += 1

    def end(self) -> None:
        self._open -= 1
        self._tell()

    def answer(self) -> None:
        self._row = 0
        if not self.answered:
            self.answered = True
            self._tell()

    async def tolerate(self, error: ModelError) -> None:
        """Return once the model has answered another call; raise `error` if none is left that it might answer, or
        after _REFUSALS in a row."""
        self._row += 1
        self._doubtful += 1
        self._tell()
        try:
            while not self.answered and self._doubtful < self._open and self._row < _REFUSALS:
                await self._news.wait()
        finally:
            self._doubtful -= 1
        if not self.answered or self._row >= _REFUSALS:
            raise error

    def _tell(self) -> None:
        if self._doubtful:
            self._news.set()
            self._news = asyncio.Event()
