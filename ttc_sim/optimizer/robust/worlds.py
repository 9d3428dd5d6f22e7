"""Worlds, looked up: each a task of its own, with the same arms, pools and targets as the scenario as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from ttc_sim.base.draws import F64, I64
from ttc_sim.base.errors import InputError
from ttc_sim.optimizer.robust.reading import AskedWorld, Said, worlds_asked_for
from ttc_sim.optimizer.space import expand_arms, expanded_model
from ttc_sim.optimizer.task import PlanningTask
from ttc_sim.optimizer.traffic_alone import as_population
from ttc_sim.optimizer.whatif.paths import Base
from ttc_sim.optimizer.whatif.preparing import Prepared, prepare, said_of
from ttc_sim.optimizer.whatif.saying import READY
from ttc_sim.scenario import GpuPool, Scenario, Targets
from ttc_sim.simulation.drawing import Draws
from ttc_sim.simulation.expectations import expect_arms
from ttc_sim.simulation.model import Model
from ttc_sim.workload import Traffic
from ttc_sim.workload.population import Population

_DECIDED = ("policy", "responses", "search", "targets", "seed", "replications", "name", "description")
_ONE_DECISION = (
    "no such change: a plan is one decision, of policy, caps and replicas, that is held to the same targets in every world, on "
    "as many requests"
)


@dataclass(frozen=True)
class WorldTask(PlanningTask):
    """What is to be planned, in one world.

    Attributes:
        changed: what the world makes of what arrives, one after another.
    """

    changed: tuple[Callable[[Draws], Draws], ...] = field(default=(), compare=False, repr=False)

    def drawn(self, model: Model, run: int, purpose: str) -> Draws:
        """All that is random about a run, as the world has it."""
        drawn = super().drawn(model, run, purpose)
        for change in self.changed:
            drawn = change(drawn)
        return drawn


@dataclass(frozen=True)
class PlannedWorld:
    """One world.

    Attributes:
        asked: as it was asked for; shown: what it changes, by path, in effect.
        task: what is to be planned there.
        at: (P,) row of the world's population that each problem of the scenario as it is corresponds to; share: (P,) by how much
            more of the requests it stands for there.
        routed_alike: whether a policy sends each problem where it sends it in the scenario as it is.
    """

    asked: AskedWorld
    shown: Mapping[str, object]
    notes: tuple[str, ...]
    task: PlanningTask
    at: I64
    share: F64
    routed_alike: bool

    @property
    def name(self) -> str:
        """Of the world."""
        return self.asked.name

    @property
    def weight(self) -> float:
        """That it counts for."""
        return self.asked.weight

    @cached_property
    def correct(self) -> F64:
        """(V, P) chance of a right answer, for the problems of the scenario as it is."""
        return self.task.expectations.correct[:, self.at]

    @cached_property
    def api_cost_usd(self) -> F64:
        """(V, P) bill of API calls."""
        return self.task.expectations.api_cost_usd[:, self.at]

    @cached_property
    def load(self) -> F64:
        """(V, P) replica seconds a second, if all requests were such."""
        return self.task.expectations.gpu_s[:, self.at] * self.task.rate_per_s


def looked_up(
    said: Said, model: Model, targets: Targets, base_task: PlanningTask
) -> tuple[list[PlannedWorld], list[str]]:
    """Every world that was asked for, the scenario as it is first, and what a reader must know of those that were left out.

    Args:
        model: of the scenario as it is, before arms are expanded by their caps; base_task: made from it.

    Raises:
        InputError: a path that leads nowhere, a world that makes the scenario invalid, or one that changes what a plan decides.
    """
    scenario = model.scenario.model_copy(update={"policy": None, "responses": None})
    base = Base(model, scenario)
    asked, left_out = worlds_asked_for(said, base)
    worlds = []
    for one in asked:
        try:
            worlds.append(_looked_up(one, base, model, targets, base_task))
        except InputError as error:
            if said.robust is not None:
                raise
            left_out.append(f"world {one.name} was left out: {error}")
    return worlds, left_out


def _looked_up(asked: AskedWorld, base: Base, model: Model, targets: Targets, base_task: PlanningTask) -> PlannedWorld:
    population = base_task.population
    if asked.variation is None:
        everyone = np.arange(len(population))
        return PlannedWorld(asked, {}, (), base_task, everyone, np.ones(len(population)), True)
    for path, (value, where) in asked.variation.changes.items():
        if path.split(".")[0] in _DECIDED or path == "workload.requests" or path.startswith(f"{READY}cap"):
            raise InputError(where, path, value, _ONE_DECISION)
    prepared = prepare(asked.variation, base, replan=False)
    with said_of(asked.variation):
        _check_decisions(asked, base.scenario, prepared)
        world = prepared.model(model)
        changed = tuple(effect.draws for effect in prepared.effects if effect.draws is not None)
        whole = expanded_model(world)
        if base_task.traffic_alone:
            whole = _with_lengths(as_population(whole), changed)
        plain = WorldTask.of(expect_arms(whole), targets)
        task = replace(plain, changed=changed)
        _check_scores(asked, population, task.population)
    if (task.expectations.offered != base_task.expectations.offered).any():
        where = asked.variation.where("arms")
        raise InputError(where, "arms", asked.name, "the same arms for every source as in the scenario as it is")
    at, share = _matched(population, task.population)
    notes = [note for effect in prepared.effects for note in effect.notes]
    shown = {change.path: change.now for change in prepared.changes}
    return PlannedWorld(asked, shown, tuple(notes), task, at, share, _scored_alike(population, task.population, at))


def _check_decisions(asked: AskedWorld, base: Scenario, prepared: Prepared) -> None:
    """Refuse a world that has other arms, caps or pools to decide on."""
    assert asked.variation is not None
    world = prepared.scenario

    def wrong(path: str, value: object, expected: str) -> InputError:
        assert asked.variation is not None
        return InputError(asked.variation.where(path), path, value, expected)

    for key in ("arms", "deployments"):
        if list(getattr(base, key)) != list(getattr(world, key)):
            raise wrong(
                key, list(getattr(world, key)), f"the {key} of the scenario: a plan is one decision for all worlds"
            )
    for name, pool in base.deployments.items():
        other = world.deployments[name]
        if isinstance(pool, GpuPool) != isinstance(other, GpuPool):
            raise wrong(f"deployments.{name}.kind", other.kind, f"{pool.kind}, as in the scenario: {_ONE_DECISION}")
        if isinstance(pool, GpuPool) and isinstance(other, GpuPool) and pool.replicas != other.replicas:
            raise wrong(f"deployments.{name}.replicas", other.replicas, _ONE_DECISION)
    if list(expand_arms(base).arms) != list(expand_arms(world).arms):
        raise wrong("arms", list(world.arms), _ONE_DECISION)
    for name in base.arms:
        cap, other_cap = (one.parsed_strategy(name).attempt_cap for one in (base, world))
        if cap != other_cap:
            raise wrong(f"arms.{name}.strategy", world.arms[name].strategy, _ONE_DECISION)
    if list(base.workload.sources) != list(world.workload.sources):
        raise wrong(
            "workload.sources",
            list(world.workload.sources),
            "the sources of the scenario, for which a plan has policies",
        )


def _check_scores(asked: AskedWorld, base: Population, world: Population) -> None:
    assert asked.variation is not None
    missing = [name for name in base.scores if name not in world.scores]
    if missing:
        expected = f"problems with all the scores that a plan may route by: {', '.join(missing)} not there"
        raise InputError(asked.variation.where("predictor"), "world", asked.name, expected)


def _with_lengths(model: Model, changed: Sequence[Callable[[Draws], Draws]]) -> Model:
    """Traffic's own population with the lengths that the world gives its requests."""
    if not changed:
        return model
    assert model.population is not None
    ((name, attempts),) = model.population.attempts.items()
    traffic = replace(
        Traffic.of(np.zeros(len(attempts.prompt_tokens)), 1.0),
        prompt_tokens=attempts.prompt_tokens,
        reasoning_tokens=attempts.reasoning_tokens,
        visible_tokens=attempts.visible_tokens,
    )
    drawn = Draws(seed=0, run=0, purpose="rows", traffic=traffic, row=None)
    for change in changed:
        drawn = change(drawn)
    hidden, visible = drawn.traffic.reasoning_tokens, drawn.traffic.visible_tokens
    assert hidden is not None
    assert visible is not None
    longer = replace(attempts, reasoning_tokens=hidden, visible_tokens=visible)
    population = replace(model.population, attempts={name: longer})
    arms = tuple(replace(arm, attempts=longer) for arm in model.arms)
    return replace(model, population=population, arms=arms)


