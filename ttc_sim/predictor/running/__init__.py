"""A trained predictor at work."""
