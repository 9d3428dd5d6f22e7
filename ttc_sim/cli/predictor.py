"""``ttc-sim predictor``: score prompts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from ttc_sim.cli import predictor_quality
from ttc_sim.errors import InputError
from ttc_sim.tables import find_column, read_table, write_table

app = typer.Typer(no_args_is_help=True)
app.command()(predictor_quality.evaluate)
app.command()(predictor_quality.check)
PROMPT_COLUMNS = ("prompt", "question", "text")


@app.callback()
def _main() -> None:
    """Predict how hard prompts are."""


@app.command()
def score(
    file: Annotated[str, typer.Argument(help="JSONL, CSV or Parquet; - reads one prompt a line from standard input.")],
    column: Annotated[str | None, typer.Option(help="Column of the prompts.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write a table here instead of CSV to standard output.")] = None,
    model: Annotated[Path | None, typer.Option(help="ONNX file; the shipped model if left out.")] = None,
) -> None:
    """Score prompts: predicted difficulty, novelty, and each model's chance to answer correctly."""
    from ttc_sim.predictor import Predictor

    if file == "-":
        prompts = sys.stdin.read().splitlines()
        if not prompts:
            raise InputError("standard input", "prompts", "nothing", "one prompt a line")
        table = pl.DataFrame({"line": range(1, len(prompts) + 1)})
    else:
        read = read_table(file)
        name = find_column(read, file, "prompts", PROMPT_COLUMNS, column)
        assert name is not None
        if read[name].dtype != pl.String:
            raise InputError(file, f"column {name}", str(read[name].dtype), "text")
        prompts = read[name].fill_null("").to_list()
        table = read.drop(name)
        flat = [item for item, kind in table.schema.items() if not kind.is_nested()]
        table = table.select(flat) if flat else pl.DataFrame({"row": range(1, len(prompts) + 1)})
    scores = Predictor.load(model).score(prompts).table()
    taken = [item for item in table.columns if item in scores.columns]
    scored = pl.concat([table.drop(taken), scores], how="horizontal")
    if out is not None:
        write_table(scored, out)
    else:
        sys.stdout.write(scored.write_csv(float_precision=4))
