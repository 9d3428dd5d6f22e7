"""What an arm asks of its model, call by call, and whose API that call is made to."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from ttc_sim.base.errors import InputError
from ttc_sim.deploying.endpoints import Endpoint
from ttc_sim.deploying.exports.bands import arms_in_use
from ttc_sim.deploying.exports.features import Kind, card_of, not_expressed
from ttc_sim.deploying.exports.target import Export
from ttc_sim.measured.cards import ProfileCard
from ttc_sim.optimizer.plan import SavedPlan
from ttc_sim.scenario.deployments import Api
from ttc_sim.strategies import BestOfN, BudgetForcing, Cascade, MajorityVote, Single, Strategy, is_attempt

HOSTS = {
    "api.openai.com": "openai",
    "openai.azure.com": "azure",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "google",
    "aiplatform.googleapis.com": "google",
    "openrouter.ai": "openrouter",
}
"""Hosts whose provider is known, by what their names end in; other hosts may be anybody's."""

LIMITS = ("max_tokens", "max_completion_tokens")
"""Keys of a body that limit its output."""


class NotTakenError(Exception):
    """An arm that the provider's API cannot take as it is planned; says why."""


@dataclass(frozen=True)
class Attempt:
    """One call that an arm makes to its own model.

    Attributes:
        arm: of the plan; stage: of a cascade, from 1; ``None`` where it has none.
        times: it is made for one request, at most.
        model: as the provider names it.
        cap: most output tokens, thinking and answer together; of thinking alone where the answer is ``forced`` there.
        effort: that the model was measured at; thinks: whether it was seen to think apart from its answer, ``None`` if not known.
        limit: most output tokens that are known to be allowed, for an API that has to be told some.
        own: what the endpoint's file sends besides.
    """

    arm: str
    stage: int | None
    times: int
    model: str
    cap: int | None
    forced: bool
    effort: str | None
    thinks: bool | None
    limit: int | None
    own: Mapping[str, Any]


def provider_of(plan: SavedPlan, deployment: str, endpoints: Mapping[str, Endpoint]) -> str | None:
    """Whose API a deployment is: by its address where that is known to be somebody's, else by its price."""
    if deployment in endpoints:
        host = urlsplit(endpoints[deployment].url).hostname or ""
        for ending, provider in HOSTS.items():
            if host == ending or host.endswith((f".{ending}", f"-{ending}")):
                return provider
    item = plan.scenario.deployments[deployment]
    return item.price.provider if isinstance(item, Api) else None


def model_of(plan: SavedPlan, deployment: str, endpoints: Mapping[str, Endpoint]) -> str:
    """The name that a deployment serves its model by.

    Raises:
        InputError: neither the plan nor the file of endpoints says it.
    """
    if deployment in endpoints:
        return endpoints[deployment].model
    item = plan.scenario.deployments[deployment]
    planned = item.price.model if isinstance(item, Api) else item.model
    if planned is None:
        expected = "the name that it serves the model by: model in --endpoints, or price.model in the plan"
        raise InputError(plan.scenario.path, f"deployments.{deployment}", "no name of a model", expected)
    return planned


def attempts_of(plan: SavedPlan, arm: str, endpoints: Mapping[str, Endpoint]) -> tuple[Attempt, ...]:
    """Calls that an arm makes to its own model; none for a strategy of one's own.

    Raises:
        InputError: nothing says the model's name.
    """
    scenario = plan.scenario
    deployment = scenario.arms[arm].deployment
    endpoint, card = endpoints.get(deployment), card_of(plan, arm)
    model = model_of(plan, deployment, endpoints)
    own = {} if endpoint is None else endpoint.body
    limits = [own.get(key) for key in LIMITS]
    limits.append(card.output_limit_tokens if isinstance(card, ProfileCard) else None)
    limit = next((one for one in limits if isinstance(one, int) and one > 0), None)
    return tuple(
        Attempt(
            arm=arm,
            stage=stage,
            times=times,
            model=model,
            cap=one.cap,
            forced=one.cap is not None and (isinstance(one, BudgetForcing) or one.on_cap == "force_answer"),
            effort=None if card is None else card.effort,
            thinks=card.reasoning != "none" or card.effort is not None if isinstance(card, ProfileCard) else None,
            limit=limit,
            own=own,
        )
        for stage, times, one in _calls(scenario.parsed_strategy(arm))
    )


