"""Which plan an export was made of, so that what runs beside it can refuse another one."""

from __future__ import annotations

import hashlib
import json

from ttc_sim.optimizer.plan import SavedPlan


def fingerprint(plan: SavedPlan) -> str:
    """16 hexadecimal digits of all that the plan says of arms, deployments, policy and workload, wherever its files stand.

    Which predictor it is, the plan says itself, and whoever routes by it checks.
    """
    said = plan.scenario.model_dump(mode="json", exclude={"path", "predictor", "predictor_sha256"}, exclude_none=True)
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


__all__ = ["fingerprint"]
