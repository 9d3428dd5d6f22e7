"""``ttc-sim profile build --runs`` and ``profile show`` of agent profiles."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from ttc_sim.base.errors import InputError
from ttc_sim.base.figures import percent
from ttc_sim.cli.output import paper_for_tables, styled, write_json, written_together
from ttc_sim.files.tables import read_table
from ttc_sim.measured.agents import (
    CARD,
    AgentProfile,
    build_agent_profile,
    load_agent_profile,
    save_agent_profile,
    summarize_agent_profile,
    turn_ratio,
)
from ttc_sim.measured.folders import check_folder_to_save, find_folder
from ttc_sim.reporting.paper import Paper


def build_agents(
    table: Path,
    out: Path,
    card: dict[str, object],
    columns: dict[str, str | None],
    *,
    model: str | None,
    where: list[str] | None,
    by: str | None,
    replace: bool,
) -> None:
    """Turn a table of runs into an agent profile, or one for each value of a column."""
    from ttc_sim.measured.naming import folder_names
    from ttc_sim.measured.selecting import part_of, rows_by, rows_where

    if by is None and model is None:
        raise InputError("profile build", "--model", "nothing", "the model that made the runs, or --by COLUMN")
    rows = rows_where(read_table(table), table, where or [])
    told = f"{table} ({' '.join(where)})" if where else str(table)
    paper = paper_for_tables()
    if by is None:
        parts, names = {"": rows}, {"": out.resolve().name}
        places = {"": out}
    else:
        parts = rows_by(rows, table, by)
        names = folder_names(parts)
        places = {value: out / name for value, name in names.items()}
    for place in places.values():
        check_folder_to_save(place, CARD, replace=replace)
    built = {
        value: build_agent_profile(
            part,
            told if by is None else part_of(told, by, value),
            names[value],
            {**card, "model": value if model is None else model},
            columns,
        )
        for value, part in parts.items()
    }
    for value, (profile, said) in built.items():
        save_agent_profile(profile, places[value], replace=replace)
        if by is not None:
            paper.say(styled((names[value], "bold"), "" if names[value] == value else f" ({by} {value})"))
        for line in said:
            paper.say(line, "dim")
        _print_summary(paper, profile)
        paper.say(f"written to {places[value]}")


def is_agent_profile(name: str) -> bool:
    """Whether a profile of that name or folder is of an agent's runs, and none of attempts."""
    try:
        find_folder(name, "profile.yaml", Path())
    except InputError:
        try:
            find_folder(name, CARD, Path())
        except InputError:
            return False
        return True
    return False


def show_agent(name: str, than: str | None, json_file: Path | None) -> None:
    """Where an agent profile comes from, what it holds, and how much longer its turns are than another's."""
    profile = load_agent_profile(name, Path())
    summary, card = summarize_agent_profile(profile), profile.card
    ratio = None if than is None else turn_ratio(profile, load_agent_profile(than, Path()))
    if json_file is not None:
        found = {"card": card.model_dump(), **asdict(summary)}
        with written_together():
            write_json(json_file, found if ratio is None else {**found, "turn_tokens": {"than": than, **asdict(ratio)}})
    paper = paper_for_tables()
    paper.say(styled((profile.name, "bold"), f"  {card.model}" + (f" ({card.effort})" if card.effort else "")))
    paper.say(f"{card.origin}; {card.licence}; {card.date}; tokens: {card.tokenizer}")
    paper.say(card.limits, "dim")
    _print_summary(paper, profile)
    if ratio is not None:
        paper.say(
            f"output tokens a turn: {ratio.value:.3g} times those of {than} ({ratio.low:.3g} to {ratio.high:.3g}, "
            f"{ratio.instances:,} instances that both ran)"
        )


def _print_summary(paper: Paper, profile: AgentProfile) -> None:
    one = summarize_agent_profile(profile)
    paper.say(
        f"{one.instances:,} instances, {one.runs:,} runs; accuracy {percent(one.accuracy)} "
        f"({percent(one.accuracy_low)} to {percent(one.accuracy_high)})"
    )
    means = {"turns": one.turns, "output tokens": one.output_tokens}
    said = [f"{value:,.4g} {name}" for name, value in means.items() if value is not None]
    said += [] if one.usd is None else [f"${one.usd:.4g}"]
    paper.say(
        f"a run, in the mean: {', '.join(said)}" if said else "neither dollars nor turns of its runs were recorded"
    )
