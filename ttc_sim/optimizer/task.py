"""What a search is about, fixed before it starts, and what it believes of times."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.draws import F64
from ttc_sim.base.errors import InputError
from ttc_sim.optimizer.novelty import Novelty, novelty_of
from ttc_sim.optimizer.proposing.budgets import budget_targets, busiest_day
from ttc_sim.optimizer.proposing.objectives import Slowness, bad_share, broken_by_arm, slowness_of
from ttc_sim.optimizer.proposing.proposal import Limits, Proposal, Proposer, Question, most_usd_per_request
from ttc_sim.optimizer.space import load_model_like
from ttc_sim.policies import PerSource, Policy
from ttc_sim.scenario import Api, ClosedLoop, GpuPool, Scenario, Targets, has_fixed_cost
from ttc_sim.simulation.billing import Run
from ttc_sim.simulation.drawing import Draws, draw
from ttc_sim.simulation.expectations import Expectations
from ttc_sim.simulation.expected_times import Waiting, arms_on, first_guess
from ttc_sim.simulation.model import Model, load_model
from ttc_sim.simulation.paid_time import seconds_of_arrivals
from ttc_sim.simulation.summary import Summary
from ttc_sim.workload.population import Population

T = TypeVar("T")
"""Called with a line about each step."""
Simulator = Callable[..., tuple[Any, Any]]
"""As :func:`ttc_sim.optimizer.looking.simulate_proposal`."""

_LEAST_SERVED = 20  # answers of a pool below which its times say nothing
_REMEMBERED = 4  # tables of what arms break, at pools' times that come again
_TYPICAL = 0.75  # quantile of the times seen: rather too slow than too fast


@dataclass(frozen=True)
class Timing:
    """How long arms are believed to take, by what the GPU pools last gave in simulation.

    Attributes:
        expectations: of the arms; targets: that say what is late.
        waiting: per GPU pool, the times that a request meets there.
        seen: per GPU pool and number of replicas, the times last seen: what one replica gives says nothing of four.
    """

    expectations: Expectations
    targets: Targets
    waiting: Mapping[str, Waiting]
    seen: Mapping[tuple[str, int], Waiting] = field(default_factory=dict)
    known: dict[tuple[str, object], object] = field(default_factory=dict, compare=False, repr=False)

    def slowness(self, targets: Targets) -> Slowness | None:
        """How often each arm takes how long, where a percentile is made least."""
        key = targets.objective
        if not targets.fastest:
            return None

        def work_out() -> Slowness:
            before = next((one for (what, _), one in self.known.items() if what == key), None)
            assert before is None or isinstance(before, Slowness)
            return slowness_of(self.expectations, key, self.waiting, before)

        return self._remembered(key, work_out)

    def bad(self, targets: Targets) -> F64 | None:
        """(V, P) chances to be outside the service-level objectives, where goodput is made most."""
        if targets.maximize != "goodput":
            return None
        slos = repr([targets.slo_of(name) for name in self.expectations.population.sources])
        return self._remembered(slos, lambda: bad_share(self.expectations, targets, self.waiting))

    def _remembered(self, what: str, work_out: Callable[[], T]) -> T:
        """What depends on the pools' times; of the last few times alone, as it is large."""
        key = (what, tuple(sorted(self.waiting.items(), key=lambda item: item[0])))
        if key not in self.known:
            for oldest in list(self.known)[: -_REMEMBERED + 1]:
                del self.known[oldest]
            self.known[key] = work_out()
        return self.known[key]  # type: ignore[return-value]

    @cached_property
    def late(self) -> F64:
        """(objectives + 1, V, P) what is broken of each, such as the chance of being later than a limit, timeouts last."""
        return broken_by_arm(self.expectations, self.targets, self.waiting)

    def after(self, seen: Mapping[tuple[str, int], Waiting]) -> Timing:
        """The same with the times that pools gave at these numbers of replicas."""
        waiting = {**self.waiting, **{name: times for (name, _), times in seen.items()}}
        return self._with(waiting, {**self.seen, **seen})

    def at(self, replicas: Mapping[str, int]) -> Timing:
        """What is believed of times at these numbers of replicas: as last seen with as many, else as before any simulation.

        Of pools that are not named it is what it was.
        """
        guess = first_guess(self.expectations.model)
        known = {name: self.seen.get((name, count), guess[name]) for name, count in replicas.items() if name in guess}
        return self._with({**self.waiting, **known}, self.seen)

    def slower(self, times: float) -> Timing:
        """The same with pools so many times as slow."""
        waiting = {
            name: Waiting(times * one.first_token_s, times * one.per_token_s) for name, one in self.waiting.items()
        }
        return self._with(waiting, self.seen)

    def _with(self, waiting: Mapping[str, Waiting], seen: Mapping[tuple[str, int], Waiting]) -> Timing:
        changed = replace(self, waiting=waiting, seen=seen)
        if waiting == self.waiting and "late" in self.__dict__:
            changed.__dict__["late"] = self.late
        elif "late" in self.__dict__:
            # Chances of being late are worked out anew only where the pools' times have changed.
            moved = [name for name, times in waiting.items() if times != self.waiting.get(name)]
            late, only = self.late.copy(), sorted(arms_on(self.expectations.model, moved))
            late[:, only] = broken_by_arm(self.expectations, self.targets, waiting, only)[:, only]
            changed.__dict__["late"] = late
        return changed


