"""pass@k: the chance that one of k programs passes, estimated without bias from n >= k of them."""

import datasets
import evaluate
import numpy as np

_DESCRIPTION = """
Unbiased pass@k (Chen et al. 2021, equation 1): the mean over problems of 1 - C(n - c, k) / C(n, k), where c of a
problem's n programs pass. Programs are run elsewhere (gra_train.evaluation.sandbox); this metric counts.
"""
_KWARGS = """
predictions: for each problem, whether each of its n programs passed. k: a number, or several.
Returns pass@k for each k, and n (problems).
"""


class PassAtK(evaluate.Metric):
    def _info(self):
        features = datasets.Features({"predictions": datasets.Sequence(datasets.Value("bool"))})
        return evaluate.MetricInfo(description=_DESCRIPTION, citation="", inputs_description=_KWARGS, features=features)

    def _compute(self, predictions, k=1):
        wanted = [k] if isinstance(k, int) else list(k)
        counts = [(len(passed), int(np.sum(passed))) for passed in predictions]
        fewest = min(n for n, _ in counts)
        for one in wanted:
            if not 1 <= one <= fewest:
                raise ValueError(f"k={one}: expected 1 to {fewest}, the fewest programs of a problem")
        return {f"pass@{one}": float(np.mean([_estimate(n, c, one) for n, c in counts])) for one in wanted} | {
            "n": len(counts)
        }


def _estimate(n, passed, k):
    """1 - C(n - passed, k) / C(n, k), as a product, which does not overflow."""
    if n - passed < k:
        return 1.0
    return 1.0 - float(np.prod(1.0 - k / np.arange(n - passed + 1, n + 1)))
