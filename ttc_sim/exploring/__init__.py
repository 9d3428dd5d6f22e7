"""A scenario or plan under one's hands: sliders for thresholds, caps, prices and load, and what each setting comes to."""

from ttc_sim.exploring.exploring import explore

__all__ = ["explore"]
