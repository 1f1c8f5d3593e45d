"""What a comparison measures of the training sets themselves."""

from __future__ import annotations

# fmt: off  (one setting, one line: this file reads as a table)
from dataclasses import dataclass

from gra_train.schema.models import Model
from gra_train.settings import Section, setting


@dataclass(frozen=True)
class Quality(Section):
    """Diversity (always), difficulty and a judge's scores (where a model is named) of each arm's training rows."""

    rows: int = setting(
        1000, "of each set, drawn at random: diversity depends on how many there are", unit="rows", min=2
    )
    scorer: Model | None = setting(
        None, "model whose likelihoods give the difficulty IFD (arXiv 2308.12032); null: n/a"
    )
    judge: Model | None = setting(
        None, "model that scores the rows from 1 to 10, any endpoint or in process; null: n/a"
    )
    judge_max_tokens: int = setting(512, "longest opinion of the judge", unit="tokens", min=1)
    judge_above: int = setting(8, "also report the share of rows that the judge scores above this", min=1, max=10)
    block: int = setting(64, "in process: rows whose calls are batched together", min=1)
