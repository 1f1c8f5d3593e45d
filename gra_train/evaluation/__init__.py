"""Scoring models with lm-eval: tasks, answer extraction, per-question rows, statistics."""
