"""From runs to figures with intervals.

Two things make a figure uncertain: the problems that were measured are a sample of those that will come, and a run is one
of many that could have been. The first is answered by resampling problems (or whole task types, where the problem set
says that they are themselves a sample), the second by independent runs; an interval adds both variances.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from ttc_sim.draws import F64, I64, uniforms
from ttc_sim.engine.work import COMPLETED, REJECTED, TIMED_OUT
from ttc_sim.simulation import Model, Run

RESAMPLES = 400
_NEAR = 100  # values on either side of a quantile, between which resamples lie
_BATCHES = 20
_Z = 1.959963984540054  # two-sided 95% of the normal
QUANTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}
# Bands of predicted difficulty in which figures are reported, the same for every policy.
DIFFICULTY_BANDS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95% interval."""

    value: float
    low: float
    high: float

    def shifted(self, by: float) -> Estimate:
        """The same estimate, moved."""
        return Estimate(self.value + by, self.low + by, self.high + by)

    def clipped(self, least: float, most: float = float("inf")) -> Estimate:
        """The same estimate within the range that the figure can have."""
        return Estimate(*(float(min(max(x, least), most)) for x in (self.value, self.low, self.high)))

    @property
    def sd(self) -> float:
        """Standard error that the interval stands for."""
        return (self.high - self.low) / (2 * _Z)

    @staticmethod
    def around(value: float, sd: float) -> Estimate:
        """A normal 95% interval."""
        return Estimate(value, value - _Z * sd, value + _Z * sd)


@dataclass(frozen=True)
class Part:
    """Figures of one arm or one band of difficulty; ``tokens_per_request`` are output tokens, ``reasoning`` those hidden."""

    share: float
    accuracy: Estimate | None
    cost_usd_per_request: Estimate
    latency_p95_s: Estimate
    tokens_per_request: float
    reasoning_tokens_per_request: float
    thinking_cost_share: float


@dataclass(frozen=True)
class Summary:
    """What one policy comes to.

    Attributes:
        accuracy: share of requests answered correctly in time; ``None`` where accuracy is unknown.
        cost_usd_per_request: API bill and the bill of the GPU pools in use.
        latency_s: ``mean``, ``p50``, ``p90``, ``p95``, ``p99`` of requests answered or timed out (a timed-out one counts
            the time it waited); ttft_s: the same to the first generated token.
        tokens_per_request: ``prompt``, ``reasoning``, ``visible``, ``output``.
        timeout_rate: share timed out; rejected_rate: share rejected.
        cost_spread: 99th percentile over median of the cost of a request.
        thinking_cost_share: part of the bill that is for hidden reasoning tokens.
        idle_thinking_cost_share: part of the bill for thinking on after the answer stood, in expectation.
        reasoning_tokens_per_day: at the workload's mean rate.
        per_arm: by arm; per_band: by band of predicted difficulty.
        replicas: per GPU pool in use.
        queue_growth_per_s: by deployment that cannot keep up, requests per second by which those who wait for it grow in
            number over the second half of the arrivals.
    """

    accuracy: Estimate | None
    cost_usd_per_request: Estimate
    cost_usd_per_day: Estimate
    latency_s: Mapping[str, Estimate]
    ttft_s: Mapping[str, Estimate]
    tokens_per_request: Mapping[str, Estimate]
    timeout_rate: Estimate
    rejected_rate: Estimate
    cost_spread: float
    thinking_cost_share: float
    idle_thinking_cost_share: float
    reasoning_tokens_per_day: float
    per_arm: Mapping[str, Part]
    per_band: Mapping[str, Part]
    replicas: Mapping[str, int]
    queue_growth_per_s: Mapping[str, float]
    rate_per_s: float
    requests: int
    runs: int
    problems: int
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        """Plain mapping for JSON."""
        return asdict(self)

    def quantity(self, target: str) -> Estimate | None:
        """The figure that a target of that name (a key of ``targets``) is about."""
        if target == "accuracy":
            return self.accuracy
        if target == "cost_usd_per_request":
            return self.cost_usd_per_request
        if target == "timeout_rate":
            both = self.timeout_rate.value + self.rejected_rate.value
            return self.timeout_rate.shifted(both - self.timeout_rate.value)
        return self.latency_s[target.removeprefix("latency_").removesuffix("_s")]


