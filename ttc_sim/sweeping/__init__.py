"""Many variations of a scenario, simulated on the same random numbers: on processes, or on a cluster."""

from ttc_sim.sweeping.carrying_out import BACKENDS, sweep
from ttc_sim.sweeping.found import Sweep

__all__ = ["BACKENDS", "Sweep", "sweep"]
