"""What requests came to, plainly: means, percentiles and shares, of all, by source, by arm and by period."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from ttc_sim.base.draws import F64
from ttc_sim.base.estimates import Z95, Estimate
from ttc_sim.base.intervals import wilson
from ttc_sim.deploying.monitoring.served import FAILED, REJECTED, TIMED_OUT, Bools, Served
from ttc_sim.optimizer.promises import as_mapping


@dataclass(frozen=True)
class Plain:
    """Figures of some requests; NaN where there is nothing to say.

    Attributes:
        requests: how many; share: of all.
        usd: bill of API calls a request, pools and fixed fees left out.
        latency_mean_s, latency_p50_s, latency_p95_s, latency_p99_s: of requests that were answered or timed out.
        ttft_p50_s, ttft_p95_s: to the first token.
        prompt, cached, reasoning, visible: tokens a request, of all its calls.
        timed_out, rejected, failed, fell_back: shares; fell_back: answered by another arm than the one decided.
        graded: answers that somebody graded; accuracy: right answers among requests, from those, with its 95% interval.
    """

    requests: int
    share: float
    usd: float
    latency_mean_s: float
    latency_p50_s: float
    latency_p95_s: float
    latency_p99_s: float
    ttft_p50_s: float
    ttft_p95_s: float
    prompt: float
    cached: float
    reasoning: float
    visible: float
    timed_out: float
    rejected: float
    failed: float
    fell_back: float
    graded: int
    accuracy: Estimate

    @property
    def output(self) -> float:
        """Reasoning and visible tokens."""
        return self.reasoning + self.visible

    @property
    def unanswered(self) -> float:
        """Share that got no answer, for whatever reason."""
        return self.timed_out + self.rejected + self.failed

    def as_json(self) -> dict[str, object]:
        """Plain mapping."""
        return {**asdict(self), "accuracy": as_mapping(self.accuracy)}


def plainly(served: Served, of: int | None = None) -> Plain:
    """Figures of requests; ``of``: how many there are in all, for their share."""
    n = len(served)
    timed, status = served.timed, served.status
    first = np.where(np.isnan(served.first_token_s), served.latency_s, served.first_token_s)
    begun = timed & ~(served.answered & np.isnan(served.first_token_s))
    p50, p95, p99 = _quantiles(served.latency_s[timed], (0.5, 0.95, 0.99))
    first50, first95 = _quantiles(first[begun], (0.5, 0.95))

    def mean(values: F64 | Bools) -> float:
        return float(np.mean(values)) if len(values) else math.nan

    return Plain(
        requests=n,
        share=n / of if of else math.nan if of == 0 else 1.0,
        usd=mean(served.usd),
        latency_mean_s=mean(served.latency_s[timed]),
        latency_p50_s=p50,
        latency_p95_s=p95,
        latency_p99_s=p99,
        ttft_p50_s=first50,
        ttft_p95_s=first95,
        prompt=mean(served.prompt),
        cached=mean(served.cached),
        reasoning=mean(served.reasoning),
        visible=mean(served.visible),
        timed_out=mean(status == TIMED_OUT),
        rejected=mean(status == REJECTED),
        failed=mean(status == FAILED),
        fell_back=mean(served.arm != served.answered_by),
        graded=int(served.graded.sum()),
        accuracy=_accuracy(served),
    )


def _quantiles(seconds: F64, parts: tuple[float, ...]) -> tuple[float, ...]:
    """By the same rule as a simulation's: the least that so large a share does not exceed."""
    if not len(seconds):
        return tuple(math.nan for _ in parts)
    return tuple(float(x) for x in np.quantile(seconds, parts, method="inverted_cdf"))


def _accuracy(served: Served) -> Estimate:
    """Share of right answers, with the interval of Wilson (1927) for as many as are graded."""
    values, counts = served.right()
    n = float(counts.sum())
    if not served.graded.any() or n <= 0:
        return Estimate(math.nan, math.nan, math.nan)
    share = float(values.sum()) / n
    low, high = wilson(share, Z95**2 / n)
    return Estimate(share, max(min(low, share), 0.0), min(max(high, share), 1.0))


def by_source(served: Served) -> Mapping[str, Plain]:
    """By source."""
    return {name: plainly(served.taken(served.source == k), len(served)) for k, name in enumerate(served.sources)}


def by_arm(served: Served) -> Mapping[str, Plain]:
    """By the arm that was decided."""
    return {name: plainly(served.taken(served.arm == k), len(served)) for k, name in enumerate(served.arms)}


__all__ = ["Plain", "by_arm", "by_source", "plainly"]
