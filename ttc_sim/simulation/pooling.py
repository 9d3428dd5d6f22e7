"""Requests of all runs side by side: means and quantiles with intervals.

Two things make a figure uncertain: the problems that were measured are a sample of those that will come, and a run is one
of many that could have been. The first is answered by resampling problems (or whole task types, where the problem set
says that they are themselves a sample), the second by independent runs; an interval adds both variances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.draws import F64
from ttc_sim.base.estimates import Estimate, Resampler, between_runs
from ttc_sim.engine.work import REJECTED
from ttc_sim.policies.requests import DIFFICULTY, DIFFICULTY_BANDS
from ttc_sim.simulation.billing import Run
from ttc_sim.simulation.model import Model

_BATCHES = 20
QUANTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}


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


class Pooled:
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
            if DIFFICULTY in population.scores:
                self.difficulty = population.scores[DIFFICULTY][rows]
        self.resampler = Resampler.of(np.unique(cluster, return_inverse=True)[1].astype(np.int64))
        # Each request weighs its source's share over the requests that the source really got.
        count = np.bincount(self.stratum, minlength=len(self.share))
        self.weight = (self.share / np.maximum(count, 1))[self.stratum]

    def per_run(self, values: F64) -> list[float]:
        """Mean of each run."""
        return [float(np.mean(values[self.run == k])) for k in range(self.runs)]

    def mean(self, values: F64) -> Estimate:
        """Mean over requests, each source by its share."""
        value, resampled = self.resampler.mean(values, self.stratum, self.share)
        return Estimate.around(value, float(np.hypot(resampled.std(), between_runs(self.per_run(values)))))

    def quantiles(
        self, values: F64, wanted: Sequence[float], resampler: Resampler, keep: NDArray[np.bool_]
    ) -> list[Estimate]:
        """Quantiles of the kept requests' values; ``resampler`` is of those rows."""
        found, resampled = resampler.quantiles(values, self.weight[keep], wanted)
        run = self.run[keep]
        each = [np.quantile(values[run == k], wanted) for k in range(self.runs) if (run == k).any()]
        return [
            Estimate.around(
                float(found[j]), float(np.hypot(resampled[:, j].std(), between_runs([float(one[j]) for one in each])))
            ).clipped(0)
            for j in range(len(wanted))
        ]

    def times(self, values: F64, keep: NDArray[np.bool_]) -> dict[str, Estimate]:
        """Mean and quantiles of the kept requests' seconds; NaN where there are none."""
        if not keep.any():
            nothing = Estimate(float("nan"), float("nan"), float("nan"))
            return {"mean": nothing, **dict.fromkeys(QUANTILES, nothing)}
        kept, run = values[keep], self.run[keep]
        resampler = self.resampler.restricted(keep)
        value, resampled = resampler.mean(kept, self.stratum[keep], self.share)
        each = [float(kept[run == k].mean()) for k in range(self.runs) if (run == k).any()]
        mean = Estimate.around(value, float(np.hypot(resampled.std(), between_runs(each)))).clipped(0)
        found = self.quantiles(kept, list(QUANTILES.values()), resampler, keep)
        return {"mean": mean, **dict(zip(QUANTILES, found, strict=True))}

    def part(self, keep: NDArray[np.bool_]) -> Part:
        """Figures of some of the requests."""
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
            thinking_cost_share=ratio(self.thinking_cost[keep], self.cost[keep]),
        )

    def bands(self) -> dict[str, Part]:
        """Figures by band of predicted difficulty, where it is predicted."""
        if self.difficulty is None:
            return {}
        edges = DIFFICULTY_BANDS
        band = np.clip(np.digitize(self.difficulty, edges[1:-1]), 0, len(edges) - 2)
        return {
            f"{edges[k]:.1f}-{edges[k + 1]:.1f}": self.part(band == k)
            for k in range(len(edges) - 1)
            if (band == k).any()
        }


def ratio(part: F64, whole: F64) -> float:
    """Share of the sum of the one in that of the other; 0 where there is nothing."""
    total = float(whole.sum())
    return float(part.sum()) / total if total > 0 else 0.0
