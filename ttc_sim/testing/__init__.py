"""Conformance suites for a strategy, policy, step-time model, arrival process or importer of one's own: three lines of pytest.

    from ttc_sim.testing import StrategyConformance

    class TestDebate(StrategyConformance):
        strategy = Debate(n=3)

Each test of a suite is something that the simulator relies on and that code can break without an error. They need nothing but the
object; what a suite cannot know (names of arms, a folder of files, whether a process is random at all) are attributes of its class.
"""

from ttc_sim.testing.arrivals import ArrivalsConformance
from ttc_sim.testing.importers import ImporterConformance
from ttc_sim.testing.policies import PolicyConformance
from ttc_sim.testing.step_times import StepTimeConformance
from ttc_sim.testing.strategies import StrategyConformance

__all__ = [
    "ArrivalsConformance",
    "ImporterConformance",
    "PolicyConformance",
    "StepTimeConformance",
    "StrategyConformance",
]
