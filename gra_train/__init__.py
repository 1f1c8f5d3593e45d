"""gra_train: small language models that make their own training data and learn from it (GRA, COLLATE)."""

__version__ = "0.1.0"
