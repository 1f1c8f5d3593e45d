"""One call to a model's servers, tried until it is answered, refused, or has failed too often.

A call that fails gives its slot back, waits (longer each time, at random) and queues again, perhaps for another
endpoint. A try counts against `retries` only if that endpoint has *answered other calls* since this one's last try: an
outage is no request's fault, and `Endpoints` ends the run if it lasts. Where there are no other calls, a few words are
sent to see whether it would. 429 never counts.

An endpoint that is not `known` (endpoints.py) is greeted first, once for all who wait for it, and called only if it is
who it should be.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any, Generic, TypeVar

from gra_train.chat import dialects
from gra_train.chat.endpoints import Endpoint, Endpoints
from gra_train.chat.protocol import ModelError
from gra_train.chat.wire import FAILURES, Wire
from gra_train.errors import UserError

log = logging.getLogger(__name__)
T = TypeVar("T")
ENDLESS = 200
"""The status of a RefusedError for an answer that was longer than anybody would read."""
_RETRIED = {408, 409, 425, 500, 502, 503, 504, 529}
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 60.0
_DOUBTED = 3
"""Failures that nothing else tells the cause of, after which the endpoint is asked something simple."""


class RefusedError(ModelError):
    """This request is not answered, and would not be if it were asked again. status: 0 where it failed every time."""

    def __init__(self, message: str, status: int = 0, text: str = "") -> None:
        super().__init__(message)
        self.status, self.text = status, text


@dataclass(slots=True)
class _Outcome(Generic[T]):
    """answers: the one value that was read, or none. status, text: of what may be a refusal; cause: of no answer.
    throttled: no fault of the request's, whatever it was."""

    answers: tuple[T, ...] = ()
    seconds: float = 0.0
    status: int = 0
    text: str = ""
    cause: str = ""
    throttled: bool = False


