"""Requests of all runs side by side: means, shares and quantiles with intervals.

Two things make a figure uncertain. The problems that were measured are a sample of those that will come: that variance is the one
between problems (or whole task types, where the problem set says that they are themselves a sample). And a run is one of many that
could have been: that variance is the one between independent runs. The hours of a day are no sample of anything, so that one part
of a run differs from another says nothing; only where there is a single run do batches of it have to stand in for more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base import intervals
from ttc_sim.base.draws import F64, I64
from ttc_sim.base.estimates import Estimate
from ttc_sim.base.intervals import NONE, Variance
from ttc_sim.engine.work import REJECTED
from ttc_sim.policies.requests import DIFFICULTY, DIFFICULTY_BANDS
from ttc_sim.scenario import Api, Clients, Piecewise, Trace
from ttc_sim.simulation.billing import Run
from ttc_sim.simulation.model import Model, spread

_BATCHES = 20
QUANTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}
UNKNOWN = Estimate(float("nan"), float("nan"), float("nan"))

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Part:
    """Figures of one arm, source or band of difficulty; ``tokens_per_request`` are output tokens, ``reasoning`` those hidden.

    Shares times costs, or times tokens, add up to those of all requests.
    """

    share: float
    accuracy: Estimate | None
    cost_usd_per_request: Estimate
    latency_p95_s: Estimate
    tokens_per_request: float
    reasoning_tokens_per_request: float
    thinking_cost_share: float


@dataclass(frozen=True)
class Members:
    """Some of the requests, and the problems of the population that are theirs."""

    requests: Bools
    rows: Bools | None


@dataclass(frozen=True)
class Figure:
    """A mean with its variance, and with that for new problems of the same task types."""

    value: float
    variance: Variance
    same_types: Variance

    def plus(self, other: float) -> Figure:
        """The same, moved."""
        return Figure(self.value + other, self.variance, self.same_types)


class Pooled:
    """Requests of all runs side by side.

    Args:
        expected: per problem, what is expected under the arm that it is sent to, as :func:`ttc_sim.simulation.summary.summarize`
            takes it: means are then over all problems, and the runs only say what the queue changes.
    """

    def __init__(self, model: Model, runs: Sequence[Run], expected: Mapping[str, F64] | None = None) -> None:
        self.model, self.runs = model, runs
        self.count = sum(len(run.arm) for run in runs)
        self.expected = None
        if expected is not None and model.population is not None:
            self.expected = {"output": expected["reasoning"] + expected["visible"], **expected}
        self.replay = nothing_random(model, runs)
        self.run = np.repeat(np.arange(len(runs)), [len(run.arm) for run in runs])
        self.groups = len(runs)
        if len(runs) == 1:
            # Batches one after another stand in for independent runs (the method of batch means).
            self.groups = min(_BATCHES, self.count)
            self.run = np.arange(self.count) * self.groups // self.count
        self.by_neighbours = len(runs) == 1 and isinstance(
            model.scenario.workload.arrivals, Piecewise | Clients | Trace
        )
        self.arm = self._joined("arm")
        self.status = np.concatenate([run.result.status for run in runs])
        self.latency = self._joined("latency_s")
        self.ttft = np.concatenate([run.result.first_token_s - run.result.arrival_s for run in runs])
        self.correct, self.planned_correct = self._joined("answered_correctly"), self._joined("planned_correct")
        self.cost, self.planned_api_cost = self._joined("cost_usd"), self._joined("planned_api_cost_usd")
        self.thinking_cost, self.idle_cost = self._joined("thinking_cost_usd"), self._joined("idle_cost_usd")
        names = ("prompt_tokens", "reasoning_tokens", "visible_tokens")
        self.tokens = np.stack([self._joined(name) for name in names]).astype(np.float64)
        self.planned_tokens = np.concatenate([run.planned_tokens for run in runs], axis=1).astype(np.float64)
        self.source = np.concatenate([run.requests.source for run in runs])
        rows = [run.row for run in runs if run.row is not None]
        self.row = np.concatenate(rows) if model.population is not None else None
        timeouts = [item.timeout_s for item in model.deployments]
        self.most_s = max((np.inf if one is None else one for one in timeouts), default=np.inf)

    def _joined(self, name: str) -> NDArray[Any]:
        return np.concatenate([getattr(run, name) for run in self.runs])

    @property
    def all(self) -> Members:
        """All requests."""
        population = self.model.population
        rows = None if population is None else np.ones(len(population), dtype=np.bool_)
        return Members(np.ones(self.count, dtype=np.bool_), rows)

    # ------------------------------------------------------------------------------------------------ variances

    @cached_property
    def _problem(self) -> tuple[I64, I64]:
        """Of the population: (P,) number of each problem, and (problems,) the group of each."""
        population = self.model.population
        assert population is not None
        _, first, number = np.unique(population.problem, return_index=True, return_inverse=True)
        group = np.unique(population.group, return_inverse=True)[1]
        return number.astype(np.int64), group[first].astype(np.int64)

    @cached_property
    def whole_types(self) -> bool:
        """Whether intervals are for task types like those measured, which is wider than for the same ones."""
        population = self.model.population
        return population is not None and int(population.cluster.max()) < int(self._problem[0].max())

    def _of_problems(self, influence: F64, row: I64, scale: float) -> tuple[Variance, Variance]:
        """Between problems or task types as the problem sets say, and between problems of the same task types."""
        population = self.model.population
        assert population is not None
        printed = intervals.of_units(influence, population.cluster[row], scale=scale)
        if not self.whole_types:
            return printed, printed
        problem, group = self._problem
        return printed, intervals.of_units(influence, problem[row], group, scale=scale)

    def _of_runs(self, influence: F64, run: I64, scale: float) -> Variance:
        if self.replay:
            return NONE
        if self.groups < 2:
            return Variance(scale**2)
        between = intervals.of_neighbours if self.by_neighbours else intervals.of_runs
        return between(influence, run, self.groups)

    def _of_requests(self, values: F64, keep: Bools, value: float, scale: float) -> tuple[Variance, Variance]:
        """Variance of the mean of the kept requests' values: as printed, and for the same task types."""
        run = self._of_runs((values - value) / len(values), self.run[keep], scale)
        if self.row is None:
            return run, run
        row, source = self.row[keep], self.source[keep]
        size = np.maximum(np.bincount(source), 1)
        by_source = np.bincount(source, weights=values) / size
        influence = (values - by_source[source]) / len(values)
        # Sums over a problem's requests vary by the requests too, which is already in the variance between runs.
        own = float(influence @ influence)
        printed, same = (
            Variance(max(one.value - own, 0.0) if np.isfinite(one.df) else one.value, one.df)
            for one in self._of_problems(influence, row, scale)
        )
        return run.plus(printed), run.plus(same)

    # -------------------------------------------------------------------------------------------------- figures

    def mean(self, name: str, values: F64, planned: F64, members: Members, scale: float | None = None) -> Figure:
        """Mean over some requests.

        Args:
            name: key of what is expected; values: (n,) of each request; planned: the same, had it run to its end.
            scale: what a single problem or run is taken to be uncertain by; the mean itself if left out.
        """
        if self.expected is None or members.rows is None:
            kept = values[members.requests]
            value = float(kept.mean())
            return Figure(
                value, *self._of_requests(kept, members.requests, value, abs(value) if scale is None else scale)
            )
        population = self.model.population
        assert population is not None
        rows = np.flatnonzero(members.rows)
        share = float(population.weight[rows].sum())
        weight, source, each = population.weight[rows] / share, population.source[rows], self.expected[name][rows]
        change = (values - planned)[members.requests] / (self.count * share)
        value = float(weight @ each + change.sum())
        scale = abs(value) if scale is None else scale
        total = np.bincount(source, weights=weight)
        by_source = np.bincount(source, weights=weight * each) / np.maximum(total, 1e-300)
        run = self._of_runs(change, self.run[members.requests], scale if change.any() else 0.0)
        printed, same = self._of_problems(weight * (each - by_source[source]), rows, scale)
        return Figure(value, run.plus(printed), run.plus(same))

    def accuracy(self, members: Members) -> tuple[Estimate, Estimate] | None:
        """Share answered correctly, for new task types and for the same ones; ``None`` where that is unknown."""
        if np.isnan(self.correct[members.requests]).any() or self.row is None:
            return None
        found = self.mean("correct", self.correct, self.planned_correct, members, scale=0.5)
        value = min(max(found.value, 0.0), 1.0)
        rows = (
            np.flatnonzero(members.rows)
            if self.expected is not None and members.rows is not None
            else self.row[members.requests]
        )
        population = self.model.population
        assert population is not None

        # How far off what is fitted to the attempts may be, the same for all problems.
        fitted = Variance(self._doubt(members) ** 2)
        printed, same = found.variance.plus(fitted), found.same_types.plus(fitted)
        return (
            intervals.share(value, printed, len(np.unique(population.cluster[rows]))),
            intervals.share(value, same, len(np.unique(self._problem[0][rows]))),
        )

    def _doubt(self, members: Members) -> float:
        """Standard error of accuracy that comes of what is fitted to the attempts where fewer were made than are drawn."""
        if self.expected is None or members.rows is None:
            return 0.0
        population = self.model.population
        assert population is not None
        weight = population.weight[members.rows]
        return float(weight @ self.expected["correct_doubt"][members.rows] / weight.sum())

    def rate(self, happened: Bools) -> Estimate:
        """Share of the requests that something happened to."""
        value = float(happened.mean())
        variance, _ = self._of_requests(happened.astype(np.float64), self.all.requests, value, 0.5)
        if variance.value > 0:
            # A few that happen to be as many in each run vary at least like independent ones.
            variance = Variance(max(variance.value, value * (1 - value) / self.count), variance.df)
        units = self.count if self.row is None else len(np.unique(self.row))
        return intervals.share(value, variance, np.inf if self.replay else units)

    def quantiles(self, values: F64, keep: Bools, wanted: Sequence[float]) -> list[Estimate]:
        """Quantiles of the kept requests' values."""
        kept = values[keep]
        ordered = np.sort(kept)
        out = []
        for part in wanted:
            below = (kept <= intervals.at_share(ordered, part)).astype(np.float64)
            variance, _ = self._of_requests(below, keep, float(below.mean()), 0.5)
            out.append(intervals.quantile(ordered, part, variance, np.inf if self.replay else len(kept)))
        return out

    def times(self, values: F64, keep: Bools) -> dict[str, Estimate]:
        """Mean and quantiles of the kept requests' seconds; NaN where there are none."""
        if not keep.any():
            return {"mean": UNKNOWN, **dict.fromkeys(QUANTILES, UNKNOWN)}
        kept = values[keep]
        value = float(kept.mean())
        variance, _ = self._of_requests(kept, keep, value, value)
        found = self.quantiles(values, keep, list(QUANTILES.values()))
        return {"mean": intervals.mean(value, variance, self.most_s), **dict(zip(QUANTILES, found, strict=True))}

    # ---------------------------------------------------------------------------------------------------- parts

    def part(self, members: Members) -> Part:
        """Figures of some of the requests."""
        timed = members.requests & (self.status != REJECTED)
        accuracy = self.accuracy(members)
        cost = self.cost_usd(members)
        if self.expected is not None and members.rows is not None and self.model.population is not None:
            share = float(self.model.population.weight[members.rows].sum())
        else:
            share = float(members.requests.mean())
        tokens = self.tokens_of(members)
        here = members.requests
        return Part(
            share=share,
            accuracy=None if accuracy is None else accuracy[0],
            cost_usd_per_request=intervals.mean(cost.value, cost.variance),
            latency_p95_s=self.quantiles(self.latency, timed, [0.95])[0] if timed.any() else UNKNOWN,
            tokens_per_request=tokens["output"].value,
            reasoning_tokens_per_request=tokens["reasoning"].value,
            thinking_cost_share=ratio(self.thinking_cost[here], self.cost[here]),
        )

    def cost_usd(self, members: Members) -> Figure:
        """US dollars of a request: API calls and GPU pools."""
        return self.mean("api_cost_usd", self.cost, self.planned_api_cost, members)

    def tokens_of(self, members: Members) -> dict[str, Figure]:
        """Prompt, reasoning, visible and all output tokens of a request."""
        kinds = ("prompt", "reasoning", "visible")
        found = {name: self.mean(name, self.tokens[k], self.planned_tokens[k], members) for k, name in enumerate(kinds)}
        output, planned = (both[1] + both[2] for both in (self.tokens, self.planned_tokens))
        return {**found, "output": self.mean("output", output, planned, members)}

    def arms(self) -> dict[str, Part]:
        """Figures by arm."""
        of_row = None if self.expected is None or "arm" not in self.expected else self.expected["arm"].astype(np.int64)
        return self._parts(dict(enumerate(self.model.arm_names)), self.arm, of_row)

    def sources(self) -> dict[str, Part]:
        """Figures by source."""
        population = self.model.population
        names = self.runs[0].requests.sources
        return self._parts(dict(enumerate(names)), self.source, None if population is None else population.source)

    def bands(self) -> dict[str, Part]:
        """Figures by band of predicted difficulty, where it is predicted."""
        population, edges = self.model.population, DIFFICULTY_BANDS
        if population is None or self.row is None or DIFFICULTY not in population.scores:
            return {}
        band = np.clip(np.digitize(population.scores[DIFFICULTY], edges[1:-1]), 0, len(edges) - 2)
        names = {k: f"{edges[k]:.1f}-{edges[k + 1]:.1f}" for k in range(len(edges) - 1)}
        return self._parts(names, band[self.row], band)

    def _parts(self, names: Mapping[int, str], of_request: I64, of_row: I64 | None) -> dict[str, Part]:
        by_row = self.expected is not None and of_row is not None
        members = {name: Members(of_request == k, None if of_row is None else of_row == k) for k, name in names.items()}
        return {
            name: self.part(one)
            for name, one in members.items()
            if (one.rows is not None and one.rows.any() if by_row else one.requests.any())
        }


def nothing_random(model: Model, runs: Sequence[Run]) -> bool:
    """Whether a run is a replay that would come out the same again: a recorded trace, on servers whose times do not vary."""
    if model.population is not None or not isinstance(model.scenario.workload.arrivals, Trace):
        return False
    used = {model.arms[a].deployment for run in runs for a in np.unique(run.arm).tolist()}
    varies = any(
        spread(latency) > 0
        for d in used
        if isinstance(item := model.deployments[d], Api)
        for latency in (item.first_token, item.per_token)
    )
    return not varies and not any(run.result.retries.any() for run in runs)


def ratio(part: F64, whole: F64) -> float:
    """Share of the sum of the one in that of the other; 0 where there is nothing."""
    total = float(whole.sum())
    return float(part.sum()) / total if total > 0 else 0.0
