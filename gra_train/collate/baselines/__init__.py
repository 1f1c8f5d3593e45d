"""Baselines of COLLATE's Table 1 that prompt or train; recipes in docs/baselines.md."""
