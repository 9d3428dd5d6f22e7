"""How results show themselves in a notebook: the printed report as HTML tables, and the picture below."""

from __future__ import annotations

import html
import io
from base64 import b64encode
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from matplotlib.figure import Figure
from rich.style import Style
from rich.table import Table
from rich.text import Text

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

# Colours are the notebook's own, light or dark; what is drawn here is grey between both.
_LINE = "1px solid rgba(128, 128, 128, 0.4)"
_RED = "#e0443e"


class Page(Paper):
    """Takes what a report prints, and keeps it as HTML: the same figures and words, whatever the report comes to say."""

    def __init__(self) -> None:
        super().__init__(io.StringIO())
        self.parts: list[str] = []

    def print(self, *objects: Any, **options: Any) -> None:
        """Keep tables as tables, and lines as lines."""
        for one in objects:
            self.parts.append(self._table(one) if isinstance(one, Table) else self._line(one, options.get("style")))

    def _line(self, said: object, style: str | None) -> str:
        return f'<div style="margin: 2px 0; max-width: 75em">{self._inline(said, style)}</div>'

    def _table(self, table: Table) -> str:
        aligned = [f"text-align: {'right' if column.justify == 'right' else 'left'}" for column in table.columns]
        # Figures stay in one line, with what stands between them.
        unbroken = [f"{one}; white-space: pre" if one.endswith("right") else one for one in aligned]
        head = self._row("th", [f"{one}; border-bottom: {_LINE}" for one in aligned], [c.header for c in table.columns])
        body = []
        for row, *cells in zip(table.rows, *(column.cells for column in table.columns), strict=True):
            bold = "; font-weight: bold" if "bold" in str(row.style) else ""
            body.append(self._row("td", [one + bold for one in unbroken], cells))
        title = "" if table.title is None else f"<b>{self._inline(table.title)}</b>"
        return (
            f'<div style="margin: 8px 0; overflow-x: auto">{title}'
            '<table style="border-collapse: collapse; font-size: inherit; margin: 0">'
            f"<thead>{head}</thead><tbody>{''.join(body)}</tbody></table></div>"
        )

    def _row(self, tag: str, styles: Sequence[str], cells: Sequence[object]) -> str:
        written = (
            f'<{tag} style="padding: 2px 12px 2px 0; {style}">{self._inline(cell)}</{tag}>'
            for style, cell in zip(styles, cells, strict=True)
        )
        return f'<tr style="background: none">{"".join(written)}</tr>'

    def _inline(self, said: object, style: str | None = None) -> str:
        """Text with its styles, all that the user named escaped."""
        text = said if isinstance(said, Text) else self.render_str(str(said), style=style or "")
        out = []
        for part in text.render(self, end=""):
            css = _css(part.style)
            inner = html.escape(part.text.strip("\n"))
            out.append(f'<span style="{css}">{inner}</span>' if css else inner)
        return "".join(out)


def _css(style: Style | None) -> str:
    if style is None:
        return ""
    rules = {
        "font-weight: bold": style.bold,
        "opacity: 0.7": style.dim,
        f"color: {_RED}": style.color is not None and style.color.name == "red",
    }
    return "; ".join(rule for rule, holds in rules.items() if holds)


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
