"""What is examined: a plan, and the requests that it was verified on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.draws import I64
from ttc_sim.base.errors import InputError
from ttc_sim.measured.agents import profile_card
from ttc_sim.measured.cards import AgentCard, ProfileCard
from ttc_sim.optimizer.gain import Gain
from ttc_sim.optimizer.health.check import Check
from ttc_sim.optimizer.novelty import Novelty
from ttc_sim.optimizer.promises import TargetCheck
from ttc_sim.optimizer.simpler import Simplest
from ttc_sim.policies import PerSource, Policy
from ttc_sim.scenario import Api, GpuPool
from ttc_sim.simulation.model import Model, ResolvedArm
from ttc_sim.simulation.offering import Offers, offer, offer_all
from ttc_sim.simulation.pooling import Pooled
from ttc_sim.simulation.summary import Summary


@dataclass(frozen=True)
class Subject:
    """A plan, and the requests that it was verified on.

    Attributes:
        pooled: those requests; policy: the plan's; summary: its figures, as it promises them.
        targets: each beside its figure; highest_confidence: with which a plan was found to hold all of them, if that is known.
        novelty: of the traffic; simplest: what it was compared with, if that is known.
        over_bands: what ``Utility`` gains over bands, where both were looked for.
    """

    pooled: Pooled
    policy: Policy
    summary: Summary
    targets: tuple[TargetCheck, ...]
    highest_confidence: float | None
    novelty: Novelty | None
    simplest: Simplest | None
    over_bands: Gain | None = None

    @property
    def model(self) -> Model:
        """With the plan's replicas."""
        return self.pooled.model

    @property
    def met(self) -> bool:
        """Whether all targets hold."""
        return all(check.holds for check in self.targets)

    @property
    def policies(self) -> Mapping[str, Policy]:
        """By source; of one for all, under an empty name."""
        return self.policy.policies if isinstance(self.policy, PerSource) else {"": self.policy}

    @cached_property
    def shares(self) -> dict[str, float]:
        """By arm in use, the share of the requests that are sent to it first."""
        number, count = np.unique(self.pooled.arm.astype(np.int64), return_counts=True)
        return {
            self.model.arms[a].name: int(c) / self.pooled.count for a, c in zip(number.tolist(), count, strict=True)
        }

    @cached_property
    def arms(self) -> dict[str, ResolvedArm]:
        """Arms in use: that requests are sent to, or fall back on."""
        numbers = {int(a) for run in self.pooled.runs for a in np.unique(run.answered_by)}
        names = {*self.shares, *(self.model.arms[a].name for a in numbers)}
        return {arm.name: arm for arm in self.model.arms if arm.name in names}

    @cached_property
    def offers(self) -> list[Offers]:
        """Of each run, what its requests asked for."""
        if self.policy.looks_at_load:
            return [offer_all(self.model, run.draws) for run in self.pooled.runs]
        return [offer(self.model, run.draws, run.arm) for run in self.pooled.runs]

    @cached_property
    def deployments(self) -> dict[str, Api | GpuPool]:
        """Deployments in use, those of verifiers among them."""
        used: set[int] = set()
        for run, offers in zip(self.pooled.runs, self.offers, strict=True):
            for carried, here in zip(offers.carried, offers.taken(run.result), strict=True):
                owner = np.repeat(here, np.diff(carried.work.stage_start))
                used |= set(np.unique(carried.work.deployment[owner]).tolist())
        names = self.model.deployment_names
        return {names[d]: self.model.deployments[d] for d in sorted(used)}

    @cached_property
    def cards(self) -> dict[str, ProfileCard | AgentCard]:
        """By profile of an arm in use, its card, where it can be read."""
        found: dict[str, ProfileCard | AgentCard] = {}
        for name in self.arms:
            profile = self.model.scenario.arms[name].profile
            if profile is not None and profile not in found:
                with suppress(InputError):
                    found[profile] = profile_card(profile, self.model.scenario.folder)
        return found

    @cached_property
    def arm_of_problem(self) -> I64 | None:
        """(P,) arm that each problem is sent to; ``None`` where that follows from live load, or there are none."""
        expected = self.pooled.expected
        return None if expected is None or "arm" not in expected else expected["arm"].astype(np.int64)

    def problems_of(self, arm: str) -> I64:
        """Problems of the population that are sent to an arm."""
        at = self.model.arm_names.index(arm)
        if self.arm_of_problem is not None:
            return np.flatnonzero(self.arm_of_problem == at)
        assert self.pooled.row is not None
        return np.unique(self.pooled.row[self.pooled.arm == at])


Examination = Callable[[Subject], Check]
"""One check."""
Bools = NDArray[np.bool_]


def listed(names: list[str], most: int = 4) -> str:
    """Names in a row, the first few of many."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def some(count: int, what: str) -> str:
    """So many of something.

    >>> some(1, "problem"), some(1200, "problem")
    ('1 problem', '1,200 problems')
    """
    return f"{count:,} {what}{'' if count == 1 else 's'}"
