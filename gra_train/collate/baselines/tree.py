"""Tree of thoughts, breadth-first: several next steps for every state of the beam, rated by the model itself.

Yao et al. 2023, arXiv 2305.10601, algorithm 1 (ToT-BFS). A state is the rationale so far; the answer is drawn from the
best state in the end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gra_train.chat.protocol import Ask, Reply
from gra_train.collate import modes
from gra_train.collate.baselines import prompts
from gra_train.collate.baselines.judging import promise
from gra_train.collate.baselines.thinking import Thinker, Thought
from gra_train.collate.data import number


@dataclass(frozen=True, slots=True)
class State:
    """text: the steps so far. done: the model had nothing to add. truncated: a step was cut. tokens: of the path."""

    text: str = ""
    done: bool = False
    truncated: bool = False
    tokens: int = 0


STEP_ENDS = (". ", "\n")
"""What ends a step where a rationale is continued sentence by sentence."""
Grow = Callable[[Sequence[State], int], Awaitable[list[list[State]]]]
Rate = Callable[[Sequence[State]], Awaitable[list[float | None]]]


def best(values: Sequence[float | None], count: int) -> list[int]:
    """Indices of the `count` highest values, the highest first; equal ones in their order, None (no value) last."""
    return sorted(range(len(values)), key=lambda i: (values[i] is None, -(values[i] or 0.0), i))[:count]


async def search(grow: Grow, rate: Rate, *, depth: int, beam: int) -> tuple[State, dict[str, Any]]:
    """The best state after at most `depth` steps, and what it took.

    grow(states, level): the next states of each. A state that is done stays as it is and goes on competing; states
    with the same text are one. The search ends early when the whole beam is done.
    """
    states, rated, unrated, level = [State()], 0, 0, 0
    while level < depth and not all(one.done for one in states):
        open_states = [one for one in states if not one.done]
        grown = iter(await grow(open_states, level))
        found = [child for one in states for child in ([one] if one.done else next(grown))]
        children = list({child.text: child for child in reversed(found)}.values())[::-1]  # the first of each text
        values = await rate(children)
        rated, unrated, level = rated + len(values), unrated + sum(v is None for v in values), level + 1
        states = [children[i] for i in best(values, beam)]
    return states[0], {"steps": level, "rated": rated, "unparseable_ratings": unrated}


async def tree_of_thoughts(
    ask: Ask,
    thinker: Thinker,
    instruction: str,
    *,
    seed: int,
    proposals: int,
    beam: int,
    depth: int,
    temperature: float,
    roles: str,
) -> tuple[Thought, dict[str, Any]]:
    """The thought that ends in the best state. roles: see `collate.baselines.roles`."""

    async def grow(states: Sequence[State], level: int) -> list[list[State]]:
        open_ones = [state for state in states for _ in range(proposals)]
        drawn = number(seed, "step", level)
        if roles == "prompt":
            asked = [prompts.step(instruction, one.text) for one in open_ones]
            replies = await thinker.write(ask, asked, seed=drawn, temperature=temperature, purpose="step")
            grown = [_asked(*pair) for pair in zip(open_ones, replies, strict=True)]
        else:
            asked = [modes.rationale(thinker.family, instruction)] * len(open_ones)
            replies = await thinker.write(
                ask, asked, seed=drawn, temperature=temperature, purpose="step", stop=STEP_ENDS,
                begun=[one.text for one in open_ones],
            )  # fmt: skip
            grown = [_continued(*pair) for pair in zip(open_ones, replies, strict=True)]
        return [grown[i : i + proposals] for i in range(0, len(grown), proposals)]

    async def rate(states: Sequence[State]) -> list[float | None]:
        return await promise(ask, thinker, instruction, [state.text for state in states], roles=roles)

    state, counted = await search(grow, rate, depth=depth, beam=beam)
    written = Reply(state.text, "length" if state.truncated else "stop", completion_tokens=state.tokens)
    [thought] = await thinker.conclude(ask, instruction, [written])
    return thought, counted


def _asked(before: State, reply: Reply) -> State:
    """The state after a step that was asked for by prompt."""
    text, tokens = reply.text.strip(), before.tokens + reply.completion_tokens
    if not text or text.strip(".!* ").upper() == prompts.DONE:
        return State(before.text, True, before.truncated, tokens)
    return State(f"{before.text}\n{text}".strip(), False, before.truncated or reply.finish == "length", tokens)


def _continued(before: State, reply: Reply) -> State:
    """The state after a rationale that went on from the one before by a sentence, or ended there."""
    text, tokens, cut = reply.text.strip(), before.tokens + reply.completion_tokens, reply.finish == "length"
    if not text:
        return State(before.text, True, before.truncated or cut, tokens)
    whole = text if cut or text[-1] in ".!?" else f"{text}."  # the stop string took the full stop with it
    return State(f"{before.text} {whole}".strip(), False, before.truncated or cut, tokens)
