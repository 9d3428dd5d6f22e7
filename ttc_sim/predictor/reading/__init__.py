"""A prompt as numbers."""
