"""Other people's logs."""
