"""The two drivers of stories.

A story is an async function that awaits `ask(...)` and nothing else (asyncio.gather over asks is fine).

- `lockstep`: blocks of consecutive stories advance together. When all of a block wait, everything they asked for is
  answered in one step, so that what is batched together is a function of the stories alone: not of timing, and not of
  what the ledger already holds.
- `free_flow`: a bounded window of stories, each going on as soon as its own answers are there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from gra_train.chat.protocol import Ask, Request

T = TypeVar("T")
Story = Callable[[Ask], Awaitable[T]]
Call = tuple[str, Request]
Step = Callable[[Sequence[Call]], Awaitable[list[Any]]]
"""Answers to calls, in order; a failed call's answer is the exception."""

_QUIET_PASSES = 12
"""Passes of the event loop without news after which a block counts as waiting. A resumed story needs three per level of
asyncio.gather to ask again; more passes than needed cost microseconds, too few would only cut batches smaller."""


async def lockstep(
    stories: Sequence[Story[T]], answer: Step, *, block: int, on_done: Callable[[int], None] | None = None
) -> list[T]:
    """Results in order; `on_done(n)` after each n stories. The first exception of a story cancels the rest."""
    results: list[T] = []
    for start in range(0, len(stories), block):
        part = stories[start : start + block]
        results += await _advance(part, answer)
        if on_done:
            on_done(len(part))
    return results


async def _advance(stories: Sequence[Story[T]], answer: Step) -> list[T]:
    waiting: list[tuple[int, Sequence[Call], asyncio.Future[list[Any]]]] = []

    def asker(number: int) -> Ask:
        async def ask(*calls: Call) -> list[Any]:
            future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
            waiting.append((number, calls, future))
            return await future

        return ask

    tasks = [asyncio.ensure_future(_run(story, asker(i))) for i, story in enumerate(stories)]
    try:
        while True:
            await _quiet(waiting, tasks)
            for task in tasks:
                if task.done() and task.exception():
                    raise task.exception()  # type: ignore[misc]
            if not waiting:
                break
            step = sorted(waiting, key=lambda w: w[0])  # stable: a story's own asks stay in their order
            waiting.clear()
            answers = iter(await answer([call for _, calls, _ in step for call in calls]))
            for _, calls, future in step:
                own = [next(answers) for _ in calls]
                failed = next((a for a in own if isinstance(a, BaseException)), None)
                if future.cancelled():
                    continue
                if failed is not None:
                    future.set_exception(failed)
                else:
                    future.set_result(own)
        assert all(task.done() for task in tasks), "a story waits for something that is not `ask`"
        return [task.result() for task in tasks]
    finally:
        await _cancel(tasks)


async def free_flow(
    stories: Sequence[Story[T]],
    answer: Callable[[Call], Awaitable[Any]],
    *,
    window: int,
    on_done: Callable[[int], None] | None = None,
) -> list[T]:
    """Results in order; at most `window` stories at a time. The first exception of a story cancels the rest."""
    results: dict[int, T] = {}
    numbers = iter(range(len(stories)))

    async def ask(*calls: Call) -> list[Any]:
        return list(await asyncio.gather(*(answer(call) for call in calls)))

    async def worker() -> None:
        for number in numbers:  # one shared iterator: each worker takes the next story
            results[number] = await stories[number](ask)
            if on_done:
                on_done(1)

    workers = [asyncio.ensure_future(worker()) for _ in range(min(window, len(stories)))]
    try:
        await asyncio.gather(*workers)
        return [results[i] for i in range(len(stories))]
    finally:
        await _cancel(workers)


async def _run(story: Story[T], ask: Ask) -> T:
    return await story(ask)


async def _quiet(waiting: Sequence[Any], tasks: Sequence[asyncio.Future[Any]]) -> None:
    """Return when no story has moved for a while."""
    seen, still = (-1, -1), 0
    while still < _QUIET_PASSES:
        await asyncio.sleep(0)
        now = (len(waiting), sum(t.done() for t in tasks))
        still = still + 1 if now == seen else 0
        seen = now


async def _cancel(tasks: Sequence[asyncio.Future[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
