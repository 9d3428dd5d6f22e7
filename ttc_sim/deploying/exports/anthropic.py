"""Bodies of requests to Anthropic's messages: limits, thinking budgets and effort, arm by arm.

Which models take a budget, and which only adaptive thinking, is as of Anthropic's documentation of November 2026; the bodies are
checked against the types of the package ``anthropic`` 2.14.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ttc_sim.deploying.endpoints import Endpoint
from ttc_sim.deploying.exports.attempts import Attempt, NotTakenError, bodies
from ttc_sim.deploying.exports.target import Export
from ttc_sim.optimizer.plan import SavedPlan

LEAST_BUDGET = 1024
"""Tokens of thinking that a budget may ask for, at least; it must be less than ``max_tokens``."""
EFFORTS = ("low", "medium", "high", "xhigh", "max")
_THINKS, _ADAPTS, _ADAPTS_ONLY = (3, 7), (4, 6), (4, 7)  # the first versions that think, adapt, and take no budget
_VERSION = re.compile(r"claude-(?:[a-z]+-)?(\d+)(?:[-.](\d))?(?![\d.])")


def export(plan: SavedPlan, endpoints: Mapping[str, Endpoint]) -> Export:
    """Bodies of the arms that Anthropic serves."""
    how = (
        "arms.json: for each arm, what to send beside messages: client.messages.create(messages=..., **body), so many",
        "times as it says; with max_tokens above 21,333, streamed. Which arm a request goes to, runtime.route(prompt) of",
        "ttc_sim says.",
    )
    return bodies(plan, endpoints, "Anthropic", ("anthropic",), body_of, {"cap", "effort", "forced answer"}, how)


def version_of(model: str) -> tuple[int, int] | None:
    """Of a Claude model, by its name: ``claude-sonnet-4-5-20250929`` is (4, 5); ``None`` where the name does not say.

    >>> version_of("claude-3-7-sonnet-20250219"), version_of("claude-sonnet-4-20250514"), version_of("claude-opus-5")
    ((3, 7), (4, 0), (5, 0))
    """
    found = _VERSION.search(model)
    return None if found is None else (int(found[1]), int(found[2] or 0))


def body_of(one: Attempt, missing: list[str]) -> Mapping[str, Any]:
    """Body of one call to Anthropic's messages; what of it is not expressed is added to ``missing``.

    Raises:
        NotTakenError: the API does not take such a call.
    """
    version = version_of(one.model)
    forced = one.forced and _takes_budget(version)
    if one.forced and not forced:
        missing.append(f"{one.model} takes no budget of thinking, at which its answer would be forced")
    body: dict[str, Any] = {"model": one.model, "max_tokens": _most(one)}
    if forced:
        body["thinking"] = {"type": "enabled", "budget_tokens": _budget(one, int(one.cap or 0))}
    elif version is None:
        missing.append(f"of {one.model} it is not known how it thinks, which is left to its default")
    elif one.thinks is None:
        missing.append("whether it thought when it was measured is not known, which is left to the model's default")
    elif not one.thinks:
        if version >= _ADAPTS_ONLY:
            missing.append(f"was measured without thinking, which is left to the default of {one.model}")
        elif version >= _THINKS:
            body["thinking"] = {"type": "disabled"}
    elif version >= _ADAPTS:
        body["thinking"] = {"type": "adaptive"}
    elif version >= _THINKS:
        body["thinking"] = {"type": "enabled", "budget_tokens": _budget(one, body["max_tokens"] - 1)}
    if one.effort is not None:
        if one.effort in EFFORTS and version is not None and version >= _ADAPTS:
            body["output_config"] = {"effort": one.effort}
        else:
            missing.append(f"effort {one.effort}, which {one.model} does not take")
    return body


def _takes_budget(version: tuple[int, int] | None) -> bool:
    return version is not None and _THINKS <= version < _ADAPTS_ONLY


def _most(one: Attempt) -> int:
    """``max_tokens``, which the API has to be told: thinking and answer together."""
    if one.cap is not None and not one.forced:
        return one.cap
    if one.limit is None or (one.cap is not None and one.limit <= one.cap):
        more = "" if one.cap is None else f" above {one.cap:,}, to leave room for its answer"
        told = "body: {max_tokens: ...} of its deployment in --endpoints"
        raise NotTakenError(f"Anthropic has to be told max_tokens{more}, and nothing says how many: give {told}")
    return one.limit


def _budget(one: Attempt, budget: int) -> int:
    if budget < LEAST_BUDGET:
        raise NotTakenError(
            f"a cap of {one.cap or one.limit:,} tokens leaves no room for the least budget, {LEAST_BUDGET:,} of thinking"
        )
    return budget


__all__ = ["body_of", "export", "version_of"]
