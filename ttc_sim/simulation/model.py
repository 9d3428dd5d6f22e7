"""A scenario with everything it names looked up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ttc_sim.base.draws import F64, I64, columns
from ttc_sim.base.errors import InputError, nearest
from ttc_sim.base.plugins import is_shipped
from ttc_sim.engine.contexts import context_of
from ttc_sim.measured.agents import load_agent_profile, turn_ratio
from ttc_sim.policies.costs import ArmCosts
from ttc_sim.scenario import Api, GpuPool, Latency, Scenario, check_degraded
from ttc_sim.serving.arm_costs import arm_costs
from ttc_sim.serving.catalogue import said_base
from ttc_sim.serving.corrections import doubt
from ttc_sim.serving.drafting import note_on_drafts
from ttc_sim.serving.pools import note_on_kv, pool_table, served_by, with_memory
from ttc_sim.serving.prices import TokenPrices, price_of
from ttc_sim.serving.step_time import StepTable
from ttc_sim.strategies import Single, Strategy, UserStrategy, carry_out, is_attempt
from ttc_sim.strategies.outcomes import LIMITED, MODELLED, Attempts, Stage, Trial, modelled_share
from ttc_sim.workload import arrive
from ttc_sim.workload.instances import Instances, Runs, load_instances
from ttc_sim.workload.population import Population, load_population

_BEGINS_IN_VAIN = (
    "workload.begins changes nothing: no price depends on the hour or the day, and no budget on the time of day"
)
_Z95 = 1.6448536269514722  # standard normal 95th percentile


@dataclass(frozen=True)
class ResolvedArm:
    """An arm with everything looked up."""

    name: str
    deployment: int
    strategy: Strategy
    attempts: Attempts | None
    sources: tuple[str, ...]
    runs: Runs | None = None
    """Of its agent at the instances of sessions; ``None`` where nothing is known of these."""
    turn_tokens: float = 1.0
    """How many times as many output tokens it writes in a turn of a session as were recorded."""


@dataclass(frozen=True)
class Model:
    """A scenario with everything it names looked up, ready to be run any number of times.

    Attributes:
        scenario: as the user wrote it, with the KV caches that follow from models and GPUs.
        population: problems and attempts; ``None`` when the lengths come with the traffic.
        arms: in the order of the scenario.
        deployment_names: in the order of the scenario.
        prices: per deployment; ``None`` for GPU pools.
        step_tables: per deployment; ``None`` for API endpoints.
        instances: that sessions are at; ``None`` where no arm has an agent profile.
    """

    scenario: Scenario
    population: Population | None
    arms: tuple[ResolvedArm, ...]
    deployment_names: tuple[str, ...]
    prices: tuple[TokenPrices | None, ...]
    step_tables: tuple[StepTable | None, ...]
    instances: Instances | None = None

    @property
    def deployments(self) -> tuple[Api | GpuPool, ...]:
        """Deployments in the order of their names."""
        return tuple(self.scenario.deployments[name] for name in self.deployment_names)

    @property
    def arm_names(self) -> tuple[str, ...]:
        """Names of the arms, in the order of the scenario."""
        return tuple(arm.name for arm in self.arms)

    @cached_property
    def arm_costs(self) -> dict[str, ArmCosts]:
        """By arm, what its tokens cost and what its cache keeps, for policies that follow sessions."""
        return arm_costs(self.scenario)

    @cached_property
    def turns_vary(self) -> bool:
        """Whether an arm makes turns of sessions longer or shorter than they were recorded."""
        return any(arm.turn_tokens != 1.0 for arm in self.arms)

    def reached_by(self, arm: ResolvedArm) -> frozenset[str]:
        """Deployments that requests to an arm may come to, its fallbacks left aside; a user's own strategy may go anywhere."""
        if not is_shipped(type(arm.strategy)):
            return frozenset(self.deployment_names)
        others = (self.reached_by(self.arms[self.arm_names.index(name)]) for name in arm.strategy.other_arms)
        return frozenset({self.deployment_names[arm.deployment], *arm.strategy.verifiers}).union(*others)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What a reader of any figure must know."""
        modelled = [
            f"arm {arm.name} votes by a model of how wrong answers agree: {arm.attempts.name} has no recorded answers"
            for arm in self.arms
            if arm.attempts is not None and arm.attempts.answer is None and arm.strategy.votes
        ]
        shares = {arm.name: _modelled(self, arm) for arm in self.arms if arm.attempts is not None}
        parts = [f"{share:.0%} of those of arm {name}" for name, share in shares.items() if share > 0]
        further = [MODELLED + ": " + ", ".join(parts)] if parts else []
        stopped: dict[str, float] = {}
        for arm in self.arms:
            if arm.attempts is not None:
                share = max((arm.attempts.stopped_before(cap) for cap in arm.strategy.attempt_caps), default=0.0)
                stopped[arm.attempts.name] = max(share, stopped.get(arm.attempts.name, 0.0))
        parts = [f"{100 * share:.2g}% of those by {name}" for name, share in stopped.items() if share > 0]
        unknown = [LIMITED + ": " + ", ".join(parts)] if parts else []
        pools = [item for item in self.deployments if isinstance(item, GpuPool) and item.step_time is None]
        served = [served_by(item, self.scenario.folder) for item in pools]
        doubtful = [found for one in served if (found := doubt(one.model, one.gpu)) is not None]
        rests = [found for one in served if (found := said_base(one.model)) is not None]
        by_name = [
            (name, item)
            for name, item in zip(self.deployment_names, self.deployments, strict=True)
            if isinstance(item, GpuPool)
        ]
        kept = [note for name, item in by_name if (note := note_on_kv(name, item, self.scenario.folder)) is not None]
        begins = [_BEGINS_IN_VAIN] if self.scenario.workload.begins is not None and not self._by_clock else []
        return (
            *begins,
            *(self.population.notes if self.population is not None else ()),
            *(self.instances.notes if self.instances is not None else ()),
            *(_longer_turns(self.scenario, arm) for arm in self.arms if arm.turn_tokens != 1.0),
            *modelled,
            *further,
            *unknown,
            *dict.fromkeys(rests),
            *dict.fromkeys(doubtful),
            *kept,
            *(note for name, item in by_name if (note := note_on_drafts(name, item)) is not None),
        )

    @property
    def _by_clock(self) -> bool:
        """Whether anything depends on when the run begins."""
        of_run = (
            isinstance(item, Api) and item.price.model is not None and item.price.on is None
            for item in self.deployments
        )
        by_hour = any(one is not None and one.schedule is not None for one in self.prices)
        return by_hour or self.scenario.budget is not None or any(of_run)


def load_model(scenario: Scenario, population: Population | None = None) -> Model:
    """Look up all that the scenario names; ``population`` replaces its own problems (to carry out a plan on others)."""
    if population is None and scenario.workload.has_problems:
        population = load_population(scenario)
    if population is not None and scenario.responses is not None:
        population = replace(population, responses=scenario.responses)
    agents = population is None and any(arm.profile is not None for arm in scenario.arms.values())
    instances = load_instances(scenario) if agents else None
    scenario = with_memory(scenario)
    names = tuple(scenario.deployments)
    prices = tuple(price_of(scenario, name) for name in names)
    arms = tuple(
        ResolvedArm(
            name=name,
            deployment=names.index(arm.deployment),
            strategy=scenario.parsed_strategy(name),
            attempts=population.attempts[str(arm.profile)] if population is not None else None,
            sources=_without_problems(scenario, arm.sources) if population is None else population.offered[name],
            runs=None if instances is None or arm.profile is None else instances.runs[arm.profile],
            turn_tokens=_turn_tokens(scenario, name),
        )
        for name, arm in scenario.arms.items()
    )
    _check_turn_tokens(scenario, {arm.name: arm.turn_tokens for arm in arms})
    _check_budget(scenario, arms)
    for arm in arms:
        if arm.attempts is None:
            _check_without_profile(scenario, arm)
        if arm.attempts is not None and arm.attempts.verifier_score is None and arm.strategy.reads_scores:
            expected = f"a profile with a verifier_score: {arm.attempts.name} has none, they were not recorded"
            raise InputError(scenario.path, f"arms.{arm.name}.strategy", repr(arm.strategy), expected)
        for asked in arm.strategy.verifiers:
            if asked not in names:
                raise InputError(scenario.path, f"arms.{arm.name}.strategy", asked, nearest(asked, names))
    step_tables = tuple(
        pool_table(item, scenario.folder) if isinstance(item, GpuPool) else None
        for item in scenario.deployments.values()
    )
    return Model(scenario, population, arms, names, _on_average(scenario, prices), step_tables, instances)


def _on_average(scenario: Scenario, prices: tuple[TokenPrices | None, ...]) -> tuple[TokenPrices | None, ...]:
    """Prices that change, with the shares of the requests that each is for."""
    if all(one is None or one.schedule is None for one in prices):
        return prices
    arrived = arrive(scenario.workload, scenario.seed, "simulate/0", folder=scenario.folder, where=scenario.path)
    at_s = arrived.traffic.arrival_s
    return tuple(
        one if one is None or one.schedule is None else replace(one, schedule=one.schedule.on_average_at(at_s))
        for one in prices
    )


def _longer_turns(scenario: Scenario, arm: ResolvedArm) -> str:
    """What is said of an arm whose turns are not as long as recorded."""
    given = scenario.arms[arm.name].turn_tokens
    said = f"arm {arm.name} writes {arm.turn_tokens:.3g} times as many output tokens a turn as were recorded"
    return f"{said}, as {scenario.arms[arm.name].profile} does beside {given}" if isinstance(given, str) else said


def _turn_tokens(scenario: Scenario, name: str) -> float:
    """How many times as long an arm's turns are: as it says, or as its agent's runs were beside another's."""
    arm = scenario.arms[name]
    if not isinstance(arm.turn_tokens, str):
        return float(arm.turn_tokens)
    own, than = (load_agent_profile(one, scenario.folder) for one in (str(arm.profile), arm.turn_tokens))
    return turn_ratio(own, than).value


