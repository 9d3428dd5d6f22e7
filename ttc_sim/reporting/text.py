"""Tables that a manager can read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ttc_sim.base.estimates import Estimate
from ttc_sim.base.figures import (
    count,
    dollars,
    dollars_of,
    number,
    percent,
    percent_of,
    rounded_down,
    seconds,
    signed,
    span,
)
from ttc_sim.optimizer.cross_validating import CrossValidation
from ttc_sim.optimizer.plan import Plan
from ttc_sim.optimizer.promises import TargetCheck, TargetVerdict, figures_in_brief
from ttc_sim.optimizer.validating import Validation, Verdict
from ttc_sim.policies import (
    PROMPT_TOKENS,
    TURN,
    Always,
    Banded,
    Escalate,
    LeastLoaded,
    Overflow,
    PerSource,
    Policy,
    SessionBudget,
    Sticky,
    Threshold,
    Utility,
    parse_policy,
)
from ttc_sim.reporting.budget import budget_lines, budget_table
from ttc_sim.reporting.frontier import frontier_table, objective_in_words, shown, title_of
from ttc_sim.reporting.health import print_health, tied_in_words
from ttc_sim.reporting.paper import Paper, styled
from ttc_sim.reporting.robust import print_robust
from ttc_sim.reporting.sessions import print_sessions
from ttc_sim.reporting.tiers import chosen_lines, fees_lines
from ttc_sim.scenario.shapes import time_in_words
from ttc_sim.simulation.pooling import Part
from ttc_sim.simulation.summary import AttemptFigures, Summary
from ttc_sim.simulation.uncertainty import FEW_RUNS


def print_summary(
    console: Console,
    summary: Summary,
    baselines: Mapping[str, Summary],
    targets: Sequence[TargetVerdict] = (),
) -> None:
    """One policy beside its baselines and the targets, then its times, by arm and by difficulty."""
    paper = Paper.of(console)
    paper.print(comparison({"policy": summary, **baselines}, "policy"))
    for line in savings(summary, baselines):
        paper.say(f"  {line}")
    for line in [*replicas_lines(summary), *fees_lines(summary)]:
        paper.say(f"  {line}")
    if targets:
        paper.print(verdicts_table(targets, "too few requests or problems to tell"))
    paper.print(times_table(summary))
    print_sessions(paper, summary)
    _print_budget(paper, summary)
    if summary.attempts is not None and (table := attempts_table(summary.attempts)).row_count:
        paper.print(table)
    paper.print(parts_table("By arm", "arm", summary.per_arm))
    if len(summary.per_source) > 1:
        paper.print(parts_table("By source", "source", summary.per_source))
    if summary.per_band:
        paper.print(parts_table("By predicted difficulty", "difficulty", summary.per_band))
    print_notes(paper, summary)


def print_plan(console: Console, plan: Plan, *, all_checks: bool = False) -> None:
    """The plan beside its baselines, the policy in words, targets, savings, and checks of its health that do not pass, or all."""
    paper = Paper.of(console)
    title = "plan" if plan.status == "met" else "nearest plan"
    paper.print(comparison({title: plan.predicted, **plan.baselines}, title))
    _print_policy(paper, plan)
    if (asked := objective_in_words(plan)) is not None:
        paper.say(asked, "bold")
    for line in [*chosen_lines(plan.scenario), *fees_lines(plan.predicted)]:
        paper.say(f"  {line}")
    paper.print(targets_table(plan.checks))
    if plan.robust is not None:
        print_robust(paper, plan.robust)
    if plan.frontier:
        paper.print(frontier_table(plan))
    if plan.confidence_costs:
        paper.print(confidences_table(plan))
    for line in savings(plan.predicted, plan.baselines):
        paper.say(f"  {line}")
    for line in kinds_in_words(plan) if plan.worth is None else [*_worth_in_words(plan), *alternatives_in_words(plan)]:
        paper.say(f"  {line}")
    for line in tied_in_words(plan):
        paper.say(f"  {line}")
    if plan.status != "met":
        named = ", ".join(plan.binding)
        unmet = f"The targets cannot all be met. Binding: {named}."
        if plan.highest_confidence > 0:
            unmet += f" The highest chance with which any plan was found to hold each is {rounded_down(plan.highest_confidence)}%."
        paper.say(styled((unmet, "bold red"), " Shown is the nearest plan."))
    print_sessions(paper, plan.predicted)
    _print_budget(paper, plan.predicted)
    paper.print(parts_table("The plan by arm", "arm", plan.predicted.per_arm))
    print_notes(paper, plan.predicted)
    print_health(paper, plan.health, everything=all_checks)


def _print_budget(paper: Paper, summary: Summary) -> None:
    if summary.budget is not None:
        paper.print(budget_table(summary.budget))
        for line in budget_lines(summary.budget):
            paper.say(f"  {line}")


def _worth_in_words(plan: Plan) -> list[str]:
    """What the predictor is worth, between none and a perfect one."""
    worth = plan.worth
    assert worth is not None
    lines = []
    for name, reached, usd in (
        ("without a predictor", worth.none, worth.usd_per_day),
        ("with a perfect predictor", worth.perfect, worth.perfect_usd_per_day),
    ):
        cost, accuracy = reached.cost_usd_at_same_accuracy, reached.accuracy_at_same_cost
        line = f"{name}: accuracy {percent(worth.accuracy)} "
        line += "is out of reach" if cost is None else f"would cost ${dollars(1000 * cost)} per 1k requests"
        line += f" (plan: ${dollars(1000 * worth.cost_usd_per_request)})"
        if accuracy is not None:
            line += f"; at the plan's cost, accuracy {percent(accuracy)}"
        if usd is not None and reached is worth.none:
            line += f"; the predictor saves ${number(usd)} a day" if usd > 0.005 else "; the predictor saves nothing"
        elif usd is not None:
            line += f"; ${number(max(usd, 0.0))} a day still to be had"
        lines.append(line)
    return lines


def kinds_in_words(plan: Plan) -> list[str]:
    """Of traffic without problems, each kind of policy at its best that is not the plan's."""
    lines = []
    for kind, one in plan.alternatives.items():
        if not one.chosen:
            policy = parse_policy(one.policy)
            assert isinstance(policy, PerSource)
            said = "; ".join(line for part in policy.policies.values() for line in policy_in_words(part))
            beside = {"met": "", "within noise": "; better by no more than noise"}.get(
                one.status, "; it misses the targets"
            )
            lines.append(f"by {kind}: {said} ({figures_in_brief(one.predicted)}){beside}")
    return lines


