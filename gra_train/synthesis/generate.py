"""The generator's three steps: new keywords, an instruction from them, a response to it (GRA, section 3.2).

Each returns None where the model's answers could not be read.
"""

from __future__ import annotations

from collections.abc import Sequence

from gra_train.synthesis.prompts import Prompt
from gra_train.synthesis.telling import Telling


async def propose_keywords(telling: Telling) -> tuple[str, ...] | None:
    """Three keywords that differ from those of the drawn examples."""
    draw = telling.draw
    return await telling.one("generator", draw.generator, telling.family.new_keywords(draw.domain, draw.examples))


def instruction_prompt(telling: Telling, keywords: Sequence[str]) -> Prompt[str]:
    """The prompt that turns keywords and the examples' summaries into an instruction."""
    draw = telling.draw
    return telling.family.instruction(draw.domain, keywords, [e.summary for e in draw.examples])


async def write_instruction(telling: Telling, keywords: Sequence[str]) -> str | None:
    return await telling.one("generator", telling.draw.generator, instruction_prompt(telling, keywords))


async def write_response(telling: Telling, instruction: str) -> str | None:
    return await telling.one("generator", telling.draw.generator, telling.family.response(instruction))
