"""Fixed fees, tiers and concurrency in words."""

from __future__ import annotations

from ttc_sim.reporting.display import number, percent
from ttc_sim.scenario import Api, Scenario
from ttc_sim.scenario.tiers import concurrency_key, tier_of
from ttc_sim.simulation.summary import Summary


def fees_lines(summary: Summary) -> list[str]:
    """What endpoints in use cost for being there."""
    whole = summary.cost_usd_per_day.value
    return [
        f"{name}: ${number(usd)} a day fixed"
        + (f", {percent(min(usd / whole, 1.0))} of the bill" if whole > 0 else "")
        for name, usd in summary.fees_usd_per_day.items()
    ]


def chosen_lines(scenario: Scenario) -> list[str]:
    """The tier and the concurrency that each deployment has, of those to choose from."""
    search, lines = scenario.search, []
    for name, item in scenario.deployments.items():
        said = []
        if isinstance(item, Api) and name in search.tiers:
            tier = tier_of(item, search.tiers[name])
            said.append("a tier of its own" if tier is None else f"tier {tier.name}")
        if name in search.concurrency:
            key = concurrency_key(item)
            said.append(f"{key} {getattr(item, key):,}")
        if said:
            lines.append(f"{name}: {', '.join(said)}")
    return lines
