"""A plan at work: what has moved, and what planning anew would save, in tables and words."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.table import Table

from ttc_sim.base.figures import count, dollars, number, percent
from ttc_sim.deploying.monitoring import Monitored
from ttc_sim.deploying.monitoring.figures import moment
from ttc_sim.deploying.monitoring.moved import Comparison
from ttc_sim.deploying.monitoring.replanning import Replanned
from ttc_sim.reporting.paper import Paper
from ttc_sim.reporting.what_if import FIGURES, IN_BRIEF, difference_of, interval_of


def table_of(title: str, first: str, *others: str) -> Table:
    """A table with figures to the right of the first column."""
    table = Table(title=title, title_justify="left", header_style="bold", pad_edge=False)
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def print_drift(paper: Paper, found: Monitored) -> None:
    """What has moved for sure, when it was first seen and where it stands."""
    if not found.moved:
        paper.say("Drift: too few requests, or nothing in common with the plan, to compare.")
        return
    periods = max(one.period for one in found.moved)
    looked = len({(one.what, one.of) for one in found.moved})
    if not found.drifted:
        paper.say(f"Drift: none of {looked} comparisons has moved for sure, over {periods} periods.")
        return
    table = table_of(
        "Drift: what has moved for sure, when it was first seen", "", "of", "as planned", "then", "last", "PSI", "p"
    )
    table.add_column("seen by")
    last = {(one.what, one.of): one for one in found.moved}
    for one in found.drifted:
        latest = last[one.what, one.of]
        cells = (_drifted(one, value) for value in (one.planned, one.now, latest.now))
        psi = "" if one.psi is None else f"{one.psi:.3f}"
        table.add_row(one.what, one.of, *cells, psi, f"{one.adjusted:.1g}", moment(one.at_s)[:16])
    paper.print(table)
    rest = looked - len(found.drifted)
    paper.say(f"The other {rest} comparisons have not moved for sure. PSI under 0.1 is small, over 0.25 large.")


def _drifted(one: Comparison, value: float) -> str:
    if one.what == "mix of sources":
        return percent(value)
    return number(value, 3) if one.what.startswith("score") or one.what == "arrivals" else count(value)


def print_replanned(paper: Paper, found: Monitored) -> None:
    """The plan and a new one on today's traffic, or why there is none."""
    anew = found.replanned
    if isinstance(anew, str):
        paper.say(f"Planning anew: {anew}.")
        return
    table = table_of(
        "Today's traffic: the plan, and one planned anew", "", "the plan", "planned anew", "difference", "95%"
    )
    table.add_column("more than noise")
    for name, one in anew.compared.items():
        figure = IN_BRIEF[name] if name in IN_BRIEF else FIGURES[name]
        differs = difference_of(figure, one.difference.value), interval_of(figure, one.difference)
        told = "yes" if one.more_than_noise else "no"
        table.add_row(figure.label, figure.value(one.before.value), figure.value(one.after.value), *differs, told)
    paper.print(table)
    for line in _replanned_in_words(anew):
        paper.say(line)
    simulated, logged = anew.saves_usd_per_day.before, found.usd_per_day
    if not simulated.low <= logged <= simulated.high:
        said = f"  the plan costs ${dollars(logged)} a day by the log, and ${dollars(simulated.value)} in today's scenario, which"
        paper.say(f"{said} does not hold all that came: take what is saved with that care")


def _replanned_in_words(anew: Replanned) -> Iterator[str]:
    one = anew.saves_usd_per_day
    saved, ends = -one.difference.value, (-one.difference.high, -one.difference.low)
    sure = f"(95%: {dollars(ends[0])} to {dollars(ends[1])})" if all(map(math.isfinite, ends)) else "(nothing sure)"
    if one.difference.value == 0:
        said = "Planning anew would change nothing in the cost"
    elif not one.more_than_noise:
        said = f"Planning anew would save nothing that is more than noise: {'-' * (saved < 0)}${dollars(abs(saved))} a day {sure}"
    elif saved > 0:
        said = f"Planning anew would save ${dollars(saved)} a day {sure}"
    else:
        said = (
            f"Planning anew would cost ${dollars(-saved)} a day more (95%: {dollars(-ends[1])} to {dollars(-ends[0])})"
        )
    accuracy = anew.compared.get("accuracy")
    if accuracy is not None and accuracy.more_than_noise:
        said += f", at an accuracy of {percent(accuracy.after.value)} instead of {percent(accuracy.before.value)}"
    if anew.missed:
        kept = [name for name in anew.missed if name not in anew.missed_anew]
        said += f"; today the plan misses {', '.join(anew.missed)}"
        said += f", and the new one keeps {', '.join(kept)}" if kept else ", and so does the new one"
    yield f"{said}."
    policy = anew.policy if isinstance(anew.policy, str) else "; ".join(f"{k}: {v}" for k, v in anew.policy.items())
    yield f"  its policy: {policy}"
    for line in anew.assumed:
        yield f"  assumed: {line}"