_GAINED = {
    "usd_per_request": (1000.0, "$ per 1k requests"),
    "accuracy": (100.0, "points of accuracy"),
    "goodput": (100.0, "points of goodput"),
    "share_in_time": (100.0, "points of requests within the bands' percentile"),
}


def alternatives_in_words(plan: Plan) -> list[str]:
    """What weighing every arm (``Utility``) gains over bands, and whether that is more than noise."""
    gain, other = plan.gain, plan.alternatives["utility"]
    assert gain is not None
    times, unit = _GAINED[gain.unit]
    figures = ", ".join(f"{times * x:+.3g}" for x in (gain.low, gain.high))
    line = f"Utility beside bands, on problems kept from both: {times * gain.value:+.3g} {unit} ({figures}): "
    line += "more than noise" if gain.more_than_noise else "no more than noise"
    if not other.chosen and other.status == "nearest":
        line += "; it misses the targets"
    elif not other.chosen and gain.more_than_noise:
        line += f"; yet simulated it does no better ({figures_in_brief(other.predicted)})"
    chosen = next(name for name, one in plan.alternatives.items() if one.chosen)
    return [f"{line}; the plan is {'Utility' if chosen == 'utility' else 'by bands'}"]


def comparison(rows: Mapping[str, Summary], highlight: str | None) -> Table:
    """Policies side by side; those that come to the same in everything share a row."""
    table = Table(title=None, header_style="bold", pad_edge=False)
    table.add_column("policy")
    cut_off = any(summary.cut_off_rate is not None for summary in rows.values())
    failed = any(summary.failed_rate.value > 0 for summary in rows.values())
    for name in [*COLUMNS, *(["cut off"] if cut_off else []), *(["failed"] if failed else [])]:
        table.add_column(name, justify="right")
    shared: dict[tuple[str, ...], list[str]] = {}
    for name, summary in rows.items():
        row = (*_cells(summary), *([percent(summary.failed_rate.value)] if failed else []))
        shared.setdefault((*row, summary.verdict), []).append(name)
    for (*cells, verdict), names in shared.items():
        label = " = ".join(names) + (" (overloaded)" if verdict == "overloaded" else "")
        table.add_row(label, *cells, style="bold" if highlight in names else None)
    return table


