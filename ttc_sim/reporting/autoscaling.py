"""Autoscaling beside fixed numbers of replicas: what it saves, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from ttc_sim.base.figures import number, percent, seconds
from ttc_sim.base.times import DAY_S
from ttc_sim.optimizer.capacity.rules import words_of
from ttc_sim.optimizer.capacity.saving import Saving, Served
from ttc_sim.reporting.paper import Paper
from ttc_sim.scenario import Autoscaling


def print_saving(paper: Paper, saving: Saving, rules: Mapping[str, Autoscaling | None]) -> None:
    """Both side by side, the plan's rules, and what foresight would save.

    Args:
        rules: of the plan's pools, by name; ``None`` of those that are fixed.
    """
    paper.print(_table(saving))
    for name, scaled in rules.items():
        if scaled is None:
            continue
        steps = ", ".join(f"{one.at or f'for {one.duration_s:g} s'} {one.replicas}" for one in scaled.schedule or ())
        paper.say(f"{name}: {f'schedule {steps}' if steps else words_of(scaled)}.")
    paper.say(_in_words(saving))
    if saving.lasts_s < DAY_S:
        paper.say(
            f"Dollars a day are those of the {number(saving.lasts_s / 3600, 1)} h that were simulated, and not of a whole day.",
            "dim",
        )
    for name, one in saving.perfect.items():
        line = f"{name}: a perfect schedule by the hour would save ${number(one.saves_usd_per_day)} a day "
        line += f"({percent(one.saves_share)}), the bound of what hourly schedules can save. That takes foresight: it is made for "
        paper.say(f"{line}the very requests that it serves.")


def _in_words(saving: Saving) -> str:
    met = sum(one.meets is True for one in saving.candidates)
    if not saving.candidates:
        return "Autoscaling saves nothing: there was no way of it to try."
    if not saving.chosen:
        return (
            f"Autoscaling saves nothing: of {len(saving.candidates)} ways none meets the targets for less than the fixed number "
            f"({met} of those that were simulated meet them)."
        )
    line = f"Autoscaling saves ${number(saving.saves_usd_per_day)} a day ({percent(saving.saves_share)})"
    costs = []
    if saving.goodput_difference is not None:
        costs.append(f"goodput changes by {saving.goodput_difference * 100:+.2f} points")
    if saving.worst_hour_difference_s is not None:
        costs.append(f"the p99 of the worst hour changes by {saving.worst_hour_difference_s:+.2f} s")
    return f"{line}{'; ' + ' and '.join(costs) if costs else ''}."


def _table(saving: Saving) -> Table:
    table = Table(title="Autoscaling", title_justify="left", header_style="bold", pad_edge=False)
    table.add_column("")
    for name in ("replicas", "$ / day", "GPU-hours provided", "busy", "goodput", "worst hour's p99"):
        table.add_column(name, justify="right")
    rows = [("cheapest fixed", saving.fixed)] + ([("autoscaled", saving.plan)] if saving.chosen else [])
    for label, one in rows:
        table.add_row(label, *_cells(one), style="bold" if one is saving.plan else None)
    return table


def _cells(one: Served) -> tuple[str, ...]:
    return (
        ", ".join(number(count, 0 if count == round(count) else 1) for count in one.replicas.values()),
        number(one.usd_per_day),
        number(one.provisioned_gpu_hours, 1),
        number(one.busy_gpu_hours, 1),
        "-" if one.goodput is None else percent(one.goodput),
        "-" if one.worst_hour_latency_p99_s is None else seconds(one.worst_hour_latency_p99_s),
    )
