"""What a plan expects: itself, carried out in simulation as it was planned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ttc_sim.deploying.monitoring.served import Served, of_runs
from ttc_sim.optimizer.plan import SavedPlan
from ttc_sim.serving.prices import TokenPrices
from ttc_sim.simulation.model import Model
from ttc_sim.simulation.result import simulate
from ttc_sim.simulation.summary import Summary

_HOUR_S = 3600.0


@dataclass(frozen=True)
class Reference:
    """A plan as it is simulated.

    Attributes:
        model: what was run; served: its requests; summary: its figures.
        standing_usd_per_s: what pools and fixed fees cost a second, whatever comes.
        rate_per_s: requests.
        prices: by arm, of its deployment, where that is an endpoint and the arm has calls nowhere else.
    """

    model: Model
    served: Served
    summary: Summary
    standing_usd_per_s: float
    rate_per_s: float
    prices: Mapping[str, TokenPrices]

    @property
    def standing_usd_per_request(self) -> float:
        """What pools and fixed fees cost a request at the planned rate."""
        return self.standing_usd_per_s / self.rate_per_s if self.standing_usd_per_s else 0.0


def as_planned(saved: SavedPlan) -> Reference:
    """Carry a plan out in simulation.

    Raises:
        InputError: what its scenario names is not there.
    """
    result = simulate(saved.scenario)
    model, runs = result.model, result.runs
    standing = sum(float((run.cost_usd - run.api_cost_usd).sum()) for run in runs)
    paid_s = sum(run.paid_s for run in runs)
    prices = {}
    for arm in model.arms:
        price = model.prices[arm.deployment]
        elsewhere = arm.strategy.other_arms or any(
            one != model.deployment_names[arm.deployment] for one in arm.strategy.verifiers
        )
        if price is not None and not elsewhere:
            prices[arm.name] = price
    return Reference(
        model=model,
        served=of_runs(model, runs),
        summary=result.summary(),
        standing_usd_per_s=standing / paid_s if standing > 0 and paid_s > 0 else 0.0,
        rate_per_s=float(np.mean([run.rate_per_s for run in runs])),
        prices=prices,
    )


def longest_wait_s(model: Model) -> float:
    """After which a request that has no outcome is lost: every deployment's timeout, one after another, and a minute."""
    return sum(float(one.timeout_s or _HOUR_S) for one in model.deployments) + 60.0


__all__ = ["Reference", "as_planned", "longest_wait_s"]
