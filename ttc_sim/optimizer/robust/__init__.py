"""Plans for several worlds at once: by the worst of them, or by a share of them."""

from ttc_sim.optimizer.robust.planning import plan_for_worlds
from ttc_sim.optimizer.robust.reading import DEFAULT, read_worlds

__all__ = ["DEFAULT", "plan_for_worlds", "read_worlds"]
