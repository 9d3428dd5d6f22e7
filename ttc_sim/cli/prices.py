"""``ttc-sim prices``: what an API's tokens cost, as a scenario that names its provider and model would have it."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from ttc_sim.cli import completing
from ttc_sim.cli.options import JsonOption
from ttc_sim.cli.output import check_outputs, paper_for_tables, write_json

if TYPE_CHECKING:
    from ttc_sim.serving.prices import TokenPrices

_MOST = 40


def prices(
    name: Annotated[
        str,
        typer.Argument(
            help="PROVIDER/MODEL; or a part of names, whose models are listed.", autocompletion=completing.prices
        ),
    ],
    on: Annotated[str | None, typer.Option(help="Day whose prices hold, YYYY-MM-DD; today if left out.")] = None,
    json_file: JsonOption = None,
) -> None:
    """Show what a model's tokens cost: the table genai-prices, as far as bills here know its prices."""
    from ttc_sim.scenario import Price
    from ttc_sim.serving.prices import models_like, named_exactly, resolve_price

    check_outputs(json=json_file)
    day = on or datetime.date.today().isoformat()
    found = named_exactly(name)
    if found is None:
        found = _the_only_one(name, models_like(name), json_file)
        if found is None:
            return
    provider, model = found
    listed = resolve_price(Price(provider=provider, model=model, on=day), where="prices", field="price")
    if json_file is not None:
        write_json(json_file, {"provider": provider, "model": model, "on": day, **listed.as_json()})
    paper = paper_for_tables()
    paper.say(f"{provider}/{model} on {day}, US dollars per million tokens:")
    paper.print(_table(listed))
    if listed.call:
        paper.say(f"${listed.call:.6g} a call besides.")
    for line in (listed.origin, *listed.caveats):
        paper.say(f"- {line}", "dim")
    paper.say(f'In a scenario:  price: {{provider: {provider}, model: {model}, "on": "{day}"}}')


def _the_only_one(name: str, found: Sequence[str], json_file: Path | None) -> tuple[str, str] | None:
    """The one model that is meant; of several a list is printed."""
    if len(found) == 1:
        provider, _, model = found[0].partition("/")
        return provider, model
    if json_file is not None:
        write_json(json_file, {"models": list(found)})
    paper = paper_for_tables()
    paper.say(f"{len(found):,} models of the table have {name!r} in their names:")
    for one in found[:_MOST]:
        paper.say(f"  {one}")
    if len(found) > _MOST:
        paper.say(f"  ... and {len(found) - _MOST:,} more: say more of the name, or see --json")
    return None


def _table(listed: TokenPrices) -> Table:
    table = Table("prompt", "input", "reasoning", "output")
    starts = [one.above for one in listed.long_prompts]
    for one, above, upto in zip((listed, *listed.long_prompts), (None, *starts), (*starts, None), strict=True):
        spans = {(True, True): "of any length", (True, False): f"up to {upto or 0:,}"}
        span = spans.get((above is None, upto is None), f"above {above or 0:,}")
        usd = (f"{1e6 * getattr(one, kind):.6g}" for kind in ("input", "reasoning", "output"))
        table.add_row(span, *usd)
    for column in table.columns[1:]:
        column.justify = "right"
    return table
