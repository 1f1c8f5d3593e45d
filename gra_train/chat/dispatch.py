"""The two drivers of stories.

A story is an async function that awaits `ask(...)` and nothing else (asyncio.gather over asks is fine).

- lockstep (`advance`): blocks of consecutive stories advance together. When all of a block wait, everything they asked
  for is answered in one step, so that what is batched together is a function of the stories alone: not of timing, and
  not of what the ledger already holds.
- `free_flow`: a bounded window of stories, each going on as soon as its own answers are there. Stories are drawn from
  an iterator as room appears and results are handed over as they come, so neither is ever held in full.
"""

from __future__ import annotations

import asyncio
import gc
import queue
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from gra_train.chat.protocol import Ask, Request

T = TypeVar("T")
Story = Callable[[Ask], Awaitable[T]]
Call = tuple[str, Request]
Step = Callable[[Sequence[Call]], Awaitable[list[Any]]]
"""Answers to calls, in order; a failed call's answer is the exception."""

_IDLE_S = 1.0
_COLLECT_EVERY = 50_000
"""New objects after which Python looks for cyclic garbage while calls go on (else 700). Each look goes through what
thousands of waiting stories hold, for nothing: with 1024 calls in flight that was 29% of the client's CPU time."""
_QUIET_PASSES = 12
"""Passes of the event loop without news after which a block counts as waiting. A resumed story needs three per level of
asyncio.gather to ask again; more passes than needed cost microseconds, too few would only cut batches smaller."""


async def advance(stories: Sequence[Story[T]], answer: Step) -> list[T]:
    """Results of one block, in order. The first exception of a story cancels the others."""
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


def take(source: Iterator[Story[T] | None], most: int) -> tuple[list[Story[T]], bool]:
    """(at most so many stories, whether there are no more). None among them means: no more for now, ask again."""
    taken: list[Story[T]] = []
    while len(taken) < most:
        try:
            story = next(source)
        except StopIteration:
            return taken, True
        if story is None:
            break
        taken.append(story)
    return taken, False


def free_flow(
    stories: Iterable[Story[T] | None],
    answer: Callable[[int, Sequence[Call]], Awaitable[list[Any]]],
    loop: asyncio.AbstractEventLoop,
    *,
    window: Callable[[], int],
    on_done: Callable[[int], None] | None = None,
) -> Iterator[tuple[int, T]]:
    """(index, result) of each story as it finishes. Called from another thread than `loop`'s, where stories run.

    answer(index, calls): the answers to what story `index` asks at once, in order.
    At most `window()` stories run; as many again are drawn from `stories` (here, in the caller's thread) or wait for
    the caller to take their results. `on_done(1)` is called here for each result, and `on_done(0)` every second
    without one, so that it can raise to stop. The first exception of a story is raised here. However this ends, what is
    still running is cancelled.
    """
    finished: queue.SimpleQueue[tuple[int, Any, BaseException | None]] = queue.SimpleQueue()
    waiting: deque[tuple[int, Story[T]]] = deque()
    workers: set[asyncio.Task[None] | None] = set()
    ended = False

    def asker(index: int) -> Ask:
        async def ask(*calls: Call) -> list[Any]:
            return await answer(index, calls)

        return ask

    async def work() -> None:
        try:
            while waiting and len(workers) <= window():
                index, story = waiting.popleft()
                try:
                    finished.put((index, await story(asker(index)), None))
                except asyncio.CancelledError:
                    raise
                except BaseException as error:
                    end()  # here: until the caller hears of it, hundreds of calls would go out for nothing
                    finished.put((index, None, error))
        finally:  # here, not in a callback, which would run after the next feeding had counted us in
            workers.discard(asyncio.current_task())

    def end() -> None:
        nonlocal ended
        ended = True
        waiting.clear()
        for worker in workers:
            if worker and worker is not asyncio.current_task():
                worker.cancel()

    def feed(more: list[tuple[int, Story[T]]]) -> None:
        if ended:
            return
        waiting.extend(more)
        for _ in range(min(len(waiting), window() - len(workers))):
            workers.add(loop.create_task(work()))

    async def stop() -> None:
        end()
        await asyncio.gather(*(worker for worker in list(workers) if worker), return_exceptions=True)

    source, drawn, taken, exhausted = iter(stories), 0, 0, False
    try:
        while True:
            width = window()
            room = 2 * width - (drawn - taken)
            if not exhausted and room >= max(1, width // 4):  # by the handful: each feeding wakes the other thread
                more, exhausted = take(source, room)
                loop.call_soon_threadsafe(feed, list(enumerate(more, drawn)))
                drawn += len(more)
            if exhausted and taken == drawn:
                return
            try:
                index, result, error = finished.get(timeout=_IDLE_S)
            except queue.Empty:
                if on_done:
                    on_done(0)
                continue
            if error is not None:
                raise error
            taken += 1
            if on_done:
                on_done(1)
            yield index, result
    finally:
        if not loop.is_closed():
            asyncio.run_coroutine_threadsafe(stop(), loop).result()


class LoopThread:
    """An event loop in a thread of its own: calls go on while the caller's thread computes."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._collect, *older = gc.get_threshold()
        gc.set_threshold(self._collect and max(self._collect, _COLLECT_EVERY), *older)  # 0: switched off
        self._thread = threading.Thread(target=self._serve, name="calls", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, which is cancelled if the wait for it is interrupted."""
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return future.result()
        finally:
            future.cancel()

    def close(self) -> None:
        """Cancel what still runs and end the thread. Idempotent."""
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()
            gc.set_threshold(self._collect, *gc.get_threshold()[1:])

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.get_loop().run_forever()


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
