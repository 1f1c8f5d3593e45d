"""Self-consistency: many thoughts, and the answer that most of them give (Wang et al. 2023, arXiv 2203.11171)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from gra_train.chat.protocol import Ask
from gra_train.collate.baselines.thinking import Thinker, Thought


def majority(values: Sequence[str | None]) -> tuple[int, float]:
    """(the first that gives the winning answer, the share of all that give it).

    Among answers with equally many votes the one given first wins. None (unparseable) has no vote but counts in the
    share; where nothing was parsed, (0, 0.0). Raises ValueError for no values.
    """
    if not values:
        raise ValueError("a vote needs voters")
    votes = Counter(value for value in values if value is not None)
    if not votes:
        return 0, 0.0
    winner, count = votes.most_common(1)[0]  # equal counts: in the order in which they were met
    return values.index(winner), count / len(values)


async def self_consistency(
    ask: Ask, thinker: Thinker, instruction: str, *, seed: int, samples: int, temperature: float
) -> tuple[Thought, dict[str, Any]]:
    """The winning answer's first thought; agreement: its share of the votes."""
    thoughts = await thinker.think(ask, instruction, seed=seed, count=samples, temperature=temperature)
    values = [one.value for one in thoughts]
    winner, agreement = majority(values)
    counted = {
        "agreement": agreement,
        "answers": len(set(values) - {None}),
        "unparseable_samples": sum(value is None for value in values),
    }
    return thoughts[winner], counted
