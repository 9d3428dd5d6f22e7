"""A plan at work beside what it promised: tables and words."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ttc_sim.base.estimates import Estimate
from ttc_sim.base.figures import count, dollars, number, percent, seconds, signed
from ttc_sim.base.times import DAY_S
from ttc_sim.deploying.monitoring import Monitored
from ttc_sim.deploying.monitoring.causes import Causes, Part
from ttc_sim.deploying.monitoring.figures import moment
from ttc_sim.deploying.monitoring.keeping import Asked, Judged
from ttc_sim.deploying.monitoring.plainly import Plain
from ttc_sim.reporting.monitoring_today import print_drift, print_replanned, table_of
from ttc_sim.reporting.paper import Paper, styled
from ttc_sim.scenario.targets import FLOORS, SHARES, USD

_MOST_PARTS = 8
_MOST_PERIODS = 31
_PARTS = {
    "sources": "mix of sources",
    "scores": "scores of prompts",
    "routing": "arms at like scores",
    "fallbacks": "fallbacks",
    "calls": "calls",
    "prompt tokens": "prompt tokens",
    "output tokens": "output tokens",
    "prices": "prices",
    "pools": "pools shared by other numbers of requests",
    "no answer": "answers that did not come",
    "right answers": "right answers",
    "grading": "which were graded",
    "correction": "the promise beside the plan's own simulation",
}


def print_monitored(console: Console, found: Monitored) -> None:
    """What was promised beside what came; then parts, periods, causes, drift, replanning, and the verdict."""
    paper = Paper.of(console)
    paper.say(styled((found.name, "bold"), f" at work: {found.realized.requests:,} requests, {_span(found)}"))
    paper.print(judged_table(found))
    paper.print(_plain_table(found))
    for title, parts in (("By source", found.sources), ("By arm", found.arms)):
        if len(parts[0]) > 1:
            paper.print(_parts_table(title, parts))
    if len(found.periods) > 1:
        paper.print(_periods_table(found))
    for one in found.causes:
        paper.print(_causes_table(one))
        paper.say(in_words(one))
    if found.differs:
        paper.say("What came, beside the plan:")
        for line in found.differs:
            paper.say(f"  {line}")
    print_drift(paper, found)
    print_replanned(paper, found)
    for line in _assumptions(found):
        paper.say(line, "dim")
    for note in found.notes:
        paper.say(f"- {note}", "dim")
    paper.say(_verdict(found), "bold red" if found.broken else "bold")


def _span(found: Monitored) -> str:
    return f"{moment(found.from_s)[:16]} to {moment(found.to_s)[:16]} UTC"


def judged_table(found: Monitored) -> Table:
    """Every promise and target beside what was realized."""
    table = table_of("Promises and targets", "figure", "promised", "asked", "realized", "surely between")
    table.add_column("verdict")
    for one in found.judged:
        asked = one.asked
        promised = _with_ends(asked) if asked.kind == "promise" else ""
        bound = f"{'at least' if asked.at_least else 'at most'} {shown(asked.key, asked.value)}" if not promised else ""
        realized, ends = ("unknown", "") if one.verdict == "unknown" else _realized(one)
        table.add_row(_labelled(asked), promised, bound, realized, ends, _judged_in_words(one))
    return table


def _labelled(asked: Asked) -> str:
    label = "$ / 1k requests" if asked.key == "cost_usd_per_request" else asked.key
    return label if asked.source is None else f"{label} of {asked.source}"


def shown(key: str, value: float) -> str:
    """A figure as tables have it."""
    if key in (*FLOORS, *SHARES):
        return percent(value)
    if key in USD:
        return dollars(1000 * value if key == "cost_usd_per_request" else value)
    return seconds(value)


def _with_ends(asked: Asked) -> str:
    value, low, high = (shown(asked.key, x) for x in (asked.value, asked.low, asked.high))
    if asked.low == asked.high:
        return value
    return f"{value} ({low} or more)" if math.isinf(asked.high) else f"{value} ({low} - {high})"


def _realized(one: Judged) -> tuple[str, str]:
    key, figure = one.asked.key, one.realized
    if figure.low == 0 and figure.high >= (1.0 if key in (*FLOORS, *SHARES) else math.inf):
        return shown(key, figure.value), "nothing yet"
    high = "any" if math.isinf(figure.high) else shown(key, figure.high)
    return shown(key, figure.value), f"{shown(key, figure.low)} - {high}"


def _judged_in_words(one: Judged) -> str | Text:
    if one.verdict == "unknown":
        return one.why
    if one.verdict == "broken":
        since = "" if one.broken_s is None else f", since {moment(one.broken_s)[:16]}"
        return styled((f"broken{since}", "red"))
    return {"kept": "kept", "better": "better than promised", "open": "cannot be told yet"}[one.verdict]


_ROWS: tuple[tuple[str, Callable[[Plain], float], Callable[[float], str]], ...] = (
    ("APIs, $ / 1k requests", lambda x: x.usd, lambda v: dollars(1000 * v)),
    ("latency, mean s", lambda x: x.latency_mean_s, seconds),
    ("latency, p50 s", lambda x: x.latency_p50_s, seconds),
    ("latency, p95 s", lambda x: x.latency_p95_s, seconds),
    ("latency, p99 s", lambda x: x.latency_p99_s, seconds),
    ("first token, p50 s", lambda x: x.ttft_p50_s, seconds),
    ("first token, p95 s", lambda x: x.ttft_p95_s, seconds),
    ("prompt tokens of a request", lambda x: x.prompt, count),
    ("of them cached", lambda x: x.cached, count),
    ("thinking tokens of a request", lambda x: x.reasoning, count),
    ("visible tokens of a request", lambda x: x.visible, count),
    ("timed out", lambda x: x.timed_out, percent),
    ("rejected", lambda x: x.rejected, percent),
    ("failed", lambda x: x.failed, percent),
    ("answered by another arm", lambda x: x.fell_back, percent),
    ("accuracy, where graded", lambda x: x.accuracy.value, percent),
)


def _plain_table(found: Monitored) -> Table:
    """Plain figures, the plan's own simulation beside them."""
    table = table_of("All requests", "figure", "as planned", "realized")
    for label, value, written in _ROWS:
        both = [value(one) for one in (found.planned, found.realized)]
        if any(not math.isnan(one) and one != 0 for one in both):
            table.add_row(label, *("-" if math.isnan(one) else written(one) for one in both))
    now, then = found.standing_usd_per_request
    if then:
        table.add_row("pools and fees, $ / 1k requests", dollars(1000 * then), dollars(1000 * now))
    now, then = found.rates_per_s
    table.add_row("requests a second", number(then, 2), number(now, 2))
    return table


