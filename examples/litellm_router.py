"""A LiteLLM router that sends each request to the deployment that a plan's policy picks, capped as planned.

    ttc-sim optimize reasoning-gateway --plan plan.yaml     # pip install litellm

    router = litellm.Router(model_list=[
        {"model_name": "gateway", "litellm_params": {"model": "openai/small"}, "model_info": {"id": "mistral-pool"}},
        {"model_name": "gateway", "litellm_params": {"model": "openai/large"}, "model_info": {"id": "maverick-api"}},
        ...
    ])
    attach(router, "plan.yaml")
    router.completion(model="gateway", messages=[{"role": "user", "content": "What is 2 + 2?"}], metadata={"source": "everyday"})

The ``id`` of a deployment is the name of one of the plan's arms, or of the arms' deployment. ``source`` is one of the plan's
sources, and may be left out where there is only one. A plan whose arms take more than one call, whose policy looks at live load, or
whose arms fall back on others (LiteLLM has fallbacks of its own) is refused.
"""

from typing import Any

from litellm.types.router import CustomRoutingStrategyBase

import ttc_sim as ttc
from ttc_sim.deploying.exports.litellm_routing import LIMITS, text_of


class PlanRouting(CustomRoutingStrategyBase):
    """Routes by the policy of a plan; ``model_list`` holds the deployments, as LiteLLM's ``Router.model_list`` does."""

    def __init__(self, model_list: list[dict[str, Any]], plan: str, predictor: str | None = None) -> None:
        self.model_list, self.plan = model_list, ttc.load_plan(plan).runtime(predictor=predictor)
        self.plan.check_plain_calls(falls_back=False)

    def get_available_deployment(
        self, model, messages=None, input=None, specific_deployment=False, request_kwargs=None
    ) -> dict[str, Any]:
        """The deployment of the arm among those of this model group, with the arm's cap."""
        asked = request_kwargs if request_kwargs is not None else {}
        text = text_of({"messages": messages} if messages else {"input": input})
        route = self.plan.route(text, (asked.get("metadata") or {}).get("source"))
        group = {one.get("model_info", {}).get("id"): one for one in self.model_list if one["model_name"] == model}
        if found := group.get(route.arm) or group.get(route.deployment):
            return _capped(found, route.max_tokens, asked)
        raise ValueError(f"no deployment of model group {model!r} has the id {route.arm!r} or {route.deployment!r}")

    async def async_get_available_deployment(
        self, model, messages=None, input=None, specific_deployment=False, request_kwargs=None
    ) -> dict[str, Any]:
        """The same; scoring takes about a millisecond."""
        return self.get_available_deployment(model, messages, input, specific_deployment, request_kwargs)


def _capped(one: dict[str, Any], cap: int | None, asked: dict[str, Any]) -> dict[str, Any]:
    """The deployment with the arm's cap on its output, unless it or the caller asks for less."""
    params, given = one["litellm_params"], [name for name in LIMITS if asked.get(name) is not None]
    limits = [limit for limit in (cap, params.get("max_tokens"), *map(asked.get, given)) if limit is not None]
    if cap is None or given:  # what a caller asks for goes before the deployment's own
        asked.update(dict.fromkeys(given if cap is not None else (), min(limits, default=0)))
        return one
    return {**one, "litellm_params": {**params, "max_tokens": min(limits)}}


def attach(router: Any, plan: str, predictor: str | None = None) -> None:
    """Let a ``litellm.Router`` route by a plan."""
    # Recent releases call it register_plugin; the older name, the only one before, is deprecated there.
    register = getattr(router, "register_plugin", None) or router.set_custom_routing_strategy
    register(PlanRouting(router.model_list, plan, predictor))
