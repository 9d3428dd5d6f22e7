"""Whether the plan carries the load at every hour, and how near it comes to the limits of its endpoints."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl

from ttc_sim.base.estimates import Z95
from ttc_sim.base.figures import count, number, percent, seconds
from ttc_sim.engine.work import COMPLETED
from ttc_sim.optimizer.health.check import Check, Status
from ttc_sim.optimizer.health.subject import Subject, listed, some
from ttc_sim.scenario import Api, GpuPool, Target
from ttc_sim.scenario.shapes import time_in_words
from ttc_sim.serving.api_limits import held_by
from ttc_sim.simulation.over_time import Intervals, run_again
from ttc_sim.simulation.pooling import HOUR_S

INTERVALS_S = (60.0, 300.0, 600.0, 1200.0, 1800.0, HOUR_S)
"""In which a run is looked at: hours, or so many minutes of a run of less than two and a half hours."""
_MOST_PARTS = 12  # of a shorter run
_LEAST = 30  # requests of an interval, all runs together, below which it says too little
_MOST_REQUESTS = 500_000  # of runs that are all looked at; of more, the first run alone
_LOST, _LOST_BADLY = 0.01, 0.05  # shares of requests without an answer, where no target says how many may be
NEAR, AT_LIMIT = 0.8, 1.0
"""Of a rate limit, what the busiest minute takes."""
_REFUSED = 0.01  # of the requests are asked again after a 429


def every_hour(subject: Subject) -> Check:
    """Whether deployments keep up and requests are answered in every hour, and not just in the mean."""
    name, summary = "hours", subject.summary
    overloaded = {n: v.verdict for n, v in summary.verdicts.items() if v.verdict == "overloaded"}
    figures: dict[str, Any] = {"verdicts": {n: v.verdict for n, v in summary.verdicts.items()}}
    if overloaded:
        says = f"{listed(sorted(overloaded))} cannot keep up with what is sent there: its queue grows as long as the "
        says += "load goes on, and the "
        says += "figures hold for a run of this length only. More replicas or higher limits, or send less there"
        return Check(name, "problem", says, figures)
    interval_s = _interval_of(subject)
    if interval_s is None:
        says = "the runs are too short to be looked at in parts: less than two minutes"
        return Check(name, "not applicable", says, figures)
    table, servers, runs = _tables(subject, interval_s)
    figures |= {"interval_s": interval_s, "runs": runs}
    lost = _lost(subject, table, runs)
    late = _late(subject, table, runs)
    crowded = _crowded(servers)
    figures |= {"lost": lost, "late": late, "waiting": crowded}
    words = []
    if lost["worst"] is not None:
        one = lost["worst"]
        words.append(
            f"{_when(one['interval'], interval_s)} {percent(one['share'])} of the requests get no answer "
            f"(over the whole run {percent(lost['overall'])}, allowed {percent(lost['allowed'])})"
        )
    if late:
        one = max(late, key=lambda row: row["value"] / row["bound"])
        late_s, most_s = seconds(one["value"]), f"{one['bound']:g}"
        words.append(
            f"{_when(one['interval'], interval_s)} {one['target']} is {late_s} s, and over all {most_s} s is asked for"
        )
    if crowded:
        one = max(crowded, key=lambda row: row["waiting"] / max(row["running"], 1.0))
        when, waiting, running = _when(one["interval"], interval_s), number(one["waiting"]), number(one["running"])
        words.append(f"{when} {waiting} wait for {one['deployment']}, where {running} run")
    backlogged = sorted(n for n, v in summary.verdicts.items() if v.verdict == "backlogged")
    if backlogged:
        words.append(f"{listed(backlogged)} falls behind for a while")
    if not words:
        parts = "hour" if interval_s == HOUR_S else f"{time_in_words(interval_s)}"
        return Check(name, "ok", f"in every {parts} of the runs requests are answered as they are in the mean", figures)
    says = f"{'; '.join(words)}. Replicas for those hours (`ttc-sim capacity --hours`), or `every_hour: true` in the targets"
    worst = lost["worst"]
    bad = worst is not None and worst["share"] > max(_LOST_BADLY, 2 * lost["allowed"])
    return Check(name, "problem" if bad else "warning", says, figures)


def _interval_of(subject: Subject) -> float | None:
    """Seconds of the intervals that runs are looked at in; ``None`` for runs of less than two minutes."""
    last_s = max(float(np.nanmax(run.result.arrival_s)) for run in subject.pooled.runs)
    lasts = [run.draws.traffic.lasts_s for run in subject.pooled.runs]
    last_s = max([last_s, *(one for one in lasts if one is not None)])
    if last_s < 2 * INTERVALS_S[0]:
        return None
    if last_s >= 2.5 * HOUR_S:
        return HOUR_S
    return next((one for one in INTERVALS_S if last_s <= _MOST_PARTS * one), HOUR_S)


def _tables(subject: Subject, interval_s: float) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """All requests and all deployments in intervals, in the mean of so many runs."""
    pooled = subject.pooled
    runs = pooled.runs if pooled.count <= _MOST_REQUESTS else pooled.runs[:1]
    intervals = Intervals(subject.model, runs, [run_again(subject.model, run, interval_s) for run in runs])
    return intervals.over_time("all"), intervals.over_time("deployment"), len(runs)


def _lost(subject: Subject, table: pl.DataFrame, runs: int) -> dict[str, Any]:
    """The interval in which most requests get no answer, if that is more than are allowed to, and not by chance."""
    pooled = subject.pooled
    targets = subject.model.scenario.targets
    said = None if targets is None else targets.timeout_rate
    allowed = _LOST if said is None else said
    overall = float((pooled.status != COMPLETED).mean())
    names = [name for name in ("timed_out", "rejected", "failed") if name in table.columns]
    worst = None
    for row in table.iter_rows(named=True):
        came = row["arrivals"] * runs
        if came < _LEAST:
            continue
        share = sum(row[name] for name in names) / row["arrivals"]
        if _at_least(share, came) > allowed and (worst is None or share > worst["share"]):
            worst = {"interval": row["interval"], "share": share, "requests": row["arrivals"]}
    return {"worst": worst, "overall": overall, "allowed": allowed}


def _at_least(share: float, count: float) -> float:
    """Lower end of E. B. Wilson's interval of 95%."""
    root = Z95 * math.sqrt(share * (1 - share) / count + Z95**2 / (4 * count * count))
    return (share + Z95**2 / (2 * count) - root) / (1 + Z95**2 / count)


