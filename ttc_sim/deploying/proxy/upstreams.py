"""Where arms of a plan are asked, and how patiently, as its scenario says of their deployments."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ttc_sim.base.errors import InputError
from ttc_sim.collecting.endpoints import address, key_from
from ttc_sim.deploying.endpoints import Endpoint
from ttc_sim.optimizer.plan import SavedPlan
from ttc_sim.scenario import Api, PoolRetry, Retry
from ttc_sim.serving.prices import TokenPrices, resolve_price

ASK_ONCE = PoolRetry(retries=0)


@dataclass(frozen=True)
class Upstream:
    """One deployment, as it is asked.

    Attributes:
        deployment: its name; endpoint: as the user's file has it.
        address: of its chat completions; key: sent as a bearer token, and never shown.
        timeout_s, deadline_s, retry: as the plan's scenario has them.
        prices: of its tokens; ``None`` for a pool, which is paid by the hour.
    """

    deployment: str
    endpoint: Endpoint
    address: str
    key: str | None = field(repr=False)
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
            raise InputError(where, "deployment", list(endpoints), f"an url and a model for {name} too, which the plan uses")
        endpoint, settings = endpoints[name], plan.scenario.deployments[name]
        try:
            at = address(endpoint.url)
        except InputError as error:
            raise InputError(where, f"{name}.url", error.value, error.expected) from None
        is_api = isinstance(settings, Api)
        found[name] = Upstream(
            deployment=name,
            endpoint=endpoint,
            address=at,
            key=key_from(endpoint.key_env, f"{where}: {name}.key_env"),
            timeout_s=settings.timeout_s,
            deadline_s=settings.deadline_s,
            retry=settings.retry or ASK_ONCE,
            prices=resolve_price(settings.price, where=plan.scenario.path, field=f"deployments.{name}.price")
            if is_api
            else None,
        )
    return found


__all__ = ["Upstream", "read_upstreams"]
