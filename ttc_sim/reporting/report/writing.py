"""A plan or scenario that was worked out, as the parts of a report."""

from __future__ import annotations

import math
import platform
import shlex
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path

import yaml
from rich.table import Table

from ttc_sim.base.estimates import Estimate
from ttc_sim.base.figures import dollars, number, percent, rounded_down, span
from ttc_sim.base.times import DAY_S
from ttc_sim.measured.provenance import identify
from ttc_sim.optimizer.health.check import Check, by_severity, passes
from ttc_sim.optimizer.promises import TargetCheck, TargetVerdict
from ttc_sim.policies import PerSource
from ttc_sim.reporting.budget import budget_lines, budget_table
from ttc_sim.reporting.health import counted
from ttc_sim.reporting.over_time import print_over_time
from ttc_sim.reporting.plots import plot_comparison, plot_over_time, plot_result, plot_what_if
from ttc_sim.reporting.report.cards import CARDS, card
from ttc_sim.reporting.report.gathering import Gathered
from ttc_sim.reporting.report.origins import origins_table, times_table_of
from ttc_sim.reporting.report.parts import Block, Card, Code, Drawn, Report, Section, Sheet, State, lines
from ttc_sim.reporting.sessions import print_sessions
from ttc_sim.reporting.text import (
    attempts_table,
    comparison,
    parts_table,
    policy_in_words,
    print_notes,
    savings,
    targets_table,
    times_table,
    verdicts_table,
)
from ttc_sim.reporting.tiers import chosen_lines, fees_lines
from ttc_sim.reporting.what_if import overview
from ttc_sim.scenario.shapes import UNITS
from ttc_sim.simulation.summary import Summary

_UNSURE = "too few requests or problems to tell"
_PACKAGES = ("ttc-sim", "numpy", "scipy", "polars", "numba", "genai-prices")


def written(found: Gathered) -> Report:
    """The page: what decides first, then all that it rests on."""
    answer, state = _answer(found)
    name = "plan" if found.examined is not None else "policy"
    beside = tuple(lines(savings(found.summary, found.baselines)))
    compared = {name: found.summary, **found.baselines}
    picture: tuple[Block, ...] = ()
    if found.baselines:
        says = "Cost and accuracy" if found.summary.accuracy is not None else "Cost and 95th percentile of latency"
        says += f" of the {name} beside what it was compared with, 95% intervals."
        picture = (Drawn(plot_comparison(compared, name), says),)
    sections = (
        _targets(found),
        Section("compared", "Compared with", (comparison(compared, name), *beside)),
        Section("parts", "By arm, source and difficulty", tuple(_by_part(found.summary))),
        Section("day", _over(found), tuple(_day(found))),
        Section("hours", f"{_over(found)}, in figures", tuple(_hours(found)), folded=True),
        _what_if(found),
        _health(found),
        Section("assumptions", "What it rests on", tuple(_assumptions(found))),
        Section("data", "The data behind it", (origins_table(found.scenario, found.result.model),)),
        Section("made", "How it was made", tuple(_made(found)), folded=True),
    )
    return Report(
        title=found.scenario.name,
        question=found.scenario.description,
        answer=answer,
        state=state,
        cards=tuple(_cards(found)),
        first=(*_routing(found), *beside[:3], *picture),
        sections=tuple(one for one in sections if one is not None and one.blocks),
    )


# ------------------------------------------------------------------------------------------------ the first screen


def _answer(found: Gathered) -> tuple[tuple[str, ...], State]:
    """Whether the targets hold, and what it costs, in two sentences."""
    costs = _costs(found)
    if found.examined is not None:
        targets, plan = found.examined.targets, found.examined.plan
        problems = [one for one in found.examined.checks if one.status == "problem"]
        if not targets:
            return ("A plan without targets.", costs), "plain"
        missed = [one for one in targets if not one.holds]
        if missed or plan.status != "met":
            names = ", ".join(one.words or one.name for one in missed) or "some"
            said = f"No: not every target holds as surely as asked ({names}). This is the nearest plan that was found."
            return (said, costs), "bad"
        least = min(targets, key=lambda one: one.chance - one.confidence)
        said = "Yes: every target holds as surely as asked; the least sure, "
        said += f"{least.words or least.name}, with a chance of {rounded_down(least.chance)}% (asked: {100 * least.confidence:g}%)."
        if problems:
            said += f" But its health has {len(problems)} problem{'s' if len(problems) > 1 else ''}: see below."
        return (said, costs), "unsure" if problems else "good"
    if not found.verdicts:
        return ("No targets are set: this is what the policy comes to.", costs), "plain"
    missed_for_sure = [one.words or one.name for one in found.verdicts if one.met is False]
    unsure = [one.words or one.name for one in found.verdicts if one.met is None]
    if missed_for_sure:
        return (f"No: the policy misses {', '.join(missed_for_sure)}.", costs), "bad"
    if unsure:
        return (f"Not known: {_UNSURE} of {', '.join(unsure)}.", costs), "unsure"
    return ("Yes: the policy meets every target.", costs), "good"