COLUMNS = (
    "accuracy",
    "$ / 1k requests",
    "$ / day",
    "p50 s",
    "p95 s",
    "p99 s",
    "timed out",
    "rejected",
    "thinking",
    "GPUs",
)


def _cells(summary: Summary) -> tuple[str, ...]:
    """A policy's row, below :data:`COLUMNS`."""
    output = summary.tokens_per_request["output"].value
    thinking = summary.tokens_per_request["reasoning"].value / output if output else 0.0
    return (
        "unknown" if summary.accuracy is None else percent_of(summary.accuracy),
        dollars_of(summary.cost_usd_per_request, 1000),
        number(summary.cost_usd_per_day.value),
        *(seconds(summary.latency_s[q].value) for q in ("p50", "p95", "p99")),
        percent(summary.timeout_rate.value),
        percent(summary.rejected_rate.value),
        percent(thinking, 0),
        ", ".join(f"{pool} x{_replicas(summary, pool)}" for pool in summary.replicas) or "-",
        *([] if summary.cut_off_rate is None else [percent(summary.cut_off_rate.value)]),
    )


def _replicas(summary: Summary, pool: str) -> str:
    """How many, or in the mean and at most."""
    mean, most = summary.provisioned[pool].replicas, summary.replicas[pool]
    return str(most) if mean == most else f"{number(mean, 1)} (to {most})"


def replicas_lines(summary: Summary) -> list[str]:
    """What was provided and what was busy, of pools whose replicas come and go."""
    return [
        f"{pool}: {number(one.provisioned_gpu_hours)} GPU-hours provided, {number(one.busy_gpu_hours)} busy; "
        f"{number(one.replicas, 1)} replicas in the mean, {one.most_replicas} at most"
        for pool, one in summary.provisioned.items()
        if one.replicas != one.most_replicas
    ]


def times_table(summary: Summary) -> Table:
    """Seconds to the first token, for each after it, and to the last."""
    table = Table(title="Times, s", title_justify="left", header_style="bold", pad_edge=False)
    table.add_column("")
    for name in ("mean", "p50", "p90", "p95", "p99"):
        table.add_column(name, justify="right")
    rows = {
        "to the first token": summary.ttft_s,
        "per further token": summary.tpot_s,
        "to the last token": summary.latency_s,
    }
    for label, times in rows.items():
        table.add_row(label, *(number(times[name].value, 1) for name in ("mean", "p50", "p90", "p95", "p99")))
    if summary.goodput is not None:
        table.caption = f"goodput: {percent_of(summary.goodput)} of all requests"
        table.caption_justify = "left"
    return table


_ATTEMPTS = {
    "errors": "that broke",
    "outage_errors": "of them by an outage",
    "refused_retries": "made again after a 429 or a full queue",
    "error_retries": "made again after an error",
    "timeout_retries": "made again after a timeout",
    "fallbacks": "taken over by another arm",
    "lost_tokens": "tokens lost with them",
    "lost_usd": "$ lost with them",
}


def attempts_table(found: AttemptFigures) -> Table:
    """Attempts that were not answered and what became of them, those that there are, per 1,000 requests."""
    table = Table(title="Attempts", title_justify="left", header_style="bold", pad_edge=False)
    for name in ("", "per 1k requests", "95% interval"):
        table.add_column(name, justify="right" if name else "left")
    for key, label in _ATTEMPTS.items():
        one: Estimate = getattr(found, key)
        if one.value > 0:
            table.add_row(label, number(1000 * one.value), span(one.scaled(1000)))
    return table


