"""``ttc-sim evaluate``: strategies side by side, without a queue."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ttc_sim.base.errors import InputError
from ttc_sim.cli import completing
from ttc_sim.cli.options import AllowCodeOption, JsonOption, RememberCodeOption, check_question, consent, files_of
from ttc_sim.cli.output import check_outputs, paper_for_tables, write_json, written_together


def evaluate(
    profile: Annotated[
        str, typer.Argument(help="Model profile, by name or folder.", autocompletion=completing.profiles)
    ],
    strategy: Annotated[list[str], typer.Option(help="Such as 'BestOfN(n=8, auroc=0.8)'; may be given several times.")],
    subset: Annotated[str | None, typer.Option(help="Only problems of this subset.")] = None,
    input_usd_per_mtok: Annotated[
        float | None, typer.Option(min=0, help="US dollars per million prompt tokens.")
    ] = None,
    output_usd_per_mtok: Annotated[
        float | None, typer.Option(min=0, help="The same of output tokens, thinking too.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw accuracy over tokens to this file: PNG, SVG or PDF.")] = None,
    question: Annotated[
        str | None,
        typer.Option(help="What --plot answers: tokens, or budget: where accuracy peaks over what is spent."),
    ] = None,
    json_file: JsonOption = None,
    allow_code: AllowCodeOption = False,
    remember_code: RememberCodeOption = False,
) -> None:
    """What strategies make of a model: accuracy, tokens and dollars per request, also by difficulty."""
    from ttc_sim.evaluation.evaluate import ANY_PRICE, Evaluations
    from ttc_sim.evaluation.evaluate import evaluate as carry_out
    from ttc_sim.reporting.strategies import print_evaluations
    from ttc_sim.serving.prices import TokenPrices
    from ttc_sim.strategies import parse_strategy

    check_outputs(*files_of(profile, folder=Path()), plot=plot, json=json_file)
    check_question(Evaluations, question, plot)
    if (input_usd_per_mtok is None) != (output_usd_per_mtok is None):
        raise InputError("evaluate", "price", None, "both --input-usd-per-mtok and --output-usd-per-mtok, or neither")
    prices = ANY_PRICE
    if input_usd_per_mtok is not None and output_usd_per_mtok is not None:
        each = input_usd_per_mtok / 1e6, output_usd_per_mtok / 1e6
        prices = TokenPrices(each[0], each[0], each[1], each[1], "given")
    allowed = consent(allow_code, remember_code)
    parsed = [parse_strategy(text, where="--strategy", field="strategy", allow_code=allowed) for text in strategy]
    found = carry_out(profile, parsed, prices=prices, subset=subset, folder=Path())
    title = f"{profile}: {found[0].problems:,} problems; price {prices.origin}"
    with written_together():
        if json_file is not None:
            said = [one.as_json() for one in found]
            first = said[0] if len(said) == 1 else {}
            write_json(json_file, {"profile": profile, "price": prices.origin, **first, "strategies": said})
        if plot is not None:
            found.plot(question).savefig(plot, dpi=150)
    print_evaluations(paper_for_tables(), found, title)
