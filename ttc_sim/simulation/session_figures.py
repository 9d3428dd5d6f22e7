"""What sessions come to: turns, dollars, what caches found of their prompts, what that saved, and what switching cost."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np

from ttc_sim.base import intervals
from ttc_sim.base.draws import F64, I64
from ttc_sim.base.estimates import Estimate
from ttc_sim.base.intervals import Variance
from ttc_sim.simulation.pooling import Pooled
from ttc_sim.simulation.prompts import turn_before
from ttc_sim.simulation.uncertainty import Influence
from ttc_sim.workload import Traffic

_MANY = 10  # times as long as its sessions, that a run must be to be like any other stretch of time


@dataclass(frozen=True)
class CacheFigures:
    """What a deployment's cache came to.

    Attributes:
        prompt_share: part of all prompt tokens that were taken in there.
        cached_share: part of those that were found in its cache; written_share: that an API's cache was made to keep.
        saved_usd_per_request: what that made the bill of API calls less by, in the mean of all requests, those to other deployments
            too; below 0 where writing to the cache cost more than was saved. 0 of a pool, whose bill goes by the hour.
    """

    prompt_share: Estimate
    cached_share: Estimate
    written_share: Estimate
    saved_usd_per_request: Estimate


@dataclass(frozen=True)
class SessionFigures:
    """Means over sessions, with 95% intervals for other sessions like these; each counts with the turns that came within the run.

    Attributes:
        sessions: of a run, in the mean of the runs; recorded: different ones that they were drawn from, 0 if they are made up.
        unfinished_share: part of the sessions that go on after the run.
        turns: of a session; lasts_s: from its first request to its last answer; usd: its bill; prompt_tokens, output_tokens: of all
            its turns.
        sent_before_share: part of its prompt tokens that it had sent, or had answered, in an earlier turn.
        cached_share: part of them that were found in a cache, whoever had sent them.
        cold_after_switch_share: part of them that it had sent before, and that were not found on a turn that went to another
            deployment than the one before it; cold_share: on other turns: expired, evicted, too short, or ends of blocks.
        switches: of a session; switched_share: of the turns after the first, those that went to another deployment.
        saved_usd: what caches made its bill of API calls less by, with what writing to them cost.
        switch_usd: by how much less that bill would be, had what was cold after a switch been found: what switching costs at most,
            as some of it might have expired without one.
    """

    sessions: float
    recorded: int
    unfinished_share: Estimate
    turns: Estimate
    lasts_s: Estimate
    usd: Estimate
    prompt_tokens: Estimate
    output_tokens: Estimate
    sent_before_share: Estimate
    cached_share: Estimate
    cold_after_switch_share: Estimate
    cold_share: Estimate
    switches: Estimate
    switched_share: Estimate
    saved_usd: Estimate
    switch_usd: Estimate

    def as_json(self) -> dict[str, object]:
        """Plain mapping."""
        return asdict(self)


def session_figures(pooled: Pooled) -> SessionFigures | None:
    """Of all sessions of all runs; ``None`` without any."""
    of = _of_sessions(pooled)
    if of is None:
        return None
    sums = _Sums(pooled, of["turns"] > 0)
    whole = of["sessions"]
    share = {
        name: sums.share(of[part], of["prompt"])
        for name, part in (
            ("sent_before", "before"),
            ("cached", "cached"),
            ("cold_after", "cold_moved"),
            ("cold", "cold"),
        )
    }
    return SessionFigures(
        sessions=sums.count / len(pooled.runs),
        recorded=0 if pooled.recorded is None else len(np.unique(pooled.recorded[pooled.recorded >= 0])),
        unfinished_share=sums.share(of["unfinished"], whole),
        turns=sums.ratio(of["turns"], whole),
        lasts_s=sums.ratio(of["lasts_s"], whole),
        usd=sums.ratio(of["usd"], whole),
        prompt_tokens=sums.ratio(of["prompt"], whole),
        output_tokens=sums.ratio(of["output"], whole),
        sent_before_share=share["sent_before"],
        cached_share=share["cached"],
        cold_after_switch_share=share["cold_after"],
        cold_share=share["cold"],
        switches=sums.ratio(of["moved"], whole),
        switched_share=sums.share(of["moved"], of["follows"]),
        saved_usd=sums.ratio(of["saved_usd"], whole, signed=True),
        switch_usd=sums.ratio(of["switch_usd"], whole),
    )


def notes_on_length(pooled: Pooled, found: SessionFigures | None) -> list[str]:
    """What must be known of what sessions share, where a run is not much longer than they."""
    runs = pooled.runs
    if found is None or not found.lasts_s.value or all(run.work_s is None for run in runs):
        return []
    spans_s = []
    for run in runs:
        begin_s = run.result.arrival_s[turn_before(run.draws.traffic) < 0]
        spans_s.append(run.draws.traffic.lasts_s or float(np.nanmax(begin_s) - np.nanmin(begin_s)))
    span_s, wanted_s = float(np.mean(spans_s)), _MANY * found.lasts_s.value
    if span_s >= wanted_s:
        return []
    requests = sum(len(run.arm) for run in runs) / len(runs) * wanted_s / span_s if span_s > 0 else 0.0
    longer = f"ask for {float(f'{requests:.2g}'):,.0f} requests or more, or" if requests else "ask"
    return [
        f"sessions begin within {span_s / 3600:.2g} h of a run and last {found.lasts_s.value / 3600:.2g} h, so that it fills up "
        "and empties: pools and limits are less busy than in the long run, waits shorter, and pools cheaper than they will be: "
        f"{longer} for a duration of {wanted_s / 3600:.2g} h"
    ]


COMPARED = {
    "usd_per_session": ("usd", "sessions"),
    "cached_share": ("cached", "prompt"),
    "switches_per_session": ("moved", "sessions"),
}
"""Figures that two simulations are compared by: sums of the one over sums of the other."""


def parts_of(pooled: Pooled, name: str) -> tuple[float, Influence, float]:
    """A figure of :data:`COMPARED`, what each request adds to its deviation, and what a single session leaves uncertain of it."""
    of = _of_sessions(pooled)
    assert of is not None
    part, whole = (of[key] for key in COMPARED[name])
    total = max(float(whole.sum()), 1e-300)
    value, none = float(part.sum()) / total, np.empty(0, dtype=np.int64)
    return (
        value,
        Influence(np.arange(pooled.count), (part - value * whole) / total, None, none, np.empty(0)),
        abs(value),
    )


def summed(pooled: Pooled, name: str) -> F64:
    """(n,) what each request adds to the sum that such a figure is a part of."""
    of = _of_sessions(pooled)
    assert of is not None
    return of[COMPARED[name][0]]


def _of_sessions(pooled: Pooled) -> dict[str, F64] | None:
    """Of each request what it adds to its session, (n,) each, 0 of those of none: what is told of sessions is sums of these over
    sums of others. ``None`` without sessions."""
    return pooled.once("sessions", lambda: _work_out(pooled))


def _work_out(pooled: Pooled) -> dict[str, F64] | None:
    traffics = [run.draws.traffic for run in pooled.runs]
    sizes = [len(one.arrival_s) for one in traffics]
    numbers = [np.full(n, -1) if one.session is None else one.session for one, n in zip(traffics, sizes, strict=True)]
    turn = np.concatenate(numbers) >= 0
    if pooled.session is None or not turn.any():
        return None
    of = {
        name: np.zeros(pooled.count)
        for name in ("tokens", "cached", "cold", "saved_usd", "cold_usd", "moved", "before")
    }
    at = 0
    for run, traffic, n in zip(pooled.runs, traffics, sizes, strict=True):
        here = slice(at, at := at + n)
        if run.prompts is not None:
            for name in ("tokens", "cached", "cold", "saved_usd", "cold_usd"):
                of[name][here] = run.prompts.of_requests(getattr(run.prompts, name))
            of["moved"][here] = run.prompts.moved
        if traffic.reused_tokens is not None:
            of["before"][here] = np.minimum(traffic.reused_tokens, of["tokens"][here])
    first = np.zeros(pooled.count)
    first[np.unique(pooled.session, return_index=True)[1]] = 1.0
    of |= {
        "sessions": first,
        "unfinished": first - np.concatenate([_ends(one) for one in traffics]),
        "lasts_s": _lasting_s(pooled, first > 0),
        "turns": np.ones(pooled.count),
        "follows": (np.concatenate([turn_before(one) for one in traffics]) >= 0).astype(np.float64),
        "usd": pooled.cost,
        "prompt": pooled.tokens[0],
        "output": pooled.tokens[1] + pooled.tokens[2],
        "cold_moved": of["cold"] * of["moved"],
        "switch_usd": of["cold_usd"] * of["moved"],
    }
    of["cold"] = of["cold"] - of["cold_moved"]
    return {name: np.where(turn, values, 0.0) for name, values in of.items()}


def cache_figures(pooled: Pooled) -> dict[str, CacheFigures]:
    """By deployment that took any prompt in, where any cache found or kept anything."""
    prompts = [run.prompts for run in pooled.runs]
    known = [one for one in prompts if one is not None]
    if len(known) < len(prompts) or not any(one.cached.any() or one.written.any() for one in known):
        return {}
    model, of = pooled.model, _Sums(pooled, np.ones(pooled.count, dtype=np.bool_))

    def at(d: int, name: str) -> F64:
        return np.concatenate([one.of_requests(getattr(one, name) * (one.deployment == d)) for one in known])

    used = np.unique(np.concatenate([one.deployment for one in known])).tolist()
    prompt = pooled.tokens[0]
    requests = np.ones(pooled.count)
    return {
        model.deployment_names[d]: CacheFigures(
            prompt_share=of.share(tokens := at(d, "tokens"), prompt),
            cached_share=of.share(at(d, "cached"), tokens),
            written_share=of.share(at(d, "written"), tokens),
            saved_usd_per_request=of.ratio(at(d, "saved_usd"), requests, signed=True),
        )
        for d in used
    }


def _ends(traffic: Traffic) -> F64:
    """(n,) 1 at the last request of each session, where it is here."""
    ends = traffic.with_ends().ends
    return np.zeros(len(traffic.arrival_s)) if ends is None else ends.astype(np.float64)


def _lasting_s(pooled: Pooled, first: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> F64:
    """(n,) seconds from the first request of a session to its last answer, at its first request; 0 at others."""
    assert pooled.session is not None
    arrival_s, finished_s = (
        np.concatenate([getattr(run.result, name) for run in pooled.runs]) for name in ("arrival_s", "finished_s")
    )
    begins_s, ends_s = np.full(int(pooled.session.max()) + 1, np.inf), np.full(int(pooled.session.max()) + 1, -np.inf)
    np.fmin.at(begins_s, pooled.session, arrival_s)
    np.fmax.at(ends_s, pooled.session, finished_s)
    found = np.zeros(pooled.count)
    found[first] = np.nan_to_num((ends_s - begins_s)[pooled.session[first]], nan=0.0, posinf=0.0, neginf=0.0)
    return found


class _Sums:
    """Sums over units that are independent of each other: whole sessions, or requests where there are none."""

    def __init__(self, pooled: Pooled, members: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> None:
        unit = np.arange(pooled.count) if pooled.session is None else pooled.session
        self.pooled, self.at = pooled, np.flatnonzero(members)
        _, first, self.unit = np.unique(unit[self.at], return_index=True, return_inverse=True)
        self.count = len(first)
        self.first: I64 = self.at[first]
        self.session: I64 = np.arange(self.count)

    def of(self, values: F64) -> F64:
        """(units,) sums of something."""
        return np.bincount(self.unit, weights=values[self.at], minlength=self.count).astype(np.float64)

    def ratio(self, part: F64, whole: F64, most: float = math.inf, *, signed: bool = False) -> Estimate:
        """Of two sums; NaN where the second is 0."""
        parts, wholes = self.of(part), self.of(whole)
        total = float(wholes.sum())
        if total <= 0:
            return Estimate(math.nan, math.nan, math.nan)
        value = float(parts.sum()) / total
        variance = self._variance((parts - value * wholes) / total, abs(value))
        if most == 1:
            return intervals.share(value, variance, math.inf)
        return _estimate(value, variance, signed=signed)

    def share(self, part: F64, whole: F64) -> Estimate:
        """The same of a part of the whole."""
        return self.ratio(part, whole, 1.0)

    def _variance(self, influence: F64, scale: float) -> Variance:
        pooled = self.pooled
        batched = self.session if pooled.batched and pooled.session is not None else None
        run = pooled.of_runs(influence, pooled.run[self.first], scale, batched)
        return run.plus(pooled.of_recorded(influence, self.first, scale))


def _estimate(value: float, variance: Variance, *, signed: bool = False) -> Estimate:
    if signed:
        return Estimate(value, value - variance.half, value + variance.half)
    return intervals.mean(value, variance)


__all__ = [
    "COMPARED",
    "CacheFigures",
    "SessionFigures",
    "cache_figures",
    "notes_on_length",
    "parts_of",
    "session_figures",
    "summed",
]
