"""Where arms of a plan are asked, and how patiently, as its scenario says of their deployments."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from ttc_sim.base.errors import InputError
from ttc_sim.collecting.endpoints import Endpoint as Address
from ttc_sim.collecting.endpoints import address, key_from
from ttc_sim.deploying.endpoints import Endpoint
from ttc_sim.optimizer.plan import SavedPlan
from ttc_sim.scenario import PoolRetry, Retry
from ttc_sim.serving.prices import TokenPrices, price_of

ASK_ONCE = PoolRetry(retries=0)


@dataclass(frozen=True)
class Upstream:
    """One deployment, as it is asked.

    Attributes:
        deployment: its name; endpoint: as the user's file has it; address: where chat completions are asked for, with the key.
        timeout_s, deadline_s, retry: as the plan's scenario has them.
        prices: of its tokens; ``None`` for a pool, which is paid by the hour.
    """

    deployment: str
    endpoint: Endpoint
    address: Address
    timeout_s: float | None
    deadline_s: float | None
    retry: Retry | PoolRetry
    prices: TokenPrices | None

    @property
    def busy(self) -> str:
        """Reason for which a call that is turned away for now is repeated, as the scenario calls it."""
        return "queue_full" if self.prices is None else "rate_limit"


def read_upstreams(
    plan: SavedPlan, endpoints: Mapping[str, Endpoint], needed: Collection[str], where: str | Path
) -> dict[str, Upstream]:
    """Deployments that requests may go to, ready to be asked.

    Args:
        needed: names of the deployments; where: file of the endpoints, to be named in errors.

    Raises:
        InputError: a deployment without an endpoint, an address that is none, or a key that is not in the environment.
    """
    found = {}
    for name in dict.fromkeys(needed):
        if name not in endpoints:
            expected = f"an url and a model for {name} too, which the plan uses"
            raise InputError(where, "deployment", ", ".join(endpoints), expected)
        settings = plan.scenario.deployments[name]
        found[name] = Upstream(
            deployment=name,
            endpoint=endpoints[name],
            address=_address(name, endpoints[name], where),
            timeout_s=settings.timeout_s,
            deadline_s=settings.deadline_s,
            retry=settings.retry or ASK_ONCE,
            prices=price_of(plan.scenario, name),
        )
    return found


def _address(name: str, endpoint: Endpoint, where: str | Path) -> Address:
    try:
        url = address(endpoint.url)
    except InputError as error:
        raise InputError(where, f"{name}.url", error.value, error.expected) from None
    try:
        key = key_from(endpoint.key_env)
    except InputError as error:
        expected = f"the key of {name}, as key_env says in {where}"
        raise InputError("environment", error.field, error.value, expected) from None
    # Limits of time and whatever else goes along are the caller's.
    return Address(url, endpoint.model, endpoint.limit_by, None, {}, math.inf, key=key)


__all__ = ["Upstream", "read_upstreams"]
