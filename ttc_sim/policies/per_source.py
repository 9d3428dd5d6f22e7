"""A policy for each source of requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ttc_sim.base.draws import I64
from ttc_sim.base.errors import InputError, nearest
from ttc_sim.policies.policy import Policy, choose_arms
from ttc_sim.policies.requests import Requests


@dataclass(frozen=True)
class PerSource(Policy):
    """A policy of its own for each source of requests."""

    policies: Mapping[str, Policy]

    def __post_init__(self) -> None:
        if not isinstance(self.policies, Mapping):
            raise InputError("PerSource", "policies", self.policies, "a policy for each source, by its name")
        for source, policy in self.policies.items():
            if not isinstance(policy, Policy) or isinstance(policy, PerSource):
                raise InputError("PerSource", f"policies.{source}", policy, "a policy such as Always('small')")

    def arm_names(self) -> tuple[str, ...]:
        """Arms of all sources."""
        return tuple(dict.fromkeys(name for policy in self.policies.values() for name in policy.arm_names()))

    def choose(self, requests: Requests, arms: Sequence[str]) -> I64:
        """Index of the arm of each request, by the policy of its source."""
        chosen = np.zeros(len(requests), dtype=np.int64)
        made: list[tuple[Policy, I64]] = []  # sources often share a policy, which then need not choose again
        for index, source in enumerate(requests.sources):
            here = requests.source == index
            if here.any():
                policy = self.policies[source]
                choice = next((choice for other, choice in made if other == policy), None)
                if choice is None:
                    choice = choose_arms(policy, requests, arms)
                    made.append((policy, choice))
                chosen[here] = choice[here]
        return chosen

    @property
    def uses_responses(self) -> bool:
        """Whether that of any source does."""
        return any(policy.uses_responses for policy in self.policies.values())

    def for_source(self, source: str) -> Policy:
        """The policy of that source."""
        return self.policies[source]


def check_sources(policies: Mapping[str, object], sources: Mapping[str, object], where: str | Path) -> None:
    """Policies by source must be of the sources that there are, and of all of them.

    Raises:
        InputError: another source, or one without a policy.
    """
    for source in policies:
        if source not in sources:
            raise InputError(where, "policy", source, nearest(str(source), sources))
    for source in sources:
        if source not in policies:
            raise InputError(where, f"policy.{source}", "nothing", "a policy for every source")
