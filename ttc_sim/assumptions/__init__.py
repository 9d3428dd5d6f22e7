"""Which assumption moves a plan most: each on its own, and all at once."""

from ttc_sim.assumptions.carrying_out import sensitivity
from ttc_sim.assumptions.found import Assumed, BreakEven, End, Index, Joint, Sensitivity

__all__ = ["Assumed", "BreakEven", "End", "Index", "Joint", "Sensitivity", "sensitivity"]