def times_seen(model: Model, runs: Sequence[Run]) -> dict[tuple[str, int], Waiting]:
    """Times to first token and per token that each pool gave with its number of replicas in these runs of the model."""
    seen = {}
    for name, pool in model.scenario.deployments.items():
        if not isinstance(pool, GpuPool):
            continue
        of_pool = np.array([model.deployment_names[arm.deployment] == name for arm in model.arms])
        first: list[F64] = []
        rest: list[F64] = []
        for run in runs:
            # Who came from another arm, or asked again, waited elsewhere too.
            alone = run.answered_by == run.arm
            if run.result.spending is not None:
                alone &= run.result.spending.done == 0
            if run.result.attempts is not None:
                alone &= (run.result.attempts.error_retries == 0) & (run.result.attempts.timeout_retries == 0)
            served = of_pool[run.arm] & alone & ~np.isnan(run.result.first_token_s) & (run.result.status == 0)
            ttft = run.result.first_token_s - run.result.arrival_s
            tokens = (run.reasoning_tokens + run.visible_tokens).astype(np.float64)
            first.append(ttft[served])
            rest.append((run.latency_s - ttft)[served] / np.maximum(tokens[served] - 1, 1))
        if sum(len(part) for part in first) >= _LEAST_SERVED:
            seen[name, pool.planned_replicas] = Waiting(
                float(np.quantile(np.concatenate(first), _TYPICAL)),
                float(np.quantile(np.concatenate(rest), _TYPICAL)),
            )
    return seen


@dataclass(frozen=True)
class CarriedOut:
    """What one choice of arms came to on some replicas.

    Attributes:
        summary: its figures; times: that the pools gave, by pool and number of replicas.
    """

    summary: Summary
    times: Mapping[tuple[str, int], Waiting]


