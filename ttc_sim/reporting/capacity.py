"""Capacity as tables: what each pool is to be, whether that is enough, what may fail, and the day by hour."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from ttc_sim.base.figures import dollars, number, percent, seconds
from ttc_sim.optimizer.capacity.result import Capacity
from ttc_sim.reporting.apart import print_apart
from ttc_sim.reporting.autoscaling import print_saving
from ttc_sim.reporting.frontier import title_of
from ttc_sim.reporting.paper import Paper, styled
from ttc_sim.reporting.text import print_notes, verdicts_table
from ttc_sim.reporting.tiers import fees_lines, kept_lines
from ttc_sim.scenario import GpuPool

_SHOWN_REASONS = 8


def print_capacity(console: Console, found: Capacity, *, hours: bool = False) -> None:
    """The plan's pools, its targets, how near it is to the bound, what may fail; hour by hour if asked for."""
    paper = Paper.of(console)
    paper.print(_pools_table(found))
    paper.print(verdicts_table(found.verdicts, "near: inside the interval"))
    for line in _in_words(found):
        paper.say(line)
    targets = found.scenario.targets
    if targets is not None and not targets.cheapest and targets.made_best:
        paper.say(
            f"Capacity makes cost least under the targets above: {title_of(targets.objective)} was not made best of."
        )
    if found.autoscaling is not None:
        print_saving(paper, found.autoscaling, {name: one.autoscaling for name, one in found.pools.items()})
    for name, apart in found.apart.items():
        print_apart(paper, name, apart, found.scenario.targets)
    if any(one.fewer for one in found.headroom.values()):
        paper.print(_headroom_table(found))
    if hours:
        paper.print(_hours_table(found))
    reasons: dict[str, list[str]] = {}
    for one in found.refused:
        reasons.setdefault(one.reason, []).append(f"{one.pool} on {one.name}")
    for reason, names in list(reasons.items())[:_SHOWN_REASONS]:
        paper.say(f"Not tried: {', '.join(names)}: expected {reason}.", "dim")
    if len(reasons) > _SHOWN_REASONS:
        paper.say(f"Not tried for {len(reasons) - _SHOWN_REASONS} other reasons: --json has them all.", "dim")
    print_notes(paper, found.summary)


def _pools_table(found: Capacity) -> Table:
    title = "Capacity" if found.status != "not met" else "Nearest capacity"
    table = Table(title=title, title_justify="left", header_style="bold", pad_edge=False)
    table.add_column("pool")
    for name in ("replicas", "of", "GPUs", "$ / day", "cannot be less than", "busy"):
        table.add_column(name, justify="left" if name == "of" else "right")
    busy = _busy(found)
    for name, one in found.pools.items():
        what = one.option or "as it stands"
        if one.gpu is not None and one.option is None:
            ranks = "" if one.data_parallel == 1 else f"{one.data_parallel} ranks of "
            what = f"{ranks}{one.tensor_parallel} x {one.gpu}" + ("" if one.precision is None else f", {one.precision}")
        if one.draft_tokens:
            what += f", {one.draft_tokens} draft token{'s' if one.draft_tokens > 1 else ''}"
        gpus = "-" if one.gpu is None else f"{one.gpus:,}"
        mean = found.summary.provisioned[name].replicas if one.autoscaling is not None else one.replicas
        count = f"{one.replicas:,}" if one.autoscaling is None else f"{number(mean, 1)} (to {one.replicas:,})"
        count += f" + {one.prefill:,} for prefill" if one.prefill else ""
        cells = (count, what, gpus, number(one.usd_per_day), f"{one.lower_bound:,}", busy.get(name, "-"))
        table.add_row(name, *cells, style="bold")
    return table


def _busy(found: Capacity) -> dict[str, str]:
    """Share of each pool's time with anything to do, over the runs."""
    shares = {}
    for name, one in found.pools.items():
        d = found.result.model.deployment_names.index(name)
        busy_s = sum(float(run.result.busy_s[d]) for run in found.result.runs)
        pool = found.result.model.deployments[d]
        servers = pool.servers if isinstance(pool, GpuPool) and pool.autoscaling is None else one.replicas
        stood_s = sum(servers * (run.result.end_s - run.paid_from_s) for run in found.result.runs)
        if one.autoscaling is not None:
            provided = [
                run.provisioned[name].replicas * run.paid_s for run in found.result.runs if name in run.provisioned
            ]
            stood_s = sum(provided)
        if stood_s > 0:
            shares[name] = percent(busy_s / stood_s)
    return shares


