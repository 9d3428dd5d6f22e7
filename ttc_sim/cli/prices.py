"""``ttc-sim prices``: what an API's tokens cost, as a scenario that names its provider and model would have it."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from ttc_sim.base.errors import InputError
from ttc_sim.cli import completing
from ttc_sim.cli.options import JsonOption
from ttc_sim.cli.output import check_outputs, paper_for_tables, write_json

if TYPE_CHECKING:
    from ttc_sim.serving.prices import LongPrompts, TokenPrices

_MOST = 40
Processing = Literal["batch", "flex", "priority", "fast"]
_WORDS = {"cached_input": "cached", "cache_write": "written to cache"}


def prices(
    name: Annotated[
        str,
        typer.Argument(
            help="PROVIDER/MODEL; or a part of names, whose models are listed.", autocompletion=completing.prices
        ),
    ],
    on: Annotated[str | None, typer.Option(help="Day whose prices hold, YYYY-MM-DD; today if left out.")] = None,
    processing: Annotated[
        Processing | None, typer.Option(help="The table's other price for the same tokens, if it has one.")
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Show what a model's tokens cost: the table genai-prices, at all hours, and from which day on it says something else."""
    from ttc_sim.scenario import ApiCache, Price
    from ttc_sim.scenario.price import day_of
    from ttc_sim.serving.prices import also_processed, models_like, named_exactly, resolve_price

    check_outputs(json=json_file)
    day = on or datetime.date.today().isoformat()
    if (first := day_of(day)) is None:
        raise InputError("prices", "--on", on, "a day as YYYY-MM-DD")
    found = named_exactly(name)
    if found is None:
        found = _the_only_one(name, models_like(name), json_file)
        if found is None:
            return
    provider, model = found
    begins = datetime.datetime.combine(first, datetime.time(), tzinfo=datetime.UTC)
    asked = Price(provider=provider, model=model, processing=processing)
    listed, long_kept = (
        resolve_price(asked, where="prices", field="price", begins=begins, cache=cache)
        for cache in (None, ApiCache(provider="anthropic-1h"))
    )
    others = also_processed(provider, model, first)
    if json_file is not None:
        found_json = {"provider": provider, "model": model, "on": day, "processing": processing, **listed.as_json()}
        write_json(json_file, {**found_json, "also_processed": list(others)})
    paper = paper_for_tables()
    paper.say(f"{provider}/{model}{f', {processing},' if processing else ''} on {day}, US dollars per million tokens:")
    paper.print(_table(listed))
    if listed.call:
        paper.say(f"${listed.call:.6g} a call besides.")
    if long_kept.cache_write != listed.cache_write:
        paper.say(f"${1e6 * float(long_kept.cache_write or 0):.6g} for tokens that a cache is to keep for an hour.")
    for line in (listed.origin, *listed.caveats):
        paper.say(f"- {line}", "dim")
    if others:
        paper.say(f"- other prices for the same tokens: --processing {' or '.join(others)}", "dim")
    processed = f", processing: {processing}" if processing else ""
    paper.say(f'In a scenario:  price: {{provider: {provider}, model: {model}, "on": "{day}"{processed}}}')
    if listed.schedule is not None:
        paper.say(
            f'Or, at the hours and on the days of the run, without "on", beside  workload: {{begins: "{day} 08:00"}}'
        )


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
    from ttc_sim.serving.prices import KINDS, spans

    at_times = [("", listed)] if listed.schedule is None else spans(listed.schedule)
    table = Table(
        *(["when"] if listed.schedule is not None else []), "prompt", *(_WORDS.get(kind, kind) for kind in KINDS)
    )
    for when, prices in at_times:
        tiers: list[TokenPrices | LongPrompts] = [prices, *prices.long_prompts]
        starts = [one.above for one in prices.long_prompts]
        for one, above, upto in zip(tiers, (None, *starts), (*starts, None), strict=True):
            spans_of = {(True, True): "of any length", (True, False): f"up to {upto or 0:,}"}
            span = spans_of.get((above is None, upto is None), f"above {above or 0:,}")
            usd = (f"{1e6 * getattr(one, kind):.6g}" for kind in KINDS)
            table.add_row(*([when] if listed.schedule is not None else []), span, *usd)
    for column in table.columns[-len(KINDS) :]:
        column.justify = "right"
    return table
