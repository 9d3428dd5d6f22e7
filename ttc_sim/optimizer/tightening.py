"""Limits for the next proposal, moved by what simulation saw missing."""

from __future__ import annotations

from dataclasses import replace

from ttc_sim.base.times import DAY_S
from ttc_sim.optimizer.looking import Simulated
from ttc_sim.optimizer.promises import BALANCED, TargetCheck
from ttc_sim.optimizer.proposing.proposal import Limits
from ttc_sim.scenario import GpuPool


def tightened(limits: Limits, simulated: Simulated) -> Limits:
    """The limits, moved by what simulation saw missing."""
    for check in simulated.checks:
        if check.holds:
            continue
        missed_usd = check.name in ("cost_usd_per_request", "cost_usd_per_day")
        gap = check.gap
        if check.name in ("accuracy", "cut_off_rate") and limits.accuracy is not None:
            limits = replace(limits, accuracy=limits.accuracy + 1.05 * gap + 1e-4)
        elif missed_usd and limits.cost_usd_per_request is not None:
            if check.name == "cost_usd_per_day":
                gap /= simulated.summary.rate_per_s * DAY_S
            limits = replace(limits, cost_usd_per_request=max(limits.cost_usd_per_request - 1.05 * gap, 0.0))
        elif check.name in limits.late:
            late = {**limits.late, check.name: limits.late[check.name] * _less(check)}
            limits = replace(limits, late=late)
            if _uses_pools(simulated) and not check.name.endswith(BALANCED):
                limits = replace(limits, utilization=limits.utilization * 0.9)
        elif check.name.endswith(
            "rejected_rate"
        ):  # nothing is known of rejections but that fewer come where there is room
            limits = replace(limits, utilization=limits.utilization * 0.9)
        elif check.name == "timeout_rate" and limits.timeout_rate is not None:
            limits = replace(limits, timeout_rate=limits.timeout_rate * 0.7, utilization=limits.utilization * 0.9)
    return limits


def _less(check: TargetCheck) -> float:
    """By how much less of an objective may be broken than before, as a factor."""
    allowed = 1 - check.bound if check.at_least else check.bound
    return min(max(allowed / (allowed + check.gap), 0.5), 0.97) if allowed + check.gap > 0 else 0.5


def _uses_pools(simulated: Simulated) -> bool:
    """Whether any request went to an arm on a GPU pool."""
    model = simulated.model
    return any(
        arm.name in simulated.summary.per_arm and isinstance(model.deployments[arm.deployment], GpuPool)
        for arm in model.arms
    )


def between(loose: Limits, tight: Limits) -> Limits:
    """Halfway between two limits of one search."""

    def middle(a: float | None, b: float | None) -> float | None:
        return None if a is None or b is None else (a + b) / 2

    return Limits(
        accuracy=middle(loose.accuracy, tight.accuracy),
        cost_usd_per_request=middle(loose.cost_usd_per_request, tight.cost_usd_per_request),
        late={name: (most + tight.late[name]) / 2 for name, most in loose.late.items()},
        timeout_rate=middle(loose.timeout_rate, tight.timeout_rate),
        utilization=(loose.utilization + tight.utilization) / 2,
    )
