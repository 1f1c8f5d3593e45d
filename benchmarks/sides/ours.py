"""gra_train: the real stories through the real pool, ledger and HTTP client."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import Task, measured

from gra_train.chat.http import HttpModel  # noqa: F401  (imported before the clock starts, like everybody's)
from gra_train.chat.pool import OpenPool, open_pool
from gra_train.records import DOMAINS, Fate, Sample
from gra_train.schema import Model, Synthesis
from gra_train.synthesis.calls import Call, ask_all
from gra_train.synthesis.draw import Corpus, draw, number
from gra_train.synthesis.prompts import family
from gra_train.synthesis.story import synthesise

SYNTHESIS = Synthesis(T_std=0.1)  # the stub's reviewers differ a little: every sample is adjudicated


def models(task: Task, count: int) -> list[Model]:
    """Members of the pool, which share the calls in flight."""
    each = -(-task.concurrency // count)
    return [
        Model(name=f"stub-{i}", url=task.url, revision="stub", max_concurrency=each, timeout_s=600)
        for i in range(count)
    ]


def seeds() -> list[Sample]:
    """A seed corpus: eight samples of each domain."""
    return [
        Sample(id=f"seed-{d}-{i}", instruction=f"Solve task {i}.", response="It is solved.", domain=d,
               keywords=(f"thing {i}", f"place {i}", f"idea {i}"), summary=f"It asks to solve task {i}.")
        for d in DOMAINS for i in range(8)
    ]  # fmt: skip


def plain(task: Task, pool: OpenPool) -> int:
    """One instruction answered per row, as `distill` does it."""
    prompts = family(SYNTHESIS.prompts)
    template = task.prompts["plain"]["user"]

    async def answer(ask: Any, i: int) -> str | None:
        prompt = prompts.response(template.replace("{i}", str(i)))
        call = Call("teacher", "stub-0", prompt, partial(number, 0, i))
        (text,) = await ask_all(ask, [call], synthesis=SYNTHESIS, trace=[])
        return text

    answers = pool.stream(partial(answer, i=i) for i in range(task.rows))
    return sum(text is not None for _, text in answers)


def gra(task: Task, pool: OpenPool) -> int:
    """Candidates from their draw to their decision, as a wave of `synthesize` makes them."""
    corpus, prompts = Corpus.of(seeds()), family(SYNTHESIS.prompts)

    async def story(ask: Any, i: int) -> Any:
        one = draw(0, 0, i, models=pool.names, corpus=corpus, synthesis=SYNTHESIS)
        return await synthesise(ask, one, family=prompts, synthesis=SYNTHESIS)

    made = pool.stream(partial(story, i=i) for i in range(task.rows))
    return sum(c.fate is Fate.KEPT and c.adjudication is not None for _, c in made)


def main() -> None:
    task = Task.read()
    members = models(task, count=1 if task.shape == "plain" else 5)
    with measured() as result, open_pool(members, ledger=task.work / "ledger") as pool:
        result["rows"] = plain(task, pool) if task.shape == "plain" else gra(task, pool)


if __name__ == "__main__":
    main()