@dataclass(frozen=True)
class Resampler:
    """Bootstrap weights of clusters, the same for every figure, so that figures of two policies stay comparable.

    Attributes:
        cluster: (n,) cluster of each row, 0 to k - 1.
        weights: (resamples, k) how often each cluster stands in each resample.
    """

    cluster: I64
    weights: F64

    @classmethod
    def of(cls, cluster: I64, resamples: int = RESAMPLES) -> Resampler:
        """Resample as many clusters as there are, with replacement."""
        clusters = int(cluster.max(initial=-1)) + 1
        picked = (uniforms(0, "bootstrap", resamples, clusters) * clusters).astype(np.int64)
        flat = picked + np.arange(resamples)[:, None] * clusters
        counts = np.bincount(flat.ravel(), minlength=resamples * clusters)
        return cls(cluster, counts.reshape(resamples, clusters).astype(np.float64))

    def restricted(self, keep: NDArray[np.bool_]) -> Resampler:
        """The same resamples, of some of the rows."""
        return Resampler(self.cluster[keep], self.weights)

    def mean(self, values: F64, stratum: I64, share: F64) -> tuple[float, F64]:
        """Mean within each stratum, weighted by the strata's shares: the value and its resamples.

        A stratum that a resample happens to miss takes the value of the full sample.
        """
        strata = len(share)
        flat = self.cluster * strata + stratum
        clusters = self.weights.shape[1]
        size = clusters * strata
        total = np.bincount(flat, weights=values, minlength=size).reshape(clusters, strata)
        count = np.bincount(flat, minlength=size).reshape(clusters, strata).astype(np.float64)
        whole = total.sum(axis=0) / np.maximum(count.sum(axis=0), 1)
        den = self.weights @ count
        means = np.where(den > 0, (self.weights @ total) / np.maximum(den, 1e-300), whole)
        return float(whole @ share), means @ share

    def quantiles(self, values: F64, base: F64, wanted: Sequence[float], resamples: int = 200) -> tuple[F64, F64]:
        """Weighted quantiles of the rows' values: (q,) values and (resamples, q) resamples.

        The values are exact; resamples lie on straight lines between a few hundred of the ordered values, the closer
        together the closer to a wanted quantile, so that no resample has to look at every row.
        """
        order = np.argsort(values)
        ordered, base = values[order], base[order]
        upto = np.cumsum(base) / base.sum()
        asked = np.asarray(wanted)
        exact = ordered[np.minimum(np.searchsorted(upto, asked, side="left"), len(ordered) - 1)]
        near = [q + min(q, 1 - q) * np.linspace(-1, 1, 2 * _NEAR + 1) for q in wanted]
        knots = np.unique(np.minimum(np.searchsorted(upto, np.concatenate(near)), len(ordered) - 1))
        knots = np.unique(np.append(knots, len(ordered) - 1))
        # Weight of each cluster between one knot and the next.
        between = np.searchsorted(knots, np.arange(len(ordered)))
        flat = self.cluster[order] * len(knots) + between
        table = np.bincount(flat, weights=base, minlength=self.weights.shape[1] * len(knots))
        below = np.cumsum(self.weights[:resamples] @ table.reshape(-1, len(knots)), axis=1)
        out = np.tile(exact, (resamples, 1))
        for row, one in zip(out, below, strict=True):
            # A resample that happens to miss all clusters of these rows says nothing.
            if one[-1] > 0:
                row[:] = np.interp(asked * one[-1], one, ordered[knots])
        return exact, out


def _between_runs(values: Sequence[float]) -> float:
    """Standard error of the mean over independent runs, widened for their small number (Student's t)."""
    runs = len(values)
    if runs < 2:
        return 0.0
    return float(np.std(values, ddof=1) / np.sqrt(runs) * stdtrit(runs - 1, 0.975) / _Z)


