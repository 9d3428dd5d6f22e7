"""A LiteLLM router that sends each request to the deployment that a plan's policy picks.

    ttc-sim optimize reasoning-gateway --plan plan.yaml     # pip install litellm

    router = litellm.Router(model_list=[
        {"model_name": "gateway", "litellm_params": {"model": "openai/small"}, "model_info": {"id": "small"}},
        {"model_name": "gateway", "litellm_params": {"model": "openai/large"}, "model_info": {"id": "large"}},
    ])
    attach(router, "plan.yaml")
    router.completion(model="gateway", messages=[{"role": "user", "content": "What is 2 + 2?"}])

The ``id`` of a deployment is the name of the plan's arm, or of the arm's deployment in the plan.
"""

from typing import Any

import numpy as np
from litellm.types.router import CustomRoutingStrategyBase

import ttc_sim as ttc
from ttc_sim.policies import Requests


class PlanRouting(CustomRoutingStrategyBase):
    """Routes by the policy of a plan; ``model_list`` holds the deployments, as LiteLLM's ``Router.model_list`` does."""

    def __init__(self, model_list: list[dict[str, Any]], plan: str, predictor: str | None = None) -> None:
        self.model_list = model_list
        saved = ttc.load_plan(plan)
        self.scenario = saved.scenario
        self.policy, self.arms = self.scenario.parsed_policy(), list(self.scenario.arms)
        self.sources = tuple(self.scenario.workload.sources)
        self.predictor = saved.load_predictor(predictor)  # another one than the plan was made with is refused

    def arm(self, prompt: str) -> str:
        """The plan's arm for a prompt of its first source."""
        scores = self.predictor.score([prompt]).table().to_dict()
        named = {name: column.to_numpy().astype(np.float64) for name, column in scores.items()}
        tokens = np.array([len(prompt) // 4 + 1])  # about 4 characters a token
        request = Requests(np.zeros(1), np.zeros(1, np.int64), self.sources, tokens, named)
        return self.arms[self.policy.choose(request, self.arms)[0]]

    def get_available_deployment(
        self, model, messages=None, input=None, specific_deployment=False, request_kwargs=None
    ) -> dict[str, Any]:
        """The deployment of the arm among those of this model group."""
        text = "\n".join(str(message.get("content") or "") for message in messages or []) or str(input or "")
        arm = self.arm(text)
        wanted = (arm, self.scenario.arms[arm].deployment)
        group = [one for one in self.model_list if one["model_name"] == model]
        for name in wanted:
            for one in group:
                if one.get("model_info", {}).get("id") == name:
                    return one
        raise ValueError(f"no deployment of model group {model!r} has the id {wanted[0]!r} or {wanted[1]!r}")

    async def async_get_available_deployment(
        self, model, messages=None, input=None, specific_deployment=False, request_kwargs=None
    ) -> dict[str, Any]:
        """The same; scoring takes about a millisecond."""
        return self.get_available_deployment(model, messages, input, specific_deployment, request_kwargs)


def attach(router: Any, plan: str, predictor: str | None = None) -> None:
    """Let a ``litellm.Router`` route by a plan."""
    strategy = PlanRouting(router.model_list, plan, predictor)
    # Recent releases call it register_plugin; the older name, the only one before, is deprecated there.
    register = getattr(router, "register_plugin", None) or router.set_custom_routing_strategy
    register(strategy)
