"""The instances that sessions are at, with how every agent's measured runs at them ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ttc_sim.base.draws import F64, I64
from ttc_sim.base.errors import InputError
from ttc_sim.measured.agents import AgentProfile, load_agent_profile
from ttc_sim.scenario import Scenario


@dataclass(frozen=True, eq=False)
class Runs:
    """An agent profile's runs at ``I`` instances, instance by instance.

    Attributes:
        name: of the profile.
        start: (I + 1,) runs at instance ``i`` are ``start[i]:start[i + 1]``, at least one.
        correct: (runs,) whether it ended with a right answer; usd: (runs,) what it cost where it was measured, NaN where that is
            unknown.
    """

    name: str
    start: I64
    correct: NDArray[np.bool_]
    usd: F64

    @cached_property
    def count(self) -> I64:
        """(I,) runs at each instance."""
        return np.diff(self.start)

    def picked(self, instance: I64, u: F64) -> I64:
        """(m,) a run at each of some instances, by uniform numbers from 0 to 1."""
        count = self.count[instance]
        return np.asarray(self.start[instance] + np.minimum((u * count).astype(np.int64), count - 1))


@dataclass(frozen=True, eq=False)
class Instances:
    """``I`` instances that all agents were run at; a session is at one of them, drawn uniformly.

    Attributes:
        instance: (I,) keys.
        cluster: (I,) what is resampled together for intervals: the instance or, where a profile's card says so, its group.
        runs: by agent profile.
        notes: what a reader of any figure must know.
    """

    instance: NDArray[np.str_]
    cluster: I64
    runs: Mapping[str, Runs]
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.instance)


def load_instances(scenario: Scenario) -> Instances:
    """Put the runs of the arms' agents side by side, on the instances that all were run at.

    Raises:
        InputError: no such agent profile, or no instance that all were run at.
    """
    named = {name: str(arm.profile) for name, arm in scenario.arms.items() if arm.profile is not None}
    profiles = {name: load_agent_profile(name, scenario.folder) for name in dict.fromkeys(named.values())}
    known = [set(one.runs["instance"].to_list()) for one in profiles.values()]
    shared = pl.Series("instance", sorted(set.intersection(*known)), dtype=pl.String)
    if shared.is_empty():
        arm = next(iter(named))
        others = " and ".join(profiles)
        raise InputError(
            scenario.path, f"arms.{arm}.profile", named[arm], f"instances that all of {others} were run at"
        )
    notes = []
    if (total := len(set.union(*known))) > len(shared):
        notes.append(f"{total - len(shared):,} of {total:,} instances left out: not every agent was run at them")
    by_group = any(one.card.cluster == "group" for one in profiles.values())
    key = _groups(scenario, profiles, shared) if by_group else np.asarray(shared.to_numpy(), dtype=np.str_)
    return Instances(
        instance=np.asarray(shared.to_numpy(), dtype=np.str_),
        cluster=np.unique(key, return_inverse=True)[1].astype(np.int64),
        runs={name: _runs(one, shared) for name, one in profiles.items()},
        notes=tuple(notes),
    )


def _runs(profile: AgentProfile, shared: pl.Series) -> Runs:
    table = profile.runs.filter(pl.col("instance").is_in(shared.implode()))
    table = table.sort("instance", "run")
    sizes = table.group_by("instance").len().sort("instance")["len"].to_numpy()
    return Runs(
        name=profile.name,
        start=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        correct=table["correct"].to_numpy().astype(np.bool_),
        usd=table["usd"].cast(pl.Float64).fill_null(float("nan")).to_numpy(),
    )


def _groups(scenario: Scenario, profiles: Mapping[str, AgentProfile], shared: pl.Series) -> NDArray[np.str_]:
    """The group of each instance: of the first profile that has one, and the same in all that have."""
    rows = pl.concat([one.runs.select("instance", "group") for one in profiles.values()])
    rows = rows.filter(pl.col("instance").is_in(shared.implode()) & pl.col("group").is_not_null()).unique()
    several = rows.group_by("instance").len().filter(pl.col("len") > 1).sort("instance")
    if len(several):
        where = f"instance {several['instance'][0]}"
        raise InputError(scenario.path, f"arms: {where}", "several groups", "the same group in all agent profiles")
    return np.asarray(rows.sort("instance")["group"].to_numpy(), dtype=np.str_)
