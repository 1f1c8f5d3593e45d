"""What a candidate's story is told with: who may be asked, what was drawn, and the record of every attempt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from gra_train.chat.protocol import Ask
from gra_train.schema import Synthesis
from gra_train.synthesis.calls import Attempt, Call, KeyOf, ask_all, no_key
from gra_train.synthesis.draw import Draw
from gra_train.synthesis.prompts import Family, Prompt

T = TypeVar("T")


@dataclass(slots=True)
class Telling:
    """The means of one story. `trace` grows while it is told."""

    ask: Ask
    draw: Draw
    family: Family
    synthesis: Synthesis
    key_of: KeyOf = no_key
    trace: list[Attempt] = field(default_factory=list)

    async def one(self, role: str, model: str, prompt: Prompt[T]) -> T | None:
        """The model's answer, parsed; None where no attempt could be read."""
        answers: list[T | None] = await self.several(role, [model], prompt)
        return answers[0]

    async def several(self, role: str, models: Sequence[str], prompt: Prompt[T]) -> list[T | None]:
        """The answers of several models to one prompt, asked together."""
        calls: list[Call] = [
            Call(role, model, prompt, partial(self.draw.call_seed, prompt.kind, model, place))
            for place, model in enumerate(models)
        ]
        answers: list[Any] = await ask_all(
            self.ask, calls, synthesis=self.synthesis, trace=self.trace, key_of=self.key_of
        )
        return answers
