"""Calls that are answered one by one (by servers, or by continuous batching in process), through the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from gra_train.chat.dispatch import Call
from gra_train.chat.keys import decode, encode, request_key
from gra_train.chat.ledger import Ledger
from gra_train.chat.protocol import Completion, Request
from gra_train.chat.usage import Usage
from gra_train.errors import UserError, nearest
from gra_train.schema import Model

T = TypeVar("T")


class Remote(Protocol):
    """A model that answers calls from many at once."""

    name: str
    settings: Model

    @property
    def fingerprint(self) -> str:
        """Of the weights, for the ledger's keys."""

    @property
    def width(self) -> float:
        """Calls that may be in flight at once."""

    async def open(self, folder: Path) -> None:
        """Make sure that it is there. folder: the ledger's, where what is known of servers is kept."""

    async def close(self) -> None: ...

    def trust(self, request: Request) -> None:
        """It has answered such a request, now or before."""

    def report(self) -> list[dict[str, Any]]:
        """What its endpoints did."""

    async def answers(self, requests: Sequence[Request]) -> tuple[list[Any], float]:
        """Answers to one request, or to completions that differ in `sample` alone; and the seconds that the model took
        for them: behind servers the last try's, without waits."""


class Asking:
    """`models` by name, with the ledger before them. Used on one event loop."""

    def __init__(self, models: Mapping[str, Remote], ledger: Ledger, usage: Usage) -> None:
        self._models, self._ledger, self._usage = models, ledger, usage
        self._in_flight: dict[bytes, asyncio.Future[None]] = {}

    async def ask(self, calls: Sequence[Call], story: tuple[object, int] | None) -> list[Any]:
        """Answers of servers to what one story asks at once; samples of one prompt (see `several`) go together."""
        if len(calls) == 1:
            return await self.answers(calls[0][0], [calls[0][1]], story)
        groups: dict[Any, list[int]] = {}
        for i, (name, one) in enumerate(calls):
            prompt = (name, id(one.messages), one.seed, one.attempt) if isinstance(one, Completion) else i
            groups.setdefault(prompt, []).append(i)
        found = await _together(
            self.answers(calls[group[0]][0], [calls[i][1] for i in group], story) for group in groups.values()
        )
        answers: list[Any] = [None] * len(calls)
        for group, own in zip(groups.values(), found, strict=True):
            for i, answer in zip(group, own, strict=True):
                answers[i] = answer
        return answers

    async def answers(
        self, name: str, requests: Sequence[Request], story: tuple[object, int] | None = None
    ) -> list[Any]:
        """A server's answers, through the ledger; a request that another story has in flight is not asked again."""
        model = self._models[known(name, self._models)]
        keys = [request_key(model.fingerprint, request) for request in requests]
        records = {key: self._ledger.get(key) for key in keys}
        asked: set[bytes] = set()
        while missing := {key: one for key, one in zip(keys, requests, strict=True) if records[key] is None}:
            others = [self._in_flight[key] for key in missing if key in self._in_flight]
            if others:
                await asyncio.wait(others)
                records |= {key: self._ledger.get(key) for key in missing}
            else:
                asked |= missing.keys()
                records |= await self._record(model, missing)
        model.trust(requests[0])
        answers = [decode(records[key] or [], key) for key in keys]
        for key, request, answer in zip(keys, requests, answers, strict=True):
            self._usage.add(name, request.purpose, answer, from_ledger=key not in asked, story=story)
            asked.discard(key)
        return answers

    async def _record(self, model: Remote, missing: dict[bytes, Request]) -> dict[bytes, Any]:
        """Ask, and write the answers before anybody uses them."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._in_flight |= dict.fromkeys(missing, done)
        try:
            answers, seconds = await model.answers(list(missing.values()))
            records = {key: encode(answer) for key, answer in zip(missing, answers, strict=True)}
            for (key, request), answer in zip(missing.items(), answers, strict=True):
                self._ledger.put(
                    key, records[key], kind="completion" if isinstance(request, Completion) else "likelihood",
                    model=model.name, purpose=request.purpose,
                    latency_ms=None if answer.failed else round(1000 * seconds),
                )  # fmt: skip
                if not answer.failed:
                    self._usage.took(model.name, request.purpose, seconds)
            return records
        finally:
            for key in missing:
                del self._in_flight[key]
            done.set_result(None)


async def _together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Results of all, in order. If one fails, the others are cancelled (asyncio.gather would let them go on)."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def known(name: str, models: Mapping[str, Any]) -> str:
    """`name`, if the pool has it. Raises UserError."""
    if name not in models:
        raise UserError(f"no model {name!r} in the pool.{nearest(name, list(models))} It has: {', '.join(models)}.")
    return name
