"""A plan at work beside what it promised, from its logs."""

from ttc_sim.deploying.monitoring.found import Monitored, Period
from ttc_sim.deploying.monitoring.monitoring import monitor

__all__ = ["Monitored", "Period", "monitor"]
