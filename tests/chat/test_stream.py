"""Streams of stories: lazily drawn, bounded, results as they come, and ended early."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import threading
import time

import pytest

from gra_train import progress
from gra_train.chat import dispatch
from gra_train.chat.pool import open_pool
from gra_train.runs import Stopped
from gra_train.schema import Model

from .test_faults import request


@pytest.fixture
def flow():
    """(stories, answer, window) -> free_flow, on a loop in a thread of its own."""
    thread = dispatch.LoopThread()
    yield lambda stories, answer, window, **more: dispatch.free_flow(
        stories, answer, thread.loop, window=lambda: window, **more
    )
    thread.close()


def stories(count: int | None = None, drawn: list[int] | None = None):
    async def one(ask, i):
        return (await ask(i))[0]

    for i in itertools.count() if count is None else range(count):
        if drawn is not None:
            drawn.append(i)
        yield lambda ask, i=i: one(ask, i)


async def echo(_, calls):
    await asyncio.sleep(0.001)
    return list(calls)


def test_an_endless_stream_is_drawn_only_as_far_as_there_is_room(flow):
    drawn: list[int] = []
    results = flow(stories(drawn=drawn), echo, 8)
    for taken, (index, result) in enumerate(results):
        assert index == result
        assert len(drawn) <= taken + 2 * 8
        time.sleep(0.002 if taken < 50 else 0)
        if taken == 200:
            break
    results.close()
    assert len(drawn) <= 201 + 2 * 8


def test_a_straggler_holds_nobody_up(flow):
    async def answer(_, calls):
        await asyncio.sleep(0.5 if calls[0] == 3 else 0.001)
        return list(calls)

    order = [index for index, _ in flow(stories(200), answer, 4)]
    assert order[-1] == 3
    assert sorted(order) == list(range(200))


def test_no_more_than_the_window_run(flow):
    running = most = 0

    async def answer(_, calls):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        return list(calls)

    assert len(list(flow(stories(100), answer, 5))) == 100
    assert most == 5


@pytest.mark.parametrize("wait", [None, 0])
def test_stories_that_need_not_wait_are_all_told(flow, wait):
    async def answer(_, calls):
        if wait is not None:
            await asyncio.sleep(wait)
        return list(calls)

    for window in (1, 2, 7, 64):
        assert dict(flow(stories(500), answer, window)) == {i: i for i in range(500)}


def test_an_error_ends_it_and_cancels_the_others(flow):
    started, ended = [], []

    async def answer(_, calls):
        started.append(calls[0])
        try:
            await asyncio.sleep(0.01 if calls[0] == 7 else 60)
        finally:
            ended.append(calls[0])
        raise KeyError(calls[0])

    began = time.monotonic()
    with pytest.raises(KeyError, match="7"):
        list(flow(stories(), answer, 16))
    assert time.monotonic() - began < 10
    assert sorted(ended) == sorted(started)
    assert len(started) == 16


def test_after_an_error_no_more_calls_go_out_though_the_caller_is_busy(flow):
    begun, gate = [], threading.Event()

    async def answer(_, calls):
        begun.append(calls[0])
        if calls[0] == 0:
            return [0]
        while calls[0] != 1 or not gate.is_set():
            await asyncio.sleep(0.001)
        raise KeyError(1)

    results = flow(stories(), answer, 2)
    assert next(results) == (0, 0)
    gate.set()
    time.sleep(0.2)
    with pytest.raises(KeyError):
        next(results)
    assert sorted(begun) == [0, 1, 2]


def test_in_process_results_come_in_order_block_by_block(tmp_path, model_dir):
    async def story(ask, i):
        return (await ask(("m", request(f"q{i}", seed=i))))[0].text

    drawn: list[int] = []

    def endless():
        for i in itertools.count():
            drawn.append(i)
            yield lambda ask, i=i: story(ask, i)

    with open_pool([Model(name="m", path=str(model_dir))], ledger=tmp_path, device="cpu") as pool:
        seen = list(itertools.islice(pool.stream(endless(), block=4), 6))
        assert [index for index, _ in seen] == list(range(6))
        assert len(drawn) == 8
        assert [text for _, text in seen] == pool.run([lambda ask, i=i: story(ask, i) for i in range(6)], block=4)


def test_usage_counts_what_was_needed(server, tmp_path):
    """How many stories were started beyond the last that counts depends on timing; what is reported does not."""

    async def story(ask, i):
        return (await ask(("m", request(seed=i))))[0].text

    def play(count):
        with open_pool([Model(name="m", url=server, served_name="plain", revision="r")], ledger=tmp_path) as pool:
            results = pool.stream((lambda ask, i=i: story(ask, i) for i in itertools.count()), window=8, hold=True)
            done: set[int] = set()
            while not done >= set(range(count)):
                done.add(next(results)[0])
            pool.settle(count)
            results.close()
            pool.write_usage(tmp_path / "usage.json")
            return pool.usage()["total"]["asked"], json.loads((tmp_path / "usage.json").read_text())["in_vain"]["asked"]

    asked, in_vain = play(50)
    assert asked == 50
    assert 0 <= in_vain <= 16
    asked, _ = play(50)
    assert asked == 50


def test_a_run_is_stopped_though_its_server_is_silent(server, stats, tmp_path, monkeypatch):
    """SIGTERM becomes a STOP file in the run folder; what waits for answers sees it within a second or two."""
    monkeypatch.setattr(progress, "_file", tmp_path / "run" / "progress.json")
    (tmp_path / "run").mkdir()

    def story(i, served):
        async def run(ask):
            return (await ask((served, request(seed=i))))[0].text

        return run

    models = [
        Model(name="plain", url=server, served_name="plain", revision="r"),
        Model(name="slow", url=server, served_name="slow", revision="r"),
    ]
    began = time.monotonic()
    asked = (story(i, "plain" if i < 20 else "slow") for i in range(60))
    with open_pool(models, ledger=tmp_path / "l") as pool, progress.task("t") as bar:
        results = pool.stream(asked, on_done=bar.advance)
        assert len(list(itertools.islice(results, 20))) == 20
        (tmp_path / "run" / "STOP").touch()
        with pytest.raises(Stopped):
            next(results)
    assert time.monotonic() - began < 10
    (tmp_path / "run" / "STOP").unlink()
    before = sum(stats()["requests"].values())
    with open_pool(models, ledger=tmp_path / "l") as pool:
        pool.run([story(i, "plain") for i in range(30)])
    assert sum(stats()["requests"].values()) - before == 10  # what was answered is not asked again


def test_garbage_is_looked_for_less_often_while_calls_go_on():
    before = gc.get_threshold()
    thread = dispatch.LoopThread()
    assert gc.get_threshold() == (max(before[0], 50_000), *before[1:])
    thread.close()
    assert gc.get_threshold() == before
