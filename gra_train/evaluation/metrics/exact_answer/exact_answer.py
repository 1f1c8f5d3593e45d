"""Share of texts whose answer (a number, letter or formula, wherever it stands) is the reference."""

import datasets
import evaluate

from gra_train.evaluation import answers
from gra_train.evaluation.answers.many import same_formulas

_DESCRIPTION = """
Share of predictions whose extracted answer equals the reference. Numbers are compared as numbers, formulas by math-
verify, letters as they are. What cannot be read is wrong, and counted.
"""
_KWARGS = """
predictions: texts of a model. references: the right answers ("18", "B", "\\frac{1}{2}").
kind: number, letter or formula.
Returns exact_answer (share), n, unparseable and guessed (counts; guessed: read from the last thing of its kind).
"""


class ExactAnswer(evaluate.Metric):
    def _info(self):
        features = datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")})
        return evaluate.MetricInfo(
            description=_DESCRIPTION, citation="", inputs_description=_KWARGS, features=features, format="numpy"
        )

    def _compute(self, predictions, references, kind="number"):
        if kind not in ("number", "letter", "formula"):
            raise ValueError(f"kind={kind!r}: expected number, letter or formula")
        predictions, references = list(map(str, predictions)), list(map(str, references))
        found = [getattr(answers, kind)(text) for text in predictions]
        if kind == "number":
            golds = [answers.number(f"#### {gold}").value for gold in references]
            right = [answers.same_number(f.value, gold) for f, gold in zip(found, golds, strict=True)]
        elif kind == "letter":
            right = [f.value == gold.strip().strip("().").upper() for f, gold in zip(found, references, strict=True)]
        else:
            right = list(map(bool, same_formulas([(gold, f.value) for f, gold in zip(found, references, strict=True)])))
        return {
            "exact_answer": sum(right) / len(right),
            "n": len(right),
            "unparseable": sum(f.value is None for f in found),
            "guessed": sum(f.guessed for f in found),
        }
