"""Bodies of requests to OpenAI's chat completions: limits and reasoning effort, arm by arm.

Checked against the types of the package ``openai`` 3.57.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ttc_sim.deploying.endpoints import Endpoint
from ttc_sim.deploying.exports.attempts import LIMITS, Attempt, bodies
from ttc_sim.deploying.exports.target import Export
from ttc_sim.optimizer.plan import SavedPlan

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""That the API knows; not every model takes every one."""


def export(plan: SavedPlan, endpoints: Mapping[str, Endpoint]) -> Export:
    """Bodies of the arms that OpenAI, or Azure, serves."""
    how = (
        "arms.json: for each arm, what to send beside messages: client.chat.completions.create(messages=..., **body),",
        "so many times as it says. Which arm a request goes to, runtime.route(prompt) of ttc_sim says.",
    )
    return bodies(plan, endpoints, "OpenAI", ("openai", "azure"), _body, {"cap", "effort"}, how, own_is_sent=True)


def _body(one: Attempt, missing: list[str]) -> Mapping[str, Any]:
    capped = one.cap is not None and not one.forced
    body = {key: value for key, value in one.own.items() if not (capped and key in LIMITS)} | {"model": one.model}
    # A limit on thinking alone there is none.
    if capped:
        body["max_completion_tokens"] = one.cap
    if one.cap is not None and one.forced:
        missing.append(f"its cap of {one.cap:,} tokens is one of thinking alone, which the API does not take")
    if one.effort in EFFORTS:
        body["reasoning_effort"] = one.effort
    elif one.effort is not None:
        missing.append(f"effort {one.effort}, which the API does not know: it has {', '.join(EFFORTS)}")
    return body


__all__ = ["export"]
