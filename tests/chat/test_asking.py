"""What one story asks at once: it is answered together, and given up together."""

from __future__ import annotations

import asyncio

import pytest

from gra_train.chat.asking import _together


def test_results_come_in_order():
    async def after(seconds, value):
        await asyncio.sleep(seconds)
        return value

    assert asyncio.run(_together([after(0.01, 1), after(0, 2), after(0.005, 3)])) == [1, 2, 3]


def test_one_failure_ends_the_others():
    ended = []

    async def forever(name):
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(name)

    async def fail():
        await asyncio.sleep(0.01)
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        asyncio.run(_together([forever("a"), fail(), forever("b")]))
    assert ended == ["a", "b"]
