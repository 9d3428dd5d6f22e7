"""What if: a scenario or plan in variations, on the same random numbers, and what each changes."""

from ttc_sim.optimizer.whatif.carrying_out import what_if
from ttc_sim.optimizer.whatif.found import CarriedOut, Change, Varied, WhatIf

__all__ = ["CarriedOut", "Change", "Varied", "WhatIf", "what_if"]
