"""What an export is, and the exports that there are."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ttc_sim.base.errors import InputError, nearest
from ttc_sim.deploying.endpoints import Endpoint
from ttc_sim.optimizer.plan import SavedPlan


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

TARGETS: Mapping[str, str] = {}
"""Names of exports, each with its function as ``module:function``; modules stand in this folder."""


def export_plan(plan: SavedPlan, to: str, endpoints: Mapping[str, Endpoint] | None = None) -> Export:
    """A plan for one consumer.

    Args:
        plan: saved.
        to: name of the consumer, one of :data:`TARGETS`.
        endpoints: where deployments stand, by name; what is left out stands as a placeholder that the export names.

    Raises:
        InputError: no consumer of that name; or one that cannot carry out anything of the plan.
    """
    if to not in TARGETS:
        raise InputError("export", "to", to, nearest(to, list(TARGETS)))
    module, _, function = TARGETS[to].partition(":")
    target: Target = getattr(importlib.import_module(f"ttc_sim.deploying.exports.{module}"), function)
    return target(plan, endpoints or {})


__all__ = ["TARGETS", "Export", "Target", "export_plan"]
