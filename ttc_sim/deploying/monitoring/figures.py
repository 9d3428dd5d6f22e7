"""What each figure that a plan can be held to comes to, request by request, as logs have it."""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass

import numpy as np

from ttc_sim.base.draws import F64
from ttc_sim.deploying.monitoring.served import Bools, Served
from ttc_sim.scenario import Scenario
from ttc_sim.scenario.targets import Targets, percentile_of
from ttc_sim.simulation.pooling import ENDS


@dataclass(frozen=True)
class Measured:
    """One figure of ``n`` requests: a sum over a count, or a percentile.

    Attributes:
        values: (n,) that are added up, or seconds; size: (n,) what each counts for, 0 for those that say nothing.
        most: that the figure can be; spread: about the variance of one value.
        part: of a percentile, the share of requests that take no longer; by_day: whether it is a day's, and not a request's.
        standing: whether what pools and fixed fees cost belongs to it.
    """

    values: F64
    size: F64
    most: float
    spread: float
    part: float | None = None
    by_day: bool = False
    standing: bool = False

    @property
    def known(self) -> Bools:
        """(n,) requests that say something of it."""
        return np.asarray(self.size > 0)

    @property
    def requests(self) -> int:
        """How many of them."""
        return int(self.known.sum())


def measured(served: Served, key: str, scenario: Scenario, bound: float) -> Measured | str:
    """One figure by its key, such as ``accuracy`` or ``ttft_p95_s``; or why a log says nothing of it.

    Args:
        bound: about what it comes to, or what it is held to.
    """
    n = len(served)
    ones, share = np.ones(n), max(bound * (1 - bound), 1e-4) if 0 <= bound <= 1 else 0.25
    if key == "accuracy":
        values, size = served.right()
        return Measured(values, size, 1.0, share) if served.graded.any() else "no answer in the log is graded"
    if key in ("cost_usd_per_request", "cost_usd_per_day"):
        spread = max(float(served.usd.var()) if n else 0.0, 1e-24)
        return Measured(served.usd, ones, math.inf, spread, by_day=key.endswith("day"), standing=True)
    if key in ENDS:
        happened = np.isin(served.status, ENDS[key]).astype(np.float64)
        return Measured(happened, ones, 1.0, share)
    if key == "goodput":
        return Measured(_good(served, scenario), ones, 1.0, share)
    found = percentile_of(key)
    if found is None:
        return "not in the log"
    values, known = _seconds(served, found[0])
    part = found[1]
    if not known.any():
        return "no request in the log has such a time"
    return Measured(values, known.astype(np.float64), math.inf, part * (1 - part), part=part)


def _seconds(served: Served, name: str) -> tuple[F64, Bools]:
    """(n,) seconds, and the requests in whose percentiles they count: of one that timed out, what it waited for came then."""
    timed = served.timed
    first = np.where(np.isnan(served.first_token_s), served.latency_s, served.first_token_s)
    if name == "latency":
        return served.latency_s, timed
    if name == "ttft":
        return first, timed & ~(served.answered & np.isnan(served.first_token_s))
    further = served.output - 1
    known = timed & ~np.isnan(served.first_token_s) & (further > 0) & ~(served.calls > 1)
    return np.where(known, (served.latency_s - first) / np.maximum(further, 1), np.nan), known


def _good(served: Served, scenario: Scenario) -> F64:
    """(n,) 1 for requests that are answered and meet all of their objectives."""
    targets = scenario.targets or Targets()
    good = served.answered.copy()
    for index, source in enumerate(served.sources):
        slo = targets.slo_of(source)
        here = served.source == index
        for name in ("ttft", "tpot", "latency"):
            most = None if slo is None else getattr(slo, f"{name}_s")
            if most is not None:
                values, known = _seconds(served, name)
                good &= ~here | ~known | (values <= most)
    return good.astype(np.float64)


def moment(at_s: float) -> str:
    """Of UTC, as logs write it.

    >>> moment(1700000000.25)
    '2023-11-14T22:13:20.250+00:00'
    """
    return datetime.datetime.fromtimestamp(at_s, datetime.UTC).isoformat(timespec="milliseconds")


__all__ = ["Measured", "measured", "moment"]
