"""Predict, from a prompt alone, how hard it is and which model would answer it correctly."""

from ttc_sim.predictor.running.session import Predictor, Scores

__all__ = ["Predictor", "Scores"]
