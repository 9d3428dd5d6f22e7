"""The figures of the first screen, whatever they are read from."""

from __future__ import annotations

import math
from collections.abc import Callable

from ttc_sim.base.estimates import Estimate
from ttc_sim.base.figures import dollars, percent, seconds
from ttc_sim.reporting.report.parts import Card, State

CARDS: dict[str, tuple[str, Callable[[float], str], float]] = {
    "accuracy": ("right and in time", percent, 1.0),
    "cost_usd_per_day": ("dollars a day", dollars, 1.0),
    "cost_usd_per_request": ("dollars per 1,000 requests", dollars, 1000.0),
    "latency_p50_s": ("half are answered within, s", seconds, 1.0),
    "latency_p95_s": ("95% are answered within, s", seconds, 1.0),
    "timeout_rate": ("timed out", percent, 1.0),
}
"""In their order: how each is called, said, and scaled before that."""


def card(name: str, figure: Estimate, asked: str = "", state: State = "plain") -> Card:
    """A figure with its interval, and what a target asks of it.

    >>> card("cost_usd_per_request", Estimate(0.0025, 0.002, 0.0035)).between
    '2.00 to 3.50'
    >>> card("latency_p95_s", Estimate(9.0, 4.5, math.inf)).between
    '4.5 or more'
    """
    label, said, times = CARDS[name]
    low, high = times * figure.low, times * figure.high
    between = f"{said(low)} or more" if math.isinf(high) else f"{said(low)} to {said(high)}"
    return Card(label, said(times * figure.value), between if low < high else "", asked, state)