def _in_words(found: Capacity) -> list[Any]:
    lines: list[Any] = []
    named = ", ".join(found.binding)
    if found.status == "not met":
        unmet = f"The targets cannot all be met. Binding: {named}."
        lines.append(styled((unmet, "bold red"), " Shown is what comes nearest."))
    elif named:
        fixed = " of a fixed number" if found.autoscaling is not None and found.autoscaling.chosen else ""
        lines.append(f"Binding: {named}: with one replica fewer{fixed or ' of a pool'} it is missed.")
    if found.near_tie:
        line = (
            "A near tie: other runs of the same traffic might take one replica more, or one fewer. Replicas follow from the "
            "figures themselves, and not from the confidence of targets: take one more where a chance is below what is asked."
        )
        lines.append(styled((line, "bold")))
    if found.lower_bound_usd_per_day > 0:
        saving = found.autoscaling
        usd = found.usd_per_day if saving is None else saving.fixed.usd_per_day
        what, this = (
            ("choice costs", "this one costs") if saving is None else ("fixed numbers cost", "the cheapest cost")
        )
        line = f"No {what} less than ${number(found.lower_bound_usd_per_day)} a day by conservation of work; {this} "
        lines.append(f"{line}${number(usd)}, {number(usd / found.lower_bound_usd_per_day, 1)} times that.")
    kinds = "1 kind of hardware was" if found.tried == 1 else f"{found.tried} kinds of hardware were"
    left = f"; the bound alone ruled out {found.ruled_out} more" if found.ruled_out else ""
    lines.append(styled((f"{kinds} simulated{left}.", "dim")))
    lines += [f"Nothing is sent to {name}: it needs no replicas." for name in found.unused]
    lines += [*kept_lines(found.scenario), *fees_lines(found.summary)]
    return lines


def _headroom_table(found: Capacity) -> Table:
    table = Table(title="If replicas fail", title_justify="left", header_style="bold", pad_edge=False)
    for name in ("pool", "fewer", "left", "targets that are missed then"):
        table.add_column(name, justify="right" if name in ("fewer", "left") else "left")
    targets = found.scenario.targets
    words = {one.name: one.words for one in targets.asked()} if targets is not None else {}
    for name, room in found.headroom.items():
        for one in room.fewer:
            missed = [f"{words[key]} ({one.figures[key]:.4g})" for key in one.missed]
            table.add_row(name, f"{one.failed:,}", f"{one.replicas:,}", ", ".join(missed) or "none")
    return table


def _hours_table(found: Capacity) -> Table:
    table = Table(title="By hour", title_justify="left", header_style="bold", pad_edge=False)
    table.add_column("hour", justify="right")
    goodput = any(row["goodput"] is not None for row in found.hours)
    several = len(found.pools) > 1
    busy = [f"{name} busy" for name in found.pools] if several else ["busy"]
    scaled = [name for name, one in found.pools.items() if one.autoscaling is not None]
    counts = [f"{name} replicas" for name in scaled] if several else ["replicas"] * len(scaled)
    names = [
        "arrivals",
        *counts,
        *busy,
        "running",
        "waiting",
        "TTFT p99 s",
        "p99 s",
        *(["goodput"] if goodput else []),
        "$",
    ]
    for name in names:
        table.add_column(name, justify="right")
    for row in found.hours:
        pools = row["pools"]
        assert isinstance(pools, dict)
        cells = [_written(row, "arrivals", number)]
        cells += [_written(pools.get(name, {}), "replicas", lambda x: number(x, 1)) for name in scaled]
        cells += [_written(pools.get(name, {}), "utilisation", percent) for name in found.pools]
        cells += [_written(row, "running", lambda x: number(x, 1)), _written(row, "queue", lambda x: number(x, 1))]
        cells += [_written(row, "ttft_p99_s", lambda x: number(x, 2)), _written(row, "latency_p99_s", seconds)]
        cells += [_written(row, "goodput", percent)] if goodput else []
        table.add_row(str(row["hour"]), *cells, _written(row, "usd", dollars))
    return table


def _written(row: Mapping[str, Any], key: str, how: Any) -> str:
    value = row.get(key)
    return "-" if value is None or math.isnan(value) else str(how(value))


__all__ = ["print_capacity"]