def _check_turn_tokens(scenario: Scenario, times: dict[str, float]) -> None:
    """An arm that requests may come to in the run makes turns as long as the one that they were sent to before it."""
    for name in scenario.arms:
        for other in scenario.path_of(name)[1:]:
            if times[other] != times[name]:
                expected = f"the same as that of {name}, which falls back on it: how long later prompts are is fixed before a run"
                raise InputError(scenario.path, f"arms.{other}.turn_tokens", scenario.arms[other].turn_tokens, expected)
    for to in scenario.budget.arms if scenario.budget is not None else ():
        if any(one != times[to] for one in times.values()):
            expected = "the same for all arms, as a budget degrades to this one: how long later prompts are is fixed before a run"
            raise InputError(scenario.path, f"arms.{to}.turn_tokens", scenario.arms[to].turn_tokens, expected)


def _check_budget(scenario: Scenario, arms: tuple[ResolvedArm, ...]) -> None:
    """What requests are degraded to must have been measured on their source's problems."""
    for source, one in (scenario.budget.of_all if scenario.budget is not None else {}).items():
        field = "budget" if source is None else f"budget.sources.{source}"
        for name in scenario.workload.sources if source is None else [source]:
            if one.to is not None:
                check_degraded(scenario, field, one.to, name, [arm.name for arm in arms if name in arm.sources])