def parts_table(title: str, column: str, parts: Mapping[str, Part]) -> Table:
    """Figures by arm or by band."""
    table = Table(title=title, title_justify="left", header_style="bold", pad_edge=False)
    table.add_column(column)
    falls = any(part.answered_share is not None for part in parts.values())
    columns = ["requests", "accuracy", "$ / 1k requests", "p95 s", "output tokens", "of them thinking"]
    for name in [*columns, *(["answered by another", "answers of all"] if falls else [])]:
        table.add_column(name, justify="right")
    for name, part in parts.items():
        table.add_row(
            name,
            percent(part.share),
            "unknown" if part.accuracy is None else percent_of(part.accuracy),
            dollars_of(part.cost_usd_per_request, 1000),
            seconds(part.latency_p95_s.value),
            count(part.tokens_per_request),
            count(part.reasoning_tokens_per_request),
            *([percent(part.fallback_share or 0.0), percent(part.answered_share or 0.0)] if falls else []),
        )
    return table


def _print_policy(paper: Paper, plan: Plan) -> None:
    paper.say()
    paper.say("Which requests go where", "bold")
    policy = plan.policy
    policies = policy.policies if isinstance(policy, PerSource) else {"all": policy}
    for source, one in policies.items():
        for line in policy_in_words(one):
            paper.say(f"  {source}: {line}")
    paper.say()


def policy_in_words(policy: Policy) -> list[str]:
    """A line a band."""
    if isinstance(policy, Threshold):
        policy = Banded(edges=[policy.at], arms=[policy.below, policy.above], score=policy.score)
    if isinstance(policy, Always):
        return [f"everything to {policy.arm}"]
    if isinstance(policy, Utility):
        line = f"the arm expected to be worth most: ${policy.price_of_accuracy:.4g} a right answer, less its cost"
        return [line + (f", less ${policy.price_of_second:.4g} a second" if policy.price_of_second else "")]
    if isinstance(policy, Overflow):
        others = ", then ".join(policy.arms[1:])
        room = "nothing waits" if policy.waiting == 1 else f"fewer than {policy.waiting} sequences wait"
        return [f"{policy.arms[0]} as long as {room} for it, then {others}"]
    if isinstance(policy, LeastLoaded):
        return [f"the least loaded of {', '.join(policy.arms)}"]
    if isinstance(policy, (Sticky, Escalate, SessionBudget)):
        return [*policy_in_words(policy.policy), policy.in_words]
    if not isinstance(policy, Banded):
        return [repr(policy)]
    what = _score_in_words(policy.score)
    edges = [f"{edge:,.0f}" if policy.score == PROMPT_TOKENS else f"{edge:.4g}" for edge in policy.edges]
    lines = []
    for k, arm in enumerate(policy.arms):
        if k == 0:
            span = f"below {edges[0]}"
        elif k == len(edges):
            span = f"{edges[-1]} and above"
        else:
            span = f"{edges[k - 1]} to {edges[k]}"
        lines.append(f"{what} {span}: {arm}")
    return lines


_SCORES = {"difficulty": "difficulty", PROMPT_TOKENS: "prompt tokens", TURN: "turn of its session"}
_OF_MODELS = {
    "p": "chance that {} is right",
    "tokens": "tokens expected of {}",
    "tokens_p50": "median of the tokens expected of {}",
    "tokens_p90": "90th percentile of the tokens expected of {}",
}


def _score_in_words(score: str) -> str:
    kind, _, model = score.partition(":")
    return _SCORES.get(score) or _OF_MODELS.get(kind, "{}").format(model or score)


