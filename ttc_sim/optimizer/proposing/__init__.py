"""Kinds of policy that a search may propose, each a file: bands of one predicted score, and ``Utility``.

A further kind is a file with a :class:`~ttc_sim.optimizer.proposing.proposal.Proposer` and a line below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ttc_sim.optimizer.proposing.bands import BandsProposer
from ttc_sim.optimizer.proposing.proposal import Proposer
from ttc_sim.optimizer.proposing.utility import UtilityProposer
from ttc_sim.simulation.expectations import Expectations
from ttc_sim.simulation.expected_times import Waiting

PROPOSERS: Mapping[str, Callable[[Expectations, Mapping[str, Waiting]], Proposer]] = {
    "bands": BandsProposer.starting,
    "utility": UtilityProposer.starting,
}
"""By name, from the simplest to read on: the proposer for these arms, given the pools' times known when its search starts."""

__all__ = ["PROPOSERS"]
