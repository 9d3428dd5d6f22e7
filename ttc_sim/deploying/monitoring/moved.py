"""Whether what comes is still what the plan was made on: prompts, scores, lengths of answers, sources and arrivals.

Each period (a day) is compared with the plan's own requests, in tests of two samples, and Holm's method corrects for how many
there are. Period k may raise a false alarm with probability 6 alpha / (pi k)^2, which over all periods, however many, is alpha:
so they may be looked at as they come. Requests of one hour are more alike than those of two, so each sample counts for as many
requests as would be independent: by how much more its hours differ in the mean than they would if they were.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import pairwise

import numpy as np
from scipy.stats import chi2, ks_2samp, kstwobign

from ttc_sim.base.draws import F64, I64
from ttc_sim.deploying.monitoring.reference import Reference
from ttc_sim.deploying.monitoring.served import Bools, Served
from ttc_sim.predictor.judging.drift import FEWEST, holm, stability_index

ALPHA = 0.05


@dataclass(frozen=True)
class Comparison:
    """One comparison of a period with the plan.

    Attributes:
        what: ``score NAME``, ``prompt tokens``, ``output tokens``, ``mix of sources`` or ``arrivals``; of: source or arm; period:
            number, from 1.
        planned, now: means, or requests a second.
        psi: population stability index; ``None`` of what has no distribution.
        p_value: of this test alone; adjusted: over all of the period.
        moved: whether it has, for sure; at_s: end of the period.
    """

    what: str
    of: str
    period: int
    planned: float
    now: float
    psi: float | None
    p_value: float
    adjusted: float = math.nan
    moved: bool = False
    at_s: float = math.nan

    def as_json(self) -> dict[str, object]:
        """Plain mapping."""
        return asdict(self)


def compared(now: Served, planned: Reference, edges_s: tuple[float, ...], block_s: float) -> tuple[Comparison, ...]:
    """All comparisons of all periods.

    Args:
        edges_s: where the periods begin and the last one ends.
    """
    found: list[Comparison] = []
    number = 0
    for begins, ends in pairwise(edges_s):
        here = now.taken((now.at_s >= begins) & (now.at_s < ends))
        if len(here) < FEWEST:
            continue
        number += 1
        tests = [*_tests(here, planned.served, block_s), *_arrivals(here, planned, begins, ends, block_s)]
        may = ALPHA * 6 / (math.pi * number) ** 2
        adjusted = holm([one.p_value for one in tests])
        found += [
            replace(one, period=number, adjusted=p, moved=p < may, at_s=ends)
            for one, p in zip(tests, adjusted, strict=True)
        ]
    return tuple(found)


def _tests(now: Served, planned: Served, block_s: float) -> Iterator[Comparison]:
    for index, source in enumerate(now.sources):
        ours, theirs = now.source == index, planned.source == index
        yield from _two_samples("prompt tokens", source, now.told, planned.told, ours, theirs, now, planned, block_s)
        for name in now.scores:
            if name in planned.scores:
                scores = now.scores[name], planned.scores[name]
                yield from _two_samples(f"score {name}", source, *scores, ours, theirs, now, planned, block_s)
    for index, arm in enumerate(now.arms):
        ours = (now.arm == index) & (now.answered_by == index) & now.answered
        theirs = (planned.arm == index) & (planned.answered_by == index) & planned.answered
        yield from _two_samples("output tokens", arm, now.output, planned.output, ours, theirs, now, planned, block_s)
    if len(now.sources) > 1:
        yield from _mix(now, planned, block_s)


def _two_samples(
    what: str, of: str, values: F64, was: F64, ours: Bools, theirs: Bools, now: Served, planned: Served, block_s: float
) -> Iterator[Comparison]:
    """The test of Kolmogorov and Smirnov, for as many requests as are independent, and problems of the plan."""
    ours, theirs = ours & ~np.isnan(values), theirs & ~np.isnan(was)
    x, y = values[ours], was[theirs]
    if len(x) < FEWEST or len(y) < FEWEST:
        return
    problems = planned.problem[theirs]
    n = len(x) / alike(now.at_s[ours], x, block_s)
    m = len(y) if (problems < 0).any() else len(np.unique(problems))
    distance = float(ks_2samp(x, y, method="asymp").statistic)
    p_value = float(kstwobign.sf(distance * math.sqrt(n * m / (n + m))))
    yield Comparison(what, of, 0, float(y.mean()), float(x.mean()), stability_index(y, x), p_value)


def _mix(now: Served, planned: Served, block_s: float) -> Iterator[Comparison]:
    """Each source's share of the requests, as a chi-square for as many as are independent."""
    count = len(now.sources)
    shares = np.bincount(planned.source, minlength=count) / max(len(planned), 1)
    came = np.bincount(now.source, minlength=count) / len(now)
    for index, source in enumerate(now.sources):
        mine = (now.source == index).astype(np.float64)
        n = len(now) / alike(now.at_s, mine, block_s)
        m, share = len(planned), float(shares[index])
        pooled = (n * came[index] + m * share) / (n + m)
        variance = pooled * (1 - pooled) * (1 / n + 1 / m)
        square = (came[index] - share) ** 2 / variance if variance > 0 else 0.0
        yield Comparison("mix of sources", source, 0, share, float(came[index]), None, float(chi2.sf(square, 1)))


def _arrivals(now: Served, planned: Reference, begins: float, ends: float, block_s: float) -> Iterator[Comparison]:
    """Requests a second of whole hours beside the plan's rate, by how much the hours differ among themselves."""
    first, last = max(begins, float(now.at_s[0])), min(ends, float(now.at_s[-1]))
    block = np.floor(now.at_s / block_s).astype(np.int64)
    whole = np.arange(math.ceil(first / block_s), math.floor(last / block_s))
    if len(whole) < 8:
        return
    counts = np.bincount(block - block.min(), minlength=int(whole[-1] - block.min()) + 1)[whole - int(block.min())]
    rate, planned_count = float(counts.mean()), planned.rate_per_s * block_s
    # Poisson at the least, even where all hours have as many.
    error = math.sqrt(max(float(counts.var(ddof=1)), planned_count) / len(counts))
    p_value = float(chi2.sf(((rate - planned_count) / error) ** 2, 1))
    yield Comparison("arrivals", "a second", 0, planned.rate_per_s, rate / block_s, None, p_value)


def alike(at_s: F64, values: F64, block_s: float) -> float:
    """How many requests count as one: how much more the means of the blocks vary than those of independent requests, at least 1."""
    block: I64 = np.unique(np.floor(at_s / block_s), return_inverse=True)[1]
    size = np.bincount(block).astype(np.float64)
    variance = float(values.var())
    if len(size) < 3 or variance == 0:
        return 1.0
    away = np.bincount(block, values - values.mean())
    return max(float((away**2).sum()) / (variance * float(size.sum())) * len(size) / (len(size) - 1), 1.0)


__all__ = ["Comparison", "alike", "compared"]
