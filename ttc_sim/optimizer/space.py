"""The space that is searched: an arm for every strategy, cap, effort and cascade, and other settings over the same problems."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from ttc_sim.policies.responses import Response
from ttc_sim.scenario import Scenario, read_mapping
from ttc_sim.scenario.arm_space import (
    THEN,
    Family,
    Variant,
    base_arm,
    cascades_of,
    families_of,
    named_arms,
    rungs_of,
    without_cap,
)
from ttc_sim.simulation.model import Model, load_model
from ttc_sim.workload.population import Population

__all__ = [
    "base_arm",
    "expand_arms",
    "expanded_model",
    "left_to_capacity",
    "load_model_like",
    "variants_of",
    "with_arms",
    "with_decisions",
    "without_cap",
]


def expand_arms(scenario: Scenario) -> Scenario:
    """The scenario with an arm of its own for all that its search space allows, and of ranges a few.

    An arm ``reasoner`` with caps ``[4096, null]`` becomes ``reasoner@4096`` and ``reasoner``. One that another arm's strategy or
    fallback, or the budget, names stays what it is under its own name, for those alone if its strategy is none of those to choose
    from.
    """
    if not scenario.search.varies_arms:
        return scenario
    families = families_of(scenario)
    of_arms = {name: variants_of(ones) for name, ones in families.items()}
    return with_arms(scenario, of_arms, variants_of(cascades_of(scenario, families)))


def variants_of(families: Iterable[Family]) -> list[Variant]:
    """The arms of families, of ranges those at the rungs."""
    made = [family.variant(numbers) for family in families for numbers in rungs_of(family)]
    return list({one.name: one for one in made if one is not None}.values())


def with_arms(scenario: Scenario, of_arms: Mapping[str, Iterable[Variant]], cascades: Iterable[Variant]) -> Scenario:
    """The scenario with these arms and no others to choose from.

    Args:
        of_arms: by arm of the scenario, its variants.
    """
    raw = scenario.model_dump(mode="python", exclude={"path", "policy", "responses"})
    named = named_arms(scenario)
    arms: dict[str, object] = {}
    for name, variants in of_arms.items():
        arms |= {one.name: one.raw for one in variants}
        if name in named and name not in arms:
            arms[name] = {**raw["arms"][name], "sources": []}
    for one in cascades:
        for stage in one.stages:
            arms.setdefault(stage.name, {**stage.raw, "sources": []})
        arms[one.name] = one.raw
    search = scenario.search.of_named_arms.model_dump(mode="python")
    return read_mapping({**raw, "arms": arms, "search": search}, scenario.path, scenario.code)


def left_to_capacity(scenario: Scenario) -> list[str]:
    """What of the search space no policy is searched with, in words."""
    if not scenario.search.pools and not scenario.search.gpus:
        return []
    return [
        "hardware was not chosen: search.pools and search.gpus are for `ttc-sim capacity`, which takes this plan; replicas are "
        "those of search.replicas, or the pools' own"
    ]


def expanded_model(model: Model) -> Model:
    """The model with an arm for all that its search space allows."""
    return load_model_like(model, expand_arms(model.scenario))


def load_model_like(model: Model, scenario: Scenario) -> Model:
    """Another scenario over the same problems: profiles are not read again."""
    population = model.population
    if population is None:
        return load_model(scenario)
    offered = {
        name: () if arm.sources == [] else _offered(population, scenario, name) for name, arm in scenario.arms.items()
    }
    return load_model(scenario, replace(population, offered=offered))


def _offered(population: Population, scenario: Scenario, name: str) -> tuple[str, ...]:
    """Sources that an arm of the search space is offered to: where what it was made from is, and the arms that it names are."""
    if name in population.offered:
        return population.offered[name]
    first, *_ = base_arm(name).split(THEN)
    others = [population.offered[_known(population, other)] for other in scenario.parsed_strategy(name).other_arms]
    return tuple(source for source in population.offered[first] if all(source in other for other in others))


def _known(population: Population, name: str) -> str:
    return name if name in population.offered else base_arm(name)


def with_decisions(
    scenario: Scenario,
    policy: Mapping[str, str] | str | None,
    replicas: Mapping[str, int],
    responses: Mapping[str, Response] | None = None,
) -> Scenario:
    """The scenario with what was decided: a policy or none, numbers of replicas, and what the policy expects of the arms."""
    raw = scenario.model_dump(mode="python", exclude={"path", "responses"})
    for name, count in replicas.items():
        item = raw["deployments"][name]
        if item["kind"] == "gpu_pool" and item.get("autoscaling") is None:  # which decides by itself
            raw["deployments"][name]["replicas"] = count
    decided = {**raw, "policy": dict(policy) if isinstance(policy, Mapping) else policy, "responses": responses}
    return read_mapping(decided, scenario.path, scenario.code)
