"""What a routing function of any language needs of a plan, as plain data: arms by name, and by source how one is chosen."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

from ttc_sim.base.errors import InputError
from ttc_sim.base.plugins import is_shipped
from ttc_sim.deploying.arms import live_arm
from ttc_sim.deploying.endpoints import Endpoint
from ttc_sim.deploying.exports.bands import arms_in_use, bands_of, offered, policy_of, sources_of
from ttc_sim.deploying.exports.features import Kind, not_expressed
from ttc_sim.optimizer.plan import SavedPlan
from ttc_sim.policies import TURN, LeastLoaded, Overflow, Utility, follows_sessions
from ttc_sim.policies.responses import Response
from ttc_sim.strategies import Strategy, UserStrategy

DOES: tuple[Kind, ...] = ("sources", "prompt length", "score", "utility", "cap")
"""What a function does that says where a request goes, and with how many tokens at most."""


@dataclasses.dataclass(frozen=True)
class Routing:
    """A plan as data that JSON can hold.

    Attributes:
        arms: by name, its ``deployment``, ``max_tokens`` of an attempt, ``strategy``, ``fallbacks`` and ``endpoint``.
        sources: by name, either ``score``, ``edges`` and ``arms`` of bands, or ``prices`` and ``responses`` to be weighed.
        not_expressed: what a function of these cannot do.
    """

    arms: Mapping[str, Mapping[str, Any]]
    sources: Mapping[str, Mapping[str, Any]]
    not_expressed: tuple[str, ...]


def routing_of(plan: SavedPlan, endpoints: Mapping[str, Endpoint]) -> Routing:
    """A plan's arms and rules.

    Raises:
        InputError: a source whose requests are routed by Python of the user's own, or by responses that the plan does not have.
    """
    scenario = plan.scenario
    arms = {}
    for name in arms_in_use(plan):
        arm = live_arm(scenario, name)
        arms[name] = {
            "deployment": arm.deployment,
            "max_tokens": arm.max_tokens,
            "strategy": _as_data(arm.strategy),
            "fallbacks": list(arm.fallbacks),
            "endpoint": _where(arm.deployment, endpoints.get(arm.deployment)),
        }
    sources = {source: _rule(plan, source) for source in sources_of(plan)}
    unloaded = tuple(
        f"source {source}: all requests go to arm {rule['arms'][0]}, as while nothing waits"
        for source, rule in sources.items()
        if policy_of(plan, source).looks_at_load
    )
    return Routing(arms, sources, (*not_expressed(plan, DOES), *unloaded))


def _where(deployment: str, endpoint: Endpoint | None) -> dict[str, Any] | None:
    if endpoint is None:
        return None
    try:
        found: dict[str, Any] = json.loads(json.dumps(endpoint.model_dump(), allow_nan=False))
    except (ValueError, TypeError):
        raise InputError("endpoints", f"{deployment}.body", endpoint.body, "what JSON can hold") from None
    return found


def _rule(plan: SavedPlan, source: str) -> dict[str, Any]:
    bands, policy = bands_of(plan)[source], policy_of(plan, source)
    if bands is not None:
        return {"score": bands.score, "edges": list(bands.edges), "arms": list(bands.arms)}
    if type(policy) in (Overflow, LeastLoaded):
        return {"score": None, "edges": [], "arms": [policy.arm_names()[0]]}
    where = f"scenario.policy of source {source}"
    if follows_sessions(policy) or getattr(policy, "score", None) == TURN:
        expected = "a policy that looks at the request alone: one that follows sessions stays with ttc-sim's runtime"
        raise InputError(plan.scenario.path, where, repr(policy), expected)
    if type(policy) is not Utility:
        expected = "Always, Threshold, Banded, Utility, Overflow or LeastLoaded: Python of your own stays with ttc-sim's runtime"
        raise InputError(plan.scenario.path, where, repr(policy), expected)
    responses = plan.scenario.responses or {}
    able = [name for name in offered(plan, source) if name in responses]
    if not able:
        raise InputError(plan.scenario.path, where, repr(policy), "the responses that it was planned with, in the plan")
    prices = {"accuracy": policy.price_of_accuracy, "second": policy.price_of_second}
    return {"prices": prices, "responses": [{"arm": name, **_weights(plan, name, responses[name])} for name in able]}


def _weights(plan: SavedPlan, arm: str, response: Response) -> dict[str, Any]:
    """Weights by what they are of, one for each feature."""
    for low, high in response.ranges:
        if not (math.isfinite(low) and math.isfinite(high)):
            raise InputError(plan.scenario.path, f"responses.{arm}.ranges", (low, high), "finite numbers")
    return {name: value for name, value in response.model_dump(mode="json").items() if name != "sources"}


def _as_data(strategy: Strategy) -> dict[str, Any]:
    """Its name and arguments; of one of the user's own its notation."""
    own = isinstance(strategy, UserStrategy) or not is_shipped(type(strategy))
    if own or not dataclasses.is_dataclass(strategy):
        return {"kind": "own", "notation": repr(strategy)}
    found: dict[str, Any] = {"kind": type(strategy).__name__}
    for field in dataclasses.fields(strategy):
        value = getattr(strategy, field.name)
        if isinstance(value, tuple):
            found[field.name] = [_as_data(one) if isinstance(one, Strategy) else one for one in value]
        else:
            found[field.name] = _as_data(value) if isinstance(value, Strategy) else value
    return found


__all__ = ["DOES", "Routing", "routing_of"]
