"""Hard budgets a day, as text: what each came to by day, and what became of requests."""

from __future__ import annotations

from rich.table import Table

from ttc_sim.base.figures import dollars, dollars_of, percent, percent_of
from ttc_sim.simulation.budget_figures import BudgetDay, BudgetFigures, BudgetReport

_MOST_DAYS = 14  # that are shown


def budget_lines(report: BudgetReport) -> list[str]:
    """What each budget is, and what it did to the requests that count in it."""
    lines = []
    for name, one in report.named.items():
        rule = f"{one.at_end} to {one.to}" if one.to is not None else one.at_end
        line = f"hard budget of {name}: ${dollars(one.usd_per_day)} a day, then {rule}"
        said = [
            f"{percent_of(figure)} {word}"
            for word, figure in (("degraded", one.degraded), ("queued", one.queued), ("refused", one.refused))
            if figure.value > 0
        ]
        lines.append(f"{line}: {', '.join(said) if said else 'it never came to that'}")
        if len(one.days) > _MOST_DAYS:
            exhausted = sum(day.exhausted_rate for day in one.days)
            lines.append(
                f"  exhausted on {exhausted:.3g} of {len(one.days)} days; shown are the first {_MOST_DAYS}, --json has all"
            )
    return lines


def budget_table(report: BudgetReport) -> Table:
    """Days of each budget."""
    table = Table(title="Budget by day", title_justify="left", header_style="bold", pad_edge=False)
    table.add_column("budget of")
    for name in ("day", "of 24 h", "$ spent", "of the budget", "exhausted", "at"):
        table.add_column(name, justify="right")
    for name, one in report.named.items():
        for day in one.days[:_MOST_DAYS]:
            table.add_row(name, *_row(one, day))
    return table


def _row(one: BudgetFigures, day: BudgetDay) -> tuple[str, ...]:
    return (
        str(day.day + 1),
        percent(day.covered),
        dollars_of(day.spent_usd),
        percent(day.spent_usd.value / one.usd_per_day),
        "never" if not day.exhausted_rate else f"{percent(day.exhausted_rate)} of runs",
        "" if day.exhausted_s is None else _span(day),
    )


def _span(day: BudgetDay) -> str:
    """When it was exhausted, on the clock of the run, in the mean and over the runs."""
    assert day.exhausted_s is not None
    assert day.earliest_s is not None
    assert day.latest_s is not None
    mean, first, last = (_clock(s) for s in (day.exhausted_s, day.earliest_s, day.latest_s))
    return mean if first == last else f"{mean} ({first}–{last})"


def _clock(at_s: float) -> str:
    """Hours, minutes and seconds from the start of the run.

    >>> _clock(7.0), _clock(90061.4)
    ('0:00:07', '25:01:01')
    """
    minutes, rest = divmod(int(at_s), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


__all__ = ["budget_lines", "budget_table"]
