"""What a simulation gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl

from ttc_sim.base.display import Displayed
from ttc_sim.base.draws import F64
from ttc_sim.base.errors import InputError
from ttc_sim.policies import Policy
from ttc_sim.scenario import Scenario
from ttc_sim.simulation.billing import Run
from ttc_sim.simulation.drawing import draw
from ttc_sim.simulation.expectations import expect_arms
from ttc_sim.simulation.model import Model, load_model
from ttc_sim.simulation.response_fit import with_responses
from ttc_sim.simulation.running import run_once
from ttc_sim.simulation.summary import Summary, summarize


@dataclass(frozen=True)
class Result(Displayed):
    """Runs of one policy.

    Attributes:
        model: what was run; policy: the policy; runs: independent runs of it.
    """

    model: Model
    policy: Policy
    runs: tuple[Run, ...]

    @cached_property
    def records(self) -> pl.DataFrame:
        """One row per request of every run: times in seconds, tokens, US dollars, status."""
        return pl.concat([run.table(self.model) for run in self.runs])

    def summary(self) -> Summary:
        """Figures with 95% intervals."""
        return summarize(self.model, self.runs, expected=self._expected())

    def _expected(self) -> dict[str, F64] | None:
        """Expectations over all problems, where the policy sends a problem to the same arm whenever it comes."""
        population = self.model.population
        if population is None or not self.policy.looks_at_problem_alone:
            return None
        arm = self.policy.choose(population.as_requests(), self.model.arm_names)
        if any(run.row is None or (run.arm != arm[run.row]).any() for run in self.runs):
            return None
        return expect_arms(self.model).under(arm)


def simulate(
    scenario: Scenario,
    policy: Policy | None = None,
    *,
    replications: int | None = None,
    requests: int | None = None,
    progress: Callable[[str], Any] = lambda _: None,
) -> Result:
    """Run a policy on the scenario's workload.

    Args:
        scenario: what to simulate.
        policy: instead of the scenario's own.
        replications: independent runs, instead of the scenario's own number; requests: of each run, likewise.

    Raises:
        InputError: neither the scenario nor the call names a policy, or the policy names an arm that is not there.

    >>> result = simulate(load_scenario("reasoning-gateway"), Always("maverick"))  # doctest: +SKIP
    >>> result.summary().accuracy  # doctest: +SKIP
    """
    chosen = policy if policy is not None else scenario.parsed_policy()
    if chosen is None:
        raise InputError(
            scenario.path, "policy", None, "a policy such as Always('small'), or `ttc-sim optimize` to find one"
        )
    model = with_responses(load_model(scenario), chosen)
    for name in chosen.arm_names():
        if name not in model.arm_names:
            raise InputError(scenario.path, "policy", name, "one of the arms " + ", ".join(model.arm_names))
    runs = []
    for k in range(replications or scenario.replications):
        progress(f"run {k + 1} of {replications or scenario.replications}")
        runs.append(run_once(model, chosen, draw(model, k, requests=requests)))
    return Result(model=model, policy=chosen, runs=tuple(runs))
