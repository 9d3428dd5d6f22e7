"""LiteLLM's proxy: a model group for each arm, limits, retries and fallbacks, and a hook that routes by the plan.

Keys are those of LiteLLM's ``Router`` and proxy as their source had them in October and November 2026 (1.9x): ``types/router.py``,
``router_utils/get_retry_from_policy.py``, ``router_utils/fallback_event_handlers.py``, ``integrations/custom_logger.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ttc_sim.deploying.endpoints import Endpoint
from ttc_sim.deploying.exports.attempts import stand_in
from ttc_sim.deploying.exports.bands import arms_in_use, bands_of
from ttc_sim.deploying.exports.features import Kind, not_expressed
from ttc_sim.deploying.exports.fingerprint import fingerprint
from ttc_sim.deploying.exports.litellm_models import limit_of, model_entry, retry_policy
from ttc_sim.deploying.exports.naming import dumped, quoted
from ttc_sim.deploying.exports.target import Export
from ttc_sim.optimizer.plan import SavedPlan
from ttc_sim.scenario.deployments import Api

TIERS = ("SIMPLE", "MEDIUM", "COMPLEX", "REASONING")
"""Of LiteLLM's complexity router, easiest first."""
DOES: tuple[Kind, ...] = (
    *("sources", "prompt length", "score", "utility", "cap", "effort", "fallback"),
    *("timeout", "retry", "rate limit", "concurrency"),
)
_NOWHERE = (
    "http://routed-by-ttc-sim.invalid"  # a name that nobody can have: without the hook requests fail, and go nowhere
)


def export(plan: SavedPlan, endpoints: Mapping[str, Endpoint]) -> Export:
    """A config of the proxy, its hook, and tiers where bands of one score can be put so."""
    scenario, arms = plan.scenario, arms_in_use(plan)
    groups = {arm: f"ttc-sim/{quoted(arm)}" for arm in arms}
    missing: list[str] = []
    named: dict[str, str] = {}
    models = [model_entry(plan, arm, groups[arm], endpoints, named, missing) for arm in arms]
    places = {arm: stand_in(plan, arm, endpoints)[0] for arm in arms}
    missing += _shared(plan, places)
    fallbacks = {groups[arm]: [groups[one] for one in scenario.path_of(arm)[1:]] for arm in arms}
    fallbacks = {group: others for group, others in fallbacks.items() if others}
    limits = {arm: limit_of(plan, arm, endpoints) for arm in arms}
    public = quoted(scenario.name)
    here = {
        "model_name": public,
        "litellm_params": {"model": "openai/none", "api_base": _NOWHERE, "api_key": "none"},
    }
    settings = {
        "num_retries": 0,
        "disable_cooldowns": True,
        "optional_pre_call_checks": ["enforce_model_rate_limits"],
        "model_group_retry_policy": {groups[arm]: retry_policy(plan, places[arm]) for arm in arms},
        **({"fallbacks": [{group: others} for group, others in fallbacks.items()]} if fallbacks else {}),
        **({"max_fallbacks": max(map(len, fallbacks.values()))} if fallbacks else {}),
    }
    config = {
        "model_list": [here, *models],
        "litellm_settings": {"callbacks": "ttc_sim_router.router"},
        "router_settings": settings,
    }
    constants = {
        "MADE_OF": fingerprint(plan),
        "MODEL": public,
        "GROUPS": groups,
        "LIMITS": limits,
        "FALLBACKS": fallbacks,
    }
    files = {"config.yaml": dumped(config), "ttc_sim_router.py": _HOOK.format(constants=_python(constants))}
    how = [
        "pip install 'litellm[proxy]' ttc-sim, then in the folder:",
        "TTC_PLAN=.../plan.yaml litellm --config config.yaml   (TTC_PREDICTOR: where the plan's ONNX file stands, if elsewhere)",
        f"Clients ask for the model {public!r}, and say metadata.source where the plan has several sources.",
        *(f"{variable}: {what}" for variable, what in named.items()),
    ]
    if tiers := _tiers(plan, groups):
        entry = {"model_name": public, "litellm_params": tiers}
        files["config-tiers.yaml"] = dumped({"model_list": [entry, *models], "router_settings": settings})
        how.append(
            "config-tiers.yaml does without ttc-sim, and not as planned: LiteLLM's own complexity score, not the plan's "
            "predictor, says which requests are hard, so that accuracy and cost are not those that were promised."
        )
    # Where a provider takes a budget of thinking, LiteLLM passes it on.
    told = {f"arm {arm}" for arm, entry in zip(arms, models, strict=True) if _has_budget(entry)}
    lines = not_expressed(plan, DOES, unless=lambda one: one.kind == "forced answer" and one.of in told)
    return Export(files, (*missing, *lines), tuple(how))


