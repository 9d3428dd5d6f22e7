"""Strategies on measured problems, at once and without a queue."""
