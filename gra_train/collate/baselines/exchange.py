"""Exchange of thought between two instances of a model (Yin et al. 2023, arXiv 2312.01823), small.

Both think alone; while they disagree, each is shown the other's rationale and answer and thinks again. If they do not
agree in time, the more confident one wins.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from gra_train.chat.protocol import Ask
from gra_train.collate.baselines import prompts
from gra_train.collate.baselines.thinking import Thinker, Thought
from gra_train.collate.data import number

Again = Callable[[Sequence[Thought], int], Awaitable[list[Thought]]]
Sure = Callable[[Sequence[Thought]], Awaitable[list[float]]]


def agree(thoughts: Sequence[Thought]) -> bool:
    """Whether all have given one answer, and one that could be read."""
    return thoughts[0].value is not None and len({one.value for one in thoughts}) == 1


async def settle(
    thoughts: Sequence[Thought], again: Again, sure: Sure, *, rounds: int
) -> tuple[Thought, dict[str, Any]]:
    """Exchange until all agree, `rounds` times at most; then the most confident one wins, the first of equals.

    A thought whose answer could not be read wins only over others like it.
    """
    done = 0
    while done < rounds and not agree(thoughts):
        thoughts, done = await again(thoughts, done), done + 1
    counted = {"agreement": int(agree(thoughts)), "rounds": done}
    if agree(thoughts):
        return thoughts[0], counted
    confidence = await sure(thoughts)
    winner = max(range(len(thoughts)), key=lambda i: (thoughts[i].value is not None, confidence[i], -i))
    return thoughts[winner], counted


async def exchange_of_thought(
    ask: Ask, thinker: Thinker, instruction: str, *, seed: int, rounds: int, temperature: float, roles: str
) -> tuple[Thought, dict[str, Any]]:
    """The thought that two instances, told apart by their draws, settle on. roles: see `collate.baselines.roles`.

    "prompt": each writes a new rationale with both thoughts before it. "likelihood": each thinks anew, and holds its
    new thought or the other's, whichever makes it surer of the answer (its own where it is as sure of both).
    """

    async def again(thoughts: Sequence[Thought], done: int) -> list[Thought]:
        drawn, others = number(seed, "exchange", done), thoughts[::-1]
        if roles == "prompt":
            asked = [
                prompts.exchange(instruction, (own.rationale, own.answer), (other.rationale, other.answer))
                for own, other in zip(thoughts, others, strict=True)
            ]
            replies = await thinker.write(ask, asked, seed=drawn, temperature=temperature, purpose="exchange")
            return await thinker.conclude(ask, instruction, replies)
        fresh = await thinker.think(ask, instruction, seed=drawn, count=len(thoughts), temperature=temperature)
        confidence = await thinker.sure(ask, instruction, [*fresh, *others])
        mine, theirs = confidence[: len(fresh)], confidence[len(fresh) :]
        return [others[i] if theirs[i] > mine[i] else fresh[i] for i in range(len(fresh))]

    async def sure(thoughts: Sequence[Thought]) -> list[float]:
        return await thinker.sure(ask, instruction, thoughts)

    first = await thinker.think(ask, instruction, seed=seed, count=2, temperature=temperature)
    return await settle(first, again, sure, rounds=rounds)
