"""What another plan would have chosen for requests that were logged, and where it would have done the same as was done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ttc_sim.base.draws import F64, I64
from ttc_sim.base.errors import InputError, nearest
from ttc_sim.deploying.logs import Logs
from ttc_sim.deploying.logs.checks import ONE_SOURCE
from ttc_sim.deploying.logs.joined import Flags
from ttc_sim.measured.provenance import identify
from ttc_sim.optimizer.plan import SavedPlan
from ttc_sim.policies import Policy, Requests, follows_sessions
from ttc_sim.policies.policy import choose_arms
from ttc_sim.policies.users_own import UserFunction
from ttc_sim.scenario import Api, Scenario

_PATIENCE = ("kind", "timeout_s", "deadline_s", "on_timeout", "retry")
_PAID = ("price", "latency_from", "usd_per_hour", "usd_per_day", "usd_per_month")
FIGURES = ("accuracy", "api_usd_per_request", "latency_mean_s", "output_tokens_per_request")


class _Watched(Mapping[str, F64]):
    """Scores, and whether any was looked at."""

    def __init__(self, scores: Mapping[str, F64]) -> None:
        self._scores, self.looked_at = scores, False

    def __getitem__(self, name: str) -> F64:
        self.looked_at = True
        return self._scores[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._scores)

    def __len__(self) -> int:
        return len(self._scores)


def chosen_by(other: SavedPlan, name: str, logs: Logs, rows: Flags, plan: SavedPlan) -> I64:
    """The arm that a plan's policy chooses for each of some requests, from their source, prompt tokens and scores as logged.

    Args:
        name: of the plan, for errors; rows: (n,) the requests; plan: that was carried out, whose predictor gave the scores.

    Returns:
        Indices into the plan's own arms, one for each of the rows.

    Raises:
        InputError: a source that it does not know, a policy that looks at live load or at scores that were not logged, or that
            was made for another predictor's scores.
    """
    scenario = other.scenario
    policy, sources = scenario.parsed_policy(), tuple(scenario.workload.sources) or ONE_SOURCE
    assert policy is not None  # a plan has one
    policy.get_ready()
    arms, chosen = list(scenario.arms), np.full(len(logs), -1, dtype=np.int64)
    for index in np.unique(logs.source[rows]).tolist():
        source = logs.sources[index]
        if source not in sources:
            raise InputError(name, "source of the logs", source, nearest(source, sources))
        here = rows & (logs.source == index)
        chosen[here] = _chosen_of(policy.for_source(source), scenario, name, sources, source, logs, here, plan)
        for arm in np.unique(chosen[here]).tolist():
            allowed = scenario.arms[arms[arm]].sources
            if allowed is not None and source not in allowed:
                raise InputError(name, f"policy of source {source}", arms[arm], "an arm that is offered there")
    return chosen[rows]


def _chosen_of(
    mine: Policy,
    scenario: Scenario,
    name: str,
    sources: tuple[str, ...],
    source: str,
    logs: Logs,
    here: Flags,
    plan: SavedPlan,
) -> I64:
    if mine.looks_at_load:
        expected = (
            "a policy that looks at the request alone: logs do not hold the load that another plan would have brought"
        )
        raise InputError(name, f"policy of source {source}", repr(mine), expected)
    if follows_sessions(mine):
        expected = "a policy that looks at the request alone: what another plan would have kept warm is not in the logs"
        raise InputError(name, f"policy of source {source}", repr(mine), expected)
    whole = {score: values[here] for score, values in logs.scores.items() if not np.isnan(values[here]).any()}
    scores = _Watched(whole)
    requests = Requests(
        arrival_s=logs.at[here] - logs.at[0],
        source=np.full(int(here.sum()), sources.index(source)),
        sources=sources,
        prompt_tokens=logs.prompt_tokens[here],
        scores=scores,
        responses=scenario.responses,
    )
    try:
        chosen = choose_arms(mine, requests, list(scenario.arms))
    except InputError as error:
        if error.field != "score":
            raise
        expected = f"one that looks at scores that the logs have of every request from {source}: " + (
            ", ".join(whole) or "they have none"
        )
        raise InputError(name, "policy", f"{mine!r}, which looks at {error.value!r}", expected) from None
    if scores.looked_at and len(requests):
        _check_predictor(scenario, name, plan.scenario)
    return chosen


def _check_predictor(other: Scenario, name: str, plan: Scenario) -> None:
    ours, theirs = (one.predictor_sha256 or identify(one.predictor_at).sha256 for one in (plan, other))
    if ours != theirs:
        expected = f"the predictor whose scores were logged, {plan.predictor} (sha256 {ours[:12]})"
        raise InputError(name, "predictor", f"{other.predictor} (sha256 {theirs[:12]})", expected)


def by_function(other: SavedPlan) -> bool:
    """Whether a user's own function chooses, which may look at more than the request."""
    policy = other.scenario.parsed_policy()
    sources = tuple(other.scenario.workload.sources) or ONE_SOURCE
    return policy is not None and any(isinstance(policy.for_source(one), UserFunction) for one in sources)


def same_arms(other: Scenario, plan: Scenario, arms: tuple[str, ...]) -> dict[str, I64]:
    """For each figure, which of the logs' arms does the same as each arm of another plan, by index; -1 where none does.

    The same is done by the same model on the deployment of the same name, by the same strategy with the same cap, and so on along
    the arms that a request falls back on; with the same timeouts and retries. Dollars are the same at the same price, and seconds
    on a deployment that is the same in all but its price.

    Args:
        arms: of the logs.
    """
    found = {}
    for figure in FIGURES:
        known = {}
        for index, name in reversed(list(enumerate(arms))):
            if name in plan.arms:
                known[_done(plan, name, figure)] = index
        named = {name: index for index, name in enumerate(arms) if name in plan.arms}
        same = []
        for name in other.arms:
            done = _done(other, name, figure)
            alike = name in named and _done(plan, name, figure) == done
            same.append(named[name] if alike else known.get(done, -1))
        found[figure] = np.array(same, dtype=np.int64)
    return found


def _done(scenario: Scenario, name: str, figure: str) -> str:
    """What an arm does, as far as a figure depends on it."""
    steps: list[Any] = []
    for step in scenario.path_of(name):
        strategy = scenario.parsed_strategy(step)
        on = (scenario.arms[step].deployment, *strategy.verifiers)
        served = [[one, _served(scenario, one, figure)] for one in on]
        sent_on = [_done(scenario, other, figure) for other in strategy.other_arms]
        steps.append([scenario.arms[step].profile, repr(strategy), served, sent_on])
    return repr(steps)


def _served(scenario: Scenario, deployment: str, figure: str) -> dict[str, Any]:
    """What a deployment is, as far as a figure depends on it."""
    said = scenario.deployments[deployment].model_dump(mode="json")
    if figure == "latency_mean_s":
        return {key: value for key, value in said.items() if key not in _PAID}
    keys = (*_PATIENCE, "price") if figure == "api_usd_per_request" else _PATIENCE
    return {key: said.get(key) for key in keys}


def on_pools(scenario: Scenario, name: str) -> bool:
    """Whether any of an arm's calls may go to a GPU pool, unless it falls back."""
    strategy = scenario.parsed_strategy(name)
    on = (scenario.arms[name].deployment, *strategy.verifiers)
    return any(not isinstance(scenario.deployments[one], Api) for one in on) or any(
        on_pools(scenario, other) for other in strategy.other_arms
    )


__all__ = ["FIGURES", "by_function", "chosen_by", "on_pools", "same_arms"]
