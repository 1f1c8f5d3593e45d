"""A model as its own judge: points that it writes, or how sure a rationale makes it of the answer it draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gra_train.chat.protocol import Ask, Reply
from gra_train.collate import modes
from gra_train.collate.baselines import prompts
from gra_train.collate.baselines.thinking import Thinker


async def judge(
    ask: Ask, thinker: Thinker, instruction: str, rationales: Sequence[str], *, roles: str
) -> list[float | None]:
    """What the model thinks of whole rationales; None: unparseable. No gold answer is shown to it.

    roles "prompt": 0 to 5 points, written. "likelihood": mean ln P per token of its own greedy answer given the
    rationale.
    """
    return await _rate(ask, thinker, instruction, rationales, roles, modes.judge)


async def promise(
    ask: Ask, thinker: Thinker, instruction: str, steps: Sequence[str], *, roles: str
) -> list[float | None]:
    """As `judge`, of rationales that may be unfinished."""
    return await _rate(ask, thinker, instruction, steps, roles, prompts.promise)


async def _rate(
    ask: Ask, thinker: Thinker, instruction: str, texts: Sequence[str], roles: str, prompt: Callable[[str, str], str]
) -> list[float | None]:
    if roles == "prompt":
        asked = [prompt(instruction, text) for text in texts]
        replies = await thinker.write(ask, asked, purpose="judge")
        return [modes.read_points(reply.text) for reply in replies]
    thoughts = await thinker.conclude(ask, instruction, [Reply(text) for text in texts])
    return [*await thinker.sure(ask, instruction, thoughts)]
