"""Existing data sets: reading their formats, and putting an arm's training set together."""
