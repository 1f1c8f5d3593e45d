"""The endpoints of one model: which of them takes the next call, and which are out of order.

- Calls wait in one queue per model, first come, first served; the least loaded endpoint that is in order takes the
  next. A call that has to be tried again leaves its place and queues anew, so it holds no slot while it waits.
- A circuit breaker takes an endpoint out after `_STREAK` failures in a row (no connection, time-out, 5xx, an answer
  that is none). After a while it gets one call to show what it can; the while grows from 1 to 30 seconds.
- Retry-After pauses the endpoint that sent it.
- An endpoint that is gone (taken out, or no connection to it) is a stranger when it comes back: `known` is then False
  until it has been greeted again. One that turns out to be another model is taken out for good (`expel`).
- When no endpoint has answered for `give_up_s`, though all were tried, every waiting call fails: the run stops.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from time import monotonic

from gra_train.chat.limits import Limit
from gra_train.chat.protocol import ModelError

_STREAK = 5
_FIRST_OUT_S, _LONGEST_OUT_S = 1.0, 30.0


class Endpoint:
    """One base URL with its load and its health. Times are of `monotonic`, in seconds."""

    def __init__(self, url: str, max_concurrency: int) -> None:
        self.url = url
        self.limit = Limit(max_concurrency)
        self.busy = 0
        self.answered = self.failed = self.throttled = 0
        self.failing_since: float | None = None
        self.cause = ""
        self.refusing = False  # its last word was 429
        self.known = False  # greeted, and its weights are the known ones
        self.expelled = False
        self._streak = 0
        self._out_s = 0.0
        self._next = 0.0  # no call before: Retry-After, or the circuit breaker

    @property
    def out(self) -> bool:
        """Taken out: by the circuit breaker, until a call shows that it answers again, or for good."""
        return self.expelled or self._streak >= _STREAK

    def ready_at(self, now: float) -> float | None:
        """The time from which it takes a call (`now` or later); None: when one of its calls has ended, or never."""
        if self.expelled or self.busy >= (1 if self.out else self.limit.value):
            return None
        return max(now, self._next)

    def note_answer(self, started: float, now: float, tokens: int) -> None:
        self.answered += 1
        self.note_refusal(now)
        self.limit.answered(started=started, now=now, tokens=tokens, busy=self.busy)

    def note_refusal(self, now: float) -> None:
        """It does not answer this request, but it is there."""
        if self.out:
            self._next = now
        self.failing_since, self.cause, self.refusing, self._streak, self._out_s = None, "", False, 0, 0.0

    def note_failure(self, now: float, cause: str, *, gone: bool = False) -> None:
        """gone: nobody took the connection."""
        self.failed += 1
        self._failing(now, cause, refusing=False)
        was_out = self.out
        self._streak += 1
        self.known = self.known and not (gone or self.out)
        if self.out and (now >= self._next or not was_out):  # calls sent before it was taken out say nothing new
            self._out_s = min(_LONGEST_OUT_S, 2 * self._out_s or _FIRST_OUT_S)
            self._next = now + self._out_s * random.uniform(0.8, 1.2)

    def expel(self, cause: str) -> None:
        """It is not who it should be: no call goes there any more."""
        self.expelled, self.known, self.cause = True, False, cause

    def note_throttle(self, started: float, now: float, cause: str, wait_s: float) -> None:
        self.throttled += 1
        self._failing(now, cause, refusing=True)
        self._streak, self._out_s = 0, 0.0  # busy, not broken
        self.limit.refused(started=started, now=now)
        self._next = max(self._next, now + wait_s)

    def _failing(self, now: float, cause: str, *, refusing: bool) -> None:
        self.failing_since = now if self.failing_since is None else self.failing_since
        self.cause, self.refusing = cause, refusing


class Endpoints:
    """The endpoints of model `name`. Used on one event loop.

    give_up_s: seconds without an answer from any of them after which calls raise ModelError.
    """

    def __init__(self, name: str, urls: Sequence[str], *, max_concurrency: int, give_up_s: float) -> None:
        self.name = name
        self.all = [Endpoint(url, max_concurrency) for url in urls]
        self._give_up_s = give_up_s
        self._queue: deque[asyncio.Future[Endpoint]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._wanted = 0

    @property
    def width(self) -> float:
        """Calls that may be in flight at once."""
        return sum(e.limit.value for e in self.all if not e.expelled) or 1

    def begin(self) -> None:
        """A call starts to be wanted (its tries, and the waits between them, are all one call)."""
        self._wanted += 1
        if self._wanted == 1:  # while nobody asked, nothing was out of order for any longer
            for endpoint in self.all:
                endpoint.failing_since = None

    def end(self) -> None:
        self._wanted -= 1

    async def take(self) -> Endpoint:
        """A slot of the endpoint that is to be called now; `give` it back. Raises ModelError when all are dead."""
        if self._dead():
            raise self._obituary()
        endpoint = None if self._queue else self._free(monotonic())
        if endpoint is not None:
            endpoint.busy += 1
            return endpoint
        place: asyncio.Future[Endpoint] = asyncio.get_running_loop().create_future()
        self._queue.append(place)
        if len(self._queue) == 1:  # where others wait already, no slot is free
            self._serve()
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled() and place.exception() is None:
                self.give(place.result())
            raise

    def give(self, endpoint: Endpoint) -> None:
        """The slot is free again (say first what came of the call: `note_...`)."""
        endpoint.busy -= 1
        if self._queue:
            if self._dead():
                self._fail_all()
            self._serve()

    def _free(self, now: float) -> Endpoint | None:
        free = [e for e in self.all if e.ready_at(now) == now]
        return min(free, key=lambda e: e.busy / e.limit.value) if free else None

    def _serve(self) -> None:
        """Give free slots to those who wait; look again when the next endpoint is ready by the clock."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = monotonic()
        while self._queue and (endpoint := self._free(now)):
            place = self._queue.popleft()
            if not place.done():
                endpoint.busy += 1
                place.set_result(endpoint)
        later = [at for e in self.all if (at := e.ready_at(now)) is not None and at > now]
        if self._queue and later:
            self._timer = asyncio.get_running_loop().call_later(min(later) - now, self._serve)

    def _dead(self) -> bool:
        """No endpoint has answered for too long. One that still works on calls counts as failing only once its circuit
        breaker is open, or while it says 429."""
        since = 0.0
        for endpoint in (e for e in self.all if not e.expelled):
            if endpoint.failing_since is None or not (endpoint.out or endpoint.refusing):
                return False
            since = max(since, endpoint.failing_since)
        return monotonic() - since >= self._give_up_s

    def _fail_all(self) -> None:
        while self._queue:
            place = self._queue.popleft()
            if not place.done():
                place.set_exception(self._obituary())

    def _obituary(self) -> ModelError:
        found = "; ".join(f"{e.url}: {e.cause}" for e in self.all)
        if all(e.expelled for e in self.all):
            return ModelError(
                f"model {self.name!r}: every endpoint was taken out ({found}). What was answered is kept."
            )
        return ModelError(
            f"model {self.name!r}: none of its endpoints has answered for {self._give_up_s:g} s ({found}). What was "
            "answered is kept: bring a server back and run again."
        )
