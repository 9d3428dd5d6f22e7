"""What sessions come to, and what caches found of prompts, as tables."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from ttc_sim.base.estimates import Estimate
from ttc_sim.base.figures import count, dollars, dollars_of, number, percent, percent_of, span
from ttc_sim.reporting.paper import Paper
from ttc_sim.simulation.session_figures import CacheFigures, SessionFigures
from ttc_sim.simulation.summary import Summary


def print_sessions(paper: Paper, summary: Summary) -> None:
    """A table of sessions, and one of caches, where there are any."""
    if summary.sessions is not None:
        paper.print(sessions_table(summary.sessions))
    if summary.caches:
        paper.print(caches_table(summary.caches))


def sessions_table(found: SessionFigures) -> Table:
    """Means over sessions; what never happens has no line."""
    table = Table(title="A session", title_justify="left", header_style="bold", pad_edge=False)
    for name in ("", "in the mean", "95% interval"):
        table.add_column(name, justify="right" if name else "left")
    rows: list[tuple[str, Estimate, str, float]] = [
        ("turns", found.turns, number(found.turns.value, 1), 1),
        (
            "hours, from its first request to its last answer",
            found.lasts_s,
            number(found.lasts_s.value / 3600, 1),
            1 / 3600,
        ),
        ("$", found.usd, dollars(found.usd.value), 1),
        ("prompt tokens", found.prompt_tokens, count(found.prompt_tokens.value), 1),
        ("  % sent before in the session", found.sent_before_share, percent(found.sent_before_share.value), 100),
        ("  % found in a cache", found.cached_share, percent(found.cached_share.value), 100),
        ("  % sent before, not found", found.cold_share, percent(found.cold_share.value), 100),
        (
            "  % the same after a switch",
            found.cold_after_switch_share,
            percent(found.cold_after_switch_share.value),
            100,
        ),
        ("output tokens", found.output_tokens, count(found.output_tokens.value), 1),
        ("$ saved by caches", found.saved_usd, dollars(found.saved_usd.value), 1),
        ("turns sent elsewhere than the last", found.switches, number(found.switches.value, 1), 1),
        ("$ that switching cost, at most", found.switch_usd, dollars(found.switch_usd.value), 1),
    ]
    for label, one, said, times in rows:
        if one.value:
            table.add_row(label, said, span(one.scaled(times)))
    return table


def caches_table(found: Mapping[str, CacheFigures]) -> Table:
    """Deployments side by side."""
    table = Table(title="Prompt caches", title_justify="left", header_style="bold", pad_edge=False)
    table.add_column("deployment")
    written = any(one.written_share.value > 0 for one in found.values())
    for name in ("prompt tokens", "found", *(["kept"] if written else []), "$ saved / 1k requests"):
        table.add_column(name, justify="right")
    for deployment, one in found.items():
        kept = [percent_of(one.written_share)] if written else []
        table.add_row(
            deployment,
            percent(one.prompt_share.value),
            percent_of(one.cached_share),
            *kept,
            dollars_of(one.saved_usd_per_request, 1000) if one.saved_usd_per_request.value else "-",
        )
    return table


__all__ = ["caches_table", "print_sessions", "sessions_table"]
