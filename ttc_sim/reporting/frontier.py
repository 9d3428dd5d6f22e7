"""Figures that plans are compared by, in words; and a frontier of two of them as a table."""

from __future__ import annotations

from rich.table import Table

from ttc_sim.base.estimates import Estimate
from ttc_sim.base.figures import dollars_of, number, percent_of, seconds_of
from ttc_sim.optimizer.plan import Plan
from ttc_sim.scenario.targets import percentile_of

_TITLES = {
    "accuracy": "accuracy",
    "cost_usd_per_request": "$ / 1k requests",
    "cost_usd_per_day": "$ / day",
    "accuracy_per_usd": "right answers per $",
    "goodput": "goodput",
}
_TIMES = {"latency": "", "ttft": " to the first token", "tpot": " per further token"}


def title_of(name: str) -> str:
    """A figure's name as tables have it.

    >>> title_of("latency_p95_s"), title_of("ttft_p99.5_s"), title_of("accuracy")
    ('p95 s', 'p99.5 s to the first token', 'accuracy')
    """
    percentile = percentile_of(name)
    if percentile is None:
        return _TITLES.get(name, name)
    return f"p{100 * percentile[1]:g} s{_TIMES[percentile[0]]}"


def shown(name: str, figure: Estimate) -> str:
    """A figure with its interval, in the unit of its title."""
    if name in ("accuracy", "goodput"):
        return percent_of(figure)
    if name == "cost_usd_per_request":
        return dollars_of(figure, 1000)
    if name in ("cost_usd_per_day", "accuracy_per_usd"):
        value, low, high = (number(x) for x in (figure.value, figure.low, figure.high))
        return value if figure.low == figure.high else f"{value} ({low}-{high})"
    return seconds_of(figure)


def frontier_table(plan: Plan) -> Table:
    """The points of the frontier by their numbers, with intervals; the plan's own in bold."""
    first, second = (title_of(name) for name in plan.frontier[0].axes)
    table = Table(title=f"Frontier of {first} and {second}", title_justify="left", header_style="bold", pad_edge=False)
    table.add_column("point", justify="right")
    names = list(plan.frontier[0].figures)
    for name in names:
        table.add_column(title_of(name), justify="right")
    table.add_column("GPUs", justify="right")
    table.add_column("targets")
    for k, point in enumerate(plan.frontier, 1):
        missed = [check.words or check.name for check in point.seen.checks if not check.holds]
        table.add_row(
            str(k),
            *(shown(name, figure) for name, figure in point.figures.items()),
            ", ".join(f"{pool} x{count}" for pool, count in point.replicas.items()) or "-",
            "met" if not missed else f"not: {', '.join(missed)}",
            style="bold" if is_plan(plan, k) else None,
        )
    return table


def is_plan(plan: Plan, number: int) -> bool:
    """Whether a point of the frontier is the plan."""
    point = plan.frontier[number - 1]
    return point.policy == plan.scenario.policy and dict(point.replicas) == dict(plan.predicted.replicas)


def objective_in_words(plan: Plan) -> str | None:
    """What was made best of and what it came to, where that is in no other table."""
    targets = plan.scenario.targets
    if targets is None or targets.cheapest or targets.most_accurate:
        return None
    figure = plan.predicted.quantity(targets.objective)
    made = "Most" if targets.maximize is not None else "Least"
    said = "unknown" if figure is None else shown(targets.objective, figure)
    return f"{made} {title_of(targets.objective)}, which was asked for: {said}"
