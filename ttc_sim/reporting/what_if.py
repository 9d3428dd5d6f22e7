"""Variations beside the base, as tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from ttc_sim.base.errors import shortened
from ttc_sim.base.estimates import Estimate
from ttc_sim.base.figures import count, dollars, number, percent, seconds, signed
from ttc_sim.optimizer.whatif import CarriedOut, Varied, WhatIf
from ttc_sim.reporting.paper import Paper
from ttc_sim.reporting.text import rests_on
from ttc_sim.simulation.differences import Compared


class Shown(NamedTuple):
    """How a figure is read.

    Attributes:
        label: in tables; value: of the figure; times, decimals: of a difference; unit: of differences in pictures.
    """

    label: str
    value: Callable[[float], str]
    times: float
    decimals: int
    unit: str


def _per_thousand(value: float) -> str:
    return dollars(1000 * value)


_POINTS = 100.0
FIGURES = {
    "accuracy": Shown("accuracy; difference in points", percent, _POINTS, 2, "points"),
    "cost_usd_per_request": Shown("$ / 1k requests", _per_thousand, 1000.0, 2, "$ / 1k requests"),
    "cost_usd_per_day": Shown("$ / day", dollars, 1.0, 0, "$ / day"),
    "cost_usd_per_month": Shown("$ / month", dollars, 1.0, 0, "$ / month"),
    "usd_per_session": Shown("$ / session", dollars, 1.0, 2, "$ / session"),
    "cached_share": Shown("prompt tokens found in a cache; difference in points", percent, _POINTS, 2, "points"),
    "switches_per_session": Shown(
        "turns sent elsewhere than the last, a session", lambda x: number(x, 1), 1.0, 2, "turns"
    ),
    "prompt_tokens_per_request": Shown("prompt tokens of a request", count, 1.0, 0, "tokens"),
    "reasoning_tokens_per_request": Shown("thinking tokens of a request", count, 1.0, 0, "tokens"),
    "visible_tokens_per_request": Shown("visible tokens of a request", count, 1.0, 0, "tokens"),
    "ttft_p50_s": Shown("first token, p50 s", seconds, 1.0, 2, "s"),
    "ttft_p95_s": Shown("first token, p95 s", seconds, 1.0, 2, "s"),
    "tpot_p95_s": Shown("per further token, p95 s", seconds, 1.0, 2, "s"),
    "latency_mean_s": Shown("last token, mean s", seconds, 1.0, 2, "s"),
    "latency_p50_s": Shown("last token, p50 s", seconds, 1.0, 2, "s"),
    "latency_p95_s": Shown("last token, p95 s", seconds, 1.0, 2, "s"),
    "latency_p99_s": Shown("last token, p99 s", seconds, 1.0, 2, "s"),
    "goodput": Shown("goodput; difference in points", percent, _POINTS, 2, "points"),
    "timed_out_rate": Shown("timed out; difference in points", percent, _POINTS, 2, "points"),
    "rejected_rate": Shown("rejected; difference in points", percent, _POINTS, 2, "points"),
    "cut_off_rate": Shown("cut off at a cap; difference in points", percent, _POINTS, 2, "points"),
}
_BRIEFLY = {
    "accuracy": "accuracy, points",
    "cost_usd_per_request": "$ / 1k requests",
    "cost_usd_per_month": "$ / month",
    "latency_p95_s": "p95 s",
    "timeout_rate": "dropped, points",
}
IN_BRIEF = {**FIGURES, "timeout_rate": Shown("dropped", percent, _POINTS, 2, "points")}
NOISE = "~"


def print_what_if(console: Console, found: WhatIf) -> None:
    """All variations in brief, then each with every figure, and what the figures rest on."""
    paper = Paper.of(console)
    paper.print(overview(found))
    paper.say(
        f"In brackets: what differs from the base, {NOISE} by no more than noise. Dropped: timed out or rejected.",
        "dim",
    )
    for one in found.variations:
        paper.say()
        for change in one.changes:
            was = "" if change.path.startswith("ready.") else f"{_said(change.was)} -> "
            paper.say(f"{change.path}: {was}{_said(change.now)}")
        for title, carried in _rows(one):
            paper.print(details(title, carried))
        for note in one.notes:
            paper.say(f"- {note}", "dim")
    paper.say()
    for line in rests_on(found.base.summary):
        paper.say(line, "dim")
    paper.say(
        "Differences are paired: the same requests, the same draws, the same problems; their brackets: 95%. A month has 30 days.",
        "dim",
    )
    for note in found.notes:
        paper.say(f"- {note}", "dim")


def _said(value: object) -> str:
    return "nothing" if value is None else value if isinstance(value, str) else shortened(value)


def _rows(one: Varied) -> Iterator[tuple[str, CarriedOut]]:
    """The policy kept and, if one was planned, the new one."""
    if one.replanned is None:
        yield one.name, one.kept
        return
    yield f"{one.name}: same policy", one.kept
    unmet = "" if one.replanned.status == "met" else " (targets cannot all be met)"
    yield f"{one.name}: replanned{unmet}", one.replanned


def overview(found: WhatIf) -> Table:
    """A row for the base, and for each variation with each policy."""
    table = Table(header_style="bold", pad_edge=False)
    table.add_column("variation")
    names = [name for name in _BRIEFLY if name in found.base.figures]
    for name in names:
        table.add_column(_BRIEFLY[name], justify="right")
    table.add_column("targets")
    rows = [("base", found.base), *(row for one in found.variations for row in _rows(one))]
    for title, carried in rows:
        cells = [_brief_cell(name, carried) for name in names]
        table.add_row(title, *cells, _verdicts(carried), style="bold" if carried is found.base else None)
    return table


def _brief_cell(name: str, carried: CarriedOut) -> str:
    figure, beside = carried.figures.get(name), carried.compared.get(name)
    if figure is None:
        return "unknown"
    shown = IN_BRIEF[name]
    if beside is None:
        return shown.value(figure.value)
    noise = "" if beside.more_than_noise or beside.difference.value == 0 else NOISE
    return f"{shown.value(figure.value)} ({noise}{difference_of(shown, beside.difference.value)})"


def difference_of(shown: Shown, value: float) -> str:
    """A difference, with its sign; 0 where there is none at all."""
    return "0" if value == 0 else signed(shown.times * value, shown.decimals)


def _verdicts(carried: CarriedOut) -> str:
    """Targets that are missed, or of which too few requests say."""
    if not carried.targets:
        return "-"
    missed = [one.name for one in carried.targets if one.met is False]
    unsure = [one.name for one in carried.targets if one.met is None]
    said = [f"missed: {', '.join(missed)}"] if missed else []
    said += [f"unsure: {', '.join(unsure)}"] if unsure else []
    return "; ".join(said) or "met"


def details(title: str, carried: CarriedOut) -> Table:
    """Every figure of a variation beside the base's."""
    table = Table(title=title, title_justify="left", header_style="bold", pad_edge=False)
    for name, justify in (
        ("", "left"),
        ("base", "right"),
        ("now", "right"),
        ("difference", "right"),
        ("95%", "right"),
        ("more than noise", "left"),
    ):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for name, shown in FIGURES.items():
        beside = carried.compared.get(name)
        if beside is not None:
            table.add_row(
                shown.label,
                shown.value(beside.before.value),
                shown.value(beside.after.value),
                difference_of(shown, beside.difference.value),
                interval_of(shown, beside.difference),
                "the same" if _exact(beside) else "yes" if beside.more_than_noise else "no",
            )
    return table


def _exact(beside: Compared) -> bool:
    return beside.difference == Estimate(0.0, 0.0, 0.0)


def interval_of(shown: Shown, figure: Estimate) -> str:
    """The ends of a difference's interval."""
    if figure.low == figure.high:
        return "exact"
    low, high = (signed(shown.times * end, shown.decimals) for end in (figure.low, figure.high))
    return f"{low if math.isfinite(figure.low) else 'any'} to {high if math.isfinite(figure.high) else 'any'}"


__all__ = [
    "IN_BRIEF",
    "NOISE",
    "Shown",
    "details",
    "difference_of",
    "interval_of",
    "overview",
    "print_what_if",
]
