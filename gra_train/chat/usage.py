"""What was asked: calls, answers from disk, tokens, and truncated answers, per model and purpose."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any

from gra_train.chat.protocol import Answer, Reply


@dataclass
class Count:
    """asked: requests of stories. from_ledger: those answered from disk (the others were computed or called).

    Tokens and truncated answers are of all that was asked: what the data cost, whenever it was paid.
    """

    asked: int = 0
    from_ledger: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    scored_tokens: int = 0
    truncated: int = 0

    def add(self, answer: Answer, *, from_ledger: bool) -> None:
        self.asked += 1
        self.from_ledger += from_ledger
        if isinstance(answer, Reply):
            self.prompt_tokens += answer.prompt_tokens
            self.completion_tokens += answer.completion_tokens
            self.truncated += answer.finish == "length"
        else:
            self.scored_tokens += len(answer.logprobs)


class Usage:
    """Counts per (model, purpose)."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], Count] = defaultdict(Count)

    def add(self, model: str, purpose: str, answer: Answer, *, from_ledger: bool) -> None:
        self._counts[model, purpose].add(answer, from_ledger=from_ledger)

    def to_dict(self) -> dict[str, Any]:
        """{"total": {...}, "by_model": {model: {purpose: {...}}}}, ready for JSON, in sorted order."""
        total: dict[str, int] = asdict(Count())
        models: dict[str, dict[str, dict[str, int]]] = {}
        for (model, purpose), count in sorted(self._counts.items()):
            row = asdict(count)
            models.setdefault(model, {})[purpose] = row
            total = {k: total[k] + row[k] for k in total}
        total["computed"] = total["asked"] - total["from_ledger"]
        return {"total": total, "by_model": models}
