"""How many calls an endpoint takes at once: a number given by hand, or one that is found.

Found as TCP finds a line's: it grows while answers come as fast as before, by one per answer at first and then by one
per round of answers, and shrinks by a factor when the server says 429 or 503, or when answers slow down. Slowness is
seconds per token of answer, so that long answers after short ones are not taken for a busy server; a server that
batches gets slower with every call it takes, so only a multiple of the best pace counts as too much.
"""

from __future__ import annotations

_FIRST, _MOST = 16.0, 1024.0
_HALF, _LESS = 0.5, 0.9  # after a refusal; after slow answers
_SLOW = 4.0  # times the best pace that was seen
_SMOOTH = 32  # answers over which the pace is averaged
_FIXED_TOKENS = 8  # reading a prompt and the way there and back, in tokens of answer


class Limit:
    """`value`: calls in flight at most. fixed = 0: to be found."""

    def __init__(self, fixed: int) -> None:
        self.value = float(fixed or _FIRST)
        self._found = not fixed
        self._starting = True
        self._changed = 0.0
        self._pace = 0.0
        self._best = float("inf")
        self._answers = 0

    def answered(self, *, started: float, now: float, tokens: int, busy: int) -> None:
        """A call ended well. busy: calls in flight then, this one included; an idle limit does not grow."""
        if not self._found:
            return
        self._answers += 1
        pace = (now - started) / (tokens + _FIXED_TOKENS)
        self._pace += (pace - self._pace) / min(self._answers, _SMOOTH)
        if self._answers >= _SMOOTH:
            self._best = min(self._best, self._pace)
            if self._pace > _SLOW * self._best:
                self._shrink(_LESS, started, now)
                return
        if busy >= 0.8 * self.value:
            self.value = min(_MOST, self.value + (1.0 if self._starting else 1.0 / self.value))

    def refused(self, *, started: float, now: float) -> None:
        """The server said that it has too much to do."""
        if self._found:
            self._shrink(_HALF, started, now)

    def _shrink(self, factor: float, started: float, now: float) -> None:
        """Once for all calls that were in flight together: those sent before the last change say nothing new."""
        if started >= self._changed:
            self.value = max(1.0, self.value * factor)
            self._changed, self._starting = now, False
