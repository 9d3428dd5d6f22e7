"""How results show themselves in a notebook: the printed report as HTML tables, and the picture below."""

from __future__ import annotations

import html
from base64 import b64encode
from collections.abc import Callable
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
from ttc_sim.reporting.capacity import plot_capacity, print_capacity
from ttc_sim.reporting.monitoring import print_monitored
from ttc_sim.reporting.monitoring_plot import plot_monitored
from ttc_sim.reporting.over_time import plot_over_time, print_over_time
from ttc_sim.reporting.page import Page
from ttc_sim.reporting.paper import Paper
from ttc_sim.reporting.picture import as_png
from ttc_sim.reporting.plots import plot_evaluation, plot_plan, plot_result, plot_strategies, plot_validation
from ttc_sim.reporting.sensitivity import plot_sensitivity, print_sensitivity
from ttc_sim.reporting.strategies import print_evaluations
from ttc_sim.reporting.text import print_plan, print_summary, print_validation
from ttc_sim.reporting.what_if import plot_what_if, print_what_if
from ttc_sim.simulation.over_time import OverTime
from ttc_sim.simulation.result import Result

Shown = TypeVar("Shown", bound=Displayed)


def _show(kind: type[Shown], plot: Callable[[Shown], Figure], report: Callable[[Paper, Shown], None]) -> None:
    """Register how one class is shown."""

    def page(shown: Shown) -> str:
        paper = Page()
        report(paper, shown)
        picture = b64encode(as_png(plot(shown))).decode("ascii")
        name = html.escape(plain(repr(shown)).removeprefix("<").removesuffix(">"))
        return (
            f'<div style="font-size: 13px; line-height: 1.35"><div><b>{name}</b></div>{"".join(paper.parts)}'
            f'<img style="max-width: 100%; margin-top: 6px" alt="{name}" src="data:image/png;base64,{picture}"></div>'
        )

    RENDERERS[kind] = Renderer(plot, page)


def _plot_evaluations(found: Evaluations) -> Figure:
    return plot_strategies({one.strategy: [one] for one in found})


def _print_evaluations(paper: Paper, found: Evaluations) -> None:
    print_evaluations(paper, found, f"price {found.price}")


def _print_result(paper: Paper, result: Result) -> None:
    print_summary(paper, result.summary(), {}, judged(result))


_show(Result, plot_result, _print_result)
_show(OverTime, plot_over_time, print_over_time)
_show(Plan, plot_plan, print_plan)
_show(Capacity, plot_capacity, print_capacity)
_show(WhatIf, plot_what_if, print_what_if)
_show(Sensitivity, plot_sensitivity, print_sensitivity)
_show(Validation, plot_validation, print_validation)
_show(Monitored, plot_monitored, print_monitored)
_show(Evaluation, plot_evaluation, lambda paper, one: print_evaluations(paper, [one]))
_show(Evaluations, _plot_evaluations, _print_evaluations)