def _late(subject: Subject, table: pl.DataFrame, runs: int) -> list[dict[str, Any]]:
    """Intervals in which a percentile that is asked for of all requests is later than that, by more than a tenth."""
    targets = subject.model.scenario.targets
    found = []
    for target in () if targets is None else targets.asked():
        column = _column(target)
        if column is None or column not in table.columns:
            continue
        for row in table.iter_rows(named=True):
            value = row[column]
            if value is not None and row["arrivals"] * runs >= _LEAST and value > 1.1 * target.bound:
                found.append({"target": target.key, "interval": row["interval"], "value": value, "bound": target.bound})
    return found


def _column(target: Target) -> str | None:
    """Where a table over time has the percentile that a target is about, if it must hold over all and not in every hour."""
    if target.percentile is None or target.source is not None or target.every_hour:
        return None
    time, part = target.percentile
    return f"{time}_p{100 * part:g}_s"


def _crowded(servers: pl.DataFrame) -> list[dict[str, Any]]:
    """Intervals in which as many wait for a deployment as it serves, in the mean."""
    found = []
    for row in servers.iter_rows(named=True):
        waiting, running = row["waiting"] or 0.0, row["running"] or 0.0
        if waiting >= 1.0 and waiting > running and row["arrivals"] > 0:
            keys = ("interval", "deployment", "waiting", "running")
            found.append({**{key: row[key] for key in keys}, "utilisation": row["utilisation"]})
    return found


def _when(interval: int, interval_s: float) -> str:
    """Which stretch of a run: hours, or minutes."""
    unit, name = (HOUR_S, "hour") if interval_s == HOUR_S else (60.0, "minute")
    first, last = interval * interval_s / unit, (interval + 1) * interval_s / unit
    return f"in {name} {first:g}-{last:g}"


def rate_limits(subject: Subject) -> Check:
    """How near the busiest minute comes to the limits of endpoints."""
    name = "rate limits"
    limited = {n: item for n, item in subject.deployments.items() if isinstance(item, Api) and item.rate_limits}
    if not limited:
        return Check(name, "not applicable", "no endpoint in use has a rate limit", {})
    found = {n: _busiest_minute(subject, n, item) for n, item in limited.items()}
    retries = np.concatenate([run.result.retries for run in subject.pooled.runs])
    refused = float((retries > 0).mean())
    figures: dict[str, object] = {"busiest_minute": found, "refused_requests": refused}
    most = {n: max(one.values()) for n, one in found.items()}
    worst = max(most, key=lambda n: most[n])
    which = max(found[worst], key=lambda key: found[worst][key]).replace("_", " ")
    window = "minute" if limited[worst].limit_window_s == 60 else f"{limited[worst].limit_window_s} seconds"
    if most[worst] <= NEAR and refused <= _REFUSED:
        says = f"the busiest {window} takes {percent(most[worst], 0)} of the {which} of {worst}"
        return Check(name, "ok", f"{says}, and less of any other limit", figures)
    says = f"the busiest {window} asks for {percent(most[worst], 0)} of the {which} of {worst}"
    says += f", and {percent(refused)} of the requests are refused there and asked again" if refused > 0 else ""
    status: Status = "problem" if refused > _REFUSED and most[worst] > AT_LIMIT else "warning"
    return Check(name, status, f"{says}. Ask for a higher limit, or send part of it elsewhere", figures)