@dataclass(frozen=True)
class PlanningTask:
    """What is to be planned.

    Attributes:
        expectations: every arm of the search space, a cap each, on every problem.
        targets: of the scenario.
        rate_per_s: mean rate of the requests that are simulated, by which pools and fees are priced: of the first hours of a day
            that of those hours.
        novelty: share of the traffic that the predictor has seen nothing like; ``None`` where that is not scored.
        busiest: requests of the busiest day of a hard budget, as a multiple of those at the mean rate.
        carried_out: what was simulated so far, so that the same choice on the same replicas is not simulated twice.
        simulator: how proposals are simulated where there are several worlds to hold in (:mod:`ttc_sim.optimizer.robust`).
    """

    expectations: Expectations
    targets: Targets
    rate_per_s: float
    novelty: Novelty | None
    busiest: float = 1.0
    carried_out: dict[object, CarriedOut] = field(default_factory=dict, compare=False, repr=False)
    simulator: Simulator | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, expectations: Expectations, targets: Targets) -> Self:
        """The targets to be met with these arms.

        Raises:
            InputError: GPU pools are to be sized, fixed fees weighed, or a day's cost limited, and the arrivals have no rate of
                their own.
        """
        model = expectations.model
        workload = model.scenario.workload
        process = next(
            (one for one in workload.streams if isinstance(one.arrivals.begins, ClosedLoop)), workload.streams[0]
        )
        traffic = draw(model, 0, purpose="search").traffic
        rate_per_s = traffic.rate_per_s
        if math.isnan(rate_per_s) and workload.is_replay:
            rate_per_s = float(len(traffic.arrival_s))  # all at one instant: pools are priced as if within a second
        fixed = any(has_fixed_cost(item) for item in model.deployments)
        if not math.isfinite(rate_per_s) and fixed:
            pools = any(isinstance(item, GpuPool) for item in model.deployments)
            what = "size GPU pools" if pools else "weigh fixed fees"
            expected = (
                f"arrivals with a rate of their own, to {what} by: that of a closed loop follows from its answers"
            )
            raise InputError(model.scenario.path, f"{process.field}.process", process.arrivals.process, expected)
        daily = next((one for one in targets.asked() if one.key == "cost_usd_per_day"), None)
        if not math.isfinite(rate_per_s) and daily is not None:
            expected = "arrivals with a rate of their own, to plan a day's cost by; cost_usd_per_request needs none"
            raise InputError(model.scenario.path, f"targets.{daily.name}", daily.bound, expected)
        # Of a duration the rate is the mean over it, and how many come in a run is chance.
        seconds = seconds_of_arrivals(workload, traffic) if traffic.lasts_s is None else 0.0
        if any(isinstance(pool, GpuPool) for pool in model.deployments) and seconds > 0:
            rate_per_s = len(traffic.arrival_s) / seconds
        busiest = busiest_day(model.scenario, traffic.arrival_s, rate_per_s)
        return cls(expectations, targets, rate_per_s, novelty_of(expectations.population), busiest)

    @property
    def model(self) -> Model:
        """The scenario looked up, with an arm for every cap."""
        return self.expectations.model

    @property
    def population(self) -> Population:
        """The problems."""
        return self.expectations.population

    @property
    def traffic_alone(self) -> bool:
        """Whether no problems stand behind the requests: the population is the traffic's own (:mod:`.traffic_alone`)."""
        return not self.model.scenario.workload.has_problems

    @property
    def of_sessions(self) -> bool:
        """Whether those requests are turns of sessions, so that what one costs depends on where those before it were sent."""
        return self.traffic_alone and self.population.turns is not None

    def load(self, scenario: Scenario) -> Model:
        """Another scenario on the same traffic, to be simulated."""
        return load_model(scenario) if self.traffic_alone else load_model_like(self.model, scenario)

    def for_all(self, policy: Policy) -> Policy:
        """A proposal's policy as it is carried out: of traffic alone the one that is for all sources, if it names any."""
        alone = self.traffic_alone and self.model.scenario.workload.sources and isinstance(policy, PerSource)
        return policy.for_source(self.population.sources[0]) if alone else policy

    def written(self, proposal: Proposal) -> dict[str, str] | str:
        """A proposal's policy as a scenario says it: by source or, of traffic alone, for all."""
        said = proposal.notation
        return next(iter(said.values())) if self.traffic_alone else said

    def drawn(self, model: Model, run: int, purpose: str) -> Draws:
        """All that is random about a run of one of its models."""
        return draw(model, run, purpose=purpose)

    def asking(self, proposer: Proposer) -> Proposer:
        """The proposer as this task's questions are to be put to it."""
        return proposer

    def limits(self) -> Limits:
        """The targets as they stand, before anything was simulated."""
        return self.limits_of(self.targets)

    def limits_of(self, targets: Targets) -> Limits:
        """The same of other targets; hard budgets are no targets, but a day's expected bill keeps within them."""
        scenario = self.model.scenario
        budgets = budget_targets(scenario, self.busiest)
        found = Limits.of(targets, scenario.search.utilization, self.rate_per_s, budgets)
        if math.isfinite(self.rate_per_s):
            return found
        # Nothing is known of a day's bill before simulation.
        return replace(found, late={**found.late, **dict.fromkeys((one.name for one in budgets), math.inf)})

    @property
    def most_usd_per_request(self) -> float | None:
        """What a request may cost at most; ``None`` if that is not limited."""
        return most_usd_per_request(self.targets, self.rate_per_s)

    def timing(self) -> Timing:
        """What is believed of times before anything was simulated."""
        return Timing(self.expectations, self.targets, first_guess(self.model))

    def question(
        self,
        limits: Limits,
        timing: Timing,
        *,
        weight: F64 | None = None,
        targets: Targets | None = None,
        replicas: Mapping[str, int] | None = None,
    ) -> Question:
        """What to ask a proposer.

        Args:
            weight: (P,) of each problem, instead of the population's own; targets: instead of the task's own.
            replicas: per GPU pool, if it is decided already how many, and 1 per endpoint with a fixed fee; those that are not named
                are closed.
        """
        asked = self.targets if targets is None else targets
        return Question(
            expectations=self.expectations if replicas is None else without_pools(self.expectations, set(replicas)),
            targets=asked,
            limits=limits,
            late=timing.late,
            weight=self.population.weight if weight is None else weight,
            rate_per_s=self.rate_per_s,
            replicas=None if replicas is None else {name: (count,) for name, count in replicas.items()},
            slowness=timing.slowness(asked),
            bad=timing.bad(asked),
        )

    def pools_usd_per_request(self, replicas: Mapping[str, int]) -> float:
        """Bill of these replicas, and of endpoints' fixed fees, US dollars per request."""
        hourly = 0.0
        for name, count in replicas.items():
            hourly += count * self.model.scenario.deployments[name].hourly_usd
        return hourly / 3600 / self.rate_per_s if hourly else 0.0  # the rate of users who wait for answers is not known


