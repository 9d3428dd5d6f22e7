"""``ttc-sim scenario``: from an import to a scenario that works."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from ttc_sim.base.errors import cut
from ttc_sim.cli import completing
from ttc_sim.cli.commands import Commands
from ttc_sim.cli.output import paper_for_tables, progress

app = Commands(no_args_is_help=True)


@app.callback()
def _main() -> None:
    """Make scenarios."""


@app.command()
def init(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder to write; the import's own, unless --from is given.")
    ],
    imports: Annotated[
        list[Path] | None,
        typer.Option(
            "--from",
            help="Folder that `ttc-sim import` wrote. May be given several times: traffic of one, problems of another.",
        ),
    ] = None,
    models: Annotated[
        list[str] | None, typer.Option(help="Models, as the log names them, joined by commas; all of them if left out.")
    ] = None,
    price: Annotated[
        list[str] | None,
        typer.Option(
            help="MODEL=PROVIDER/MODEL of the price table genai-prices, MODEL=IN/OUT in US dollars per million tokens, or "
            "PROVIDER/MODEL for the model of that name. Looked up by the model's name if left out."
        ),
    ] = None,
    gpu: Annotated[
        list[str] | None,
        typer.Option(
            help="For models on GPUs of your own: MODEL=GPU, MODEL=GPU/NAME where the catalogue (`ttc-sim gpus`) calls it NAME, "
            "or GPU for all that it knows and that no price is given for.",
            autocompletion=completing.gpus,
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the scenario and its problem set; the folder's if left out.")
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            help="Day whose prices hold, YYYY-MM-DD; that of the newest request if left out, or today's without times."
        ),
    ] = None,
    no_predictor: Annotated[bool, typer.Option("--no-predictor", help="Train none.")] = False,
    replace: Annotated[
        bool, typer.Option(help="Replace a scenario, its problem set and profiles if there are some.")
    ] = False,
) -> None:
    """Make a problem set, a profile of each model, a predictor's scores and a commented scenario from an import.

    The last line that it prints is the command that plans with it.
    """
    from ttc_sim.drafting.making import make_scenario

    with progress() as say:
        made = make_scenario(
            folder,
            imports or [],
            models=models or [],
            prices=price or [],
            gpus=gpu or [],
            name=name,
            day=on,
            train=not no_predictor,
            replace_old=replace,
            progress=say,
        )
    paper = paper_for_tables()
    for line in made.said:
        paper.say(f"- {line}")
    for model, arm in made.draft.arms.items():
        paper.say(f"{arm}{'' if arm == model else f' ({cut(model, 120)})'}: {made.draft.priced(model)}")
    paper.say(f"written to {made.file}; what it assumes is said in it")
    scenario, plan = _word(made.file), _word(made.file.with_name("plan.yaml"))
    command = f"optimize {scenario} --plan {plan}" if made.plannable else f"simulate {scenario}"
    # One line, however long: it is there to be carried out.
    paper.print(f"ttc-sim {command}", soft_wrap=True)


def _word(path: Path) -> str:
    """A path as a shell takes it."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)