class Caller:
    """Calls `endpoints` of one model over `wire`. `calls` and `retried` count what went over it.

    meet: whether an endpoint that is not known is there and is who it should be; raises UserError where it is not.
    """

    def __init__(
        self, name: str, endpoints: Endpoints, wire: Wire, *, retries: int, served_name: str = "",
        meet: Callable[[Endpoint], Awaitable[bool]],
    ) -> None:  # fmt: skip
        self.name, self.endpoints, self.wire = name, endpoints, wire
        self._retries, self._served_name = retries, served_name or name
        self._meet = meet
        self._greetings: dict[str, asyncio.Task[bool]] = {}
        self._meetings: dict[str, asyncio.Task[None]] = {}
        self.calls = self.retried = 0

    async def call(
        self,
        verb: str,
        body_of: Callable[[], dict[str, Any]],
        read: Callable[[Any], T],
        adapt: Callable[[dict[str, Any], int, str], Awaitable[bool]],
    ) -> tuple[T, float]:
        """What `read` makes of the JSON answer, and the seconds that the server took for it.

        body_of: the request; asked for at each try, since what the servers cannot do may have become known meanwhile.
        read: raises ValueError, KeyError, ... where the JSON has not the shape of an answer, which counts as a failure.
        adapt(body, status, text): told of a refusal (4xx, and 500 where that may be one); True if the request is worth
            asking again.
        Raises RefusedError for a request that is not answered, ModelError when all endpoints are dead.
        """
        tries = failures = doubts = 0
        others: dict[str, int] = {}
        self.endpoints.begin()
        try:
            while True:
                endpoint = await self.endpoints.take()
                try:
                    body = body_of()
                    outcome = await self._stranger(endpoint) or await self._try(endpoint, verb, body, read)
                finally:
                    self.endpoints.give(endpoint)
                if outcome.answers:
                    return outcome.answers[0], outcome.seconds
                where = f"model {self.name!r} at {endpoint.url}/{verb}"
                if outcome.status and await adapt(body, outcome.status, outcome.text):
                    continue
                if outcome.status and outcome.status not in _RETRIED:
                    raise RefusedError(f"{where}: {outcome.cause}", outcome.status, outcome.text)
                if not outcome.throttled:
                    counts = endpoint.answered > others.get(endpoint.url, endpoint.answered)
                    doubts = 0 if counts else doubts + 1
                    if doubts >= _DOUBTED:
                        counts = await self._answers(endpoint, verb)
                    failures += counts
                    others[endpoint.url] = endpoint.answered
                if failures >= max(1, self._retries):
                    raise RefusedError(f"{where}: gave up after {tries + 1} tries; last: {outcome.cause}")
                self.retried += 1
                tries += 1
                if not endpoint.out:  # else the circuit breaker says when
                    longest = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** min(tries - 1, 10))
                    await asyncio.sleep(longest * random.uniform(0.5, 1.0))
        finally:
            self.endpoints.end()

    async def _stranger(self, endpoint: Endpoint) -> _Outcome[Any] | None:
        """None where the endpoint is known by now; else why it is not called."""
        if not endpoint.known:
            if endpoint.url not in self._meetings:
                self._meetings[endpoint.url] = asyncio.ensure_future(self._introduce(endpoint))
            await asyncio.shield(self._meetings[endpoint.url])
        return None if endpoint.known else _Outcome(cause=endpoint.cause, throttled=True)

    async def _introduce(self, endpoint: Endpoint) -> None:
        try:
            endpoint.known = await self._meet(endpoint)
        except UserError as error:
            endpoint.expel(str(error))
            log.error("model %r: %s is taken out for good: %s", self.name, endpoint.url, error)
        finally:
            del self._meetings[endpoint.url]

    async def _answers(self, endpoint: Endpoint, verb: str) -> bool:
        """Whether the endpoint answers something simple; asked once for all who wonder at the same time."""
        if endpoint.url not in self._greetings:
            body: dict[str, Any] = {"model": self._served_name, "max_tokens": 1}
            body |= (
                {"prompt": "Hello"} if verb == "completions" else {"messages": [{"role": "user", "content": "Hello"}]}
            )
            self._greetings[endpoint.url] = asyncio.ensure_future(self._greet(endpoint, verb, body))
        return await asyncio.shield(self._greetings[endpoint.url])

    async def _greet(self, endpoint: Endpoint, verb: str, body: dict[str, Any]) -> bool:
        try:
            return bool((await self._try(endpoint, verb, body, lambda data: data["choices"][0])).answers)
        finally:
            del self._greetings[endpoint.url]

    async def _try(self, endpoint: Endpoint, verb: str, body: dict[str, Any], read: Callable[[Any], T]) -> _Outcome[T]:
        """One try; the endpoint is told how it went."""
        started = monotonic()
        self.calls += 1
        try:
            answer = await self.wire.post(f"{endpoint.url}/{verb}", body)
            if answer.endless:
                endpoint.note_refusal(monotonic())
                return _Outcome(status=ENDLESS, cause="an answer without end")
            if answer.status == 200:
                data = answer.json()
                value = _shaped(read, data)
                now = monotonic()
                endpoint.note_answer(started, now, _tokens(data))
                return _Outcome((value,), now - started)
        except FAILURES as error:
            cause = self.wire.cause(error)
            endpoint.note_failure(monotonic(), cause, gone=self.wire.gone(error))
            return _Outcome(cause=cause)
        said = self.wire.scrub(answer.text())
        cause, text = f"status {answer.status}: {said}", dialects.without_echo(body, said)
        if answer.status == 429 or (answer.status == 503 and answer.retry_after):
            endpoint.note_throttle(started, monotonic(), cause, answer.retry_after)
            return _Outcome(cause=cause, throttled=True)
        if 300 <= answer.status < 400:
            cause = f"status {answer.status}: a redirect, which is not followed; give the final address in url="
        if answer.status in _RETRIED:
            endpoint.note_failure(monotonic(), cause)
            return _Outcome(status=answer.status if answer.status == 500 else 0, text=text, cause=cause)
        endpoint.note_refusal(monotonic())
        return _Outcome(status=answer.status, text=text, cause=cause)


def _shaped(read: Callable[[Any], T], data: Any) -> T:
    try:
        return read(data)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        problem = f"not an answer of this API ({type(error).__name__}: {error})"
    raise ValueError(problem[:200])


def _tokens(data: Any) -> int:
    usage = data.get("usage") if isinstance(data, dict) else None
    written = usage.get("completion_tokens") if isinstance(usage, dict) else 0
    return written if isinstance(written, int) and 0 < written < 2**31 else 0
