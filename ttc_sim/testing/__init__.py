"""Conformance suites for a strategy, policy, step-time model or arrival process of one's own."""
