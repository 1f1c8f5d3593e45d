"""The miniature world: a small closed language and models trained on it, so that everything runs anywhere."""
