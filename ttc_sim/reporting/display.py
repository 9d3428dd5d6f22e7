"""How results show themselves in a notebook: the printed report as HTML tables, and the picture below."""

from __future__ import annotations

import html
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import TypeVar

from matplotlib.figure import Figure

from ttc_sim.assumptions import Sensitivity
from ttc_sim.base.display import RENDERERS, Displayed, Renderer
from ttc_sim.base.plain import plain
from ttc_sim.deploying.monitoring import Monitored
from ttc_sim.evaluation.evaluate import Evaluation, Evaluations
from ttc_sim.optimizer.capacity.result import Capacity
from ttc_sim.optimizer.plan import Plan
from ttc_sim.optimizer.promises import judged
from ttc_sim.optimizer.validating import Validation
from ttc_sim.optimizer.whatif import WhatIf
from ttc_sim.reporting.capacity import print_capacity
from ttc_sim.reporting.monitoring import print_monitored
from ttc_sim.reporting.over_time import print_over_time
from ttc_sim.reporting.page import Page
from ttc_sim.reporting.paper import Paper
from ttc_sim.reporting.picture import as_png
from ttc_sim.reporting.plots import (
    plot_budget,
    plot_day,
    plot_evaluation,
    plot_latency,
    plot_monitored,
    plot_over_time,
    plot_plan,
    plot_requests,
    plot_result,
    plot_sensitivity,
    plot_spend,
    plot_strategies,
    plot_validation,
    plot_what_if,
)
from ttc_sim.reporting.sensitivity import print_sensitivity
from ttc_sim.reporting.strategies import print_evaluations
from ttc_sim.reporting.text import print_plan, print_summary, print_validation
from ttc_sim.reporting.what_if import print_what_if
from ttc_sim.simulation.over_time import OverTime
from ttc_sim.simulation.result import Result

Shown = TypeVar("Shown", bound=Displayed)


def _show(
    kind: type[Shown], plots: Mapping[str, Callable[[Shown], Figure]], report: Callable[[Paper, Shown], None]
) -> None:
    """Register how one class is shown: by questions, and first by the first of them."""
    first = next(iter(plots.values()))

    def page(shown: Shown) -> str:
        paper = Page()
        report(paper, shown)
        picture = b64encode(as_png(first(shown))).decode("ascii")
        name = html.escape(plain(repr(shown)).removeprefix("<").removesuffix(">"))
        return (
            f'<div style="font-size: 13px; line-height: 1.35"><div><b>{name}</b></div>{"".join(paper.parts)}'
            f'<img style="max-width: 100%; margin-top: 6px" alt="{name}" src="data:image/png;base64,{picture}"></div>'
        )

    RENDERERS[kind] = Renderer(plots, page)


def _plot_evaluations(found: Evaluations) -> Figure:
    return plot_strategies({one.strategy: [one] for one in found})


def _print_evaluations(paper: Paper, found: Evaluations) -> None:
    print_evaluations(paper, found, f"price {found.price}")


def _print_result(paper: Paper, result: Result) -> None:
    print_summary(paper, result.summary(), {}, judged(result))


def _plot_capacity(found: Capacity) -> Figure:
    return plot_day(found.result) if found.day is None else plot_over_time(found.day)


_OF_RESULT: dict[str, Callable[[Result], Figure]] = {
    "arms": plot_result,
    "latency": plot_latency,
    "day": plot_day,
    "spend": plot_spend,
    "requests": plot_requests,
}


def _of_its_result(plot: Callable[[Result], Figure]) -> Callable[[Capacity], Figure]:
    return lambda found: plot(found.result)


_show(Result, _OF_RESULT, _print_result)
_show(OverTime, {"day": plot_over_time}, print_over_time)
_show(Plan, {"frontier": plot_plan}, print_plan)
_show(
    Capacity,
    {"day": _plot_capacity, **{name: _of_its_result(plot) for name, plot in _OF_RESULT.items() if name != "day"}},
    print_capacity,
)
_show(WhatIf, {"differences": plot_what_if}, print_what_if)
_show(Sensitivity, {"tornado": plot_sensitivity}, print_sensitivity)
_show(Validation, {"promises": plot_validation}, print_validation)
_show(Monitored, {"promises": plot_monitored}, print_monitored)
_show(Evaluation, {"difficulty": plot_evaluation}, lambda paper, one: print_evaluations(paper, [one]))
_show(Evaluations, {"tokens": _plot_evaluations, "budget": plot_budget}, _print_evaluations)
