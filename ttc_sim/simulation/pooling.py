"""Requests of all runs side by side: means, shares and quantiles with intervals.

Two things make a figure uncertain. The problems that were measured are a sample of those that will come: that variance is the one
between problems (or whole task types, where the problem set says that they are themselves a sample). And a run is one of many that
could have been: that variance is the one between independent runs. The hours of a day are no sample of anything, so that one part
of a run differs from another says nothing; only where there is a single run do batches of it have to stand in for more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from ttc_sim.base import intervals
from ttc_sim.base.draws import F64, I64
from ttc_sim.base.estimates import Estimate
from ttc_sim.base.intervals import STILL, Swing, Variance
from ttc_sim.engine.work import REJECTED
from ttc_sim.policies.requests import DIFFICULTY_BANDS
from ttc_sim.simulation.billing import Run
from ttc_sim.simulation.means import Means, Members
from ttc_sim.simulation.model import Model
from ttc_sim.simulation.other_load import OtherLoad
from ttc_sim.simulation.uncertainty import Bools

QUANTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}
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
class Times:
    """Seconds of each request, and those for which they count: ``name`` is ``latency`` or ``ttft``."""

    name: str
    values: F64
    known: Bools


class Pooled(Means):
    """Requests of all runs side by side.

    Args:
        expected: per problem, what is expected under the arm that it is sent to, as :func:`ttc_sim.simulation.summary.summarize`
            takes it: means are then over all problems, and the runs only say what the queue changes.
    """

    def __init__(self, model: Model, runs: Sequence[Run], expected: Mapping[str, F64] | None = None) -> None:
        super().__init__(model, runs, expected)
        self.latency = self._joined("latency_s")
        self.ttft = np.concatenate([run.result.first_token_s - run.result.arrival_s for run in runs])
        self.thinking_cost, self.idle_cost = self._joined("thinking_cost_usd"), self._joined("idle_cost_usd")
        self.open_ended: dict[str, tuple[str, ...]] = {}
        timeouts = [item.timeout_s for item in model.deployments]
        self.most_s = max((np.inf if one is None else one for one in timeouts), default=np.inf)

    def rate(self, *what: int) -> Estimate:
        """Share of the requests that ended in one of these ways."""
        happened = np.isin(self.status, what).astype(np.float64)
        return self._share(happened, lambda other: float(np.isin(other.status, what).mean()))

    def cut_off_rate(self) -> Estimate | None:
        """Share of the requests whose answer a cap ended; ``None`` where problems say what such an answer is worth."""
        cut = self._joined("cut_off")
        if np.isnan(cut).any():
            return None
        capped = any(self.model.arms[a].strategy.attempt_cap is not None for a in np.unique(self.arm).tolist())
        # Without problems no load is tried but the one that came.
        return self._share(cut, lambda _: float(cut.mean())) if capped else Estimate(0.0, 0.0, 0.0)

    def _share(self, happened: F64, after: Callable[[OtherLoad], float]) -> Estimate:
        everyone, value = self.all.requests, float(happened.mean())
        variance = self.of_shares(happened, everyone)
        if variance.value > 0:
            # A few that happen to be as many in each run vary at least like independent ones.
            variance = Variance(max(variance.value, value * (1 - value) / self.count), variance.df)
        first = float(happened[: len(self.runs[0].arm)].mean())
        swing = self.swing(happened, everyone, variance, first, after)
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
        band, edges = self.band, DIFFICULTY_BANDS
        if band is None or self.row is None:
            return {}
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


def _quantile(seconds: F64, part: float) -> float:
    place = intervals.place(len(seconds), part)
    return float(np.partition(seconds, place)[place])


def ratio(part: F64, whole: F64) -> float:
    """Share of the sum of the one in that of the other; 0 where there is nothing."""
    total = float(whole.sum())
    return float(part.sum()) / total if total > 0 else 0.0
