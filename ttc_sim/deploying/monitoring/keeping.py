"""Whether promises and targets are kept, so that somebody may look every day."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ttc_sim.base.draws import F64
from ttc_sim.base.estimates import Estimate
from ttc_sim.base.times import DAY_S
from ttc_sim.deploying.monitoring.figures import Measured, measured, moment
from ttc_sim.deploying.monitoring.sequences import (
    LEAST,
    Blocks,
    confidence_sequence,
    in_blocks,
    quantile_sequence,
)
from ttc_sim.deploying.monitoring.served import Served
from ttc_sim.optimizer.promises import as_mapping
from ttc_sim.scenario import Scenario
from ttc_sim.scenario.targets import FLOORS

ALPHA = 0.05
"""Chance that anything at all is said to be broken, ever, where all is kept."""
CLOCKS = 0.005
"""By how much of itself a time may be above what it is held to: clocks of clients and servers differ."""


@dataclass(frozen=True)
class Asked:
    """What a figure is held to.

    Attributes:
        name: keys that lead to it, such as ``accuracy`` or ``sources.chat.ttft_p95_s``; key: the last of them.
        source: whose requests it is about; ``None``: all. kind: ``"promise"`` or ``"target"``.
        low, high: ends of what was promised; of a target both are its bound.
        value: promised, or the bound.
    """

    name: str
    key: str
    source: str | None
    kind: str
    value: float
    low: float
    high: float

    @property
    def at_least(self) -> bool:
        """Whether less is worse."""
        return self.key in FLOORS

    @property
    def limit(self) -> float:
        """Beyond which it is broken."""
        return self.low if self.at_least else self.high


@dataclass(frozen=True)
class Look:
    """What was known at a moment.

    Attributes:
        at_s: on the clock of UTC; figure: all that came until then, with its confidence sequence; of a percentile, the share of
            requests that are later than what was ``asked``. sure: whether it was broken for sure.
    """

    at_s: float
    figure: Estimate
    sure: bool


@dataclass(frozen=True)
class Judged:
    """One promise or target beside what came.

    Attributes:
        asked: what it is held to; requests: that say something of it.
        realized: the figure with its confidence sequence, which holds for all figures and all looks together.
        verdict: ``"broken"`` for sure, by some look; ``"kept"`` for sure; ``"better"`` than the promise for sure;
            ``"open"``: neither can be told yet; or ``"unknown"``, and why.
        broken_s: when it was first seen to be broken; looks: one at the end of each period.
    """

    asked: Asked
    requests: int
    realized: Estimate
    verdict: str
    broken_s: float | None
    looks: tuple[Look, ...]
    why: str = ""

    def as_json(self) -> dict[str, object]:
        """Plain mapping."""
        asked = self.asked
        held = {"bound": asked.value} if asked.kind == "target" else {"promised": _of(asked)}
        return {
            "name": asked.name,
            "kind": asked.kind,
            **held,
            "requests": self.requests,
            "realized": as_mapping(self.realized),
            "verdict": self.verdict,
            "why": self.why,
            "broken_at": None if self.broken_s is None else moment(self.broken_s),
            "looks": [{"at": moment(one.at_s), **as_mapping(one.figure), "broken": one.sure} for one in self.looks],
        }


def _of(asked: Asked) -> dict[str, float]:
    return {"value": asked.value, "low": asked.low, "high": asked.high}


def all_asked(promised: Mapping[str, Estimate], scenario: Scenario) -> tuple[Asked, ...]:
    """Every promise of a plan, and every target of its scenario."""
    targets = () if scenario.targets is None else scenario.targets.asked()
    known = {target.name: target for target in targets}
    found = []
    for name, figure in promised.items():
        target = known.get(name)
        key, source = (name, None) if target is None else (target.key, target.source)
        found.append(Asked(name, key, source, "promise", figure.value, figure.low, figure.high))
    found += [Asked(one.name, one.key, one.source, "target", *[one.bound] * 3) for one in targets]
    return tuple(found)


@dataclass(frozen=True)
class Clock:
    """When is looked, and what stands still meanwhile.

    Attributes:
        looks_s: ends of the periods, the last one that of the log; block_s: seconds of a block.
        standing_usd_per_s: what pools and fixed fees cost a second.
        idle_s: stretches without any request, from and to, in which nothing was served or nothing logged.
    """

    looks_s: tuple[float, ...]
    block_s: float
    standing_usd_per_s: float
    idle_s: tuple[tuple[float, float], ...] = ()


def judge(served: Served, asked: Sequence[Asked], scenario: Scenario, clock: Clock) -> tuple[Judged, ...]:
    """Every figure beside what it is held to, at every look; all verdicts together are wrong with probability ``ALPHA`` at most."""
    alpha = ALPHA / max(len(asked), 1)
    return tuple(_judged(served, one, scenario, clock, alpha) for one in asked)


def _judged(served: Served, asked: Asked, scenario: Scenario, clock: Clock, alpha: float) -> Judged:
    if asked.source is not None:
        if asked.source not in served.sources:
            return _unknown(asked, "no such source in the log")
        served = served.taken(served.source == served.sources.index(asked.source))
    found = measured(served, asked.key, scenario, asked.limit)
    if isinstance(found, str):
        return _unknown(asked, found)
    if found.standing and asked.source is not None and clock.standing_usd_per_s:
        return _unknown(asked, "pools are paid by the hour, and not by any source")
    if found.part is not None:
        return _of_percentile(served, found, asked, clock, alpha)
    blocks = blocks_of(served, found, clock)
    looks = []
    for at_s, until in _looks(blocks, clock):
        figure = confidence_sequence(until, alpha, found.spread, most=found.most)
        looks.append(Look(at_s, figure, _beyond(figure, asked)))
    now = looks[-1].figure if looks else Estimate(math.nan, 0.0, found.most)
    now = replace(now, value=_value(served, found, clock))
    now = Estimate(now.value, min(now.low, now.value), max(now.high, now.value))
    return _with_verdict(asked, found, now, looks, _side(now, asked))


def _of_percentile(served: Served, found: Measured, asked: Asked, clock: Clock, alpha: float) -> Judged:
    """Of a percentile: whether more requests are later than it than may be."""
    assert found.part is not None
    known = found.known
    at_s, values, may = served.at_s[known], found.values[known], 1 - found.part
    late = (values > asked.high * (1 + CLOCKS)).astype(np.float64)
    ones = np.ones(len(values))
    looks = []
    blocks = in_blocks(at_s, late, ones, clock.block_s)
    for at, until in _looks(blocks, clock):
        figure = confidence_sequence(until, alpha, may * (1 - may), most=1.0)
        looks.append(Look(at, figure, figure.low > may))
    ended = at_s <= clock.looks_s[-1]
    now = quantile_sequence(at_s, values, ended, found.part, clock.block_s, alpha)
    side = "open"
    if looks and now.high <= asked.high * (1 + CLOCKS):
        side = "better" if now.high < asked.low * (1 - CLOCKS) else "kept"
    return _with_verdict(asked, found, now, looks, side)


def _with_verdict(asked: Asked, found: Measured, now: Estimate, looks: Sequence[Look], side: str) -> Judged:
    broken = next((one.at_s for one in looks if one.sure), None)
    verdict = "broken" if broken is not None else side
    if asked.kind == "target" and verdict == "better":
        verdict = "kept"
    return Judged(asked, found.requests, now, verdict, broken, tuple(looks))


def _unknown(asked: Asked, why: str) -> Judged:
    nothing = Estimate(math.nan, math.nan, math.nan)
    return Judged(asked, 0, nothing, "unknown", None, (), why)


def _beyond(figure: Estimate, asked: Asked) -> bool:
    """Whether the whole interval lies beyond what is held to, on the bad side."""
    slack = 1e-9 * abs(asked.limit)
    return figure.high < asked.limit - slack if asked.at_least else figure.low > asked.limit + slack


def _side(now: Estimate, asked: Asked) -> str:
    """Where the interval lies, if not beyond: on the good side of all that was promised, within it, or on both sides of an end."""
    if math.isnan(now.value):
        return "open"
    if asked.at_least:
        return "better" if now.low > asked.high else "kept" if now.low >= asked.low else "open"
    return "better" if now.high < asked.low else "kept" if now.high <= asked.high else "open"


def blocks_of(served: Served, found: Measured, clock: Clock) -> Blocks:
    """A figure's sums by stretches of the clock, with what pools cost in them."""
    known = found.known
    at_s, values, size = served.at_s[known], found.values[known], found.size[known]
    if not len(at_s):
        return in_blocks(at_s, values, size, clock.block_s)
    lasts_s = _open_seconds(float(at_s[0]), float(at_s[-1]), clock)
    standing = lasts_s * clock.standing_usd_per_s if found.standing else np.zeros(len(lasts_s))
    if not found.by_day:
        return in_blocks(at_s, values, size, clock.block_s, per_block=standing)
    blocks = in_blocks(at_s, values, size, clock.block_s, least=0, per_block=standing)
    open_ = lasts_s > 0
    return Blocks(blocks.total[open_], lasts_s[open_] / DAY_S, blocks.end_s[open_])


