"""Files: read whole and within limits, written whole or not at all."""