def _calls(strategy: Strategy, stage: int | None = None) -> Iterator[tuple[int | None, int, Single | BudgetForcing]]:
    if isinstance(strategy, Cascade):
        for number, one in enumerate(strategy.stages, 1):
            if not isinstance(one, str):
                yield from _calls(one, number)
    elif isinstance(strategy, (MajorityVote, BestOfN)):
        yield stage, strategy.n, strategy.attempt
    elif is_attempt(strategy):
        yield stage, 1, strategy


def stand_in(plan: SavedPlan, arm: str, endpoints: Mapping[str, Endpoint]) -> tuple[str, Attempt | None]:
    """The one call that comes nearest to an arm, for a consumer that makes no more.

    Returns:
        The deployment, and the call: of a cascade its last stage, of votes and best of n one attempt; ``None`` for a strategy of
        one's own.
    """
    strategy = plan.scenario.parsed_strategy(arm)
    if isinstance(strategy, Cascade) and isinstance(last := strategy.stages[-1], str):
        deployment, call = stand_in(plan, last, endpoints)
        return deployment, None if call is None else replace(call, stage=len(strategy.stages))
    calls = attempts_of(plan, arm, endpoints)
    return plan.scenario.arms[arm].deployment, calls[-1] if calls else None


def bodies(
    plan: SavedPlan,
    endpoints: Mapping[str, Endpoint],
    name: str,
    providers: Collection[str],
    body: Callable[[Attempt, list[str]], Mapping[str, Any]],
    does: Collection[Kind],
    how: Collection[str],
    *,
    own_is_sent: bool = False,
) -> Export:
    """Request bodies of every arm at one provider, and a line for all else.

    Args:
        name: of the provider, in words, such as ``OpenAI``; providers: what prices and addresses call it.
        body: of one call, with the lines of what of it is not expressed; raises :class:`NotTakenError` where it cannot be made.
        does: kinds of features that the bodies express.
        own_is_sent: whether they hold what the endpoint's file sends besides.

    Raises:
        InputError: no arm of the plan can be asked for there.
    """
    scenario = plan.scenario
    written: dict[str, Any] = {}
    missing: list[str] = []
    left_out: dict[str, str] = {}
    for arm in arms_in_use(plan):
        deployment = scenario.arms[arm].deployment
        provider = provider_of(plan, deployment, endpoints)
        if provider not in providers:
            whose = "a pool of your own" if provider is None else f"served by {provider}"
            left_out[arm] = f"left out: its deployment {deployment} is {whose}, not by {name}"
            continue
        said: list[str] = []
        try:
            calls = [(one, body(one, said)) for one in attempts_of(plan, arm, endpoints)]
        except NotTakenError as error:
            left_out[arm] = f"left out: {error}"
            continue
        requests = [
            {**({} if one.stage is None else {"stage": one.stage}), "times": one.times, "body": dict(made)}
            for one, made in calls
        ]
        if not requests:
            left_out[arm] = "left out: its strategy makes no call that is known before it runs"
            continue
        written[arm] = {"deployment": deployment, "requests": requests}
        missing += [f"arm {arm}: {line}" for line in dict.fromkeys(said)]
        own = {} if deployment not in endpoints or own_is_sent else endpoints[deployment].body
        if unsaid := [key for key in own if key not in LIMITS]:
            missing.append(
                f"arm {arm}: {', '.join(unsaid)} of its endpoint's body, which is for an OpenAI-compatible API"
            )
    if not written:
        whose = f"{name}'s by price.provider ({' or '.join(providers)}) or by its url in --endpoints"
        why = "; ".join(f"arm {arm} is {said}" for arm, said in left_out.items())
        raise InputError(scenario.path, "arms", ", ".join(left_out), f"an arm with a deployment that is {whose}. {why}")
    lines = not_expressed(plan, does, except_of=[f"arm {arm}" for arm in left_out])
    content = {"plan": scenario.name, "arms": written}
    return Export(
        files={"arms.json": json.dumps(content, indent=2, ensure_ascii=False) + "\n"},
        not_expressed=(*(f"arm {arm}: {said}" for arm, said in left_out.items()), *missing, *lines),
        how=tuple(how),
    )


__all__ = ["LIMITS", "Attempt", "NotTakenError", "attempts_of", "bodies", "model_of", "provider_of", "stand_in"]
