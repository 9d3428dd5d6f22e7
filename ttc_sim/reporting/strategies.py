"""Strategies on a profile, side by side."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from ttc_sim.base.figures import count, number, percent, percent_of
from ttc_sim.evaluation.evaluate import Evaluation
from ttc_sim.reporting.paper import Paper


def print_evaluations(console: Console, found: Sequence[Evaluation], title: str | None = None) -> None:
    """Figures of each strategy, then by predicted difficulty, and what they rest on."""
    paper = Paper.of(console)
    table = Table(title=title, header_style="bold")
    table.add_column("")
    table.add_column("strategy", overflow="fold")
    for name in ("accuracy", "output tokens", "thinking", "tokens in a row", "$ / 1k requests", "$ p99 / p50"):
        table.add_column(name, justify="right")
    for place, one in enumerate(found, 1):
        thinking = one.tokens["reasoning"] / one.tokens_per_request if one.tokens_per_request else 0.0
        table.add_row(
            str(place),
            one.strategy,
            percent_of(one.accuracy),
            count(one.tokens_per_request),
            percent(thinking, 0),
            count(one.tokens_in_a_row),
            number(1000 * one.cost_usd_per_request, 3),
            number(one.cost_spread, 1),
        )
    paper.print(table)
    if found[0].by_band:
        bands = Table(title="accuracy and output tokens by predicted difficulty", header_style="bold")
        bands.add_column("difficulty")
        for place in range(1, len(found) + 1):
            bands.add_column(str(place), justify="right")
        for band in found[0].by_band:
            cells = [one.by_band[band] for one in found]
            texts = (f"{percent(cell['accuracy']['value'])}  {count(cell['tokens_per_request'])}" for cell in cells)
            bands.add_row(band, *texts)
        paper.print(bands)
    for note in dict.fromkeys(note for one in found for note in one.notes):
        paper.say(f"- {note}", "dim")
