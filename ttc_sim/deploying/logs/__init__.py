"""What a plan's runtime logged, read, checked and joined."""

from ttc_sim.deploying.logs.checks import STATUSES
from ttc_sim.deploying.logs.joined import Counts, Logs
from ttc_sim.deploying.logs.reading import read_logs

__all__ = ["STATUSES", "Counts", "Logs", "read_logs"]
