"""Fixed fees, tiers and concurrency in words."""

from __future__ import annotations

from ttc_sim.base.figures import number, percent
from ttc_sim.scenario import Scenario
from ttc_sim.scenario.tiers import chosen_of
from ttc_sim.simulation.summary import Summary


def fees_lines(summary: Summary) -> list[str]:
    """What endpoints in use cost for being there, which is part of all costs."""
    whole = summary.cost_usd_per_day.value
    lines = []
    for name, usd in summary.fees_usd_per_day.items():
        share = f", {percent(min(usd / whole, 1.0))} of the bill" if whole > 0 else ""
        lines.append(f"{name}: ${number(usd)} a day is a fixed fee{share}")
    return lines


def chosen_lines(scenario: Scenario) -> list[str]:
    """The tier and the concurrency that each deployment has, of those to choose from."""
    lines = []
    for name, chosen in chosen_of(scenario.search.tiers, scenario.search.concurrency, scenario.deployments).items():
        said = [
            (f"tier {value}" if value is not None else "a tier of its own") if key == "tier" else f"{key} {value:,}"
            for key, value in chosen.items()
        ]
        lines.append(f"{name}: {', '.join(said)}")
    return lines


def kept_lines(scenario: Scenario) -> list[str]:
    """That capacity is planned with tiers and concurrency as they stand, where there are any to choose from."""
    kept = "; ".join(chosen_lines(scenario))
    return [f"Tiers and concurrency are as they stand ({kept}): `ttc-sim optimize` chooses them."] if kept else []