def targets_table(checks: Sequence[TargetCheck]) -> Table:
    """Targets beside what is promised, and how sure that is."""
    table = Table(header_style="bold", pad_edge=False)
    table.add_column("target")
    for name in ("asked", "promised", "95% interval", "chance that it holds"):
        table.add_column(name, justify="right")
    for check in checks:
        promised, sign = check.promised, ">=" if check.at_least else "<="
        table.add_row(
            _in_words(check),
            f"{sign} {check.bound:g}",
            f"{promised.value:.4g}",
            span(promised),
            styled(
                f"{rounded_down(check.chance)}%, asked {100 * check.confidence:g}%",
                *([] if check.holds else [("  too unsure" if check.chance >= 0.5 else "  missed", "red")]),
            ),
        )
    return table


def confidences_table(plan: Plan) -> Table:
    """What holding the targets with one chance or another costs."""
    title = "What confidence costs" if plan.robust is None else "What confidence over the worlds costs"
    table = Table(title=title, title_justify="left", header_style="bold", pad_edge=False)
    table.add_column("every target holds with a chance of")
    more = next((row.objective[0] for row in plan.confidence_costs if row.objective is not None), None)
    for name in (*([] if more is None else [title_of(more)]), "accuracy", "$ / 1k requests", "p95 s", "GPUs"):
        table.add_column(name, justify="right")
    for row in plan.confidence_costs:
        chance = "as asked, each its own" if row.confidence is None else f"{100 * row.confidence:g}%"
        if row.status != "met":
            table.add_row(styled(chance, ("  no plan was found", "red")), *[""] * (len(table.columns) - 1))
            continue
        table.add_row(
            chance,
            *([] if row.objective is None else [shown(*row.objective)]),
            "unknown" if row.accuracy is None else percent_of(row.accuracy),
            dollars_of(row.cost_usd_per_request, 1000),
            seconds(row.latency_p95_s.value),
            ", ".join(f"{pool} x{replicas}" for pool, replicas in row.replicas.items()) or "-",
        )
    return table


def _in_words(one: TargetCheck | TargetVerdict) -> str:
    """A target, and the hour in which it is farthest from being kept."""
    said = one.words or one.name
    return said if one.hour is None else f"{said} (worst: {one.hour}-{one.hour + 1} h)"


def savings(mine: Summary, baselines: Mapping[str, Summary]) -> list[str]:
    """What a policy saves beside each baseline that differs from it and from those before, and what it gives up or gains."""
    lines = []
    seen = {_cells(mine)}
    for name, other in baselines.items():
        if _cells(other) in seen:
            continue
        seen.add(_cells(other))
        saved = other.cost_usd_per_day.value - mine.cost_usd_per_day.value
        share = saved / other.cost_usd_per_day.value if other.cost_usd_per_day.value else 0.0
        line = f"beside {name}: {'saves' if saved >= 0 else 'costs'} ${number(abs(saved))} a day"
        line += f" ({number(100 * abs(share))}%{'' if saved >= 0 else ' more'})"
        if mine.accuracy is not None and other.accuracy is not None:
            line += f", accuracy {signed(100 * (mine.accuracy.value - other.accuracy.value))} points"
        line += f", p95 {signed(mine.latency_s['p95'].value - other.latency_s['p95'].value)} s"
        lines.append(line)
    return lines


def print_notes(console: Console, summary: Summary) -> None:
    """What every figure above rests on."""
    paper = Paper.of(console)
    for line in rests_on(summary):
        paper.say(line, "dim")
    if summary.thinking_cost_share > 0:
        line = f"Thinking is {percent(summary.thinking_cost_share, 0)} of the bill "
        line += f"({count(summary.reasoning_tokens_per_day)} hidden tokens a day)"
        if summary.accuracy is not None:
            line += f", about {percent(summary.idle_thinking_cost_share, 0)} of the bill thinking that changed nothing: what came "
            line += "after the answer already stood"
        paper.say(
            f"{line}. A request at the 99th percentile costs {number(summary.cost_spread, 1)} times the median one."
        )
    for verdict in verdict_in_words(summary):
        paper.say(verdict)
    for name, prices in summary.prices.items():
        paper.say(f"- {name}: {prices.in_words}", "dim")
    for note in summary.notes:
        paper.say(f"- {note}", "dim")


