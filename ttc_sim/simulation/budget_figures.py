"""What budgets a day came to: spent by day, when they were exhausted, and what became of requests then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from ttc_sim.base import intervals
from ttc_sim.base.draws import F64
from ttc_sim.base.estimates import Estimate
from ttc_sim.base.times import DAY_S
from ttc_sim.engine.spending import DEGRADE, NANOS, QUEUE, REFUSE, Spending
from ttc_sim.scenario import DailyBudget, first_turn_s
from ttc_sim.simulation.pooling import Pooled
from ttc_sim.simulation.uncertainty import FEW_RUNS, Bools


@dataclass(frozen=True)
class BudgetDay:
    """One day of a budget, in the mean of the runs.

    Attributes:
        day: 0 first; begins_s, ends_s: on the clock of the run, the first from its start on.
        covered: share of 24 hours in which requests may have arrived: less than 1 of a day that the run begins or ends in.
        spent_usd: US dollars that were counted in it.
        exhausted_rate: share of the runs in which the budget was exhausted.
        exhausted_s: when, in the mean of those; earliest_s, latest_s: of all of them; ``None`` if it never was.
    """

    day: int
    begins_s: float
    ends_s: float
    covered: float
    spent_usd: Estimate
    exhausted_rate: float
    exhausted_s: float | None
    earliest_s: float | None
    latest_s: float | None


@dataclass(frozen=True)
class BudgetFigures:
    """One budget, of all requests or of a source.

    Attributes:
        usd_per_day, at_end, to: as the scenario has them.
        days: from the first to the last in which anything arrived or was spent.
        degraded, queued, refused: share of the requests that count in it that went to another arm, waited for a day to end, or were
            rejected because of a budget, be it this one or the other one that they count in.
    """

    usd_per_day: float
    at_end: str
    to: str | None
    days: tuple[BudgetDay, ...]
    degraded: Estimate
    queued: Estimate
    refused: Estimate

    @property
    def spent_usd(self) -> float:
        """US dollars of a run."""
        return sum(one.spent_usd.value for one in self.days)


@dataclass(frozen=True)
class BudgetReport:
    """All budgets of a scenario.

    Attributes:
        all: that of all requests; ``None`` without one. sources: those of sources.
    """

    all: BudgetFigures | None
    sources: Mapping[str, BudgetFigures]

    @property
    def named(self) -> dict[str, BudgetFigures]:
        """Both, in words."""
        own = {} if self.all is None else {"all requests": self.all}
        return {**own, **{f"source {name}": one for name, one in self.sources.items()}}

    def as_json(self) -> dict[str, object]:
        """Plain mapping."""
        return {name: value for name, value in asdict(self).items() if value}


def budget_report(pooled: Pooled) -> BudgetReport | None:
    """Of all runs; ``None`` without a budget."""
    budget = pooled.model.scenario.budget
    spendings = [run.result.spending for run in pooled.runs]
    known = [one for one in spendings if one is not None]
    if budget is None or len(known) < len(spendings):
        return None
    sources, found = pooled.runs[0].requests.sources, dict[str | None, BudgetFigures]()
    for k, (source, one) in enumerate(budget.of_all.items()):
        members = pooled.all.requests
        if source is not None:
            members = pooled.source == sources.index(source) if source in sources else ~members
        found[source] = _figures(pooled, known, k, one, members)
    return BudgetReport(found.get(None), {name: one for name, one in found.items() if name is not None})


def _figures(pooled: Pooled, spendings: list[Spending], k: int, one: DailyBudget, members: Bools) -> BudgetFigures:
    done = np.concatenate([spending.done for spending in spendings])

    def share(bit: int) -> Estimate:
        return pooled.share(done & bit > 0, members, lambda other: other.done & bit > 0)

    return BudgetFigures(
        usd_per_day=float(one.usd_per_day or 0.0),
        at_end=str(one.at_end),
        to=one.to,
        days=_days(pooled, spendings, k, float(one.usd_per_day or 0.0), members),
        degraded=share(DEGRADE),
        queued=share(QUEUE),
        refused=share(REFUSE),
    )


def _days(pooled: Pooled, spendings: list[Spending], k: int, limit_usd: float, members: Bools) -> tuple[BudgetDay, ...]:
    first_s, runs = first_turn_s(pooled.model.scenario), len(pooled.runs)
    sent_s = np.concatenate([spending.sent_s for spending in spendings])
    sent_in = np.where(np.isnan(sent_s), -1, _day_of(np.nan_to_num(sent_s), first_s))
    lasts = [run.draws.traffic.lasts_s for run in pooled.runs]
    arrive_s = [float(np.nanmax(run.result.arrival_s)) for run in pooled.runs]
    covered_s = float(np.mean([last if s is None else s for last, s in zip(arrive_s, lasts, strict=True)]))
    # Nothing counts after the last of these.
    count = max(int(_day_of(np.array([max(arrive_s)]), first_s)[0]) + 1, *(len(one.spent) for one in spendings))
    spent, exhausted_s = np.zeros((runs, count)), np.full((runs, count), np.nan)
    for run, one in enumerate(spendings):
        spent[run, : len(one.spent)], exhausted_s[run, : len(one.spent)] = (
            one.spent[:, k] / NANOS,
            one.exhausted_s[:, k],
        )
    found = []
    for day in range(count):
        begins_s = 0.0 if day == 0 else first_s + (day - 1) * DAY_S
        ends_s = first_s + day * DAY_S
        moments = exhausted_s[:, day][~np.isnan(exhausted_s[:, day])]
        found.append(
            BudgetDay(
                day=day,
                begins_s=begins_s,
                ends_s=ends_s,
                covered=max(min(ends_s, covered_s) - begins_s, 0.0) / DAY_S,
                spent_usd=_spent(pooled, spent[:, day], members & (sent_in == day), len(moments) == runs, limit_usd),
                exhausted_rate=len(moments) / runs,
                exhausted_s=float(moments.mean()) if len(moments) else None,
                earliest_s=float(moments.min()) if len(moments) else None,
                latest_s=float(moments.max()) if len(moments) else None,
            )
        )
    return tuple(found)


def _spent(pooled: Pooled, spent_usd: F64, sent: Bools, exhausted: bool, limit_usd: float) -> Estimate:
    """Of one day in each run: uncertain as what its requests cost is or, where all runs spend the budget, as those differ."""
    value = float(spent_usd.mean())
    if exhausted and len(spent_usd) >= FEW_RUNS:
        variance = intervals.Variance(float(spent_usd.var(ddof=1)) / len(spent_usd), len(spent_usd) - 1)
        return intervals.mean(value, variance).clipped(limit_usd, np.inf)
    each = pooled.per_request(np.where(sent, pooled.api_cost, 0.0))
    found = each.scaled(value / each.value) if each.value > 0 else Estimate(value, value, value)
    return found.clipped(limit_usd, np.inf) if exhausted else found


def _day_of(at_s: F64, first_s: float) -> F64:
    """Number of the day that each moment lies in; its end belongs to the next."""
    day = np.maximum(np.floor((at_s - first_s) / DAY_S) + 1, 0.0)
    day -= (day > 0) & (first_s + (day - 1) * DAY_S > at_s)
    return np.asarray(day + (first_s + day * DAY_S <= at_s))


def notes_of(report: BudgetReport, queued: float) -> list[str]:
    """What a reader must know of figures under a budget.

    Args:
        queued: requests of a run that waited for a day to end, in the mean.
    """
    said = []
    covered = sum(day.covered for day in next(iter(report.named.values())).days)
    if covered < 1:
        line = f"a hard budget is of a day, of which a run covers {100 * covered:.3g}%"
        line += ": what is said of a day is those hours over and over"
        for name, one in report.named.items():
            if one.spent_usd > 0 and not any(day.exhausted_rate for day in one.days):
                hours = 24 * covered * one.usd_per_day / one.spent_usd
                if hours < 24:
                    line += f"; at their rate that of {name} would be spent in {hours:.3g} h"
        said.append(line)
    if queued:
        said.append(
            f"{queued:.6g} requests a run wait for a day to end, and are sent on all at once as the next begins; runs of several "
            "days show whether they become more from day to day"
        )
    return said


__all__ = ["BudgetDay", "BudgetFigures", "BudgetReport", "budget_report", "notes_of"]
