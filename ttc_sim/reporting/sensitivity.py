"""Which assumption moves a plan most, as a table."""

from __future__ import annotations

import math

from rich.console import Console
from rich.table import Table

from ttc_sim.assumptions import Assumed, End, Joint, Sensitivity
from ttc_sim.base.estimates import Estimate
from ttc_sim.base.figures import count, percent, seconds
from ttc_sim.reporting.paper import Paper
from ttc_sim.reporting.text import rests_on
from ttc_sim.reporting.what_if import IN_BRIEF, NOISE, Shown, difference_of, interval_of


def shown_as(figure: str) -> Shown:
    """How a figure is read, whichever it is."""
    if figure in IN_BRIEF:
        known = IN_BRIEF[figure]
        return known._replace(label=known.label.partition(";")[0])
    if figure.endswith("_rate"):
        return Shown(figure.removesuffix("_rate").replace("_", " "), percent, 100.0, 2, "points")
    if figure.endswith("_s"):
        return Shown(figure.removesuffix("_s").replace("_", " ") + " s", seconds, 1.0, 2, "s")
    return Shown(figure.replace("_", " "), count, 1.0, 0, "tokens" if "tokens" in figure else "")


def print_sensitivity(console: Console, found: Sensitivity) -> None:
    """Every assumption beside what it does to the figure and to the targets, and what the figures rest on."""
    paper = Paper.of(console)
    shown, figure = shown_as(found.figure), found.figures[found.figure]
    ends = "" if figure.low == figure.high else f" (95%: {shown.value(figure.low)} to {shown.value(figure.high)})"
    paper.say(f"{found.name} as it stands: {shown.label} {shown.value(figure.value)}{ends}")
    missed = [one.name for one in found.checks if not one.holds]
    if found.checks:
        said = f"missed as it stands: {', '.join(missed)}" if missed else "all targets hold as it stands"
        paper.say(f"{said} (with the confidence that they ask for)")
    paper.print(_one_at_a_time(found, shown))
    paper.say(
        f"Differences from that, with 95% intervals; {NOISE} no more than noise. One assumption at a time, the policy as it is.",
        "dim",
    )
    if found.joint is not None:
        paper.print(_indices(found.joint, found.figure))
        _say_joint(paper, found.joint, found.figure, shown)
    paper.say()
    for one in found.assumptions:
        paper.say(f"{one.name}: {one.what}; {one.range.why}", "dim")
    for one in found.assumptions:
        for note in one.notes:
            paper.say(f"- {one.name}: {note}", "dim")
    for name, why in found.absent.items():
        paper.say(f"- {name} does not apply: it needs {why}", "dim")
    for line in rests_on(found.summary):
        paper.say(line, "dim")
    for note in found.notes:
        paper.say(f"- {note}", "dim")


def _one_at_a_time(found: Sensitivity, shown: Shown) -> Table:
    table = Table(header_style="bold", pad_edge=False)
    table.add_column("assumption")
    for name in ("low", "high"):
        table.add_column(name, justify="right")
        table.add_column(f"{shown.unit or found.figure} (95%)", justify="right")
    if found.checks:
        table.add_column("targets", overflow="fold")
    for one in found.assumptions:
        cells = [cell for end in (one.low, one.high) for cell in _end(one, end, found.figure, shown)]
        table.add_row(one.name, *cells, *([_targets(one)] if found.checks else []))
    return table


def _end(one: Assumed, end: End | None, figure: str, shown: Shown) -> tuple[str, str]:
    if end is None:
        return "as it is", ""
    if figure not in end.differences:
        return end.shown, "unknown"
    difference = end.differences[figure]
    value = difference_of(shown, difference.value) if math.isfinite(difference.value) else "any"
    overloaded = "" if end.verdict == "stable" or not one.paired else f" {end.verdict}"
    if difference.low == difference.high:
        return end.shown, f"{value}{overloaded}"
    noise = "" if end.more_than_noise(figure) else NOISE
    return end.shown, f"{noise}{value} ({interval_of(shown, difference)}){overloaded}"


def _targets(one: Assumed) -> str:
    """Until where they hold and which breaks first, or from where all hold, and what is missed beyond that."""
    said = []
    for crossing in one.break_even:
        names = ", ".join(crossing.targets)
        said.append(f"hold until {crossing.shown}: {names}" if crossing.breaks else f"all hold from {crossing.shown}")
    told = {crossing.toward for crossing in one.break_even if crossing.breaks}
    for toward, end in one.ends.items():
        if end.breaks and toward not in told:
            said.append(f"missed at {end.shown}: {', '.join(end.breaks)}")
    return "; ".join(said) or "as they were"


def _indices(joint: Joint, figure: str) -> Table:
    table = Table(
        title=f"All at once: {joint.runs:,} worlds", title_justify="left", header_style="bold", pad_edge=False
    )
    table.add_column("assumption")
    for name in ("first order (95%)", "total (95%)", "only with others (95%)"):
        table.add_column(name, justify="right")
    for one in sorted(joint.indices.get(figure, ()), key=lambda index: -index.total.value):
        table.add_row(one.name, *(_index(each) for each in (one.first, one.total, one.interaction)))
    return table


def _index(one: Estimate) -> str:
    if one.value == 0 and one.low == one.high:
        return "0"
    return f"{one.value:.2f} ({one.low:.2f} to {one.high:.2f})"


def _say_joint(paper: Paper, joint: Joint, figure: str, shown: Shown) -> None:
    if figure not in joint.spread:
        paper.say("unknown in some of these worlds: no indices", "dim")
    else:
        spread = joint.spread[figure]
        low, high = shown.value(spread.low), shown.value(spread.high)
        paper.say(f"{shown.label} there: {shown.value(spread.value)} in the mean, {low} to {high} in 95% of the worlds")
        if figure not in joint.indices:
            paper.say("the same in every world: nothing moves it", "dim")
    paper.say(
        "Sobol indices: shares of the figure's variance that go with an assumption alone, and with it at all. "
        f"{_laws(joint)}.",
        "dim",
    )
    mixed = [one for one in joint.indices.get(figure, ()) if one.interaction.low > 0]
    if mixed:
        names = ", ".join(one.name for one in sorted(mixed, key=lambda one: -one.interaction.value))
        paper.say(f"More than noise only together with others: {names}", "dim")
    for note in joint.notes:
        paper.say(f"- {note}", "dim")


def _laws(joint: Joint) -> str:
    """What values are drawn from: those that are alike together."""
    kinds: dict[str, list[str]] = {}
    for name, law in joint.laws.items():
        kinds.setdefault(law.partition(",")[0], []).append(name)
    return "; ".join(f"{law}: {', '.join(names)}" for law, names in kinds.items())


__all__ = ["print_sensitivity", "shown_as"]
