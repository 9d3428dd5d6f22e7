"""A variation, read and checked: the changed scenario, and what changes in what is looked up and drawn."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from ttc_sim.base.errors import InputError
from ttc_sim.optimizer.whatif.found import Change
from ttc_sim.optimizer.whatif.paths import Base, factor_of
from ttc_sim.optimizer.whatif.ready import Effect, ready_made
from ttc_sim.optimizer.whatif.saying import READY, Variation
from ttc_sim.scenario import Scenario, as_plain, with_changes
from ttc_sim.simulation.model import Model, load_model

_NAMES = ("name", "description")
_SAYS_WHENCE = ".latency_from"
_ONLY_TO_PLAN_BY = ("targets.minimize", "targets.maximize", "targets.frontier")


@dataclass(frozen=True)
class Prepared:
    """A variation, ready to be carried out: the changed scenario, and what changes in what is looked up and drawn.

    Attributes:
        base: the scenario that it is a variation of.
    """

    base: Scenario
    scenario: Scenario
    changes: tuple[Change, ...]
    effects: tuple[Effect, ...]

    @property
    def requests(self) -> float:
        """How many times as many requests a run has."""
        return math.prod(one.requests for one in self.effects)

    def model(self, base: Model) -> Model:
        """The changed scenario over the problems of the base's model or its own, with what its policy expects of arms."""
        population = base.population
        if not _on_the_same_problems(self.base, self.scenario):
            responses = None if population is None else population.responses
            population = load_model(self.scenario).population
            if population is not None and population.responses is None:
                population = replace(population, responses=responses)
        for effect in self.effects:
            if effect.population is not None and population is not None:
                population = effect.population(population)
        return load_model(self.scenario, population)


def prepare(variation: Variation, base: Base, *, replan: bool) -> Prepared:
    """Read a variation.

    Args:
        base: that it starts from; replan: whether a policy is planned for it too.

    Raises:
        InputError: a path that leads nowhere, a scenario that is invalid, or no change that has an effect.
    """
    with said_of(variation):
        return _prepare(variation, base, replan)


def _prepare(variation: Variation, base: Base, replan: bool) -> Prepared:
    new: dict[str, tuple[object, str]] = {}
    made: list[Change] = []
    for path, (value, where) in variation.changes.items():
        if path.startswith(READY):
            continue
        _check_simulated(path, value, where, replan)
        if factor_of(value) is not None and not isinstance(base.in_effect(path), str):
            value = base.times(path, value, where)
        new[path] = (value, where)
        made.append(Change(path, _shown(base.in_effect(path)), _shown(value)))
    scenario = base.changed(new) if new else base.scenario
    effects = []
    for path, (value, where) in variation.changes.items():
        if not path.startswith(READY):
            continue
        effect = ready_made(path.removeprefix(READY), value, where, base, scenario, replan=replan)
        made.append(Change(path, None, _shown(value)))
        for key, now in effect.changes.items():
            if key in new:
                raise InputError(where, path, value, f"no {key} beside it, which it sets itself")
            new[key] = (now, where)
            made.append(Change(key, _shown(base.in_effect(key)), _shown(now)))
        if effect.changes:
            scenario = with_changes(scenario, effect.changes)
        effects.append(effect)
    prepared = Prepared(base.scenario, scenario, tuple(made), tuple(effects))
    _check_pairs(variation, prepared)
    return prepared


def _check_simulated(path: str, value: object, where: str, replan: bool) -> None:
    """Refuse what no figure depends on."""
    if path in _NAMES or path.endswith(_SAYS_WHENCE):
        raise InputError(where, path, value, "a path that figures depend on: names and descriptions change none")
    if not replan and (path in _ONLY_TO_PLAN_BY or path.split(".")[0] == "search"):
        raise InputError(where, path, value, "--replan (replan=True) beside it: without it nothing is planned by this")


def _check_pairs(variation: Variation, prepared: Prepared) -> None:
    """Refuse other random numbers than the base's, and what changes nothing."""
    base, other = prepared.base, prepared.scenario
    first = variation.where
    if other.seed != base.seed:
        raise InputError(first("seed"), "seed", other.seed, "the seed of the base, so that both see the same requests")
    if other.replications != base.replications:
        expected = "no other number of runs than the base's; --replications (replications=...) sets that of all"
        raise InputError(first("replications"), "replications", other.replications, expected)
    if other.workload.requests != base.workload.requests and prepared.requests == 1:
        expected = "no other number of requests than the base's; --requests (requests=...) sets that of all"
        raise InputError(first("workload.requests"), "workload.requests", other.workload.requests, expected)
    drawn = any(one.population is not None or one.draws is not None for one in prepared.effects)
    if other == base and not drawn:
        change = prepared.changes[0]
        raise InputError(first(change.path), change.path, change.now, "another value than what stands there")


def _on_the_same_problems(one: Scenario, other: Scenario) -> bool:
    def problems(scenario: Scenario) -> object:
        arms = {
            name: (arm.profile, arm.sources, scenario.parsed_strategy(name).other_arms)
            for name, arm in scenario.arms.items()
        }
        return scenario.workload.sources, scenario.predictor, scenario.predictor_sha256, arms

    return problems(one) == problems(other)


def _shown(value: object) -> object:
    """A value as files hold it."""
    plain = as_plain(value)
    return plain.isoformat() if isinstance(plain, datetime.date) else plain


@contextmanager
def said_of(variation: Variation) -> Iterator[None]:
    """What is wrong with a variation is said with where it was said."""
    try:
        yield
    except InputError as error:
        wheres = {where for _, where in variation.changes.values()}
        if error.where in wheres:
            raise
        field = error.field if error.field != "file" else f"{error.where}: {error.field}"
        raise InputError(variation.where(error.field), field, error.value, error.expected) from None


__all__ = ["Prepared", "prepare", "said_of"]