def _matched(base: Population, world: Population) -> tuple[I64, F64]:
    """Of each problem the same one in the world or, of others, one as far along among those of its source; and how many more
    requests are such."""
    at = np.zeros(len(base), dtype=np.int64)
    share = np.ones(len(base))
    for s in range(len(base.sources)):
        mine, its = np.flatnonzero(base.source == s), np.flatnonzero(world.source == s)
        row = {problem: k for k, problem in zip(its.tolist(), world.problem[its].tolist(), strict=True)}
        names = base.problem[mine].tolist()
        if len(row) == len(its) == len(mine) and all(name in row for name in names):
            at[mine] = [row[name] for name in names]
        else:
            place = np.empty(len(mine))
            place[np.argsort(base.prompt_tokens[mine], kind="stable")] = (np.arange(len(mine)) + 0.5) / len(mine)
            ordered = its[np.argsort(world.prompt_tokens[its], kind="stable")]
            at[mine] = ordered[np.minimum((place * len(its)).astype(np.int64), len(its) - 1)]
        share[mine] = world.share[s] / base.share[s] if base.share[s] > 0 else 1.0
    return at, share


def _scored_alike(base: Population, world: Population, at: I64) -> bool:
    return all(np.array_equal(values, world.scores[name][at]) for name, values in base.scores.items())


__all__ = ["PlannedWorld", "WorldTask", "looked_up"]
