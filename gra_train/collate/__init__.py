"""COLLATE: rationale providers tuned by the likelihood of the right answer (arXiv 2506.02519)."""
