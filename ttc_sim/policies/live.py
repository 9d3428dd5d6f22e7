"""Policies that look at live load, in both engines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ttc_sim.base.draws import I64
from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import MOST_REQUESTS
from ttc_sim.policies.policy import Policy
from ttc_sim.policies.requests import LiveRule, Requests


class _ByLoad(Policy):
    """One of several arms by live load; the first in an empty system, and where two are alike."""

    arms: Sequence[str]

    def arm_names(self) -> tuple[str, ...]:
        """The arms, in order of preference."""
        return tuple(self.arms)

    def choose(self, requests: Requests, arms: Sequence[str]) -> I64:
        """What an empty system would give: the first arm."""
        return np.full(len(requests), list(arms).index(self.arms[0]), dtype=np.int64)

    @property
    def looks_at_load(self) -> bool:
        """It does."""
        return True


@dataclass(frozen=True)
class Overflow(_ByLoad):
    """The first arm whose deployment has fewer than ``waiting`` sequences in its queues; the last arm takes what is left.

    >>> Overflow(arms=["own-gpu", "api"], waiting=8).arm_names()
    ('own-gpu', 'api')
    """

    arms: Sequence[str]
    waiting: int

    def __post_init__(self) -> None:
        _several_arms("Overflow", self.arms)
        if (
            isinstance(self.waiting, bool)
            or not isinstance(self.waiting, int)
            or not 1 <= self.waiting <= MOST_REQUESTS
        ):
            raise InputError("Overflow", "waiting", self.waiting, f"a whole number from 1 to {MOST_REQUESTS:,}")

    def live_rule(self, requests: Requests, arms: Sequence[str]) -> LiveRule:
        """The rule of this name."""
        return LiveRule("overflow", _in_order(self.arms, requests, arms), self.waiting)


@dataclass(frozen=True)
class LeastLoaded(_ByLoad):
    """The arm whose deployment has the least in progress and waiting, as a share of what it can have in progress.

    Where shares are alike, as between endpoints without a limit, of which each is at 0, the one with the fewest; then the first.

    >>> LeastLoaded(arms=["east", "west"]).arm_names()
    ('east', 'west')
    """

    arms: Sequence[str]

    def __post_init__(self) -> None:
        _several_arms("LeastLoaded", self.arms)

    def live_rule(self, requests: Requests, arms: Sequence[str]) -> LiveRule:
        """The rule of this name."""
        return LiveRule("least_loaded", _in_order(self.arms, requests, arms))


def _several_arms(policy: str, arms: object) -> None:
    if not isinstance(arms, (list, tuple)) or len(arms) < 2 or not all(isinstance(arm, str) for arm in arms):
        raise InputError(policy, "arms", arms, "a list of at least two arms")


def _in_order(named: Sequence[str], requests: Requests, arms: Sequence[str]) -> I64:
    """(n, choices) the arms named, the same for every request."""
    order = np.array([list(arms).index(name) for name in named], dtype=np.int64)
    return np.broadcast_to(order, (len(requests), len(order)))
