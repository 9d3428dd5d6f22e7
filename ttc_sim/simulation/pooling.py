"""Requests of all runs side by side: means, shares and quantiles with intervals.

Two things make a figure uncertain. The problems that were measured are a sample of those that will come: that variance is the one
between problems (or whole task types, where the problem set says that they are themselves a sample). And a run is one of many that
could have been: that variance is the one between independent runs. The hours of a day are no sample of anything, so that one part
of a run differs from another says nothing; only where there is a single run do batches of it have to stand in for more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base import intervals
from ttc_sim.base.draws import F64, I64
from ttc_sim.base.estimates import Estimate
from ttc_sim.base.intervals import STILL, Swing, Variance
from ttc_sim.engine.work import COMPLETED, REJECTED
from ttc_sim.policies.requests import DIFFICULTY, DIFFICULTY_BANDS
from ttc_sim.simulation.billing import Run
from ttc_sim.simulation.counting import Counting, Quantity, count
from ttc_sim.simulation.model import Model
from ttc_sim.simulation.other_load import OtherLoad
from ttc_sim.simulation.uncertainty import Bools, Uncertainty, both

QUANTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}
_TOKENS = ("prompt", "reasoning", "visible")
UNKNOWN = Estimate(float("nan"), float("nan"), float("nan"))


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
class Times:
    """Seconds of each request, and those for which they count: ``name`` is ``latency`` or ``ttft``."""

    name: str
    values: F64
    known: Bools


@dataclass(frozen=True)
class Figure:
    """A mean with its variance, and with that for new problems of the same task types."""

    value: float
    variance: Variance
    same_types: Variance


class Pooled(Uncertainty):
    """Requests of all runs side by side.

    Args:
        expected: per problem, what is expected under the arm that it is sent to, as :func:`ttc_sim.simulation.summary.summarize`
            takes it: means are then over all problems, and the runs only say what the queue changes.
    """

    def __init__(self, model: Model, runs: Sequence[Run], expected: Mapping[str, F64] | None = None) -> None:
        super().__init__(model, runs)
        self.expected = None
        if expected is not None and model.population is not None:
            self.expected = {"output": expected["reasoning"] + expected["visible"], **expected}
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
        # Longer problems make a pool's bill no larger where it is paid for by arrivals alone.
        by_arrivals = np.repeat([not run.paid_by_work for run in runs], [len(run.arm) for run in runs])
        self.api_cost = self._joined("api_cost_usd")
        self.pool_cost = self.cost - self.api_cost
        self.fixed_cost = by_arrivals * self.pool_cost
        self.open_ended: dict[str, tuple[str, ...]] = {}
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

    # -------------------------------------------------------------------------------------------------- figures

    @cached_property
    def counting(self) -> dict[str, Counting | None]:
        """What counts in means, by what is expected of problems."""
        population = self.model.population
        if self.expected is None or population is None or self.row is None:
            return {}
        none = (np.zeros(self.count, dtype=np.int64), np.zeros(len(population), dtype=np.int64))
        by_arm = (self.arm, self.expected["arm"].astype(np.int64)) if "arm" in self.expected else none
        parts = [by_arm, (self.source, population.source)]
        band = self._band()
        if band is not None:
            parts.append((band[self.row], band))
        pairs = {name: (self.tokens[k], self.planned_tokens[k]) for k, name in enumerate(_TOKENS)}
        pairs["output"] = (self.tokens[1] + self.tokens[2], self.planned_tokens[1] + self.planned_tokens[2])
        pairs["api_cost_usd"] = (self.api_cost, self.planned_api_cost)
        spent = {name: Quantity(*pair, self.expected[name]) for name, pair in pairs.items()}
        found: dict[str, Counting | None] = {}
        found |= dict.fromkeys(spent, count(spent, "output", parts, population.weight))
        if not np.isnan(self.correct).any():
            right = Quantity(self.correct, self.planned_correct, self.expected["correct"])
            found["correct"] = count({"correct": right}, "correct", parts, population.weight)
        return found

    def mean(
        self,
        name: str,
        values: F64,
        planned: F64,
        members: Members,
        *,
        beside: F64 | None = None,
        fixed: F64 | None = None,
        share: bool = False,
    ) -> Figure:
        """Mean over some requests.

        Args:
            name: key of what is expected; values: (n,) of each request; planned: the same, had it run to its end.
            beside: (n,) what comes to the values, and was neither planned nor is expected; fixed: (n,) part of that which other
                problems would not change; nothing if left out.
            share: whether it is one: a single problem or run leaves it as uncertain as all or nothing, else by as much as it is.
        """
        here = members.requests
        counting = self.counting.get(name)
        if counting is not None:
            values, planned = values * counting.was, planned * counting.planned
        values = values if beside is None else values + beside
        kept, changing = values[here], (values if fixed is None else values - fixed)[here]
        if self.expected is None or members.rows is None:
            value = float(kept.mean())
            return Figure(value, *self.of_requests(kept, here, _scale(value, share), changing, share=share))
        population = self.model.population
        assert population is not None
        assert self.row is not None
        rows = np.flatnonzero(members.rows)
        part = float(population.weight[rows].sum())
        weight, source, each = population.weight[rows] / part, population.source[rows], self.expected[name][rows]
        each = each if counting is None else each * counting.expected[rows]
        change = (kept - planned[here]) / (self.count * part)
        value = float(weight @ each + change.sum())
        scale = _scale(value, share)
        total = np.bincount(source, weights=weight)
        by_source = np.bincount(source, weights=weight * each) / np.maximum(total, 1e-300)
        influence, own = weight * (each - by_source[source]), 0.0
        changing = changing - planned[here]
        if changing.any():
            more = self.centred(changing, self.source[here]) / (self.count * part)
            influence, rows = np.concatenate([influence, more]), np.concatenate([rows, self.row[here]])
            own = float(more @ more)
        run = self.of_runs(change, self.run[here], scale if change.any() else 0.0)
        printed, same = self.of_problems(influence, rows, scale, own, share=share)
        return Figure(value, *both(run, printed, same))

    def accuracy(self, members: Members) -> tuple[Estimate, Estimate] | None:
        """Share answered correctly, for new task types and for the same ones; ``None`` where that is unknown."""
        if np.isnan(self.correct[members.requests]).any() or self.row is None:
            return None
        found = self.mean("correct", self.correct, self.planned_correct, members, share=True)
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
        here = members.requests
        swing = self.swing(
            self.correct[here], here, printed, self._lost(members, None), lambda o: self._lost(members, o)
        )
        each = (
            intervals.share(value, printed, len(np.unique(population.cluster[rows]))),
            intervals.share(value, same, len(np.unique(self.problem[0][rows]))),
        )
        return intervals.swung(each[0], swing, most=1.0), intervals.swung(each[1], swing, most=1.0)

    def _lost(self, members: Members, other: OtherLoad | None) -> float:
        """Accuracy that timeouts and rejections change, in the first run: as it was, or with another load."""
        n = len(self.runs[0].arm)
        request, status = (np.arange(n), self.status[:n]) if other is None else (other.request, other.status)
        here = members.requests[:n][request]
        return -float((self.planned_correct[request] * (status != COMPLETED))[here].mean()) if here.any() else 0.0

    def _doubt(self, members: Members) -> float:
        """Standard error of accuracy that comes of what is fitted to the attempts where fewer were made than are drawn."""
        if self.expected is None or members.rows is None:
            return 0.0
        population = self.model.population
        assert population is not None
        weight = population.weight[members.rows]
        return float(weight @ self.expected["correct_doubt"][members.rows] / weight.sum())

    def rate(self, *what: int) -> Estimate:
        """Share of the requests that ended in one of these ways."""
        happened = np.isin(self.status, what).astype(np.float64)
        everyone, value = self.all.requests, float(happened.mean())
        variance = self.of_shares(happened, everyone)
        if variance.value > 0:
            # A few that happen to be as many in each run vary at least like independent ones.
            variance = Variance(max(variance.value, value * (1 - value) / self.count), variance.df)
        first = float(happened[: len(self.runs[0].arm)].mean())
        swing = self.swing(happened, everyone, variance, first, lambda other: float(np.isin(other.status, what).mean()))
        return intervals.swung(intervals.share(value, variance, self._units(everyone)), swing, most=1.0)

    def _units(self, keep: Bools) -> float:
        """Independent things behind a share of some requests that cannot be seen to vary."""
        if self.replay:
            return np.inf
        return float(keep.sum()) if self.row is None else len(np.unique(self.row[keep]))

    def quantiles(self, times: Times, members: Bools, wanted: Sequence[float]) -> list[tuple[Estimate, bool]]:
        """Quantiles of some requests' seconds, and whether so few problems or requests leave an end open, at what is possible."""
        keep = members & times.known
        kept = times.values[keep]
        ordered, units = np.sort(kept), self._units(keep)
        out = []
        for part in wanted:
            at = intervals.at_share(ordered, part)
            # The two differ where many take equally long, as those that time out do.
            tails = [(kept > at).astype(np.float64), (kept >= at).astype(np.float64)]
            variances = [self.of_shares(tail, keep) for tail in tails]
            surest = variances[0].half < variances[1].half
            variance, tail = variances[surest], tails[surest]
            swing = self._swing(times, members, tail, variance, partial(_quantile, part=part))
            found = intervals.swung(intervals.quantile(ordered, part, variance, units), swing, most=self.most_s)
            ended = intervals.open_ended(found, part, variance, units, most=self.most_s)
            out.append((ended, ended != found))
        return out

    def _swing(
        self, times: Times, members: Bools, values: F64, rest: Variance, figure: Callable[[F64], float]
    ) -> Swing:
        """What the load does to a figure of some requests' seconds."""
        here = members[: len(self.runs[0].arm)]
        seconds = times.values[: len(here)][here & times.known[: len(here)]]
        if not self.other_loads or not len(seconds):
            return STILL
        before = figure(seconds)

        def after(other: OtherLoad) -> float:
            if times.name == "latency":
                seconds = other.latency_s[here[other.request] & (other.status != REJECTED)]
            else:
                seconds = other.ttft_s[here[other.request] & ~np.isnan(other.ttft_s)]
            return figure(seconds) if len(seconds) else before

        return self.swing(values, members & times.known, rest, before, after)

    def times(self, name: Literal["latency", "ttft"]) -> dict[str, Estimate]:
        """Mean and quantiles of the requests' seconds, of those not rejected or that had a token; NaN where there are none."""
        times, everyone = self.of_name(name), self.all.requests
        if not times.known.any():
            return {"mean": UNKNOWN, **dict.fromkeys(QUANTILES, UNKNOWN)}
        kept = times.values[times.known]
        value = float(kept.mean())
        variance, _ = self.of_requests(kept, times.known, value)
        swing = self._swing(times, everyone, kept, variance, lambda seconds: float(seconds.mean()))
        found = self.quantiles(times, everyone, list(QUANTILES.values()))
        mean = intervals.swung(intervals.mean(value, variance, self.most_s), swing, most=self.most_s)
        self.open_ended[name] = tuple(key for key, (_, is_open) in zip(QUANTILES, found, strict=True) if is_open)
        return {"mean": mean, **{key: figure for key, (figure, _) in zip(QUANTILES, found, strict=True)}}

    def of_name(self, name: Literal["latency", "ttft"]) -> Times:
        """Seconds of that name."""
        if name == "latency":
            return Times(name, self.latency, self.status != REJECTED)
        return Times(name, self.ttft, ~np.isnan(self.ttft))

    # ---------------------------------------------------------------------------------------------------- parts

    def part(self, members: Members) -> Part:
        """Figures of some of the requests."""
        latency = self.of_name("latency")
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
            latency_p95_s=self.quantiles(latency, here, [0.95])[0][0] if (here & latency.known).any() else UNKNOWN,
            tokens_per_request=tokens["output"].value,
            reasoning_tokens_per_request=tokens["reasoning"].value,
            thinking_cost_share=ratio(self.thinking_cost[here], self.cost[here]),
        )

    def cost_usd(self, members: Members) -> Figure:
        """US dollars of a request: API calls and GPU pools."""
        beside, fixed = self.pool_cost, self.fixed_cost
        return self.mean("api_cost_usd", self.api_cost, self.planned_api_cost, members, beside=beside, fixed=fixed)

    def tokens_of(self, members: Members) -> dict[str, Figure]:
        """Prompt, reasoning, visible and all output tokens of a request."""
        found = {
            name: self.mean(name, self.tokens[k], self.planned_tokens[k], members) for k, name in enumerate(_TOKENS)
        }
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
        band, edges = self._band(), DIFFICULTY_BANDS
        if band is None or self.row is None:
            return {}
        names = {k: f"{edges[k]:.1f}-{edges[k + 1]:.1f}" for k in range(len(edges) - 1)}
        return self._parts(names, band[self.row], band)

    def _band(self) -> I64 | None:
        """(P,) number of the band of predicted difficulty that each problem lies in, where it is predicted."""
        population, edges = self.model.population, DIFFICULTY_BANDS
        if population is None or DIFFICULTY not in population.scores:
            return None
        return np.clip(np.digitize(population.scores[DIFFICULTY], edges[1:-1]), 0, len(edges) - 2).astype(np.int64)

    def _parts(self, names: Mapping[int, str], of_request: I64, of_row: I64 | None) -> dict[str, Part]:
        by_row = self.expected is not None and of_row is not None
        members = {name: Members(of_request == k, None if of_row is None else of_row == k) for k, name in names.items()}
        return {
            name: self.part(one)
            for name, one in members.items()
            if (one.rows is not None and one.rows.any() if by_row else one.requests.any())
        }


def _quantile(seconds: F64, part: float) -> float:
    return intervals.at_share(np.sort(seconds), part)


def _scale(value: float, share: bool) -> float:
    return float(np.sqrt(max(value * (1 - value), 0.0))) if share else abs(value)


def ratio(part: F64, whole: F64) -> float:
    """Share of the sum of the one in that of the other; 0 where there is nothing."""
    total = float(whole.sum())
    return float(part.sum()) / total if total > 0 else 0.0
