"""What a plan takes as given: prices of some day, measurements of another, and times that somebody typed in."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import replace

from ttc_sim.engine.speculation import drafts_of
from ttc_sim.optimizer.health.check import Check, Status
from ttc_sim.optimizer.health.subject import Subject, listed
from ttc_sim.scenario import Api, GpuPool, LayerStepTime, LinearStepTime, PhysicsStepTime
from ttc_sim.scenario.gpu_prices import GPU_PRICES
from ttc_sim.serving.catalogue import base_name
from ttc_sim.serving.corrections import DOUBTFUL_PERCENT, checked_pairs
from ttc_sim.serving.measured_ranges import served_errors

OLD_DAYS = {"prices": 90, "measurements": 180}
"""Days after which a price, or what was measured of a model, is said to be old."""
_VERY_OLD = 365  # days of a price, after which it is no price any more
_WHAT = {"prices": "price", "measurements": "profile"}
_AGAIN = {
    "prices": "Look it up again: `ttc-sim whatif PLAN --ready prices-on=DAY` says what changes",
    "measurements": "A provider may have changed the model since: measure it again",
}


def price_ages(subject: Subject) -> Check:
    """Of which days the prices are; how old that is is said beside a day (:func:`aged`)."""
    dates: dict[str, str] = {}
    undated: list[str] = []
    for name, item in subject.deployments.items():
        on = _price_day(item, subject.model.scenario.workload.begins_utc)
        if on is None:
            undated.append(name)
        else:
            dates[name] = on
    return _dated("prices", dates, undated)


def _price_day(item: Api | GpuPool, begins: datetime.datetime | None) -> str | None:
    if isinstance(item, Api):
        of_run = None if item.price.model is None or begins is None else begins.date().isoformat()
        return item.price.on or of_run
    return None if item.usd_per_replica_hour is not None else GPU_PRICES[str(item.gpu)].on


def measurement_ages(subject: Subject) -> Check:
    """Of which days the profiles are."""
    cards = {name: card.date for name, card in subject.cards.items()}
    dates = {name: day for name, day in cards.items() if _day(day) is not None}
    return _dated("measurements", dates, [name for name in cards if name not in dates])


def _dated(name: str, dates: Mapping[str, str], undated: list[str]) -> Check:
    """Before any day is said to compare with."""
    figures = {"dates": dict(dates), "undated": list(undated), "as_of": None}
    if not dates:
        says = f"no {_WHAT[name]} in use has a date"
        says += f" ({listed(undated)}): nothing is known of how old it is" if undated else ""
        return Check(name, "not applicable", says, figures)
    oldest = min(dates, key=lambda one: dates[one])
    says = (
        f"no day was given to compare with (--as-of): the oldest {_WHAT[name]}, that of {oldest}, is of {dates[oldest]}"
    )
    return Check(name, "not applicable", says, figures)


def aged(checks: Iterable[Check], day: datetime.date) -> tuple[Check, ...]:
    """The same checks, those of prices and measurements as of a day."""
    return tuple(_as_of(check, day) if check.name in OLD_DAYS else check for check in checks)


def _as_of(check: Check, day: datetime.date) -> Check:
    name, dates = check.name, check.figures.get("dates")
    if not isinstance(dates, Mapping):
        return check
    ages = {str(one): (day - on).days for one, text in dates.items() if (on := _day(text)) is not None}
    if not ages:
        return check
    figures = {**check.figures, "as_of": day.isoformat(), "days": ages, "old_after_days": OLD_DAYS[name]}
    old = {one: age for one, age in ages.items() if age > OLD_DAYS[name]}
    oldest = max(ages, key=lambda one: ages[one])
    if not old:
        when = f"is {ages[oldest]:,} days old" if ages[oldest] >= 0 else f"is of a day to come, {dates[oldest]}"
        says = f"no {_WHAT[name]} is older than {OLD_DAYS[name]} days on {day}: the oldest, that of {oldest}, {when}"
        undated = [str(one) for one in _list(check.figures.get("undated"))]
        says += f"; of {listed(undated)} no day is known" if undated else ""
        return replace(check, status="ok", says=says, figures=figures)
    status: Status = "problem" if name == "prices" and max(old.values()) > _VERY_OLD else "warning"
    others = "" if len(old) == 1 else f" ({len(old)} of {len(ages)} are older than {OLD_DAYS[name]} days)"
    says = f"the {_WHAT[name]} of {oldest} is of {dates[oldest]}, {ages[oldest]:,} days before {day}{others}. {_AGAIN[name]}"
    return replace(check, status=status, says=says, figures=figures)


def _list(content: object) -> list[object]:
    return list(content) if isinstance(content, (list, tuple)) else []


def _day(text: object) -> datetime.date | None:
    try:
        return datetime.date.fromisoformat(str(text)[:10])
    except ValueError:
        return None


def latencies_measured(subject: Subject) -> Check:
    """Whether the times of deployments in use were measured, or typed in."""
    name = "latencies"
    sources = {n: source_of_times(item) for n, item in subject.deployments.items()}
    figures: dict[str, object] = {"sources": {n: said for n, (said, _) in sources.items()}}
    assumed = {n: said for n, (said, measured) in sources.items() if not measured}
    if not assumed:
        return Check(name, "ok", "the times of every deployment in use were measured", figures)
    by_reason: dict[str, list[str]] = {}
    for n, said in assumed.items():
        by_reason.setdefault(said, []).append(n)
    each = "; ".join(f"{listed(names)}: {said}" for said, names in by_reason.items())
    timed = [check.words or check.name for check in subject.targets if check.name.split(".")[-1].startswith(_TIMES)]
    rests = (
        f"and {listed(timed)} rest{'s' if len(timed) == 1 else ''} on that"
        if timed
        else "and so are all times of the plan"
    )
    says = f"times of {len(assumed)} of {len(sources)} deployments are assumed, not measured, {rests}: {each}. Measure them: "
    return Check(name, "warning", f"{says}`ttc-sim import` of a log with times, `ttc-sim backtest` of a run", figures)


_TIMES = ("latency", "ttft", "tpot", "timeout", "timed_out", "goodput")


def source_of_times(item: Api | GpuPool) -> tuple[str, bool]:
    """Where the times of a deployment come from, and whether they were measured."""
    if isinstance(item, Api):
        said = item.latency_from
        return ("first_token and per_token are typed in", False) if said is None else (f"measured: {said}", True)
    if drafts_of(item):
        return "speculative decoding, computed from an acceptance length", False
    if isinstance(item.step_time, LinearStepTime):
        return "coefficients of step_time are typed in", False
    if isinstance(item.step_time, LayerStepTime):
        return "measured layer by layer", True
    if isinstance(item.step_time, PhysicsStepTime):
        return "from data sheets, by the physics model", False
    if item.step_time is not None:
        return f"step_time of kind {item.step_time.kind}", True
    pair = (base_name(str(item.model)), str(item.gpu))
    found, served = checked_pairs().get(pair), served_errors().get(pair)
    if found is None and served is not None:
        said = f"from measured operators, {served.percent:.0f}% off between tokens on measured servers"
        return said, served.percent <= DOUBTFUL_PERCENT
    if found is None:
        return "from measured operators, never compared with a server of this model on this GPU", False
    said = f"from measured operators, {found.tpot_percent:.0f}% off per token on measured servers"
    return said, found.tpot_percent <= DOUBTFUL_PERCENT


__all__ = ["OLD_DAYS", "aged", "latencies_measured", "measurement_ages", "price_ages"]
