"""``ttc-sim predictor adapt``: a few graded examples of a new task type."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ttc_sim.cli.output import paper_for_tables
from ttc_sim.cli.predictor_quality import ModelOption


def adapt(
    problems: Annotated[Path, typer.Option(help="Prompts: a key and a text each, perhaps a task type.")],
    attempts: Annotated[Path, typer.Option(help="Graded attempts: key, model, right or not, perhaps output tokens.")],
    model: ModelOption = None,
    out: Annotated[Path, typer.Option(help="ONNX file to write; its card goes beside it.")] = Path("adapted.onnx"),
    origin: Annotated[str | None, typer.Option(help="Where the examples come from, for the card.")] = None,
    licence: Annotated[str, typer.Option(help="Licence of the examples, for the card.")] = "not stated",
) -> None:
    """Take 5 to 500 graded examples of new task types into account; scores of other prompts stay as they are."""
    from ttc_sim.predictor.judging.card_figures import card_path
    from ttc_sim.predictor.learning.adapting import adapt as learn

    done = learn(model, problems, attempts, out, origin=origin, licence=licence)
    paper = paper_for_tables()
    table = Table(title="examples, each left out in turn", header_style="bold", pad_edge=False, title_justify="left")
    table.add_column("task type", overflow="fold")
    for heading in ("examples", "models", "Brier before", "after", "gate", "log-odds", "tokens"):
        table.add_column(heading, justify="right")
    for one in done.learnt:
        judged = one.judged
        table.add_row(
            one.task_type,
            f"{one.examples:,}",
            f"{len(one.models):,}",
            f"{judged.before:.3f}",
            f"{judged.after:.3f}",
            f"{judged.opened:.0%}",
            f"{one.shift:+.2f}",
            f"{one.token_factor:.2f}x" if one.counted else "",
        )
    paper.print(table)
    paper.say(
        "- gate: how far an example that is left out is taken to be of the type; log-odds, tokens: mean shift, and factor, at the "
        "examples; where the gate is shut scores are what they were",
        "dim",
    )
    if done.unchanged:
        paper.say(f"- not graded, and as before: {', '.join(done.unchanged)}", "dim")
    for note in done.notes:
        paper.say(f"- {note}", "dim")
    paper.say(f"written to {out}, its card to {card_path(out)}")
