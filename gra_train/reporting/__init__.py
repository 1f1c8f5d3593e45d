"""Tables, cards, comparison reports and the W&B mirror."""
