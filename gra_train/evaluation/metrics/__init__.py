"""Metrics as modules of Hugging Face `evaluate`: loaded by path, offline, inside this package or out of it.

metric = gra_train.evaluation.metrics.load("exact_answer")       # or evaluate.load("<this folder>/exact_answer")
metric.compute(predictions=["... #### 18"], references=["18"])
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gra_train.errors import UserError, nearest

FOLDER = Path(__file__).parent
NAMES = ("answer_likelihood", "exact_answer", "pass_at_k", "unparseable_rate")


def load(name: str) -> Any:
    """The `evaluate` metric of this name. Raises UserError for a name that is none of NAMES."""
    if name not in NAMES:
        raise UserError(f"there is no metric {name!r}.{nearest(name, NAMES)} Known: {', '.join(NAMES)}.")
    import evaluate

    return evaluate.load(str(FOLDER / name))
