"""Whether prefill and decode apart pays, in words and as a table."""

from __future__ import annotations

from rich.table import Table

from ttc_sim.base.figures import number, percent
from ttc_sim.optimizer.capacity.paying import Apart
from ttc_sim.reporting.paper import Paper, styled
from ttc_sim.scenario import Targets


def print_apart(paper: Paper, name: str, found: Apart, targets: Targets | None) -> None:
    """What each costs that meets the targets, and the same GPUs divided in all ways that were to be tried."""
    paper.say(styled((in_words(name, found), "bold")))
    if len(found.splits) < 2 or targets is None:
        return
    words = {one.name: one.words for one in targets.asked()}
    title = f"The same GPUs of {name}, divided"
    table = Table(title=title, title_justify="left", header_style="bold", pad_edge=False)
    table.add_column("for prefill", justify="right")
    table.add_column("for decode, or both", justify="right")
    for key in found.splits[0].figures:
        table.add_column(words.get(key, key), justify="right")
    table.add_column("missed")
    for one in found.splits:
        figures = [f"{value:.4g}" for value in one.figures.values()]
        table.add_row(f"{one.prefill:,}", f"{one.replicas:,}", *figures, f"{len(one.missed)}" if one.missed else "none")
    paper.print(table)


def in_words(name: str, found: Apart) -> str:
    """One sentence."""
    apart, mixed = found.usd_per_day, found.mixed_usd_per_day
    if apart is None:
        return (
            f"Prefill and decode apart does not pay at {name}: nothing that was to be tried meets the targets with it."
        )
    if mixed is None:
        return f"Prefill and decode apart pays at {name}: of what was to be tried nothing else meets the targets."
    said = f"it meets the targets for ${number(apart)} a day, and replicas that do both for ${number(mixed)}"
    if found.pays:
        return f"Prefill and decode apart pays at {name}: {said}; {percent((mixed - apart) / mixed)} are saved."
    more = f"; it costs {percent(apart / mixed - 1)} more" if apart > mixed else ""
    return f"Prefill and decode apart does not pay at {name}: {said}{more}."


__all__ = ["in_words", "print_apart"]