def _parts_table(title: str, parts: tuple[Mapping[str, Plain], Mapping[str, Plain]]) -> Table:
    names = ("share", "APIs, $ / 1k requests", "p95 s", "output tokens", "no answer", "accuracy", "graded")
    table = table_of(f"{title}: as planned -> realized", "", *names)
    for name, now in parts[0].items():
        then = parts[1][name]
        if not now.requests and not then.requests:
            continue
        cells = (
            _from_to(then.share, now.share, percent),
            _from_to(then.usd, now.usd, lambda v: dollars(1000 * v)),
            _from_to(then.latency_p95_s, now.latency_p95_s, seconds),
            _from_to(then.output, now.output, count),
            _from_to(then.unanswered, now.unanswered, percent),
            _from_to(then.accuracy.value, now.accuracy.value, percent),
            f"{now.graded:,}",
        )
        table.add_row(name, *cells)
    return table


def _from_to(then: float, now: float, written: Callable[[float], str]) -> str:
    return " -> ".join("-" if math.isnan(one) else written(one) for one in (then, now))


def _periods_table(found: Monitored) -> Table:
    shown_last = found.periods[-_MOST_PERIODS:]
    title = "By day" if found.every_s == DAY_S else f"By {found.every_s:g} s"
    title += f", the last {_MOST_PERIODS} of {len(found.periods)}" if len(found.periods) > _MOST_PERIODS else ""
    names = ("requests", "$ / 1k requests", "p50 s", "p95 s", "no answer", "output tokens", "accuracy", "95%", "graded")
    table = table_of(title, "from", *names)
    for one in shown_last:
        x = one.figures
        sure = "-" if math.isnan(x.accuracy.value) else f"{percent(x.accuracy.low)} - {percent(x.accuracy.high)}"
        table.add_row(
            moment(one.begins_s)[: 10 if found.every_s % DAY_S == 0 else 16] + (" (a part)" if one.partial else ""),
            f"{x.requests:,}",
            dollars(1000 * (x.usd + one.standing_usd)),
            seconds(x.latency_p50_s),
            seconds(x.latency_p95_s),
            percent(x.unanswered),
            count(x.output),
            "-" if math.isnan(x.accuracy.value) else percent(x.accuracy.value),
            sure,
            f"{x.graded:,}",
        )
    return table


