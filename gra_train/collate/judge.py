"""LLM-as-judge, the ablation of merit (Table 4): M_IFT rates the candidates without seeing the gold answer.

text: it writes 0 to 5 points, greedily. likelihood, for models that cannot write points (the miniature's know three
modes and nothing else): it draws its own answer from the rationale, greedily, and its mean ln P per token of that
answer counts. That is a judge's certainty, not a judgement of the reasoning; where it errs it errs with confidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gra_train import progress
from gra_train.chat.protocol import Ask, Completion, Likelihood, Message, Sampling
from gra_train.collate import modes
from gra_train.collate.data import Task
from gra_train.collate.merit import known
from gra_train.collate.providers import Calls
from gra_train.schema import Model

TOKENS = 256
"""Longest judgement, or answer drawn."""
Points = list[float | None]


def judge(
    model: Model, tasks: Sequence[Task], candidates: Sequence[Sequence[str | None]], *, calls: Calls, judging: str
) -> list[Points]:
    """Points of every candidate: candidates[i] are those of tasks[i]. None: nothing that can be read, or no candidate
    was written (None) that could be judged."""

    def story(task: Task, own: Sequence[str | None]) -> Any:
        texts = [text for text in own if text is not None]

        async def written(ask: Ask) -> Points:
            asked = [_turn(modes.judge(task.instruction, text)) for text in texts]
            return [modes.read_points(reply.text) for reply in await _greedy(ask, model, asked)]

        async def certainty(ask: Ask) -> Points:
            asked = [_turn(modes.answer_with_rationale(calls.prompts, task.instruction, text)) for text in texts]
            answers = [reply.text.strip() for reply in await _greedy(ask, model, asked)]
            said = [i for i, answer in enumerate(answers) if answer]
            found = await ask(
                *(
                    (model.name, Likelihood(asked[i], answers[i], purpose="judge/certainty", may_fail=True))
                    for i in said
                )
            )
            points: Points = [None] * len(texts)
            for i, one in zip(said, found, strict=True):
                total = known(one)
                points[i] = None if total is None else total / max(len(one.logprobs), 1)
            return points

        async def tell(ask: Ask) -> Points:
            found = iter(await (written if judging == "text" else certainty)(ask))
            return [None if text is None else next(found) for text in own]

        return tell

    calls = calls if judging == "text" else calls.scoring()
    with (
        calls.open([model]) as pool,
        progress.task(f"judgements by {model.name}", total=len(tasks), unit="tasks") as bar,
    ):
        bar.also = pool.health
        stories = [story(task, texts) for task, texts in zip(tasks, candidates, strict=True)]
        return pool.run(stories, block=calls.block, on_done=bar.advance)


async def _greedy(ask: Ask, model: Model, asked: Sequence[tuple[Message, ...]]) -> list[Any]:
    sampling = Sampling(temperature=0.0, max_tokens=TOKENS)
    return await ask(*((model.name, Completion(turns, sampling, purpose="judge/text")) for turns in asked))


def _turn(text: str) -> tuple[Message, ...]:
    return ({"role": "user", "content": text},)