def _without_problems(scenario: Scenario, sources: list[str] | None) -> tuple[str, ...]:
    """Whom an arm is offered to where nothing is measured of anyone's problems."""
    return tuple(scenario.workload.sources) if sources is None else tuple(sources)


def _check_without_profile(scenario: Scenario, arm: ResolvedArm) -> None:
    """Nothing is known of a request there but how long it is."""
    strategy, field = arm.strategy, f"arms.{arm.name}.strategy"
    if not (is_attempt(strategy) and isinstance(strategy, Single)):
        lacks = (
            "without a profile"
            if arm.runs is None
            else "where the profile is an agent's: nothing is known of other attempts"
        )
        raise InputError(scenario.path, field, repr(strategy), f"Single() {lacks}")
    if strategy.cap is not None and strategy.on_cap != "truncate":
        expected = "a cap that truncates: without a profile nothing is known of an answer that is forced"
        raise InputError(scenario.path, field, repr(strategy), expected)


def _modelled(model: Model, arm: ResolvedArm) -> float:
    """Share of the samples drawn by an arm that were never measured, over the problems that it is offered."""
    assert model.population is not None
    if is_attempt(arm.strategy):
        return 0.0
    others = [other.strategy for other in model.arms if other.name in arm.strategy.other_arms]
    if any(isinstance(one, UserStrategy) and not one.is_at_hand for one in (arm.strategy, *others)):
        return 0.0  # nothing was sent there, and a user's file does not run for a note
    offered = [index for index, source in enumerate(model.population.sources) if source in arm.sources]
    rows = np.flatnonzero(np.isin(model.population.source, offered))
    trial = trial_of(model, arm, rows, lambda stream, count: columns(0, f"notes/{stream}", len(rows), count))
    return modelled_share(carry_out(arm.strategy, trial), trial)


def deployment_of(model: Model, arm: ResolvedArm, stage: Stage) -> int:
    """Index of the deployment that a stage of an arm runs on.

    Raises:
        InputError: a user's own strategy named one that is not there.
    """
    for name, known in ((stage.deployment, model.deployment_names), (stage.arm, model.arm_names)):
        if name is not None and name not in known:
            raise InputError(model.scenario.path, f"arms.{arm.name}.strategy", name, nearest(name, known))
    if stage.deployment is not None:
        return model.deployment_names.index(stage.deployment)
    if stage.arm is not None:
        return model.arms[model.arm_names.index(stage.arm)].deployment
    return arm.deployment


def trial_of(model: Model, arm: ResolvedArm, problem: I64, draw: Callable[[str, int], F64]) -> Trial:
    """What an arm's strategy is carried out on: requests on these problems of the population."""
    assert arm.attempts is not None

    def drawn(name: str) -> Callable[[str, int], F64]:
        return lambda stream, count: draw(f"attempts/{name}/{stream}", count)

    others: dict[str, tuple[Strategy, Trial]] = {}
    for name in arm.strategy.other_arms:
        other = model.arms[model.arm_names.index(name)]
        assert other.attempts is not None
        context = context_of(model.deployments[other.deployment])
        others[name] = (other.strategy, Trial(other.attempts, problem, drawn(other.attempts.name), context=context))
    context = context_of(model.deployments[arm.deployment])
    return Trial(arm.attempts, problem, drawn(arm.attempts.name), others, context=context)


def spread(latency: Latency) -> float:
    """Standard deviation of the logarithm of a log-normal time with that median and 95th percentile."""
    return 0.0 if latency.p95_s is None else float(np.log(latency.p95_s / latency.median_s) / _Z95)
