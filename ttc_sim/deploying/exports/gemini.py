"""Bodies of requests to Gemini's generateContent: limits, thinking budgets and thinking levels, arm by arm.

Ranges of budgets, and which models take levels instead, are as of Google's documentation of November 2026; the bodies are checked
against the types of the package ``google-genai`` 3.6.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ttc_sim.deploying.endpoints import Endpoint
from ttc_sim.deploying.exports.attempts import Attempt, bodies
from ttc_sim.deploying.exports.target import Export
from ttc_sim.optimizer.plan import SavedPlan

BUDGETS = {
    "gemini-2.5-flash-lite": (512, 24_576, True),
    "gemini-2.5-flash": (1, 24_576, True),
    "gemini-2.5-pro": (128, 32_768, False),
}
"""Fewest and most tokens of a thinking budget, and whether thinking can be turned off, by what a model's name begins with."""
LEVELS = ("minimal", "low", "medium", "high")
DYNAMIC = -1
"""The budget with which the model decides."""
_NEVER_THINK = ("gemini-1", "gemini-2.0")


def export(plan: SavedPlan, endpoints: Mapping[str, Endpoint]) -> Export:
    """Bodies of the arms that Google serves."""
    how = (
        "arms.json: for each arm, what to send beside contents: POST .../models/MODEL:generateContent with",
        '{"contents": ..., "generationConfig": ...}, so many times as it says. Which arm a request goes to,',
        "runtime.route(prompt) of ttc_sim says.",
    )
    return bodies(plan, endpoints, "Google", ("google",), body_of, {"cap", "effort", "forced answer"}, how)


def body_of(one: Attempt, missing: list[str]) -> Mapping[str, Any]:
    """Body of one call to Gemini's generateContent; what of it is not expressed is added to ``missing``."""
    name = one.model.removeprefix("google/").removeprefix("models/")
    generation: dict[str, Any] = {}
    if one.cap is not None and not one.forced:
        generation["maxOutputTokens"] = one.cap
    elif one.limit is not None and one.cap is not None and one.limit > one.cap:
        generation["maxOutputTokens"] = one.limit
    family = next((key for key in BUDGETS if name.startswith(key)), None)
    if family is not None:
        thinking = _budget(one, family, missing)
    elif name.startswith(_NEVER_THINK):
        thinking = {}
        _unless_idle(one, f"{one.model} does not think", missing)
    elif name.startswith("gemini-"):
        thinking = _level(one, missing)
    else:
        thinking = {}
        _unless_idle(one, f"of {one.model} it is not known how it thinks", missing)
    if thinking:
        generation["thinkingConfig"] = thinking
    return {"model": name, "generationConfig": generation}


def _unless_idle(one: Attempt, why: str, missing: list[str]) -> None:
    if one.thinks or one.forced:
        missing.append(f"{why}: nothing is said of its thinking")


def _budget(one: Attempt, family: str, missing: list[str]) -> dict[str, Any]:
    least, most, may_stop = BUDGETS[family]
    if one.effort is not None:
        missing.append(f"effort {one.effort}: {one.model} takes budgets, no levels")
    if one.forced:
        if least <= int(one.cap or 0) <= most:
            return {"thinkingBudget": one.cap}
        missing.append(f"a budget of {one.cap:,} tokens of thinking: {one.model} takes {least:,} to {most:,}")
        return {"thinkingBudget": DYNAMIC}
    if one.thinks:
        return {"thinkingBudget": DYNAMIC}
    if one.thinks is None:
        missing.append("whether it thought when it was measured is not known, which is left to the model's default")
        return {}
    if may_stop:
        return {"thinkingBudget": 0}
    missing.append(f"was measured without thinking, which {one.model} cannot be told")
    return {}


def _level(one: Attempt, missing: list[str]) -> dict[str, Any]:
    if one.forced:
        missing.append(f"a budget of {one.cap:,} tokens of thinking: {one.model} takes levels, no budgets")
    if one.effort in LEVELS:
        return {"thinkingLevel": str(one.effort).upper()}
    if one.effort is not None:
        missing.append(f"effort {one.effort}, which is none of the levels {', '.join(LEVELS)}")
    elif one.thinks is False:
        missing.append(f"was measured without thinking, which {one.model} cannot be told")
    elif one.thinks is None:
        missing.append("whether it thought when it was measured is not known, which is left to the model's default")
    return {}


__all__ = ["body_of", "export"]
