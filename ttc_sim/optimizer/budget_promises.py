"""What a plan must keep of hard budgets, where the runs that it is made by are too short to show their end."""

from __future__ import annotations

from ttc_sim.base.estimates import Estimate
from ttc_sim.scenario import Target
from ttc_sim.simulation.summary import Summary


def kept_within(summary: Summary, confidence: float) -> list[tuple[Target, Estimate, str]]:
    """Budgets as targets, with what is spent a day at the rate of runs that cover less than one, and the target in words.

    Runs of a day and more show what becomes of requests at the end of a budget: their figures have it, and nothing is left to be
    kept.
    """
    if summary.budget is None:
        return []
    found = []
    own = [] if summary.budget.all is None else [("budget", None, summary.budget.all)]
    for name, source, one in (
        *own,
        *((f"budget.sources.{key}", key, one) for key, one in summary.budget.sources.items()),
    ):
        covered = sum(day.covered for day in one.days)
        if 0 < covered < 1:
            spent = [sum(getattr(day.spent_usd, end) for day in one.days) / covered for end in ("value", "low", "high")]
            words = "budget a day" if source is None else f"budget a day of {source}"
            target = Target(name, "cost_usd_per_day", one.usd_per_day, source, confidence=confidence)
            found.append((target, Estimate(*spent), f"{words}, at the rate of the runs"))
    return found
