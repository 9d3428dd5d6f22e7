"""The health of a plan, and the policies that it cannot be told from, in lines."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from rich.console import Console

from ttc_sim.base.figures import dollars_of, percent_of, seconds_of
from ttc_sim.optimizer.health.assumed import aged
from ttc_sim.optimizer.health.check import STATUSES, Check, by_severity, passes
from ttc_sim.optimizer.plan import Plan
from ttc_sim.optimizer.simpler import Tied
from ttc_sim.reporting.paper import Paper, styled

_STYLES = {"problem": "bold red", "warning": "bold", "ok": "dim", "not applicable": "dim"}
_PLURALS = {"problem": "problems", "warning": "warnings", "ok": "in order", "not applicable": "not applicable"}


def print_health(
    console: Console, checks: Sequence[Check], *, day: datetime.date | None = None, everything: bool = False
) -> None:
    """What is not in order, the most severe first, a line each; the rest with ``everything``.

    Args:
        checks: of a plan; day: that prices and measurements are old as of, where the checks do not say one of their own.
    """
    if not checks:
        return
    paper = Paper.of(console)
    ordered = by_severity(as_of_today(checks, day))
    shown = ordered if everything else [check for check in ordered if not passes(check)]
    paper.say()
    paper.say(f"Health of the plan: {counted(ordered)}", "bold")
    for check in shown:
        paper.say(styled("  ", (f"{check.status}, {check.name}:", _STYLES[check.status]), f" {check.says}."))
    hidden = len(ordered) - len(shown)
    if hidden:
        checks_are = (
            "1 other check passes or does not apply" if hidden == 1 else f"{hidden} other checks pass or do not apply"
        )
        paper.say(f"  {checks_are}: --checks all shows them, in Python plan.health", "dim")


def as_of_today(checks: Sequence[Check], day: datetime.date | None) -> tuple[Check, ...]:
    """The checks, ages judged as of a day, or of today; those that say a day of their own stay as they are."""
    today = day or datetime.date.today()
    now = aged(checks, today)
    return tuple(old if old.figures.get("as_of") else new for old, new in zip(checks, now, strict=True))


def counted(checks: Sequence[Check]) -> str:
    """How many of each status.

    >>> counted([Check("a", "ok", "", {}), Check("b", "warning", "", {})])
    '1 warning, 1 in order'
    """
    many = {status: sum(check.status == status for check in checks) for status in STATUSES}
    return ", ".join(
        f"{n} {status if n == 1 and status != 'ok' else _PLURALS[status]}" for status, n in many.items() if n
    )


def tied_in_words(plan: Plan) -> list[str]:
    """Policies that hold all targets and cannot be told from the best, and which of them is the plan."""
    if not plan.tied:
        return []
    lines = ["Cannot be told apart, on the same requests and problems:"]
    lines += [f"  {_row(one)}" for one in plan.tied]
    if plan.tied[-1].is_plan:  # the best
        lines.append(
            "  none that is simpler is known to be as good within 2 points of accuracy or 2% of cost, so that the best is the plan"
        )
    else:
        lines.append("  the simplest that is as good, within 2 points of accuracy and 2% of the cost, is the plan")
    return lines


def _row(one: Tied) -> str:
    figures = [
        f"accuracy {percent_of(figure)}"
        if name == "accuracy"
        else f"${dollars_of(figure, 1000)} per 1k requests"
        if name == "cost_usd_per_request"
        else f"${dollars_of(figure)} a day"
        if name == "cost_usd_per_day"
        else f"{name} {seconds_of(figure)}"
        for name, figure in one.figures.items()
    ]
    said = "; ".join(f"{source}: {policy}" for source, policy in one.policy.items())
    chosen = "the plan, " if one.is_plan else ""
    return f"{chosen}{one.simplicity.words}: {', '.join(figures)} ({said})"


__all__ = ["as_of_today", "counted", "print_health", "tied_in_words"]
