"""What can be said of a training set without training on it: diversity, difficulty, a judge's opinion."""