def _open_seconds(first_s: float, last_s: float, clock: Clock) -> F64:
    """Seconds of each block from the first request on, without stretches that nothing is known of."""
    first = math.floor(first_s / clock.block_s)
    count = math.floor(last_s / clock.block_s) - first + 1
    edges = (first + np.arange(count + 1)) * clock.block_s
    starts, ends = np.maximum(edges[:-1], first_s), edges[1:]
    lasts = ends - starts
    for begins, until in clock.idle_s:
        lasts = lasts - np.clip(np.minimum(ends, until) - np.maximum(starts, begins), 0.0, None)
    return np.asarray(np.maximum(lasts, 0.0))


def seconds_open(served: Served, clock: Clock) -> float:
    """From the first request to about when the next would have come, without stretches that nothing is known of."""
    n = len(served)
    if n < 2:
        return 0.0
    spanned = float(served.at_s[-1] - served.at_s[0]) - sum(until - begins for begins, until in clock.idle_s)
    return max(spanned, 0.0) * n / (n - 1)


def _value(served: Served, found: Measured, clock: Clock) -> float:
    """The figure of all requests."""
    lasts_s = seconds_open(served, clock)
    total = float(found.values[found.known].sum())
    if found.standing:
        total += lasts_s * clock.standing_usd_per_s
    size = lasts_s / DAY_S if found.by_day else float(found.size.sum())
    return total / size if size > 0 else math.nan


def _looks(blocks: Blocks, clock: Clock) -> Iterator[tuple[float, Blocks]]:
    """What had come by each look, of those that had anything."""
    for at_s in clock.looks_s:
        until = blocks.until(at_s)
        if until.count:
            yield at_s, until


__all__ = ["ALPHA", "LEAST", "Asked", "Clock", "Judged", "Look", "all_asked", "blocks_of", "judge", "seconds_open"]
