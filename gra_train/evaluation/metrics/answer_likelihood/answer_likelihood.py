"""How likely the right answers are under a model, from the log-probabilities of their tokens."""

import datasets
import evaluate
import numpy as np

_DESCRIPTION = """
Likelihood of gold answers, the quantity that COLLATE's merit is made of (arXiv 2506.02519, section 3): the log-
probability of each answer's tokens given the question (and a rationale), summed. Computed from token log-
probabilities, in process or from a server.
"""
_KWARGS = """
predictions: for each answer the natural-log probabilities of its tokens.
Returns mean_log_likelihood (nats per answer), mean_token_log_likelihood (nats per token, over all tokens),
perplexity (exp of minus that) and n.
"""


class AnswerLikelihood(evaluate.Metric):
    def _info(self):
        features = datasets.Features({"predictions": datasets.Sequence(datasets.Value("float64"))})
        return evaluate.MetricInfo(description=_DESCRIPTION, citation="", inputs_description=_KWARGS, features=features)

    def _compute(self, predictions):
        empty = [i for i, tokens in enumerate(predictions) if not len(tokens)]
        if empty:
            raise ValueError(f"answer {empty[0]} has no tokens: an empty answer has no likelihood")
        totals = [float(np.sum(tokens)) for tokens in predictions]
        per_token = sum(totals) / sum(len(tokens) for tokens in predictions)
        return {
            "mean_log_likelihood": float(np.mean(totals)),
            "mean_token_log_likelihood": per_token,
            "perplexity": float(np.exp(-per_token)),
            "n": len(totals),
        }