def rests_on(summary: Summary) -> list[str]:
    """How many requests and problems stand behind the figures, and what their intervals are for."""
    known = math.isfinite(summary.rate_per_s)
    pace = f"at {summary.rate_per_s:.3g}/s" if known else "at one instant, so that nothing is known of a day"
    each = f"{summary.requests:,} request{'s' if summary.requests != 1 else ''}"
    if summary.sessions is not None:
        sessions = round(summary.sessions.sessions)
        each += f" in {sessions:,} session{'s' if sessions != 1 else ''}"
    each += f" {pace}"
    if summary.duration_s is not None:
        each = f"{time_in_words(summary.duration_s)}, {each}{' in the mean' if summary.runs > 1 and not summary.replay else ''}"
    if summary.replay:
        return [f"A replay of {each}: nothing in it is random, so another would come out the same and intervals are 0."]
    runs = "1 run" if summary.runs == 1 else f"{summary.runs} independent runs"
    few = _too_few(summary)
    if not summary.problems and summary.runs < FEW_RUNS and summary.verdict != "stable":
        few.append(
            f"What waits builds up over much of a run, so {runs} may say too little of times: ask for {FEW_RUNS} or more."
        )
    if not summary.problems:
        others = "other runs of the same traffic"
        if summary.sessions is not None:
            recorded = summary.sessions.recorded
            others = f"other sessions like these{f', drawn from {recorded:,} recorded ones' if recorded else ''}"
        return [f"{runs} of {each}. Brackets and intervals: 95%, for {others}.", *few]
    new = "new task types like the measured ones" if summary.same_types else "new problems like the measured ones"
    lines = [
        f"{runs} of {each}; {summary.problems:,} measured problems stand behind them. Brackets and intervals: 95%, for {new}."
    ]
    if summary.same_types:
        same = summary.same_types
        said = []
        if summary.accuracy is not None and "accuracy" in same:
            accuracy = same["accuracy"].shifted(summary.accuracy.value - same["accuracy"].value).clipped(0, 1)
            said.append(f"accuracy {percent_of(accuracy)}")
        cost = same["cost_usd_per_request"]
        cost = cost.shifted(summary.cost_usd_per_request.value - cost.value).clipped(0)
        said.append(f"${dollars_of(cost, 1000)} per 1k requests")
        lines.append(f"For new problems of the same task types: {', '.join(said)}.")
    return [*lines, *few]


def _too_few(summary: Summary) -> list[str]:
    """The percentiles that are not bounded by what was seen."""
    if not summary.open_ended:
        return []
    what = "problems or task types" if summary.problems else "requests or runs"
    names = " and ".join(summary.open_ended)
    return [f"Too few {what} to bound {names}: the interval reaches to what is possible."]


def verdict_in_words(summary: Summary) -> list[Text]:
    """Whether what was asked for can be carried, by deployment where it cannot."""
    lines = []
    for name, one in summary.verdicts.items():
        waited = "" if math.isnan(one.longest_wait_s) else f"; the longest wait was {seconds(one.longest_wait_s)} s"
        if one.verdict == "overloaded":
            growth = summary.queue_growth_per_s.get(name)
            how = "more is sent to it than it can serve, and timeouts and rejections hide how much"
            if growth is not None:
                how = f"its queue still grows by {growth:.3g} requests a second in the second half of the arrivals, so latency "
                how += "would grow without end; the figures hold for this many requests only"
            lines.append(styled((f"{name} cannot keep up:", "bold red"), f" {how}{waited}."))
        elif one.verdict == "backlogged":
            caught = "catches up after the last request has come" if one.behind_at_end else "catches up within the run"
            lines.append(styled((f"{name} falls behind, and {caught}", "bold"), f"{waited}."))
    if not lines:
        calm = f"Every deployment keeps up; the longest wait was {seconds(summary.longest_wait_s)} s."
        lines.append(styled((calm, "dim")))
    return lines


