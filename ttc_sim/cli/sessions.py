"""``ttc-sim sessions``: what recorded sessions are like, and laws fitted to them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import yaml
from rich.table import Table

from ttc_sim.base.errors import InputError
from ttc_sim.base.figures import percent
from ttc_sim.cli.options import JsonOption
from ttc_sim.cli.output import check_outputs, paper_for_tables, write_json
from ttc_sim.files.writing import write_atomically

if TYPE_CHECKING:
    from ttc_sim.measured.session_turns import SessionTurns
    from ttc_sim.workload.session_fitting import Compared


def sessions(
    recorded: Annotated[
        str, typer.Argument(help="Table of recorded requests, folder of recorded sessions, or a session profile.")
    ],
    fit: Annotated[
        bool,
        typer.Option("--fit", help="Fit laws to half of the sessions, and hold what they generate against the rest."),
    ] = False,
    laws: Annotated[
        Path | None, typer.Option(help="Write laws fitted to all of the sessions to this file, as a scenario has them.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed by which sessions are put into halves.")] = 0,
    json_file: JsonOption = None,
) -> None:
    """Show what recorded sessions are like: turns, prompts and how they grow, answers, pauses, and what was sent before."""
    from ttc_sim.workload.session_fitting import compare, figures, fitted, quantities, reused_share

    check_outputs(json=json_file, laws=laws)
    turns = _read(recorded)
    paper = paper_for_tables()
    agents = int((turns.agent > 0).sum())
    subs = len(set(zip(turns.session[turns.agent > 0].tolist(), turns.agent[turns.agent > 0].tolist(), strict=True)))
    many = f"{turns.sessions:,} session{'s' * (turns.sessions != 1)} of {len(turns):,} turn{'s' * (len(turns) != 1)}"
    whole: dict[str, object] = {"sessions": turns.sessions, "turns": len(turns), "notes": list(turns.notes)}
    if fit:
        compared = compare(turns, seed)
        whole["compared"] = _as_json(compared)
        paper.say(
            f"{many}: laws fitted to {compared.fitted_to:,} of them, and what they "
            f"generate beside the other {compared.held_back:,}:"
        )
        paper.print(_matches(compared))
        both = " and ".join(percent(one, 2) for one in compared.reused)
        paper.say(f"Of all prompts' tokens {both} were sent before in the same session, recorded and generated.")
        paper.say(
            "Distance: greatest difference of the two distribution functions, 0 to 1; by chance: that of the two halves.",
            "dim",
        )
    else:
        # Sessions of a turn each have no pauses, and do not grow.
        found = {name: figures(values) for name, values in quantities(turns).items() if len(values)}
        whole |= {"reused_share": reused_share(turns), "quantities": {name: _named(one) for name, one in found.items()}}
        among = f", {agents:,} of them of {subs:,} sub-agents" if subs else ""
        paper.say(f"{many}{among}:")
        paper.print(_figures(found))
        paper.say(f"Of all prompts' tokens {percent(reused_share(turns), 2)} were sent before in the same session.")
    for line in turns.notes:
        paper.say(f"- {line}", "dim")
    if json_file is not None:
        write_json(json_file, whole)
    if laws is not None:
        content = {"generated": fitted(turns).model_dump(exclude_none=True, mode="json")}
        write_atomically(laws, yaml.safe_dump(content, sort_keys=False, width=110, default_flow_style=None))
        paper.say(
            f"Laws fitted to all sessions are in {laws}: they stand in workload.arrivals beside process: sessions."
        )


def _read(recorded: str) -> SessionTurns:
    """Of a file or folder of recorded sessions, else of a profile."""
    from ttc_sim.files.opening import is_file, is_folder
    from ttc_sim.measured.session_tables import read_sessions
    from ttc_sim.measured.sessions import CARD, load_sessions

    path = Path(recorded)
    if is_file(path) or (is_folder(path) and not is_file(path / CARD)):
        return read_sessions(path)
    try:
        return load_sessions(recorded).turns
    except InputError as error:
        if error.field != "session profile":
            raise
        raise InputError(recorded, "sessions", recorded, f"a file, or {error.expected}") from None


def _columns() -> list[str]:
    from ttc_sim.workload.session_fitting import SHARES

    return ["mean", *(f"p{100 * share:g}" for share in SHARES)]


def _named(values: tuple[float, ...]) -> dict[str, float]:
    return dict(zip(_columns(), values, strict=True))


def _shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _figures(found: dict[str, tuple[float, ...]]) -> Table:
    table = Table("", *_columns())
    for name, values in found.items():
        table.add_row(name, *map(_shown, values))
    return _right(table)


def _matches(compared: Compared) -> Table:
    table = Table("", "", *_columns(), "distance", "by chance")
    for one in compared.matches:
        table.add_row(one.name, "recorded", *map(_shown, one.recorded), "", "")
        table.add_row(
            "",
            "generated",
            *map(_shown, one.generated),
            f"{one.distance:.3f}",
            f"{one.by_chance:.3f}",
            end_section=True,
        )
    return _right(table, 2)


def _right(table: Table, after: int = 1) -> Table:
    for column in table.columns[after:]:
        column.justify = "right"
    return table


def _as_json(compared: Compared) -> dict[str, object]:
    return {
        "fitted_to_sessions": compared.fitted_to,
        "held_back_sessions": compared.held_back,
        "reused_share": dict(zip(("recorded", "generated"), compared.reused, strict=True)),
        "quantities": {
            one.name: {
                "recorded": _named(one.recorded),
                "generated": _named(one.generated),
                "distance": one.distance,
                "distance_of_halves": one.by_chance,
            }
            for one in compared.matches
        },
    }
