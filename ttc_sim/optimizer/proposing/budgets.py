"""Hard budgets as what a proposer can limit: expected US dollars of API calls over the busiest day.

A plan that would spend a budget before the day is over leaves the rest of the day to the budget's end, which knows nothing of which
requests are worth most. So a proposal keeps within it in expectation; what happens all the same is for simulation to see.
"""

from __future__ import annotations

import math

import numpy as np

from ttc_sim.base.draws import F64
from ttc_sim.base.times import DAY_S
from ttc_sim.scenario import Scenario, Target, first_turn_s


def budget_targets(scenario: Scenario, busiest: float = 1.0) -> list[Target]:
    """Budgets as targets on the cost of a day: of API calls alone, whoever pays for pools.

    Args:
        busiest: requests of the busiest day, as a multiple of those of a day at the mean rate.
    """
    if scenario.budget is None:
        return []
    return [
        Target(
            name="budget" if source is None else f"budget.sources.{source}",
            key="cost_usd_per_day",
            bound=float(one.usd_per_day or math.inf) / busiest,
            source=source,
        )
        for source, one in scenario.budget.of_all.items()
    ]


def busiest_day(scenario: Scenario, arrival_s: F64, rate_per_s: float) -> float:
    """Requests of the busiest whole day of a budget among these arrivals, as a multiple of those at the mean rate, at least 1."""
    if scenario.budget is None or not len(arrival_s) or not math.isfinite(rate_per_s):
        return 1.0
    first_s = first_turn_s(scenario)
    whole = int((float(np.max(arrival_s)) - first_s) // DAY_S) if np.max(arrival_s) > first_s else 0
    turns = first_s + DAY_S * np.arange(-1 if first_s == DAY_S else 0, whole + 1)
    counts = np.histogram(arrival_s, turns)[0] if len(turns) > 1 else np.zeros(0)
    return max(float(np.max(counts, initial=0)) / (rate_per_s * DAY_S), 1.0)
