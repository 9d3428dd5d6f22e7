"""A result over time: tables by interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table

from ttc_sim.base.figures import count, dollars, number, percent
from ttc_sim.reporting.paper import Paper
from ttc_sim.simulation.over_time import OverTime

_HOUR_S = 3600
_MOST_ROWS = 400

# Heading, column, and how it is written.
_REQUESTS = {
    "arrivals": ("arrivals", lambda x: number(x, 0)),
    "TTFT p95 s": ("ttft_p95_s", lambda x: number(x, 2)),
    "per token p95 s": ("tpot_p95_s", lambda x: number(x, 3)),
    "p50 s": ("latency_p50_s", lambda x: number(x, 1)),
    "p95 s": ("latency_p95_s", lambda x: number(x, 1)),
    "timed out": ("timed_out", lambda x: number(x, 0)),
    "rejected": ("rejected", lambda x: number(x, 0)),
    "failed": ("failed", lambda x: number(x, 0)),
    "goodput": ("goodput", percent),
}
_BUDGETS = {name: (name, lambda x: number(x, 0)) for name in ("degraded", "queued", "refused")}
_SPENT = {"$ of the budget": ("spent_usd", dollars)}
_ATTEMPTS = {name: (name, lambda x: number(x, 0)) for name in ("errors", "retries", "fallbacks")}
_SERVERS = {
    "running": ("running", lambda x: number(x, 1)),
    "waiting": ("waiting", lambda x: number(x, 1)),
    "KV": ("kv_share", percent),
    "busy": ("utilisation", percent),
}
_REPLICAS = {
    "replicas": ("replicas", lambda x: number(x, 1)),
    "GPU-hours": ("provisioned_gpu_hours", lambda x: number(x, 1)),
}
_TOKENS = {"output tokens": ("output_tokens", count)}
_DOLLARS = {"$": ("usd", dollars)}


def print_over_time(console: Console, found: OverTime) -> None:
    """By interval: all requests, then by deployment and by source where there are several."""
    paper = Paper.of(console)
    title = "By hour" if found.interval_s == _HOUR_S else f"By {found.interval_s:g} s"
    replicas = _REPLICAS if found.changing_pools else {}
    several = found.deployments["deployment"].n_unique() > 1
    if several:
        columns = {**_REQUESTS, **_BUDGETS, **_ATTEMPTS, **_SERVERS, **_TOKENS, **_DOLLARS, **_SPENT}
        paper.print(_table(title, found, found.all, columns))
        columns = {**_REQUESTS, **_SERVERS, **replicas, **_DOLLARS}
        paper.print(_table(f"{title} and deployment", found, found.deployments, columns, "deployment"))
    else:
        columns = {**_REQUESTS, **_BUDGETS, **_ATTEMPTS, **_SERVERS, **replicas, **_DOLLARS, **_SPENT}
        paper.print(_table(title, found, _with_spent(found), columns))
    if found.sources["source"].n_unique() > 1:
        columns = {**_REQUESTS, **_BUDGETS, **_TOKENS, **_DOLLARS, **_SPENT}
        paper.print(_table(f"{title} and source", found, found.sources, columns, "source"))
    last = found.all.tail(1)
    if last["partial"][0]:
        lasts_s = float(last["ends_s"][0] - last["begins_s"][0])
        paper.say(f"The last row is cut short: the run ends {number(lasts_s)} s into it.", "dim")


def _with_spent(found: OverTime) -> pl.DataFrame:
    """The rows of a single deployment, with what a budget counted, which stands with those of all."""
    if "spent_usd" not in found.all.columns:
        return found.deployments
    return found.deployments.with_columns(found.all["spent_usd"])


def _table(title: str, found: OverTime, rows: pl.DataFrame, columns: Mapping[str, Any], by: str = "") -> Table:
    """Of these columns those of which anything is known."""
    shown = {
        name: (column, written)
        for name, (column, written) in columns.items()
        if column in rows.columns and rows[column].null_count() < len(rows)
    }
    table = Table(title=title, title_justify="left", header_style="bold", pad_edge=False)
    table.add_column("from")
    if by:
        table.add_column(by)
    for name in shown:
        table.add_column(name, justify="right")
    left_out = len(rows) - _MOST_ROWS
    if left_out > 0:  # nobody reads them, and to lay them out takes minutes
        table.title = f"{title}: the first and the last {_MOST_ROWS // 2} of {count(len(rows))} rows; --json has all"
        rows = pl.concat([rows.head(_MOST_ROWS // 2), rows.tail(_MOST_ROWS // 2)])
    for at, row in enumerate(rows.iter_rows(named=True)):
        if left_out > 0 and at == _MOST_ROWS // 2:
            table.add_row("...")
        cells = ("-" if row[column] is None else written(row[column]) for column, written in shown.values())
        table.add_row(_at(row["begins_s"], found.interval_s), *([str(row[by])] if by else []), *cells)
    return table


def _at(at_s: float, interval_s: float) -> str:
    """Of the clock, as finely as intervals begin.

    >>> _at(5400.0, 3600.0), _at(90.0, 30.0), _at(0.5, 0.25)
    ('1:30', '0:01:30', '0.5 s')
    """
    if interval_s % 1:
        return f"{at_s:g} s"
    minutes, rest = divmod(round(at_s), 60)
    said = f"{minutes // 60}:{minutes % 60:02d}"
    return said if interval_s % 60 == 0 else f"{said}:{rest:02d}"


__all__ = ["print_over_time"]