def _scale(causes: Causes) -> tuple[float, int, str]:
    """By what parts are multiplied, decimals, and their unit."""
    return (100.0, 2, "points") if causes.figure == "accuracy" else (1000.0, 3, "$ / 1k requests")


def _named(part: Part) -> str:
    said = _PARTS[part.what]
    return said if part.of is None else f"{said} of {part.of}"


def _causes_table(causes: Causes) -> Table:
    times, decimals, unit = _scale(causes)
    what = "Accuracy" if causes.figure == "accuracy" else "The cost of a request"
    title = f"{what}, realized less promised, in parts that add up; {unit}"
    table = table_of(title, "part", "adds", "95%, all together")
    table.add_column("more than noise")
    parts = causes.parts[:_MOST_PARTS]
    for one in parts:
        ends = "" if one.by.low == one.by.high else _ends(one.by, times, decimals)
        told = "exact" if not ends else "yes" if one.more_than_noise else "no"
        table.add_row(_named(one), signed(times * one.by.value, decimals), ends, told)
    rest = causes.parts[_MOST_PARTS:]
    if rest:
        table.add_row(
            "1 smaller one" if len(rest) == 1 else f"{len(rest)} smaller ones",
            signed(times * sum(one.by.value for one in rest), decimals),
            "",
            "",
        )
    table.add_row("all", signed(times * causes.difference, decimals), "", "", style="bold")
    return table


def _ends(figure: Estimate, times: float, decimals: int) -> str:
    if math.isinf(figure.low) or math.isinf(figure.high):
        return "too few to say"
    return f"{signed(times * figure.low, decimals)} to {signed(times * figure.high, decimals)}"


def in_words(causes: Causes) -> str:
    """Which assumption broke, in a sentence: what is more than noise, and adds a tenth at least of all that was moved."""
    times, decimals, unit = _scale(causes)
    moved = sum(abs(one.by.value) for one in causes.parts)
    real = [one for one in causes.parts if one.what not in ("correction", "grading")]
    found = [one for one in real if one.more_than_noise and abs(one.by.value) >= 0.1 * moved]
    if not found:
        return "No assumption can be told to have broken: nothing adds more than noise."
    said = ", ".join(f"{_named(one)} ({signed(times * one.by.value, decimals)})" for one in found)
    whole = f"{signed(times * causes.difference, decimals)} {unit}"
    return f"Of {whole}, this is more than noise: {said}."


def _assumptions(found: Monitored) -> Iterator[str]:
    hours = f"{found.block_s / 3600:g} h" if found.block_s >= 3600 else f"{found.block_s:g} s"
    yield (
        f"'Surely between' holds for all figures and all looks together with 95%, as long as stretches of {hours} tell nothing of "
        "one another but by the time of day; a verdict takes about 15 of them with requests."
    )
    if any("nothing yet" in _realized(one) for one in found.judged if one.verdict != "unknown"):
        yield f"Where nothing can be told yet, --every makes stretches shorter: they are a 24th of its {found.every_s:g} seconds."
    yield (
        "'As planned' is the plan simulated as it stands; promises are that, corrected for having been chosen on the same problems."
    )


def _verdict(found: Monitored) -> str:
    if found.broken:
        return f"Broken for sure: {', '.join(found.broken)}."
    undecided = [one.asked.name for one in found.judged if one.verdict == "open"]
    if undecided:
        return f"Nothing is broken for sure; cannot be told yet: {', '.join(dict.fromkeys(undecided))}."
    return "All that can be told of is kept."
