"""Instruction-following difficulty (IFD; Li et al. 2024, arXiv 2308.12032): how little an instruction helps a model to
write its response.

IFD(Q, A) = s(A|Q) / s(A), s being the mean negative log-probability of the response's tokens: near 0 the instruction
says it all, at 1 it says nothing, above 1 it misleads. Both go through the scorer's chat template; for s(A) the user's
turn is empty, so that only the instruction is missing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from gra_train.chat.pool import OpenPool
from gra_train.chat.protocol import Ask, Likelihood, Message, TokenLogProbs
from gra_train.records import Sample


def difficulties(
    pool: OpenPool, scorer: str, samples: Sequence[Sample], *, block: int, on_done: Callable[[int], None]
) -> list[float | None]:
    """The IFD of each sample; None where the response is empty or does not fit into the scorer's window."""

    def story(sample: Sample) -> Any:
        async def tell(ask: Ask) -> float | None:
            if not sample.response:
                return None
            asked = (_likelihood(text, sample.response) for text in (sample.instruction, ""))
            given, alone = await ask(*((scorer, request) for request in asked))
            return ifd(given, alone)

        return tell

    return pool.run([story(sample) for sample in samples], block=block, on_done=on_done)


def ifd(given: TokenLogProbs, alone: TokenLogProbs) -> float | None:
    """s(A|Q) / s(A), rounded; None where one of them is not finite, or s(A) is 0."""
    conditional, direct = (-one.total / max(1, len(one.logprobs)) for one in (given, alone))
    if not (math.isfinite(conditional) and math.isfinite(direct)) or direct <= 0:
        return None
    return round(conditional / direct, 6)


def _likelihood(instruction: str, response: str) -> Likelihood:
    turn: Message = {"role": "user", "content": instruction}
    return Likelihood((turn,), response, purpose="scorer/ifd")
