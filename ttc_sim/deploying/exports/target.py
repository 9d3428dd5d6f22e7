"""What an export is, and the exports that there are."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ttc_sim.base.errors import InputError, nearest
from ttc_sim.base.shipped import PREDICTORS
from ttc_sim.deploying.endpoints import Endpoint
from ttc_sim.deploying.exports.bands import needs_predictor
from ttc_sim.measured.provenance import identify
from ttc_sim.optimizer.plan import SavedPlan
from ttc_sim.predictor.running.planned import planned_predictor


@dataclass(frozen=True)
class Export:
    """What one consumer takes of a plan.

    Attributes:
        files: by name, below the folder that is written to.
        not_expressed: what of the plan the consumer cannot do, a sentence each. What is not listed is done.
        how: lines that say how to run it.
    """

    files: Mapping[str, str | bytes]
    not_expressed: tuple[str, ...]
    how: tuple[str, ...]


Target = Callable[[SavedPlan, Mapping[str, Endpoint]], Export]
"""Takes the plan, and where its deployments stand, as far as that was said."""

# A new one is a file in this folder and one line here, in the order of the names.
TARGETS: Mapping[str, str] = {
    "anthropic": "anthropic:export",
    "gemini": "gemini:export",
    "kubernetes": "kubernetes:export",
    "litellm": "litellm:export",
    "onnx": "onnx:export",
    "openai": "openai:export",
    "python": "python_function:export",
    "semantic-router": "semantic_router:export",
    "typescript": "typescript_function:export",
    "vllm": "vllm:export",
}
"""Names of exports, each with its function as ``module:function``; modules stand in this folder."""


def export_plan(
    plan: SavedPlan,
    to: str,
    endpoints: Mapping[str, Endpoint] | None = None,
    *,
    predictor: str | Path | None = None,
) -> Export:
    """A plan for one consumer.

    Args:
        plan: saved.
        to: name of the consumer, one of :data:`TARGETS`.
        endpoints: where deployments stand, by name; what is left out stands as a placeholder that the export names.
        predictor: where the ONNX file of the plan's predictor stands now, if elsewhere.

    Raises:
        InputError: no consumer of that name; one that cannot carry out anything of the plan; or a predictor that the plan needs
            and that is missing or another one.
    """
    if to not in TARGETS:
        raise InputError("export", "to", to, nearest(to, list(TARGETS)))
    for name in endpoints or {}:
        if name not in plan.scenario.deployments:
            raise InputError("export", "endpoints", name, nearest(str(name), list(plan.scenario.deployments)))
    module, _, function = TARGETS[to].partition(":")
    target: Target = getattr(importlib.import_module(f"ttc_sim.deploying.exports.{module}"), function)
    made = target(_with_predictor(plan, predictor), endpoints or {})
    return replace(made, not_expressed=tuple(dict.fromkeys(made.not_expressed)))


def _with_predictor(plan: SavedPlan, given: str | Path | None) -> SavedPlan:
    """The plan, with its predictor where that is now: checked where a source's requests are routed by a predicted score."""
    if given is None and not needs_predictor(plan):
        return plan
    scenario = plan.scenario
    file, _ = planned_predictor(scenario, given)
    named = scenario.predictor
    if given is not None:
        here = os.path.relpath(Path(given).resolve(), scenario.folder)
        named = str(given) if str(given) in PREDICTORS else Path(here).as_posix()
    known = {"predictor": named, "predictor_sha256": identify(file).sha256}
    return replace(plan, scenario=scenario.model_copy(update=known))


__all__ = ["TARGETS", "Export", "Target", "export_plan"]