def _has_budget(entry: Mapping[str, Any]) -> bool:
    return "budget_tokens" in entry["litellm_params"].get("thinking", {})


def _shared(plan: SavedPlan, places: Mapping[str, str]) -> list[str]:
    """Limits of deployments that several arms have, each of which LiteLLM counts for itself."""
    lines = []
    for name, item in plan.scenario.deployments.items():
        on = [arm for arm, place in places.items() if place == name]
        limited = isinstance(item, Api) and item.limited
        if len(on) > 1 and limited:
            lines.append(f"deployment {name}: its limits are counted for each of {', '.join(on)}, not for all together")
    return lines


def _tiers(plan: SavedPlan, groups: Mapping[str, str]) -> dict[str, Any] | None:
    """The complexity router's tiers, where all sources have the same bands of up to four by how hard a request is predicted."""
    found = {(one.score, one.arms) if one is not None else None for one in bands_of(plan).values()}
    bands = found.pop() if len(found) == 1 else None
    if bands is None or bands[0] is None:
        return None
    score, arms = bands[0], bands[1]
    if not 2 <= len(arms) <= len(TIERS) or (score != "difficulty" and not score.startswith("p:")):
        return None
    easy_first = arms if score == "difficulty" else arms[::-1]
    tiers = {tier: groups[easy_first[k * len(arms) // len(TIERS)]] for k, tier in enumerate(TIERS)}
    return {
        "model": "auto_router/complexity_router",
        "complexity_router_config": {"tiers": tiers},
        "complexity_router_default_model": groups[easy_first[-1]],
    }


def _python(constants: Mapping[str, object]) -> str:
    return "\n".join(f"{name} = {value!r}" for name, value in constants.items())


_HOOK = '''"""Sends each request where a plan of ttc-sim sends it: a hook of LiteLLM's proxy, beside config.yaml.

TTC_PLAN: file of the plan that was exported, or plan.yaml if it is not set; TTC_PREDICTOR: where its ONNX file stands, if
elsewhere; TTC_LOG: file that each decision is appended to, if it is set.
"""

import os

from fastapi import HTTPException
from litellm.integrations.custom_logger import CustomLogger

from ttc_sim.base.errors import InputError
from ttc_sim.deploying.exports.litellm_routing import PlanRouting

{constants}


class Router(CustomLogger):
    """Changes the model that is asked for into the model group of the arm that the plan picks."""

    def __init__(self):
        super().__init__()
        self.plan = PlanRouting(
            os.environ.get("TTC_PLAN", "plan.yaml"),
            made_of=MADE_OF,
            model=MODEL,
            groups=GROUPS,
            limits=LIMITS,
            fallbacks=FALLBACKS,
            predictor=os.environ.get("TTC_PREDICTOR"),
            log=os.environ.get("TTC_LOG"),
        )

    async def async_pre_call_hook(self, user_api_key_dict, cache, data, call_type):
        """Before a call: scoring takes about a millisecond."""
        try:
            return self.plan.route(data)
        except InputError as error:
            raise HTTPException(status_code=400, detail={{"error": str(error)}}) from None


router = Router()
'''

__all__ = ["export"]