def without_pools(expectations: Expectations, kept: set[str]) -> Expectations:
    """The same with no arm offered on a GPU pool, or an endpoint with a fixed fee, other than those kept."""
    return without_arms(expectations, shut_without(expectations.model, kept))


def shut_without(model: Model, kept: Collection[str]) -> NDArray[np.bool_]:
    """(V,) arms on a GPU pool, or an endpoint with a fixed fee, other than those kept."""
    closed = {
        d
        for d, (name, item) in enumerate(zip(model.deployment_names, model.deployments, strict=True))
        if has_fixed_cost(item) and name not in kept
    }
    return np.array([arm.deployment in closed for arm in model.arms])


def without_arms(expectations: Expectations, shut: NDArray[np.bool_]) -> Expectations:
    """The same with some of the ``V`` arms offered to nobody."""
    if not shut.any():
        return expectations

    def hidden(table: F64) -> F64:
        return np.where(shut[:, None], np.nan, table)

    return replace(
        expectations,
        correct=hidden(expectations.correct),
        prompt=hidden(expectations.prompt),
        reasoning=hidden(expectations.reasoning),
        visible=hidden(expectations.visible),
        api_cost_usd=hidden(expectations.api_cost_usd),
        gpu_s=hidden(expectations.gpu_s),
        offered=expectations.offered & ~shut[:, None],
    )


def proposed_without(model: Model) -> list[str]:
    """What a search looks for policies without: only their simulation knows of it."""
    scenario = model.scenario
    said = []
    if any(isinstance(item, Api) and item.errors is not None for item in scenario.deployments.values()):
        said.append("errors, outages and slow periods")
    if any(item.retry is not None and "timeout" in item.retry.reasons for item in model.deployments):
        said.append("retries after timeouts")
    if any(arm.fallbacks for arm in scenario.arms.values()):
        said.append("fallbacks")
    within = []
    if scenario.budget is not None:
        within.append(
            "policies were proposed so that API calls keep within the hard budget in expectation, on the busiest day; what becomes "
            "of requests at its end was left to simulation"
        )
    if not said:
        return within
    listed = f"{', '.join(said[:-1])} and {said[-1]}" if len(said) > 1 else said[0]
    return [
        *within,
        f"policies were proposed as if there were no {listed}, and chosen by simulations that have them, as all figures do",
    ]
