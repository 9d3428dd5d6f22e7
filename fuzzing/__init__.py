"""Broken inputs of every kind, until something gives way that should have been refused."""
