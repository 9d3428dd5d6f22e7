"""Strategies on a profile, side by side."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ttc_sim.evaluation.evaluate import Evaluation


def print_evaluations(console: Console, found: Sequence[Evaluation], title: str | None = None) -> None:
    """Figures of each strategy, then by predicted difficulty, and what they rest on."""
    table = Table(title=None if title is None else escape(title), header_style="bold")
    table.add_column("")
    table.add_column("strategy", overflow="fold")
    for name in ("accuracy", "output tokens", "thinking", "tokens in a row", "$ / 1k requests", "$ p99 / p50"):
        table.add_column(name, justify="right")
    for number, one in enumerate(found, 1):
        figure = one.accuracy
        thinking = one.tokens["reasoning"] / one.tokens_per_request if one.tokens_per_request else 0.0
        table.add_row(
            str(number),
            escape(one.strategy),
            f"{figure.value:.1%} ({100 * figure.low:.0f}-{100 * figure.high:.0f})",
            f"{one.tokens_per_request:,.0f}",
            f"{thinking:.0%}",
            f"{one.tokens_in_a_row:,.0f}",
            f"{1000 * one.cost_usd_per_request:.3f}",
            f"{one.cost_spread:.1f}",
        )
    console.print(table)
    if found[0].by_band:
        bands = Table(title="accuracy and output tokens by predicted difficulty", header_style="bold")
        bands.add_column("difficulty")
        for number in range(1, len(found) + 1):
            bands.add_column(str(number), justify="right")
        for band in found[0].by_band:
            cells = [one.by_band[band] for one in found]
            bands.add_row(band, *(f"{c['accuracy']['value']:.1%}  {c['tokens_per_request']:,.0f}" for c in cells))
        console.print(bands)
    for note in dict.fromkeys(note for one in found for note in one.notes):
        console.print(f"[dim]- {escape(note)}[/]")
