"""Tables that a manager can read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ttc_sim.base.estimates import Estimate
from ttc_sim.optimizer.cross_validating import CrossValidation
from ttc_sim.optimizer.plan import Plan
from ttc_sim.optimizer.promises import TargetCheck, TargetVerdict, figures_in_brief
from ttc_sim.optimizer.validating import Validation, Verdict
from ttc_sim.policies import Always, Banded, PerSource, Policy, Threshold, Utility
from ttc_sim.simulation.pooling import Part
from ttc_sim.simulation.summary import Summary


def print_summary(console: Console, summary: Summary, baselines: Mapping[str, Summary]) -> None:
    """One policy beside its baselines, then by arm and by difficulty."""
    console.print(comparison({"policy": summary, **baselines}, "policy"))
    for line in savings(summary, baselines):
        console.print(f"  {escape(line)}")
    console.print(parts_table("By arm", "arm", summary.per_arm))
    if summary.per_band:
        console.print(parts_table("By predicted difficulty", "difficulty", summary.per_band))
    print_notes(console, summary)


def print_plan(console: Console, plan: Plan) -> None:
    """The plan beside its baselines, the policy in words, targets, savings."""
    title = "plan" if plan.status == "met" else "nearest plan"
    console.print(comparison({title: plan.predicted, **plan.baselines}, title))
    _print_policy(console, plan)
    console.print(targets_table(plan.checks))
    for line in savings(plan.predicted, plan.baselines):
        console.print(f"  {escape(line)}")
    for line in [*_worth_in_words(plan), *alternatives_in_words(plan)]:
        console.print(f"  {escape(line)}")
    if plan.status != "met":
        named = ", ".join(plan.binding)
        console.print(f"[bold red]The targets cannot all be met. Binding: {named}.[/] Shown is the nearest plan.")
    console.print(parts_table("The plan by arm", "arm", plan.predicted.per_arm))
    print_notes(console, plan.predicted)


def _worth_in_words(plan: Plan) -> list[str]:
    """What the predictor is worth, between none and a perfect one."""
    worth = plan.worth
    lines = []
    for name, reached, usd in (
        ("without a predictor", worth.none, worth.usd_per_day),
        ("with a perfect predictor", worth.perfect, worth.perfect_usd_per_day),
    ):
        cost, accuracy = reached.cost_usd_at_same_accuracy, reached.accuracy_at_same_cost
        line = f"{name}: accuracy {worth.accuracy:.1%} "
        line += "is out of reach" if cost is None else f"would cost ${1000 * cost:.2f} per 1k requests"
        line += f" (plan: ${1000 * worth.cost_usd_per_request:.2f})"
        if accuracy is not None:
            line += f"; at the plan's cost, accuracy {accuracy:.1%}"
        if usd is not None and reached is worth.none:
            line += f"; the predictor saves ${usd:,.0f} a day" if usd > 0 else "; the predictor saves nothing"
        elif usd is not None:
            line += f"; ${max(usd, 0.0):,.0f} a day still to be had"
        lines.append(line)
    return lines


def alternatives_in_words(plan: Plan) -> list[str]:
    """What weighing every arm (``Utility``) gains over bands, and whether that is more than noise."""
    gain, other = plan.gain, plan.alternatives["utility"]
    times, unit = (1000.0, "$ per 1k requests") if gain.unit == "usd_per_request" else (100.0, "points of accuracy")
    figures = ", ".join(f"{times * x:+.3g}" for x in (gain.low, gain.high))
    line = f"Utility beside bands, on problems kept from both: {times * gain.value:+.3g} {unit} ({figures}): "
    line += "more than noise" if gain.more_than_noise else "no more than noise"
    if not other.chosen and other.status != "met":
        line += "; it misses the targets"
    elif not other.chosen and gain.more_than_noise:
        line += f"; yet simulated it does no better ({figures_in_brief(other.predicted)})"
    chosen = next(name for name, one in plan.alternatives.items() if one.chosen)
    return [f"{line}; the plan is {'Utility' if chosen == 'utility' else 'by bands'}"]


def comparison(rows: Mapping[str, Summary], highlight: str | None) -> Table:
    """Policies side by side."""
    table = Table(title=None, header_style="bold", pad_edge=False)
    table.add_column("policy")
    for name in ("accuracy", "$ / 1k requests", "$ / day", "p50 s", "p95 s", "p99 s", "timed out", "thinking", "GPUs"):
        table.add_column(name, justify="right")
    for name, summary in rows.items():
        latency = summary.latency_s
        unserved = summary.timeout_rate.value + summary.rejected_rate.value
        output = summary.tokens_per_request["output"].value
        thinking = summary.tokens_per_request["reasoning"].value / output if output else 0.0
        table.add_row(
            escape(name),
            "unknown" if summary.accuracy is None else _percent(summary.accuracy),
            _money(summary.cost_usd_per_request, 1000),
            f"{summary.cost_usd_per_day.value:,.0f}",
            *(f"{latency[q].value:.1f}" for q in ("p50", "p95", "p99")),
            f"{unserved:.1%}",
            f"{thinking:.0%}",
            escape(", ".join(f"{pool} x{count}" for pool, count in summary.replicas.items())) or "-",
            style="bold" if name == highlight else None,
        )
    return table


def _percent(figure: Estimate) -> str:
    return f"{figure.value:.1%} ({100 * figure.low:.0f}-{100 * figure.high:.0f})"


def _money(figure: Estimate, times: float) -> str:
    return f"{figure.value * times:.2f} ({figure.low * times:.2f}-{figure.high * times:.2f})"


def parts_table(title: str, column: str, parts: Mapping[str, Part]) -> Table:
    """Figures by arm or by band."""
    table = Table(title=title, title_justify="left", header_style="bold", pad_edge=False)
    table.add_column(column)
    for name in ("requests", "accuracy", "$ / 1k requests", "p95 s", "output tokens", "of them thinking"):
        table.add_column(name, justify="right")
    for name, part in parts.items():
        table.add_row(
            escape(name),
            f"{part.share:.1%}",
            "unknown" if part.accuracy is None else _percent(part.accuracy),
            _money(part.cost_usd_per_request, 1000),
            f"{part.latency_p95_s.value:.1f}",
            f"{part.tokens_per_request:,.0f}",
            f"{part.reasoning_tokens_per_request:,.0f}",
        )
    return table


def _print_policy(console: Console, plan: Plan) -> None:
    console.print("\n[bold]Which requests go where[/]")
    policy = plan.policy
    policies = policy.policies if isinstance(policy, PerSource) else {"all": policy}
    for source, one in policies.items():
        for line in policy_in_words(one):
            console.print(f"  {escape(f'{source}: {line}')}")
    console.print()


def policy_in_words(policy: Policy) -> list[str]:
    """A line a band."""
    if isinstance(policy, Threshold):
        policy = Banded(edges=[policy.at], arms=[policy.below, policy.above], score=policy.score)
    if isinstance(policy, Always):
        return [f"everything to {policy.arm}"]
    if isinstance(policy, Utility):
        line = f"the arm expected to be worth most: ${policy.price_of_accuracy:.4g} a right answer, less its cost"
        return [line + (f", less ${policy.price_of_second:.4g} a second" if policy.price_of_second else "")]
    if not isinstance(policy, Banded):
        return [repr(policy)]
    what = policy.score if policy.score == "difficulty" else f"chance that {policy.score[2:]} is right"
    edges = list(policy.edges)
    lines = []
    for k, arm in enumerate(policy.arms):
        if k == 0:
            span = f"below {edges[0]:.4g}"
        elif k == len(edges):
            span = f"{edges[-1]:.4g} and above"
        else:
            span = f"{edges[k - 1]:.4g} to {edges[k]:.4g}"
        lines.append(f"{what} {span}: {arm}")
    return lines


def targets_table(checks: Sequence[TargetCheck]) -> Table:
    """Targets beside what is promised, and how sure that is."""
    table = Table(header_style="bold", pad_edge=False)
    table.add_column("target")
    for name in ("asked", "promised", "95% interval", "chance that it holds"):
        table.add_column(name, justify="right")
    for check in checks:
        figure, sign = check.promised, ">=" if check.at_least else "<="
        table.add_row(
            check.name,
            f"{sign} {check.bound:g}",
            f"{figure.value:.4g}" + ("" if check.holds else "  [red]missed[/]"),
            f"{figure.low:.4g} to {figure.high:.4g}",
            f"{check.chance:.0%}",
        )
    return table


def savings(mine: Summary, baselines: Mapping[str, Summary]) -> list[str]:
    """What a policy saves beside each baseline, and what it gives up or gains."""
    lines = []
    for name, other in baselines.items():
        saved = other.cost_usd_per_day.value - mine.cost_usd_per_day.value
        share = saved / other.cost_usd_per_day.value if other.cost_usd_per_day.value else 0.0
        line = f"beside {name}: {'saves' if saved >= 0 else 'costs'} ${abs(saved):,.0f} a day"
        line += f" ({abs(share):.0%}{'' if saved >= 0 else ' more'})"
        if mine.accuracy is not None and other.accuracy is not None:
            line += f", accuracy {100 * (mine.accuracy.value - other.accuracy.value):+.1f} points"
        line += f", p95 {mine.latency_s['p95'].value - other.latency_s['p95'].value:+.1f} s"
        lines.append(line)
    return lines


def print_notes(console: Console, summary: Summary) -> None:
    """What every figure above rests on."""
    console.print(
        f"[dim]{summary.runs} independent runs of {summary.requests:,} requests at {summary.rate_per_s:.3g}/s; "
        f"{summary.problems:,} measured problems stand behind them. Brackets and intervals: 95%.[/]"
    )
    if summary.thinking_cost_share > 0:
        console.print(
            f"Thinking is {summary.thinking_cost_share:.0%} of the bill ({summary.reasoning_tokens_per_day:,.0f} hidden tokens a "
            f"day), about {summary.idle_thinking_cost_share:.0%} of the bill thinking that changed nothing: what came after the "
            f"answer already stood. A request at the 99th percentile costs {summary.cost_spread:.1f} times the median one."
        )
    for name, growth in summary.queue_growth_per_s.items():
        console.print(
            f"[bold red]{escape(name)} cannot keep up:[/] its queue still grows by {growth:.3g} requests a second in the second "
            "half of the arrivals, so latency would grow without end; the figures hold for this many requests only."
        )
    for note in summary.notes:
        console.print(f"[dim]- {escape(note)}[/]")


def print_validation(console: Console, validation: Validation) -> None:
    """Realized beside promised."""
    table = Table(header_style="bold", pad_edge=False)
    table.add_column("figure")
    for name in ("promised", "interval for so many problems", "realized", "inside"):
        table.add_column(name, justify="right")
    for name, verdict in validation.verdicts.items():
        table.add_row(name, *_verdict_cells(verdict))
    console.print(table)
    if validation.targets:
        console.print(verdicts_table(validation.targets))
    for line in _regret_in_words(validation):
        console.print(line)
    for name, figure in validation.by_novelty.items():
        console.print(f"Accuracy on {name}: {_percent(figure)}")
    console.print(f"[dim]{validation.problems:,} problems carried out on.[/]")
    for note in validation.notes:
        console.print(f"[dim]- {escape(note)}[/]")


def verdicts_table(targets: Sequence[TargetVerdict]) -> Table:
    """Every target beside what was realized."""
    table = Table(title="Targets", title_justify="left", header_style="bold", pad_edge=False)
    table.add_column("target")
    for name in ("asked", "realized", "met"):
        table.add_column(name, justify="right")
    words = {True: "yes", False: "[red]no[/]", None: "too few problems to tell"}
    for one in targets:
        figure = one.realized
        realized = f"{figure.value:.4g} ({figure.low:.4g} to {figure.high:.4g})"
        table.add_row(
            one.name, f"{'at least' if one.at_least else 'at most'} {one.asked:.4g}", realized, words[one.met]
        )
    return table


def _regret_in_words(validation: Validation) -> list[str]:
    lines = []
    if (best := validation.best_in_hindsight) is not None:
        lines.append(
            f"Best policy in hindsight: ${1000 * float(str(best['cost_usd_per_request'])):.2f} per 1k requests at accuracy "
            f"{float(str(best['accuracy'])):.1%}."
        )
    if (one := validation.regret) is not None:
        lines.append(
            f"The plan: ${1000 * one.cost_usd_per_request:.2f} at {one.accuracy:.1%}. (Both by expectation, before any queue.)"
        )
        figure = one.figure
        if one.name == "cost_ratio":
            high = f"{figure.high:.3g}" if math.isfinite(figure.high) else "any number of"
            lines.append(
                f"With all outcomes known, no choice of arms, problem by problem, costs less than ${1000 * one.bound:.2f} at the "
                f"plan's accuracy: the plan costs {figure.value:.3g} ({figure.low:.3g} to {high}) times that."
            )
        else:
            lines.append(
                f"With all outcomes known, no choice of arms, problem by problem, is right more often than {one.bound:.1%} at the "
                f"plan's cost: {figure.value:.1%} ({figure.low:.1%} to {figure.high:.1%}) more."
            )
    return lines


def print_cross_validation(console: Console, found: CrossValidation) -> None:
    """Realized beside promised in every fold, and over all of them."""
    table = Table(header_style="bold", pad_edge=False)
    table.add_column("fold")
    table.add_column("figure")
    for name in ("promised", "interval for so many problems", "realized", "inside"):
        table.add_column(name, justify="right")
    for number, fold in enumerate(found.folds, 1):
        label = f"{number}: {fold.problems:,} problems" + ("" if fold.status == "met" else ", [red]targets not met[/]")
        for name, verdict in fold.verdicts.items():
            table.add_row(label, name, *_verdict_cells(verdict))
            label = ""
        table.add_section()
    console.print(table)
    table = Table(title="Over all folds", title_justify="left", header_style="bold", pad_edge=False)
    table.add_column("figure")
    for name in ("promised, mean", "realized, mean", "inside"):
        table.add_column(name, justify="right")
    for name, one in found.overall.items():
        table.add_row(name, f"{one.promised:.4g}", f"{one.realized:.4g}", f"{one.inside:.0%}")
    console.print(table)
    console.print(
        f"[dim]{len(found.folds)} plans, each made without a part of the problems and carried out on it. Promises are as sure "
        "as they say where about 95% of the figures are inside.[/]"
    )
    for note in found.notes:
        console.print(f"[dim]- {note}[/]")


def _verdict_cells(verdict: Verdict) -> tuple[str, str, str, str]:
    """Promised, its interval, realized, inside."""
    promised, realized = verdict.promised, verdict.realized
    return (
        f"{promised.value:.4g}",
        f"{promised.low:.4g} to {promised.high:.4g}",
        f"{realized.value:.4g} ({realized.low:.4g} to {realized.high:.4g})",
        "yes" if verdict.inside else "[red]no[/]",
    )
