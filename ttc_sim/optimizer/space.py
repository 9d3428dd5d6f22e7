"""The space that is searched: an arm for every cap, and other settings over the same problems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ttc_sim.base.errors import InputError
from ttc_sim.policies.responses import Response
from ttc_sim.scenario import Scenario, read_mapping
from ttc_sim.simulation.model import Model, load_model


def expand_caps(scenario: Scenario) -> Scenario:
    """The scenario with an arm of its own for each cap that ``search.caps`` allows.

    An arm ``reasoner`` with caps ``[4096, null]`` becomes ``reasoner@4096`` and ``reasoner``. One that another arm's strategy or
    fallback names stays what it is under its own name, for those alone if its cap is none of those to choose from.
    """
    if not scenario.search.caps:
        return scenario
    raw = scenario.model_dump(mode="python", exclude={"path", "policy", "responses"})
    made = {name: scenario.parsed_strategy(name) for name in scenario.arms}
    named = {other for strategy in made.values() for other in strategy.other_arms}
    named |= {other for arm in scenario.arms.values() for other in arm.fallbacks}
    arms: dict[str, object] = {}
    for name, strategy in made.items():
        if name not in scenario.search.caps:
            arms[name] = raw["arms"][name]
            continue
        if not strategy.takes_cap:
            raise InputError(scenario.path, f"search.caps.{name}", repr(strategy), "an arm whose attempts have a cap")
        for cap in scenario.search.caps[name]:
            capped = strategy.with_cap(cap)
            # The name alone is the arm as others know it.
            alone = repr(capped) == repr(strategy) if name in named else cap is None
            label = name if alone else f"{name}@{'uncapped' if cap is None else cap}"
            arms[label] = {**raw["arms"][name], "strategy": repr(capped)}
        if name in named and name not in arms:
            arms[name] = {**raw["arms"][name], "sources": []}
    search = {**raw["search"], "caps": {}}
    return read_mapping({**raw, "arms": arms, "search": search}, scenario.path, scenario.code)


def left_to_capacity(scenario: Scenario) -> list[str]:
    """What of the search space no policy is searched with, in words."""
    if not scenario.search.pools and not scenario.search.gpus:
        return []
    return [
        "hardware was not chosen: search.pools and search.gpus are for `ttc-sim capacity`, which takes this plan; replicas are "
        "those of search.replicas, or the pools' own"
    ]


def base_arm(name: str) -> str:
    """Name of the arm that a capped one was made from.

    >>> base_arm("reasoner@4096")
    'reasoner'
    """
    return name.split("@")[0]


def expanded_model(model: Model) -> Model:
    """The model with an arm for each cap of its search space."""
    return load_model_like(model, expand_caps(model.scenario))


def load_model_like(model: Model, scenario: Scenario) -> Model:
    """Another scenario over the same problems: profiles are not read again."""
    population = model.population
    if population is None:
        return load_model(scenario)
    offered = {
        name: () if arm.sources == [] else population.offered[name if name in population.offered else base_arm(name)]
        for name, arm in scenario.arms.items()
    }
    return load_model(scenario, replace(population, offered=offered))


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
