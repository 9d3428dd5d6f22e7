"""What another plan would have come to on the requests that were logged."""

from ttc_sim.deploying.off_policy.asking import off_policy
from ttc_sim.deploying.off_policy.estimating import estimate_instead
from ttc_sim.deploying.off_policy.result import Bounds, Figure, OffPolicy, WantedArm

__all__ = ["Bounds", "Figure", "OffPolicy", "WantedArm", "estimate_instead", "off_policy"]