def summarize(model: Model, runs: Sequence[Run], *, expected: Mapping[str, F64] | None = None) -> Summary:
    """Figures of one policy from independent runs of it.

    Args:
        model: what was run.
        runs: at least one.
        expected: for a policy that looks at a request's problem alone: per problem of the population, the expectation over
            its measured attempts of ``correct``, ``api_cost_usd``, ``prompt``, ``reasoning`` and ``visible`` tokens under
            the arm that the policy sends it to. The runs then only have to say what the queue changes (timeouts,
            rejections), which takes the draws' own noise out of the figures.
    """
    pooled = _Pooled(model, runs)
    population = model.population
    pool_cost = float(np.mean([run.pool_cost_usd_per_request for run in runs]))
    nominal = float(np.mean([run.rate_per_s for run in runs]))

    def mean_of(y: F64, x: F64 | None = None, name: str = "") -> Estimate:
        if expected is None or x is None or population is None:
            return pooled.mean(y)
        table = Resampler.of(population.cluster)
        value, resampled = table.mean(expected[name], population.source, population.share)
        change = pooled.per_run(y - x)
        return Estimate.around(value + float(np.mean(change)), float(np.hypot(resampled.std(), _between_runs(change))))

    known = not np.isnan(pooled.correct).any()
    accuracy = mean_of(pooled.correct, pooled.planned_correct, "correct").clipped(0, 1) if known else None
    cost = mean_of(pooled.api_cost, pooled.planned_api_cost, "api_cost_usd").shifted(pool_cost).clipped(0)
    tokens = {
        "prompt": pooled.mean(pooled.prompt).clipped(0),
        "reasoning": pooled.mean(pooled.reasoning).clipped(0),
        "visible": pooled.mean(pooled.visible).clipped(0),
        "output": pooled.mean(pooled.reasoning + pooled.visible).clipped(0),
    }
    positive = pooled.cost[pooled.cost > 0]
    spread = float(np.quantile(positive, 0.99) / np.quantile(positive, 0.5)) if len(positive) else 1.0
    names = model.arm_names
    per_arm = {names[a]: pooled.part(pooled.arm == a) for a in np.unique(pooled.arm)}
    return Summary(
        accuracy=accuracy,
        cost_usd_per_request=cost,
        cost_usd_per_day=Estimate(*(x * nominal * 86400 for x in (cost.value, cost.low, cost.high))),
        latency_s=pooled.times(pooled.latency, pooled.status != REJECTED),
        ttft_s=pooled.times(pooled.ttft, ~np.isnan(pooled.ttft)),
        tokens_per_request=tokens,
        timeout_rate=pooled.mean((pooled.status == TIMED_OUT).astype(np.float64)).clipped(0, 1),
        rejected_rate=pooled.mean((pooled.status == REJECTED).astype(np.float64)).clipped(0, 1),
        cost_spread=spread,
        thinking_cost_share=_ratio(pooled.thinking_cost, pooled.cost),
        idle_thinking_cost_share=_ratio(pooled.idle_cost, pooled.cost),
        reasoning_tokens_per_day=tokens["reasoning"].value * nominal * 86400,
        per_arm=per_arm,
        per_band=_bands(pooled),
        replicas=runs[0].replicas,
        queue_growth_per_s=queue_growth(model, runs),
        rate_per_s=nominal,
        requests=len(runs[0].arm),
        runs=len(runs),
        problems=0 if population is None else len(population),
        notes=model.notes,
    )


def queue_growth(model: Model, runs: Sequence[Run]) -> dict[str, float]:
    """Requests per second by which the queue of a deployment grows over the second half of the arrivals, where it grows.

    A queue swings; only one in which at least a twentieth of those that came stays behind, in the mean over runs, is one
    that cannot drain.
    """
    deployment = np.array([item.deployment for item in model.arms], dtype=np.int64)
    growth: dict[str, list[float]] = {}
    for run in runs:
        arrival_s = run.result.arrival_s
        end_s = float(np.nanmax(arrival_s))
        half_s = end_s / 2
        # One that never began has waited until it was given up.
        left_s = np.where(np.isnan(run.result.started_s), run.result.finished_s, run.result.started_s)
        for index in np.unique(deployment[run.arm]):
            here = deployment[run.arm] == index
            came, left = arrival_s[here], left_s[here]
            waiting = [int((came <= at).sum() - (left <= at).sum()) for at in (half_s, end_s)]
            arrived = int((came > half_s).sum())
            grown = waiting[1] - waiting[0]
            counts = grown > max(0.05 * arrived, 4 * np.sqrt(arrived))
            growth.setdefault(model.deployment_names[index], []).append(grown / half_s if counts else 0.0)
    means = {name: float(np.mean(values)) for name, values in growth.items()}
    return {name: value for name, value in means.items() if value > 0}


def _ratio(part: F64, whole: F64) -> float:
    total = float(whole.sum())
    return float(part.sum()) / total if total > 0 else 0.0


def _bands(pooled: _Pooled) -> dict[str, Part]:
    if pooled.difficulty is None:
        return {}
    edges = DIFFICULTY_BANDS
    band = np.clip(np.digitize(pooled.difficulty, edges[1:-1]), 0, len(edges) - 2)
    return {
        f"{edges[k]:.1f}-{edges[k + 1]:.1f}": pooled.part(band == k) for k in range(len(edges) - 1) if (band == k).any()
    }


