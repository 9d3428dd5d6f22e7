"""How a predictor is trained and written down."""