def _busiest_minute(subject: Subject, name: str, api: Api) -> dict[str, float]:
    """Share of each limit that is asked for in the busiest minute, or window, of any run, as requests arrive."""
    d = subject.model.deployment_names.index(name)
    most = dict.fromkeys(api.rate_limits, 0.0)
    free = api.cache_rules is not None and not api.cache_rules.reads_count
    for run, offers in zip(subject.pooled.runs, subject.offers, strict=True):
        arrival_s = run.result.arrival_s
        known = ~np.isnan(arrival_s)
        bins = (np.where(known, arrival_s, 0.0) // api.limit_window_s).astype(np.int64)
        bins -= int(bins.min())
        asked = {key: np.zeros(int(bins.max()) + 1) for key in most}
        for index, (carried, here) in enumerate(zip(offers.carried, offers.taken(run.result), strict=True)):
            work = carried.work
            owner = np.repeat(np.arange(len(here)), np.diff(work.stage_start))
            stages = np.flatnonzero((work.deployment == d) & (here & known)[owner])
            if not len(stages):
                continue
            output = np.add.reduceat(work.reasoning_tokens + work.visible_tokens, work.sample_start[:-1])[stages]
            prompt = work.prompt_tokens[stages] - (run.result.cached_tokens[index][stages] if free else 0)
            took = {
                "requests_per_minute": np.ones(len(stages)),
                "tokens_per_minute": prompt + output,
                "input_tokens_per_minute": prompt,
                "output_tokens_per_minute": output,
            }
            for key, total in asked.items():
                total += np.bincount(bins[owner[stages]], weights=took[key], minlength=len(total))
        most = {key: max(most[key], float(total.max())) for key, total in asked.items()}
    return {key: most[key] / held_by(limit, api.limit_window_s) for key, limit in api.rate_limits.items()}


def spare_replicas(subject: Subject) -> Check:
    """Whether a pool in use is a single replica whose failure nothing takes over."""
    name = "redundancy"
    pools = {n: item for n, item in subject.deployments.items() if isinstance(item, GpuPool)}
    if not pools:
        return Check(name, "not applicable", "no GPU pool is in use", {})
    alone = {n: _share_of(subject, n) for n, item in pools.items() if item.most_replicas == 1 and item.failures is None}
    figures: dict[str, object] = {"single_replicas": alone}
    alone = {n: share for n, share in alone.items() if share > 0}
    if not alone:
        return Check(
            name,
            "ok",
            "every pool in use has several replicas, fails in the simulation too, or has a fallback",
            figures,
        )
    says = f"{listed(sorted(alone))} is a single replica, and nothing takes over the {percent(sum(alone.values()))} "
    says += "of the requests that go "
    says += "there while it is down, which was not simulated. Give its arms a `fallback`, or look at `failures`"
    return Check(name, "warning", says, figures)


def _share_of(subject: Subject, deployment: str) -> float:
    """Share of the requests whose first arm is there, and has no fallback elsewhere."""
    arms, scenario = subject.arms, subject.model.scenario
    return sum(
        share
        for label, share in subject.shares.items()
        if subject.model.deployment_names[arms[label].deployment] == deployment
        and all(scenario.arms[other].deployment == deployment for other in scenario.path_of(label))
    )


def percentiles_bounded(subject: Subject) -> Check:
    """Whether enough was simulated to say how late the latest requests are."""
    name, summary = "percentiles", subject.summary
    figures: dict[str, object] = {
        "open_ended": list(summary.open_ended),
        "requests": summary.requests,
        "runs": summary.runs,
    }
    if summary.replay:
        return Check(
            name, "not applicable", "a replay: nothing in it is random, so that another comes out the same", figures
        )
    asked = [
        check.name for check in subject.targets if any(f"latency_{key}_s" == check.name for key in summary.open_ended)
    ]
    if asked:
        says = (
            f"too few requests, runs or problems to bound {listed(asked)} from above: {summary.requests:,} requests in "
        )
        return Check(
            name, "problem", f"{says}{some(summary.runs, 'run')}. Simulate more, or measure more problems", figures
        )
    if summary.open_ended:
        says = f"nothing bounds {listed(list(summary.open_ended))} of latency from above, and no target is on that"
        return Check(name, "ok", says, figures)
    return Check(
        name, "ok", f"{count(summary.requests * summary.runs)} requests bound every percentile of latency", figures
    )


__all__ = ["every_hour", "percentiles_bounded", "rate_limits", "spare_replicas"]
