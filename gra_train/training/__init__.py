"""Supervised fine-tuning and preference optimisation with TRL."""
