"""What one policy comes to: figures with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from ttc_sim.base.draws import F64
from ttc_sim.base.estimates import Estimate, Resampler, between_runs
from ttc_sim.engine.work import REJECTED, TIMED_OUT
from ttc_sim.simulation.billing import Run
from ttc_sim.simulation.model import Model
from ttc_sim.simulation.pooling import Part, Pooled, ratio


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
    pooled = Pooled(model, runs)
    population = model.population
    pool_cost = float(np.mean([run.pool_cost_usd_per_request for run in runs]))
    nominal = float(np.mean([run.rate_per_s for run in runs]))

    def mean_of(y: F64, x: F64 | None = None, name: str = "") -> Estimate:
        if expected is None or x is None or population is None:
            return pooled.mean(y)
        table = Resampler.of(population.cluster)
        value, resampled = table.mean(expected[name], population.source, population.share)
        change = pooled.per_run(y - x)
        # How far off what is fitted to the attempts may be, the same for all problems.
        doubt = float(population.weight @ expected.get(f"{name}_doubt", np.zeros(len(population))))
        sd = float(np.hypot(np.hypot(resampled.std(), between_runs(change)), doubt))
        return Estimate.around(value + float(np.mean(change)), sd)

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
        thinking_cost_share=ratio(pooled.thinking_cost, pooled.cost),
        idle_thinking_cost_share=ratio(pooled.idle_cost, pooled.cost),
        reasoning_tokens_per_day=tokens["reasoning"].value * nominal * 86400,
        per_arm=per_arm,
        per_band=pooled.bands(),
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
