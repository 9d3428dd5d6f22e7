"""Plots: a function for each question, in one style (:mod:`ttc_sim.reporting.plots.style`)."""

from ttc_sim.reporting.plots.arms import plot_result
from ttc_sim.reporting.plots.budget import plot_budget
from ttc_sim.reporting.plots.day import plot_day, plot_over_time
from ttc_sim.reporting.plots.differences import plot_what_if
from ttc_sim.reporting.plots.frontier import plot_comparison, plot_plan
from ttc_sim.reporting.plots.latency import plot_latency
from ttc_sim.reporting.plots.measured import plot_backtest, plot_profile
from ttc_sim.reporting.plots.monitored import plot_monitored
from ttc_sim.reporting.plots.offers import plot_offers
from ttc_sim.reporting.plots.promises import plot_validation
from ttc_sim.reporting.plots.reliability import plot_report, plot_scores
from ttc_sim.reporting.plots.requests import plot_requests
from ttc_sim.reporting.plots.spend import plot_spend
from ttc_sim.reporting.plots.strategies import plot_evaluation, plot_strategies, plot_verifiers
from ttc_sim.reporting.plots.tornado import plot_sensitivity

__all__ = [
    "plot_backtest",
    "plot_budget",
    "plot_comparison",
    "plot_day",
    "plot_evaluation",
    "plot_latency",
    "plot_monitored",
    "plot_offers",
    "plot_over_time",
    "plot_plan",
    "plot_profile",
    "plot_report",
    "plot_requests",
    "plot_result",
    "plot_scores",
    "plot_sensitivity",
    "plot_spend",
    "plot_strategies",
    "plot_validation",
    "plot_verifiers",
    "plot_what_if",
]
