"""Share of texts in which no answer could be read."""

import datasets
import evaluate

from gra_train.evaluation import answers

_DESCRIPTION = """
Share of predictions in which no answer could be read, and share in which it was guessed from the last thing of its
kind. A score with over 5% of either measures format as much as ability.
"""
_KWARGS = """
predictions: texts of a model. kind: number, letter, formula or code.
Returns unparseable_rate, guessed_rate and n.
"""


class UnparseableRate(evaluate.Metric):
    def _info(self):
        features = datasets.Features({"predictions": datasets.Value("string")})
        return evaluate.MetricInfo(
            description=_DESCRIPTION, citation="", inputs_description=_KWARGS, features=features, format="numpy"
        )

    def _compute(self, predictions, kind="number"):
        if kind not in ("number", "letter", "formula", "code"):
            raise ValueError(f"kind={kind!r}: expected number, letter, formula or code")
        found = [getattr(answers, kind)(str(text)) for text in predictions]
        return {
            "unparseable_rate": sum(f.value is None for f in found) / len(found),
            "guessed_rate": sum(f.guessed for f in found) / len(found),
            "n": len(found),
        }
