"""Entries of a LiteLLM proxy's list of models: where an arm's deployment stands, and what one call asks of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ttc_sim.deploying.endpoints import Endpoint
from ttc_sim.deploying.exports import anthropic, gemini
from ttc_sim.deploying.exports.attempts import LIMITS, Attempt, NotTakenError, model_of, provider_of, stand_in
from ttc_sim.deploying.exports.naming import variable
from ttc_sim.optimizer.plan import SavedPlan
from ttc_sim.scenario.deployments import Api

PREFIXES = {
    "anthropic": ("anthropic", "ANTHROPIC_API_KEY"),
    "cerebras": ("cerebras", "CEREBRAS_API_KEY"),
    "deepseek": ("deepseek", "DEEPSEEK_API_KEY"),
    "fireworks": ("fireworks_ai", "FIREWORKS_API_KEY"),
    "google": ("gemini", "GEMINI_API_KEY"),
    "groq": ("groq", "GROQ_API_KEY"),
    "mistral": ("mistral", "MISTRAL_API_KEY"),
    "openai": ("openai", "OPENAI_API_KEY"),
    "openrouter": ("openrouter", "OPENROUTER_API_KEY"),
    "perplexity": ("perplexity", "PERPLEXITYAI_API_KEY"),
    "together": ("together_ai", "TOGETHERAI_API_KEY"),
    "x-ai": ("xai", "XAI_API_KEY"),
}
"""Providers of the price table: what LiteLLM calls them, and the variable with their key."""


def model_entry(
    plan: SavedPlan,
    arm: str,
    group: str,
    endpoints: Mapping[str, Endpoint],
    named: dict[str, str],
    missing: list[str],
) -> dict[str, Any]:
    """Entry of one arm in the list of models; variables that it names, and what it leaves out."""
    deployment, call = stand_in(plan, arm, endpoints)
    item = plan.scenario.deployments[deployment]
    params = _address(plan, deployment, endpoints, named)
    params |= _asked(arm, call, provider_of(plan, deployment, endpoints), endpoints.get(deployment), missing)
    if item.timeout_s is not None:
        params["timeout"] = item.timeout_s
        if item.retry is not None and item.retry.retries and "timeout" not in item.retry.reasons:
            whole = "from the beginning of each attempt, not of the request"
            missing.append(f"deployment {deployment}: LiteLLM counts its {item.timeout_s:g} s {whole}")
    if isinstance(item, Api):
        for key, limit in (("rpm", item.requests_per_minute), ("tpm", item.tokens_per_minute)):
            if limit is not None:
                params[key] = max(math.floor(limit), 1)
                if params[key] != limit:
                    missing.append(
                        f"deployment {deployment}: a limit of {limit:g} a minute, which is taken as {params[key]}"
                    )
        missing += [
            f"deployment {deployment}: {key} {limit:,.10g}, a limit of its own"
            for key, limit in item.rate_limits.items()
            if key in ("input_tokens_per_minute", "output_tokens_per_minute")
        ]
        if item.limit_window_s != 60:
            missing.append(f"deployment {deployment}: LiteLLM counts limits over a minute, not {item.limit_window_s} s")
        if item.concurrency is not None:
            params["max_parallel_requests"] = item.concurrency
    params["num_retries"] = _tries(plan, deployment, "error")
    return {"model_name": group, "litellm_params": params, "model_info": {"id": group}}


def _address(
    plan: SavedPlan, deployment: str, endpoints: Mapping[str, Endpoint], named: dict[str, str]
) -> dict[str, Any]:
    """Where a deployment stands, and the variables that say it where the plan and its endpoints do not."""
    model = model_of(plan, deployment, endpoints)
    item, endpoint = plan.scenario.deployments[deployment], endpoints.get(deployment)
    if endpoint is not None:
        key = "none" if endpoint.key_env is None else f"os.environ/{endpoint.key_env}"
        if endpoint.key_env is not None:
            named[endpoint.key_env] = f"key of {deployment}"
        return {"model": f"openai/{model}", "api_base": endpoint.url, "api_key": key}
    provider = provider_of(plan, deployment, endpoints)
    if provider in PREFIXES and isinstance(item, Api):
        prefix, own_key = PREFIXES[provider]
        named[own_key] = f"key of {provider}"
        return {"model": f"{prefix}/{model}", "api_key": f"os.environ/{own_key}"}
    place, key = variable(plan, deployment, "URL"), variable(plan, deployment, "KEY")
    named[place] = f"url of {deployment}, such as http://localhost:8000/v1"
    named[key] = f"key of {deployment}; any word where it takes none"
    address = {"api_base": f"os.environ/{place}", "api_key": f"os.environ/{key}"}
    return {"model": f"openai/{model}", **address}


def _asked(
    arm: str, call: Attempt | None, provider: str | None, endpoint: Endpoint | None, missing: list[str]
) -> dict[str, Any]:
    """Limits, effort and thinking of one call."""
    of = f"arm {arm}"
    if call is None:
        missing.append(f"{of}: one plain call is made instead of its strategy")
        return {}
    if call.times > 1:
        missing.append(f"{of}: one of its {call.times} attempts is made")
    if call.stage is not None:
        missing.append(f"{of}: its last stage alone is asked")
    params: dict[str, Any] = {}
    said: list[str] = []
    native = (
        {"anthropic": anthropic.body_of, "google": gemini.body_of}.get(provider or "") if endpoint is None else None
    )
    if native is not None:
        try:
            params = _as_litellm(native(call, said))
        except NotTakenError as error:
            said.append(f"nothing is said of its thinking: {error}")
            params = {} if call.cap is None or call.forced else {"max_tokens": call.cap}
        if call.effort is not None and "reasoning_effort" not in params:
            said.append(f"was measured at effort {call.effort}, which is not said to {call.model} here")
    else:
        if call.forced:
            said.append(f"its cap of {call.cap:,} tokens is one of thinking alone, and is not told to {call.model}")
        elif call.cap is not None:
            params["max_tokens" if endpoint is None else endpoint.limit_by] = call.cap
        if call.effort is not None:
            params |= {"reasoning_effort": call.effort, "allowed_openai_params": ["reasoning_effort"]}
        own = {key: value for key, value in call.own.items() if not (key in LIMITS and call.cap is not None)}
        if own:
            params["extra_body"] = own
    missing += [f"{of}: {line}" for line in dict.fromkeys(said)]
    return params


def _as_litellm(body: Mapping[str, Any]) -> dict[str, Any]:
    """A provider's own body in the words of LiteLLM, which it puts into the provider's again."""
    generation = body.get("generationConfig", body)
    params = {"max_tokens": most} if (most := generation.get("maxOutputTokens", generation.get("max_tokens"))) else {}
    if thinking := generation.get("thinking"):
        params["thinking"] = thinking
    given = generation.get("thinkingConfig", {})
    if given.get("thinkingBudget", -1) >= 0:  # -1 leaves it to the model, as saying nothing does where thinking is on
        params["thinking"] = {"type": "enabled", "budget_tokens": given["thinkingBudget"]}
    if "thinkingLevel" in given:
        params["reasoning_effort"] = given["thinkingLevel"].lower()
    return params


def limit_of(plan: SavedPlan, arm: str, endpoints: Mapping[str, Endpoint]) -> tuple[str, int | None]:
    """By which key an arm's output is limited, and to how many tokens, thinking and answer together."""
    deployment, call = stand_in(plan, arm, endpoints)
    key = endpoints[deployment].limit_by if deployment in endpoints else "max_tokens"
    return key, None if call is None or call.forced else call.cap


def _tries(plan: SavedPlan, deployment: str, *reasons: str) -> int:
    """How often a call is repeated for any of these reasons."""
    retry = plan.scenario.deployments[deployment].retry
    return retry.retries if retry is not None and set(reasons) & set(retry.reasons) else 0


def retry_policy(plan: SavedPlan, deployment: str) -> dict[str, int]:
    """How often a call is repeated, by LiteLLM's kinds of errors; what no kind is of goes by ``num_retries``."""
    errors = _tries(plan, deployment, "error")
    return {
        "BadRequestErrorRetries": 0,
        "AuthenticationErrorRetries": 0,
        "ContentPolicyViolationErrorRetries": 0,
        "TimeoutErrorRetries": _tries(plan, deployment, "timeout"),
        "RateLimitErrorRetries": _tries(plan, deployment, "rate_limit", "queue_full"),
        "InternalServerErrorRetries": errors,
    }


__all__ = ["limit_of", "model_entry", "retry_policy"]
