"""Another plan beside the one that was carried out, on its logs: tables."""

from __future__ import annotations

import math

from rich.console import Console
from rich.table import Table

from ttc_sim.base.estimates import Estimate
from ttc_sim.base.figures import count, percent
from ttc_sim.deploying.off_policy import Bounds, Figure, OffPolicy
from ttc_sim.reporting.paper import Paper
from ttc_sim.reporting.what_if import FIGURES, Shown, difference_of, interval_of

_SHOWN = {
    "accuracy": FIGURES["accuracy"]._replace(label="accuracy, points"),
    "api_usd_per_request": FIGURES["cost_usd_per_request"]._replace(label="API bills, $ / 1k requests"),
    "latency_mean_s": Shown("to the end, mean s", FIGURES["latency_mean_s"].value, 1.0, 2, "s"),
    "output_tokens_per_request": Shown("output tokens, mean", count, 1.0, 0, "tokens"),
}
_OTHERS = ("self-normalized", "inverse propensity")


def print_off_policy(console: Console, found: OffPolicy) -> None:
    """Where the other plan wants requests, what that would have come to, and what the estimates rest on."""
    paper = Paper.of(console)
    paper.say(
        f"{found.instead} instead of {found.plan}, on {found.requests:,} logged requests: {percent(found.same)} would have gone "
        f"where the plan wanted them; {percent(found.explored)} had a chance to be sent elsewhere."
    )
    paper.print(_arms(found))
    paper.print(_figures(found))
    paper.say(
        "What the plan wants beside what the other wants, doubly robust; 95% and brackets: intervals. Told: share of the requests "
        "that the logs can tell of, whose figures these are; where it is not all, the bounds are those of all.",
        "dim",
    )
    for note in found.notes:
        paper.say(f"- {note}", "dim")


def _arms(found: OffPolicy) -> Table:
    table = Table(header_style="bold", pad_edge=False)
    for name in ("wanted arm", "the same as"):
        table.add_column(name)
    for name in ("of requests", "had a chance", "sent there"):
        table.add_column(name, justify="right")
    for arm in found.arms:
        table.add_row(
            arm.name, arm.same_as or "nothing logged", percent(arm.share), percent(arm.told), f"{arm.matched:,}"
        )
    return table


def _figures(found: OffPolicy) -> Table:
    table = Table(header_style="bold", pad_edge=False)
    table.add_column("")
    for name in ("told", "plan", "instead", "difference", "95%"):
        table.add_column(name, justify="right")
    table.add_column("more than noise")
    for name in _OTHERS:
        table.add_column(name, justify="right")
    for name, figure in found.figures.items():
        _add(table, _SHOWN[name], figure)
    return table


def _add(table: Table, shown: Shown, figure: Figure) -> None:
    best = figure.best
    if best is not None:
        d = best.difference
        noise = "the same" if d == Estimate(0.0, 0.0, 0.0) else "yes" if d.low > 0 or d.high < 0 else "no"
        others = (figure.by_method[name].difference for name in _OTHERS)
        table.add_row(
            shown.label,
            percent(figure.told),
            shown.value(best.logged.value),
            shown.value(best.instead.value),
            difference_of(shown, d.value),
            interval_of(shown, d),
            noise,
            *(f"{difference_of(shown, one.value)} ({interval_of(shown, one)})" for one in others),
        )
    if figure.instead is not None:
        low, high = figure.instead.low, figure.instead.high
        within = f"at least {shown.value(low)}" if math.isinf(high) else f"{shown.value(low)} to {shown.value(high)}"
        differs = "any" if figure.difference is None else interval_of(shown, _as_estimate(figure.difference))
        label = "  of all requests" if best is not None else f"{shown.label}, of all requests"
        table.add_row(label, "", "", within, "", differs, "" if best is not None else "not told")


def _as_estimate(bounds: Bounds) -> Estimate:
    return Estimate(bounds.low, bounds.low, bounds.high)


__all__ = ["print_off_policy"]
