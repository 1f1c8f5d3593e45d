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
from gra_train.chat.protocol import Ask, Likelihood, Message, TokenLogProbs
from gra_train.collate import modes
from gra_train.collate.data import Task
from gra_train.collate.providers import Calls
from gra_train.schema import Model


@dataclass(frozen=True, slots=True)
class Merit:
    """Log-likelihoods (natural, over all tokens) of one task's answer: without a rationale, and with each candidate.

    None where there is no number: no rationale was written, or `known` has none.
    """

    task_id: str
    tokens: int
    baseline: float | None
    candidates: tuple[float | None, ...]


def known(scored: TokenLogProbs) -> float | None:
    """The log-likelihood, or None: the answer lies beyond the model's window, or its server did not score it."""
    return None if scored.failed or not math.isfinite(scored.total) else scored.total


def score(
    scorer: Model, tasks: Sequence[Task], candidates: Sequence[Sequence[str | None]], *, calls: Calls
) -> list[Merit]:
    """The merit of every candidate rationale: candidates[i] are those of tasks[i] (None: none was written).

    In process, what the prompts of a block share (the instruction, for the candidates of a task) is computed once
    (chat/prefixes.py). Behind a server of ours (vLLM; others give no prompt log-probabilities and are not asked) its
    prefix cache does that.
    """
    calls = calls.scoring()

    def story(task: Task, texts: Sequence[str | None]) -> Any:
        async def tell(ask: Ask) -> Merit:
            asked = [modes.answer(calls.prompts, task.instruction)]
            asked += [
                modes.answer_with_rationale(calls.prompts, task.instruction, text) for text in texts if text is not None
            ]
            found: list[TokenLogProbs] = await ask(
                *(
                    (scorer.name, Likelihood(_turn(text), task.answer, purpose="scorer/merit", may_fail=True))
                    for text in asked
                )
            )
            baseline, *totals = map(known, found)
            rest = iter(totals)
            merits = tuple(None if text is None else next(rest) for text in texts)
            return Merit(task.id, max(len(one.logprobs) for one in found), baseline, merits)

        return tell

    with (
        calls.open([scorer]) as pool,
        progress.task(f"merit by {scorer.name}", total=len(tasks), unit="tasks") as bar,
    ):
        bar.also = pool.health
        stories = [story(task, texts) for task, texts in zip(tasks, candidates, strict=True)]
        return pool.run(stories, block=calls.block, on_done=bar.advance)


def _turn(text: str) -> tuple[Message, ...]:
    return ({"role": "user", "content": text},)


def mean_per_token(merits: Sequence[Merit], *candidates: int | None) -> float | None:
    """Mean over tasks (and candidates) of the answer's mean log-probability per token (None: without a rationale).

    What has no number is left out; None if nothing has one.
    """
    told = [(m.baseline if c is None else m.candidates[c], m.tokens) for c in candidates for m in merits]
    values = [value / max(tokens, 1) for value, tokens in told if value is not None]
    return math.fsum(values) / len(values) if values else None
