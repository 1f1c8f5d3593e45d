"""Bare aiohttp: the least that sends the same requests. No ledger, no retries, no parsing: the yardstick."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import aiohttp

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import Task, measured

SAMPLING = {"temperature": 0.2, "top_p": 0.9, "max_tokens": 4096}


async def run(task: Task) -> list[Any]:
    """The texts of all rows, or None where a call failed; a bounded number of workers take rows in turn."""
    rows: list[Any] = [None] * task.rows
    numbers = iter(range(task.rows))
    slots = asyncio.Semaphore(task.concurrency)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def call(kind: str, model: int = 0, **fields: Any) -> str:
            body = {"model": f"stub-{model}", "messages": task.messages(kind, **fields), **SAMPLING}
            async with slots, session.post(f"{task.url}/chat/completions", json=body) as response:
                response.raise_for_status()
                return str((await response.json())["choices"][0]["message"]["content"])

        async def plain(i: int) -> str:
            return await call("plain", i=i)

        async def gra(i: int) -> str:
            g, *reviewers, adjudicator = ((i + k) % 5 for k in range(5))
            keywords = await call("new_keywords", g)
            instruction = await call("instruction", g, keywords=keywords)
            await asyncio.gather(*(call("instruction_review", r, instruction=instruction) for r in reviewers))
            response = await call("response", g, instruction=instruction)
            texts = {"instruction": instruction, "response": response}
            reviews = await asyncio.gather(*(call("response_review", r, **texts) for r in reviewers))
            return await call("adjudication", adjudicator, reviews="\n".join(reviews), **texts)

        one = plain if task.shape == "plain" else gra

        async def worker() -> None:
            for i in numbers:
                rows[i] = await one(i)

        await asyncio.gather(*(worker() for _ in range(task.concurrency)))
    return rows


if __name__ == "__main__":
    with measured(version=aiohttp.__version__) as result:
        result["rows"] = sum(row is not None for row in asyncio.run(run(Task.read())))
