"""``ttc-sim evaluate``: strategies side by side, without a queue."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ttc_sim.base.errors import InputError
from ttc_sim.cli.output import check_writable, console_for_tables, write_json


def evaluate(
    profile: Annotated[str, typer.Argument(help="Model profile, by name or folder.")],
    strategy: Annotated[list[str], typer.Option(help="Such as 'BestOfN(n=8, auroc=0.8)'; may be given several times.")],
    subset: Annotated[str | None, typer.Option(help="Only problems of this subset.")] = None,
    input_usd_per_mtok: Annotated[
        float | None, typer.Option(min=0, help="US dollars per million prompt tokens.")
    ] = None,
    output_usd_per_mtok: Annotated[
        float | None, typer.Option(min=0, help="The same of output tokens, thinking too.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw accuracy over tokens to this PNG.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file as JSON.")] = None,
) -> None:
    """What strategies make of a model: accuracy, tokens and dollars per request, also by difficulty."""
    from ttc_sim.evaluation.evaluate import ANY_PRICE, Evaluation
    from ttc_sim.evaluation.evaluate import evaluate as carry_out
    from ttc_sim.serving.prices import TokenPrices
    from ttc_sim.strategies import parse_strategy

    check_writable(plot, json_file)
    if (input_usd_per_mtok is None) != (output_usd_per_mtok is None):
        raise InputError("evaluate", "price", None, "both --input-usd-per-mtok and --output-usd-per-mtok, or neither")
    prices = ANY_PRICE
    if input_usd_per_mtok is not None and output_usd_per_mtok is not None:
        each = input_usd_per_mtok / 1e6, output_usd_per_mtok / 1e6
        prices = TokenPrices(each[0], each[0], each[1], each[1], "given")
    parsed = [parse_strategy(text, where="--strategy", field="strategy") for text in strategy]
    found = carry_out(profile, parsed, prices=prices, subset=subset, folder=Path())
    console = console_for_tables()
    table = Table(title=f"{profile}: {found[0].problems:,} problems; price {prices.origin}", header_style="bold")
    table.add_column("")
    table.add_column("strategy", overflow="fold")
    for name in ("accuracy", "output tokens", "thinking", "tokens in a row", "$ / 1k requests", "$ p99 / p50"):
        table.add_column(name, justify="right")

    def row(number: int, name: str, one: Evaluation) -> None:
        figure = one.accuracy
        thinking = one.tokens["reasoning"] / one.tokens_per_request if one.tokens_per_request else 0.0
        table.add_row(
            str(number),
            name,
            f"{figure.value:.1%} ({100 * figure.low:.0f}-{100 * figure.high:.0f})",
            f"{one.tokens_per_request:,.0f}",
            f"{thinking:.0%}",
            f"{one.tokens_in_a_row:,.0f}",
            f"{1000 * one.cost_usd_per_request:.3f}",
            f"{one.cost_spread:.1f}",
        )

    for number, one in enumerate(found, 1):
        row(number, one.strategy, one)
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
        console.print(f"[dim]- {note}[/]")
    if json_file is not None:
        said = [one.as_json() for one in found]
        first = said[0] if len(said) == 1 else {}
        write_json(json_file, {"profile": profile, "price": prices.origin, **first, "strategies": said})
    if plot is not None:
        from ttc_sim.reporting.plots import plot_strategies

        plot_strategies({one.strategy: [one] for one in found}).savefig(plot, dpi=150)