def _costs(found: Gathered) -> str:
    figures, summary = _figures(found), found.summary
    said = f"It costs ${dollars(1000 * figures['cost_usd_per_request'].value)} per 1,000 requests"
    if "cost_usd_per_day" in figures:
        said += f", ${number(figures['cost_usd_per_day'].value)} a day at {summary.rate_per_s:.3g} requests a second"
    if "accuracy" in figures:
        said += f", and answers {percent(figures['accuracy'].value)} of them right and in time"
    return f"{said}."


def _figures(found: Gathered) -> dict[str, Estimate]:
    """Those of the first screen: of a plan, what it promises, which is corrected for how it was chosen."""
    summary = found.summary
    names = ("accuracy", "cost_usd_per_request", "latency_p50_s", "latency_p95_s", "latency_p99_s", "timeout_rate")
    figures = {name: figure for name in names if (figure := summary.quantity(name)) is not None}
    if found.examined is not None:
        figures |= {name: figure for name, figure in found.examined.plan.promised.items() if name in figures}
    if math.isfinite(summary.rate_per_s):
        figures["cost_usd_per_day"] = figures["cost_usd_per_request"].scaled(summary.rate_per_s * DAY_S)
    return figures


def _cards(found: Gathered) -> Iterator[Card]:
    asked: dict[str, TargetCheck | TargetVerdict] = {one.name: one for one in found.verdicts}
    if found.examined is not None:
        asked |= {one.name: one for one in found.examined.targets}
    figures = _figures(found)
    for name, (_, said, times) in CARDS.items():
        if name in figures:
            yield card(name, figures[name], *_asked(asked.pop(name, None), said, times))
    for one in asked.values():
        figure = one.promised if isinstance(one, TargetCheck) else one.realized
        known = not math.isnan(figure.value)
        yield Card(
            one.words or one.name,
            f"{figure.value:.4g}" if known else "unknown",
            span(figure) if known else "",
            *_asked(one, lambda value: f"{value:.4g}", 1.0),
        )


def _asked(one: TargetCheck | TargetVerdict | None, said: Callable[[float], str], times: float) -> tuple[str, State]:
    if one is None:
        return "", "plain"
    bound = one.bound if isinstance(one, TargetCheck) else one.asked
    words = f"{'at least' if one.at_least else 'at most'} {said(times * bound)}"
    if isinstance(one, TargetCheck):
        return f"{words}, chance {rounded_down(one.chance)}%", "good" if one.holds else "bad"
    states: dict[bool | None, State] = {True: "good", False: "bad", None: "unsure"}
    return words, states[one.met]


def _routing(found: Gathered) -> Iterator[Block]:
    """Which requests go where, on what."""
    table = Table(title="Which requests go where", title_justify="left")
    policy = found.scenario.parsed_policy()
    assert policy is not None
    policies = policy.policies if isinstance(policy, PerSource) else {"all requests": policy}
    table.add_column("requests")
    table.add_column("rule")
    for source, one in policies.items():
        for k, line in enumerate(policy_in_words(one)):
            table.add_row(source if k == 0 else "", line)
    yield table
    replicas = found.summary.replicas
    if replicas:
        each = ", ".join(
            f"{count} of {name} ({_hardware(found, name)})" if _hardware(found, name) else f"{count} of {name}"
            for name, count in replicas.items()
        )
        yield f"Replicas: {each}."
    yield from lines([*chosen_lines(found.scenario), *fees_lines(found.summary)])


def _hardware(found: Gathered, name: str) -> str:
    pool = found.scenario.deployments[name]
    model, gpu, gpus = (getattr(pool, key, None) for key in ("model", "gpu", "gpus"))
    return f"{model} on {gpus} {gpu}" if gpu is not None else ""


# ------------------------------------------------------------------------------------------------------ the rest


def _targets(found: Gathered) -> Section | None:
    blocks: list[Block] = []
    if found.examined is not None and found.examined.targets:
        blocks += ["What the plan promises, corrected for having been chosen on the same problems:"]
        blocks += [targets_table(found.examined.targets), "What simulating it again, on other draws, comes to:"]
    if found.verdicts:
        blocks.append(verdicts_table(found.verdicts, _UNSURE))
    return Section("targets", "Targets", tuple(blocks)) if blocks else None


def _over(found: Gathered) -> str:
    lasts_s = float(found.day.all["ends_s"].max() or 0.0)  # type: ignore[arg-type]
    if lasts_s > DAY_S / 2:
        return "Over the day"
    unit = next((name for name in ("h", "min") if lasts_s >= UNITS[name]), "s")
    return f"Over the run of {number(lasts_s / UNITS[unit])} {unit}"