def print_validation(console: Console, validation: Validation) -> None:
    """Realized beside promised."""
    paper = Paper.of(console)
    table = Table(header_style="bold", pad_edge=False)
    table.add_column("figure")
    for name in ("promised", "interval for so many problems", "realized", "inside"):
        table.add_column(name, justify="right")
    for name, verdict in validation.verdicts.items():
        table.add_row(name, *_verdict_cells(verdict))
    paper.print(table)
    if validation.targets:
        paper.print(verdicts_table(validation.targets))
    for line in _regret_in_words(validation):
        paper.say(line)
    for name, accuracy in validation.by_novelty.items():
        paper.say(f"Accuracy on {name}: {percent_of(accuracy)}")
    paper.say(f"{validation.problems:,} problems carried out on.", "dim")
    for note in validation.notes:
        paper.say(f"- {note}", "dim")


def verdicts_table(targets: Sequence[TargetVerdict], unsure: str = "too few problems to tell") -> Table:
    """Every target beside what was realized; ``unsure``: what is said where the interval lies on both sides."""
    table = Table(title="Targets", title_justify="left", header_style="bold", pad_edge=False)
    table.add_column("target")
    for name in ("asked", "with confidence", "realized", "met"):
        table.add_column(name, justify="right")
    words: dict[bool | None, str | Text] = {True: "yes", False: styled(("no", "red"))}
    for one in targets:
        figure = one.realized
        unknown = math.isnan(figure.value)
        realized = "unknown" if unknown else f"{figure.value:.4g} ({span(figure)})"
        table.add_row(
            _in_words(one),
            f"{'at least' if one.at_least else 'at most'} {one.asked:.4g}",
            f"{100 * one.confidence:g}%",
            realized,
            "nothing is known of it"
            if unknown
            else words.get(one.met, f"{unsure}: a chance of {rounded_down(one.chance)}%"),
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
    paper = Paper.of(console)
    table = Table(header_style="bold", pad_edge=False)
    table.add_column("fold")
    table.add_column("figure")
    for name in ("promised", "interval for so many problems", "realized", "inside"):
        table.add_column(name, justify="right")
    for k, fold in enumerate(found.folds, 1):
        unmet = [] if fold.status == "met" else [(", targets not met", "red")]
        label = styled(f"{k}: {fold.problems:,} problems", *unmet)
        for name, verdict in fold.verdicts.items():
            table.add_row(label, name, *_verdict_cells(verdict))
            label = styled("")
        table.add_section()
    paper.print(table)
    if found.targets:
        paper.print(_targets_kept(found))
    table = Table(title="Over all folds", title_justify="left", header_style="bold", pad_edge=False)
    table.add_column("figure")
    for name in ("promised, mean", "realized, mean", "inside"):
        table.add_column(name, justify="right")
    for name, one in found.overall.items():
        table.add_row(name, f"{one.promised:.4g}", f"{one.realized:.4g}", f"{one.inside:.0%}")
    paper.print(table)
    plans = "One plan, made" if len(found.folds) == 1 else f"{len(found.folds)} plans, each made"
    paper.say(
        f"{plans} without a part of the problems and carried out on it. Promises are as sure "
        "as they say where about 95% of the figures are inside.",
        "dim",
    )
    for note in found.notes:
        paper.say(f"- {note}", "dim")


def _targets_kept(found: CrossValidation) -> Table:
    """In how many folds each target was kept, beside the confidence that was asked for."""
    table = Table(title="Targets over all folds", title_justify="left", header_style="bold", pad_edge=False)
    table.add_column("target")
    for name in ("confidence asked", "promised in", "kept in", "expected of so few problems"):
        table.add_column(name, justify="right")
    for name, one in found.targets.items():
        cells = (
            f"{one.promised} of {len(found.folds)} folds",
            *([f"{one.kept:.0%} of them", f"{one.expected:.0%}"] if one.promised else ["-", "-"]),
        )
        table.add_row(name, f"{100 * one.confidence:g}%", *cells)
    return table


def _verdict_cells(verdict: Verdict) -> tuple[str | Text, ...]:
    """Promised, its interval, realized, inside."""
    promised, realized = verdict.promised, verdict.realized
    return (
        f"{promised.value:.4g}",
        span(promised),
        f"{realized.value:.4g} ({span(realized)})",
        "yes" if verdict.inside else styled(("no", "red")),
    )
