"""How many tokens a student reads in a training row: the rendered conversation, as the SFT stage makes it."""

from __future__ import annotations

from collections.abc import Sequence

from gra_train.records import Sample
from gra_train.schema import Model


def count_tokens(student: Model, rows: Sequence[Sample]) -> list[int]:
    """Tokens of prompt and completion of each row. Raises UserError for a student without a usable tokenizer."""
    if not rows:
        return []
    from gra_train.chat.templates import load_tokenizer
    from gra_train.training.rows import example, length, sft_rows

    tokenizer = load_tokenizer(student)
    return [length(row) for row in sft_rows(tokenizer, [example(row.instruction, row.response) for row in rows])]
