"""GRA: a pool of small models generates, reviews and adjudicates instruction data (arXiv 2504.12322)."""