def _by_part(summary: Summary) -> Iterator[Block]:
    yield parts_table("By arm", "arm", summary.per_arm)
    if len(summary.per_source) > 1:
        yield parts_table("By source", "source", summary.per_source)
    if summary.per_band:
        yield parts_table("By predicted difficulty", "difficulty", summary.per_band)
    yield times_table(summary)
    sheet = Sheet()
    print_sessions(sheet, summary)
    yield from sheet.blocks
    if summary.budget is not None:
        yield budget_table(summary.budget)
        yield from lines(budget_lines(summary.budget))
    if summary.attempts is not None and (table := attempts_table(summary.attempts)).row_count:
        yield table


def _day(found: Gathered) -> Iterator[Block]:
    yield Drawn(
        plot_over_time(found.day),
        "Over the hours of the run: requests that arrive, that wait and that are running, KV cache in use, and percentiles of the "
        "times to the first and the last token.",
    )
    yield Drawn(
        plot_result(found.result),
        "Latency and cost of the requests of each arm, as shares of them, and its accuracy with the 95% interval.",
    )


def _hours(found: Gathered) -> Iterator[Block]:
    sheet = Sheet()
    print_over_time(sheet, found.day)
    yield from sheet.blocks


def _what_if(found: Gathered) -> Section | None:
    if found.varied is None:
        return None
    blocks: list[Block] = [
        "The same requests and draws with one thing changed; the policy stays. In brackets the difference, ~ where it is no more "
        "than noise. Dropped: timed out or rejected.",
        overview(found.varied),
        Drawn(plot_what_if(found.varied), "What each change makes of accuracy, cost and latency, with 95% intervals."),
        "Any other change:",
        Code(_command(found, "whatif", '--set "PATH=VALUE"'), "sh"),
    ]
    return Section("what-if", "What if", tuple(blocks))


def _health(found: Gathered) -> Section | None:
    if found.examined is None:
        return None
    checks = by_severity(found.examined.checks)
    open_ones = [one for one in checks if not passes(one)]
    blocks: list[Block] = [f"{counted(checks)}, as of {found.today}."]
    blocks.append(_checks_table(open_ones or checks))
    if open_ones and len(open_ones) < len(checks):
        blocks += ["In order, or not applicable:", _checks_table([one for one in checks if passes(one)])]
    return Section("health", "Health of the plan", tuple(blocks))


def _checks_table(checks: Sequence[Check]) -> Table:
    table = Table()
    for name in ("check", "status", "what it found"):
        table.add_column(name)
    for one in checks:
        table.add_row(one.name, one.status, f"{one.says}.", style="bold" if one.status == "problem" else None)
    return table


def _assumptions(found: Gathered) -> Iterator[Block]:
    yield times_table_of(found.scenario, found.result.model)
    sheet = Sheet()
    print_notes(sheet, found.summary)
    notes = found.examined.plan.notes if found.examined is not None else ()
    seen: set[str] = set()
    for block in [*sheet.blocks, *notes]:
        said = str(block).removeprefix("- ")
        if said not in seen:
            seen.add(said)
            yield said


def _made(found: Gathered) -> Iterator[Block]:
    scenario = found.scenario
    rows = {
        "file": found.file,
        "seed": str(scenario.seed),
        "runs": f"{found.summary.runs} of {found.summary.requests:,} requests",
        "Python": platform.python_version(),
        **{name: version for name in _PACKAGES if (version := _version(name))},
    }
    if found.examined is not None:
        rows["ages as of"] = str(found.today)
        if found.examined.plan.sha256:
            rows["sha256 of the plan"] = found.examined.plan.sha256
    if scenario.workload.has_problems:
        rows["predictor"] = str(identify(scenario.predictor_at))
    table = Table(title="Seeds and versions", title_justify="left")
    table.add_column("what")
    table.add_column("which")
    for name, said in rows.items():
        table.add_row(name, said)
    yield table
    yield "The same figures again:"
    aged = f" --as-of {found.today}" if found.examined is not None else ""
    again = _command(found, "simulate", "--hours"), _command(found, "report", f"--out report.html{aged}")
    yield Code("\n".join(again), "sh")
    yield "The scenario, with the policy:"
    content = scenario.model_dump(mode="json", exclude={"path"}, exclude_none=True)
    yield Code(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110), "yaml")


def _command(found: Gathered, name: str, more: str) -> str:
    """What carries out a command on the file that was given, with as many requests and runs."""
    file = Path(found.file).name if Path(found.file).is_absolute() else found.file
    asked = {"--requests": found.requests, "--replications": found.replications}
    runs = [f"{option} {count}" for option, count in asked.items() if count is not None]
    return " ".join(["ttc-sim", name, shlex.quote(file), *runs, more])


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


__all__ = ["written"]
