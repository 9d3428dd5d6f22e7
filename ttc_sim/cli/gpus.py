"""``ttc-sim gpus``: what runs where, and what it comes to."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from ttc_sim.base.errors import InputError
from ttc_sim.base.figures import dollars, number
from ttc_sim.cli import completing
from ttc_sim.cli.options import JsonOption
from ttc_sim.cli.output import check_outputs, paper_for_tables, progress, write_json, written_together

if TYPE_CHECKING:
    from ttc_sim.reporting.paper import Paper
    from ttc_sim.serving.offers import Offer


def gpus(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            help="Words that must occur, or the name of one model.", autocompletion=completing.models_and_gpus
        ),
    ] = None,
    backend: Annotated[
        str,
        typer.Option(
            help="Serving framework: vllm, sglang or trtllm (for one model).", autocompletion=completing.backends
        ),
    ] = "vllm",
    precision: Annotated[
        str | None,
        typer.Option(help="bf16, fp8, fp4 or int4 instead of the model's own.", autocompletion=completing.precisions),
    ] = None,
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Prompt of each request (for one model).")] = 1024,
    output_tokens: Annotated[int, typer.Option(min=1, help="Output of each request (for one model).")] = 1024,
    plot: Annotated[
        Path | None, typer.Option(help="Draw speed and price of one model to this file: PNG, SVG or PDF.")
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """List what runs on which GPU; with a model's name, its memory, speed and price on each."""
    from ttc_sim.serving import offers as catalogue
    from ttc_sim.serving.catalogue import said_base

    check_outputs(plot=plot, json=json_file)
    model = catalogue.named_model(words or [])
    if model is None:
        if plot is not None or precision is not None:
            given = "--plot" if plot is not None else "--precision"
            raise InputError("gpus", given, str(plot or precision), "the whole name of one model before it")
        rows = catalogue.works_together(words or [])
        table = Table("model", "precision", "GPUs", "backends", title="measured together")
        for row in rows:
            table.add_row(row.model, row.precision, ", ".join(row.gpus), ", ".join(row.backends))
        if json_file is not None:
            write_json(json_file, {"together": [row._asdict() for row in rows]})
        paper_for_tables().print(table)
        return
    with progress() as say:
        found, refused = catalogue.offers(
            model,
            backend=backend,
            precision=precision,
            prompt_tokens=prompt_tokens,
            output_tokens=output_tokens,
            progress=say,
        )
    title = (
        f"{model}, {precision or 'its own precision'}, {backend}: {prompt_tokens} + {output_tokens} tokens a request"
    )
    rests_on = said_base(model)
    content = {
        "model": model,
        "rests_on": rests_on,
        "precision": precision,
        "backend": backend,
        "prompt_tokens": prompt_tokens,
        "output_tokens": output_tokens,
        "offers": [asdict(one) for one in found],
        "refused": refused,
    }
    with written_together():
        if json_file is not None:
            write_json(json_file, content)
        if plot is not None:
            from ttc_sim.reporting.plots import plot_offers

            plot_offers(found, title).savefig(plot, dpi=150)
    paper = paper_for_tables()
    _print(paper, found, title)
    if rests_on is not None:
        paper.say(rests_on)
    for one in refused:
        paper.say(f"{one['gpu']}: cannot be estimated: expected {one['reason']}")


def _print(paper: Paper, found: list[Offer], title: str) -> None:
    from ttc_sim.scenario.gpu_prices import GPU_PRICES

    table = Table(title=title)
    for column in ("GPU", "GPUs", "weights GiB", "KV GiB", "KV tokens", "tok/s alone", "batch", "tok/s full", "$/h"):
        table.add_column(column, justify="left" if column == "GPU" else "right")
    table.add_column("$/M output", justify="right")
    last = ""
    for one in found:
        name = "" if one.gpu == last else one.gpu
        last = one.gpu
        count = f"{one.tensor_parallel}{' EP' if one.expert_parallel > 1 else ''}"
        if not one.fits:
            table.add_row(name, count, number(one.weight_gib), f"does not fit: needs {one.gpus_needed}")
            continue
        doubt = " ?" if one.warning else ""
        table.add_row(
            name,
            count,
            number(one.weight_gib),
            number(one.kv_gib),
            f"{one.kv_tokens:,}",
            f"{number(one.tokens_per_s_alone)}{doubt}",
            f"{one.batch}",
            f"{number(one.tokens_per_s)}{doubt}",
            "" if one.usd_per_hour is None else dollars(one.usd_per_hour),
            "" if one.usd_per_million_output_tokens is None else number(one.usd_per_million_output_tokens, 3),
        )
    paper.print(table)
    for warning in dict.fromkeys(one.warning for one in found if one.warning):
        paper.say(f"? {warning}")
    shown = {one.gpu for one in found} & set(GPU_PRICES)
    for origin in dict.fromkeys((GPU_PRICES[gpu].on, GPU_PRICES[gpu].origin) for gpu in sorted(shown)):
        paper.say(
            f"prices of {', '.join(g for g in sorted(shown) if GPU_PRICES[g][1:] == origin)}: {origin[1]}, {origin[0]}"
        )
