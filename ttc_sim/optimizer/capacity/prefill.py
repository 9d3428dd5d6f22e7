"""Replicas that take prompts in apart: how many to try, and whether that pays."""

from __future__ import annotations

from collections.abc import Mapping

from ttc_sim.base.errors import InputError
from ttc_sim.scenario import GpuPool, PoolSearch, Scenario
from ttc_sim.scenario.deployments import Prefill
from ttc_sim.scenario.disaggregated import check_apart

Variant = tuple[GpuPool, str | None, int, str | None, str | None]
"""A pool on some hardware: and its GPU, GPUs of a replica, precision and option, as far as these are said."""


def with_prefill(
    scenario: Scenario, name: str, own: GpuPool, searched: PoolSearch, variants: Mapping[str, Variant | str]
) -> dict[str, Variant | str]:
    """Each hardware with every number of replicas that take prompts in apart.

    Raises:
        InputError: a pool that cannot have any.
    """
    if searched.prefill is None:
        return dict(variants)
    found: dict[str, Variant | str] = {}
    for label, variant in variants.items():
        for count in sorted(searched.prefill):
            if isinstance(variant, str):
                found[label] = variant
                continue
            pool = variant[0]
            changes: dict[str, object] = {"prefill": None, "kv_transfer": None}
            if count:
                prefill = (own.prefill or Prefill(replicas=count)).model_copy(update={"replicas": count})
                changes = {
                    "prefill": _priced(scenario, prefill),
                    "kv_transfer": searched.kv_transfer or own.kv_transfer,
                }
            pool = pool.model_copy(update=changes)
            try:
                check_apart(pool)
            except ValueError as error:
                raise InputError(scenario.path, f"search.pools.{name}.prefill", count, str(error)) from None
            found[f"{label}, {count} for prefill" if count else label] = (pool, *variant[1:])
    return found


def _priced(scenario: Scenario, prefill: Prefill) -> Prefill:
    """At the price that the search gives for its own GPU, if it has one."""
    price = scenario.search.usd_per_gpu_hour.get(str(prefill.gpu))
    if price is None or prefill.usd_per_replica_hour is not None:
        return prefill
    return prefill.model_copy(update={"usd_per_replica_hour": (prefill.tensor_parallel or 1) * price})