class _Pooled:
    """Requests of all runs side by side, with the clusters they are resampled by."""

    def __init__(self, model: Model, runs: Sequence[Run]) -> None:
        self.run = np.concatenate([np.full(len(run.arm), k) for k, run in enumerate(runs)])
        self.runs = len(runs)
        if len(runs) == 1:
            # Of a single run, batches one after another stand in for independent runs (the method of batch means).
            self.runs = min(_BATCHES, len(self.run))
            self.run = np.arange(len(self.run)) * self.runs // len(self.run)
        self.arm = np.concatenate([run.arm for run in runs])
        self.status = np.concatenate([run.result.status for run in runs])
        self.latency = np.concatenate([run.latency_s for run in runs])
        self.ttft = np.concatenate([run.result.first_token_s - run.result.arrival_s for run in runs])
        self.correct = np.concatenate([run.answered_correctly for run in runs])
        self.planned_correct = np.concatenate([run.planned_correct for run in runs])
        self.cost = np.concatenate([run.cost_usd for run in runs])
        self.thinking_cost = np.concatenate([run.thinking_cost_usd for run in runs])
        self.idle_cost = np.concatenate([run.idle_cost_usd for run in runs])
        self.api_cost = np.concatenate([run.api_cost_usd for run in runs])
        self.planned_api_cost = np.concatenate([run.planned_api_cost_usd for run in runs])
        self.prompt = np.concatenate([run.prompt_tokens for run in runs]).astype(np.float64)
        self.reasoning = np.concatenate([run.reasoning_tokens for run in runs]).astype(np.float64)
        self.visible = np.concatenate([run.visible_tokens for run in runs]).astype(np.float64)
        self.difficulty: F64 | None = None
        population = model.population
        if population is None:
            # Without problems to resample, blocks of consecutive requests keep what queues correlate.
            index = np.concatenate([np.arange(len(run.arm)) for run in runs])
            cluster = index // max(len(runs[0].arm) // 50, 1)
            self.stratum, self.share = np.zeros(len(index), dtype=np.int64), np.ones(1)
        else:
            rows = np.concatenate([run.row for run in runs if run.row is not None])
            cluster = population.cluster[rows]
            self.stratum, self.share = population.source[rows], population.share
            if "difficulty" in population.scores:
                self.difficulty = population.scores["difficulty"][rows]
        self.resampler = Resampler.of(np.unique(cluster, return_inverse=True)[1].astype(np.int64))
        # Each request weighs its source's share over the requests that the source really got.
        count = np.bincount(self.stratum, minlength=len(self.share))
        self.weight = (self.share / np.maximum(count, 1))[self.stratum]

    def per_run(self, values: F64) -> list[float]:
        return [float(np.mean(values[self.run == k])) for k in range(self.runs)]

    def mean(self, values: F64) -> Estimate:
        value, resampled = self.resampler.mean(values, self.stratum, self.share)
        return Estimate.around(value, float(np.hypot(resampled.std(), _between_runs(self.per_run(values)))))

    def quantiles(
        self, values: F64, wanted: Sequence[float], resampler: Resampler, keep: NDArray[np.bool_]
    ) -> list[Estimate]:
        found, resampled = resampler.quantiles(values, self.weight[keep], wanted)
        run = self.run[keep]
        each = [np.quantile(values[run == k], wanted) for k in range(self.runs) if (run == k).any()]
        return [
            Estimate.around(
                float(found[j]), float(np.hypot(resampled[:, j].std(), _between_runs([float(one[j]) for one in each])))
            ).clipped(0)
            for j in range(len(wanted))
        ]

    def times(self, values: F64, keep: NDArray[np.bool_]) -> dict[str, Estimate]:
        if not keep.any():
            nothing = Estimate(float("nan"), float("nan"), float("nan"))
            return {"mean": nothing, **dict.fromkeys(QUANTILES, nothing)}
        kept, run = values[keep], self.run[keep]
        resampler = self.resampler.restricted(keep)
        value, resampled = resampler.mean(kept, self.stratum[keep], self.share)
        each = [float(kept[run == k].mean()) for k in range(self.runs) if (run == k).any()]
        mean = Estimate.around(value, float(np.hypot(resampled.std(), _between_runs(each)))).clipped(0)
        found = self.quantiles(kept, list(QUANTILES.values()), resampler, keep)
        return {"mean": mean, **dict(zip(QUANTILES, found, strict=True))}

    def part(self, keep: NDArray[np.bool_]) -> Part:
        resampler = self.resampler.restricted(keep)
        one, zero = np.ones(1), np.zeros(int(keep.sum()), dtype=np.int64)

        def mean(values: F64) -> Estimate:
            value, resampled = resampler.mean(values[keep], zero, one)
            return Estimate.around(value, float(resampled.std()))

        known = not np.isnan(self.correct[keep]).any()
        timed = keep & (self.status != REJECTED)
        latency = (
            self.quantiles(self.latency[timed], [0.95], self.resampler.restricted(timed), timed)[0]
            if timed.any()
            else Estimate(float("nan"), float("nan"), float("nan"))
        )
        return Part(
            share=float(self.weight[keep].sum()),
            accuracy=mean(self.correct).clipped(0, 1) if known else None,
            cost_usd_per_request=mean(self.cost).clipped(0),
            latency_p95_s=latency,
            tokens_per_request=float((self.reasoning + self.visible)[keep].mean()),
            reasoning_tokens_per_request=float(self.reasoning[keep].mean()),
            thinking_cost_share=_ratio(self.thinking_cost[keep], self.cost[keep]),
        )


__all__ = ["COMPLETED", "QUANTILES", "Estimate", "Part", "Resampler", "Summary", "summarize"]
