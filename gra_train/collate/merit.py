"""The merit of a rationale: how likely it makes the gold answer, under frozen M_IFT (section 3.3).

merit(R; I, A) = ln P(A | [I;R])   in mode [I;R] -> A; without a rationale ln P(A | I) in mode I -> A.

The answer is fixed within a task, so ranking and filter do not depend on length normalisation; means over tasks use the
mean log-probability per token of the answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gra_train import progress
from gra_train.chat.protocol import Ask, Likelihood, TokenLogProbs
from gra_train.collate import modes
from gra_train.collate.data import Task
from gra_train.collate.providers import Calls
from gra_train.schema import Model


@dataclass(frozen=True, slots=True)
class Merit:
    """Log-likelihoods (natural, over all tokens) of one task's answer: without a rationale, and with each candidate."""

    task_id: str
    tokens: int
    baseline: float
    candidates: tuple[float, ...]


def score(scorer: Model, tasks: Sequence[Task], candidates: Sequence[Sequence[str]], *, calls: Calls) -> list[Merit]:
    """The merit of every candidate rationale: candidates[i] are those of tasks[i].

    In process, what the prompts of a block share (the instruction, for the candidates of a task) is computed once
    (chat/prefixes.py). Behind a server of ours (vLLM; others give no prompt log-probabilities and are not asked) its
    prefix cache does that.
    """
    calls = calls.scoring()

    def story(task: Task, texts: Sequence[str]) -> Any:
        async def tell(ask: Ask) -> Merit:
            asked = [modes.answer(calls.prompts, task.instruction)]
            asked += [modes.answer_with_rationale(calls.prompts, task.instruction, text) for text in texts]
            found: list[TokenLogProbs] = await ask(
                *(
                    (scorer.name, Likelihood(({"role": "user", "content": text},), task.answer, purpose="scorer/merit"))
                    for text in asked
                )
            )
            totals = [one.total for one in found]
            return Merit(task.id, len(found[0].logprobs), totals[0], tuple(totals[1:]))

        return tell

    with (
        calls.open([scorer]) as pool,
        progress.task(f"merit by {scorer.name}", total=len(tasks), unit="tasks") as bar,
    ):
        bar.also = pool.health
        stories = [story(task, texts) for task, texts in zip(tasks, candidates, strict=True)]
        return pool.run(stories, block=calls.block, on_done=bar.advance)


def mean_per_token(merits: Sequence[Merit], *candidates: int | None) -> float:
    """Mean over tasks (and candidates) of the answer's mean log-probability per token (None: without a rationale)."""
    values = [(m.baseline if c is None else m.candidates[c]) / max(m.tokens, 1) for c in candidates for m in merits]
    return math.fsum(values) / len(values)
