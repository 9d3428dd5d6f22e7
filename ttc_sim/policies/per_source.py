"""A policy for each source of requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.draws import I64
from ttc_sim.base.errors import InputError, nearest
from ttc_sim.policies.followed import Followed
from ttc_sim.policies.policy import Policy, choose_arms
from ttc_sim.policies.requests import LiveRule, Load, Requests
from ttc_sim.policies.users_own import UserFunction


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
        shared: list[
            tuple[Policy, NDArray[np.bool_]]
        ] = []  # sources often share a policy, which then need not choose again
        for index, source in enumerate(requests.sources):
            policy, here = self.policies[source], requests.source == index
            same = next((mask for other, mask in shared if other == policy), None)
            if same is not None and not isinstance(policy, Followed):
                same |= here
            elif here.any():
                shared.append((policy, here))
        for policy, here in shared:
            chosen[here] = choose_for(policy, requests, arms, here)
        return chosen

    @property
    def looks_at_load(self) -> bool:
        """Whether that of any source does."""
        return any(policy.looks_at_load for policy in self.policies.values())

    @property
    def looks_at_problem_alone(self) -> bool:
        """Whether those of all sources do."""
        return all(policy.looks_at_problem_alone for policy in self.policies.values())

    def choose_one(self, requests: Requests, index: int, arms: Sequence[str], load: Load | None = None) -> int:
        """Index of the arm of one request as it arrives, by the policy of its source."""
        source = requests.sources[int(requests.source[index])]
        return self.policies[source].choose_one(requests, index, arms, load)

    def live_rule(self, requests: Requests, arms: Sequence[str]) -> LiveRule | None:
        """The policies of all sources as one rule, those that do not look at load as a choice among one; ``None`` if it takes more:
        a Python function, or rules of different kinds or limits."""
        rows: list[tuple[NDArray[np.bool_], I64]] = []
        rules: list[LiveRule] = []
        for index in np.unique(requests.source).tolist():
            policy, here = self.policies[requests.sources[index]], requests.source == index
            rule = policy.live_rule(requests, arms) if policy.looks_at_load else None
            if policy.looks_at_load and rule is None:
                return None
            if rule is not None:
                rules.append(rule)
            rows.append((here, choose_for(policy, requests, arms, here)[:, None] if rule is None else rule.arms[here]))
        if not rules or len({(rule.kind, rule.limit) for rule in rules}) > 1:
            return None
        choices = max(arm.shape[1] for _, arm in rows)
        table = np.zeros((len(requests), choices), dtype=np.int64)
        for here, arm in rows:
            # The last one again changes nothing in either kind.
            table[here] = arm[:, np.minimum(np.arange(choices), arm.shape[1] - 1)]
        return LiveRule(rules[0].kind, table, rules[0].limit)

    @property
    def uses_responses(self) -> bool:
        """Whether that of any source does."""
        return any(policy.uses_responses for policy in self.policies.values())

    def get_ready(self) -> None:
        """Those of all sources."""
        for policy in self.policies.values():
            policy.get_ready()

    def for_source(self, source: str) -> Policy:
        """The policy of that source."""
        return self.policies[source]


def choose_for(policy: Policy, requests: Requests, arms: Sequence[str], here: NDArray[np.bool_]) -> I64:
    """Arms of the requests ``here``; a user's function, which may count, is called for those alone, and sessions have no others."""
    if isinstance(policy, UserFunction):
        return np.array([policy.choose_one(requests, i, arms) for i in np.flatnonzero(here).tolist()], dtype=np.int64)
    if isinstance(policy, Followed) and requests.turns is not None:
        return choose_arms(policy, requests.taken(np.flatnonzero(here)), arms)
    return choose_arms(policy, requests, arms)[here]


def check_sources(policies: Mapping[str, object], sources: Mapping[str, object], where: str | Path) -> None:
    """Policies by source must be of the sources that there are, and of all of them.

    Raises:
        InputError: another source, or one without a policy.
    """
    if not sources:
        raise InputError(
            where, "policy", dict(policies), "one policy: the workload has no sources that others could be for"
        )
    for source in policies:
        if source not in sources:
            raise InputError(where, "policy", source, nearest(str(source), sources))
    for source in sources:
        if source not in policies:
            raise InputError(where, f"policy.{source}", "nothing", "a policy for every source")
