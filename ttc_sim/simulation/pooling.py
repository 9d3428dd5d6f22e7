"""Requests of all runs side by side: means, shares and quantiles with intervals.

Two things make a figure uncertain. The problems that were measured are a sample of those that will come: that variance is the one
between problems (or whole task types, where the problem set says that they are themselves a sample). And a run is one of many that
could have been: that variance is the one between independent runs. The hours of a day are no sample of anything, so that one part
of a run differs from another says nothing; only where there is a single run do batches of it have to stand in for more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base import intervals
from ttc_sim.base.draws import F64, I64
from ttc_sim.base.estimates import Estimate
from ttc_sim.base.intervals import STILL, Swing, Variance
from ttc_sim.base.small_numbers import among, distinct
from ttc_sim.engine.work import COMPLETED, FAILED, REJECTED, TIMED_OUT
from ttc_sim.policies.requests import DIFFICULTY_BANDS
from ttc_sim.scenario import Target
from ttc_sim.scenario.targets import USD
from ttc_sim.simulation.billing import Run
from ttc_sim.simulation.means import Means, Members
from ttc_sim.simulation.model import Model
from ttc_sim.simulation.other_load import OtherLoad
from ttc_sim.simulation.uncertainty import Bools, Influence

QUANTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}
UNKNOWN = Estimate(float("nan"), float("nan"), float("nan"))
HOUR_S = 3600.0
TimeName = Literal["latency", "ttft", "tpot"]
ENDS: Mapping[str, tuple[int, ...]] = {
    "timeout_rate": (TIMED_OUT, REJECTED, FAILED),
    "timed_out_rate": (TIMED_OUT,),
    "rejected_rate": (REJECTED,),
    "failed_rate": (FAILED,),
}
UNTIMED = (REJECTED, FAILED)
"""Requests that count in no percentile of latency."""


@dataclass(frozen=True)
class Part:
    """Figures of one arm, source or band of difficulty; ``tokens_per_request`` are output tokens, ``reasoning`` those hidden.

    Shares times costs, or times tokens, add up to those of all requests. An arm's are the requests that were sent to it first or,
    but for a budget, would have been:
    ``fallback_share`` of them were answered by another one, and that one's answers, tokens and bill are among the figures;
    ``answered_share``: share of all requests that the arm answered, whoever they were sent to first. ``None`` of other parts, and
    where no arm has a fallback and no budget degrades to one.
    """

    share: float
    accuracy: Estimate | None
    cost_usd_per_request: Estimate
    latency_p95_s: Estimate
    tokens_per_request: float
    reasoning_tokens_per_request: float
    thinking_cost_share: float
    fallback_share: float | None = None
    answered_share: float | None = None

    def as_json(self) -> dict[str, object]:
        """Plain mapping, without what there is nothing to say of."""
        return {
            name: value
            for name, value in asdict(self).items()
            if value is not None or name not in ("fallback_share", "answered_share")
        }


_NOBODY = Part(0.0, None, Estimate(0.0, 0.0, 0.0), UNKNOWN, 0.0, 0.0, 0.0)
"""Of an arm that no request was sent to first."""


@dataclass(frozen=True)
class Times:
    """Seconds of each request, and those for which they count."""

    name: TimeName
    values: F64
    known: Bools


@dataclass(frozen=True)
class Asked:
    """The figure that a target is about; of one that must hold in every hour, that of the worst ``hour`` (0: the first).

    None of accuracy and cost: they are corrected as plans are made, and stand elsewhere.

    Attributes:
        late: of a percentile, share of the requests that are later than the ``bound`` asked for: how sure it is that these are few
            enough can be told from fewer of them than it takes to say how late the last are.
    """

    figure: Estimate | None
    hour: int | None = None
    late: Estimate | None = None
    bound: float | None = None


class Pooled(Means):
    """Requests of all runs side by side.

    Args:
        expected: per problem, what is expected under the arm that it is sent to, as :func:`ttc_sim.simulation.summary.summarize`
            takes it: means are then over all problems, and the runs only say what the queue changes.
    """

    def __init__(self, model: Model, runs: Sequence[Run], expected: Mapping[str, F64] | None = None) -> None:
        super().__init__(model, runs, expected)
        self.latency, self.ttft, self.tpot = (self._joined(name) for name in ("latency_s", "ttft_s", "tpot_s"))
        self.thinking_cost, self.idle_cost = self._joined("thinking_cost_usd"), self._joined("idle_cost_usd")
        self.open_ended: dict[str, tuple[str, ...]] = {}
        self.most_s = _most_seconds(model)

    def rate(self, *what: int) -> Estimate:
        """Share of the requests that ended in one of these ways."""
        return self.share(among(self.status, what), self.all.requests, lambda other: among(other.status, what))

    def cut_off_rate(self) -> Estimate | None:
        """Share of the requests whose answer a cap or a context ended; ``None`` where problems say what such an answer is worth."""
        if self.cut_off is None:
            return None
        capped = any(
            self.model.arms[a].strategy.attempt_cap is not None for a in np.flatnonzero(np.bincount(self.arm)).tolist()
        )
        may_be = capped or bool(self.cut_off.any())
        return self._cut_off_share(self.cut_off, self.all.requests) if may_be else Estimate(0.0, 0.0, 0.0)

    @cached_property
    def cut_off(self) -> Bools | None:
        """(n,) whether a cap ended the answer; ``None`` with problems."""
        cut = self._joined("cut_off")
        return None if np.isnan(cut).any() else cut > 0

    def _cut_off_share(self, cut: Bools, members: Bools) -> Estimate:
        # Without problems no load is tried but the one that came.
        return self.share(cut, members, lambda other: cut[: len(self.runs[0].arm)][other.request])

    def share(self, happened: Bools, members: Bools, after: Callable[[OtherLoad], Bools]) -> Estimate:
        """Share of some requests to which something happened; ``after``: the same with another load."""
        values = happened[members].astype(np.float64)
        if not len(values):
            return UNKNOWN
        value, variance = float(values.mean()), self.of_shares(values, members)
        if variance.value > 0:
            # A few that happen to be as many in each run vary at least like independent ones.
            variance = Variance(max(variance.value, value * (1 - value) / len(values)), variance.df)
        here = members[: len(self.runs[0].arm)]
        first = float(happened[: len(here)][here].mean()) if here.any() else value

        def other_share(other: OtherLoad) -> float:
            kept = here[other.request]
            return float(after(other)[kept].mean()) if kept.any() else first

        swing = self.swing(values, members, variance, first, other_share)
        return intervals.swung(intervals.share(value, variance, self.units(members)), swing, most=1.0)

    def units(self, keep: Bools) -> float:
        """Independent things behind a share of some requests that cannot be seen to vary."""
        if self.replay:
            return np.inf
        if self.session is not None and self.row is None:
            return float(distinct(self.session[keep]))
        return float(keep.sum()) if self.row is None else float(np.count_nonzero(np.bincount(self.row[keep])))

    def quantiles(self, times: Times, members: Bools, wanted: Sequence[float]) -> list[tuple[Estimate, bool]]:
        """Quantiles of some requests' seconds, and whether so few problems or requests leave an end open, at what is possible."""
        keep = members & times.known
        units, out = self.units(keep), []
        for part in wanted:
            ordered, tail, variance, _ = self.beyond(times, keep, part)
            swing = self._swing(times, members, tail, variance, partial(quantile, part=part))
            found = intervals.swung(intervals.quantile(ordered, part, variance, units), swing, most=self.most_s)
            ended = intervals.open_ended(found, part, variance, units, most=self.most_s)
            out.append((ended, ended != found))
        return out

    def beyond(self, times: Times, keep: Bools, part: float) -> tuple[F64, F64, Variance, Influence]:
        """Seconds kept in order, whether each is longer than a quantile of them, the variance of the share that is, and what each
        adds to its deviation."""
        if not np.array_equal(keep, times.known):
            return self._beyond(times.values[keep], keep, part, np.sort(times.values[keep]))
        kept, ordered = times.values[keep], self.in_order(times)
        return self.once((times.name, part), lambda: self._beyond(kept, keep, part, ordered))

    def in_order(self, times: Times) -> F64:
        """All seconds that are known."""
        return self.once(times.name, lambda: np.sort(times.values[times.known]))

    def _beyond(self, kept: F64, keep: Bools, part: float, ordered: F64) -> tuple[F64, F64, Variance, Influence]:
        return ordered, *self._tail(kept, keep, intervals.at_share(ordered, part))

    def _tail(self, kept: F64, keep: Bools, at: float) -> tuple[F64, Variance, Influence]:
        """Whether each of the seconds kept is longer than that, the variance of the share that is, and what each adds to it."""
        # The two differ where many take equally long, as those that time out do.
        tails = [(kept > at).astype(np.float64), (kept >= at).astype(np.float64)]
        influences = [self.influence(tail, keep) for tail in tails]
        variances = [self.of_share(tail, influence) for tail, influence in zip(tails, influences, strict=True)]
        surest = variances[0].half < variances[1].half
        return tails[surest], variances[surest], influences[surest]

    def _swing(
        self, times: Times, members: Bools, values: F64, rest: Variance, figure: Callable[[F64], float]
    ) -> Swing:
        """What the load does to a figure of some requests' seconds."""
        with_loads = self.with_loads(times, members, figure)
        return STILL if with_loads is None else self.swing(values, members & times.known, rest, *with_loads)

    def with_loads(
        self, times: Times, members: Bools, figure: Callable[[F64], float]
    ) -> tuple[float, Callable[[OtherLoad], float]] | None:
        """A figure of some requests' seconds in the first run, and with another load; ``None`` where no other is tried."""
        here = members[: len(self.runs[0].arm)]
        seconds = times.values[: len(here)][here & times.known[: len(here)]]
        if not self.other_loads or not len(seconds):
            return None
        before = figure(seconds)

        def after(other: OtherLoad) -> float:
            values = {"latency": other.latency_s, "ttft": other.ttft_s, "tpot": other.tpot_s}[times.name]
            known = ~among(other.status, UNTIMED) if times.name == "latency" else ~np.isnan(values)
            seconds = values[here[other.request] & known]
            return figure(seconds) if len(seconds) else before

        return before, after

    def times(self, name: TimeName) -> dict[str, Estimate]:
        """Mean and quantiles of the requests' seconds, of those for which they count; NaN where there are none."""
        times, everyone = self.of_name(name), self.all.requests
        if not times.known.any():
            return {"mean": UNKNOWN, **dict.fromkeys(QUANTILES, UNKNOWN)}
        kept = times.values[times.known]
        value = float(kept.mean())
        variance, _ = self.of_requests(kept, times.known, value, same=False)
        swing = self._swing(times, everyone, kept, variance, lambda seconds: float(seconds.mean()))
        found = self.quantiles(times, everyone, list(QUANTILES.values()))
        mean = intervals.swung(intervals.mean(value, variance, self.most_s), swing, most=self.most_s)
        self.open_ended[name] = tuple(key for key, (_, is_open) in zip(QUANTILES, found, strict=True) if is_open)
        return {"mean": mean, **{key: figure for key, (figure, _) in zip(QUANTILES, found, strict=True)}}

    def of_name(self, name: TimeName) -> Times:
        """Seconds of that name, of requests that were not rejected and did not fail, or that have them."""
        if name == "latency":
            return Times(name, self.latency, ~among(self.status, UNTIMED))
        values = self.ttft if name == "ttft" else self.tpot
        return Times(name, values, ~np.isnan(values))

    # ------------------------------------------------------------------------------------------------- objectives

    @cached_property
    def good(self) -> Bools | None:
        """(n,) whether each request was answered and met all of its service-level objectives; ``None`` where one has none."""
        return self._meets(self.status, self.source, self.ttft, self.tpot, self.latency)

    def _meets(self, status: NDArray[np.int8], source: I64, ttft_s: F64, tpot_s: F64, latency_s: F64) -> Bools | None:
        targets, names = self.model.scenario.targets, self.runs[0].requests.sources
        slos = [None if targets is None else targets.slo_of(name) for name in names]
        if targets is None or all(one is None for one in slos):
            return None
        met = status == COMPLETED
        for key, seconds in (("ttft_s", ttft_s), ("tpot_s", tpot_s), ("latency_s", latency_s)):
            asked = [None if one is None else getattr(one, key) for one in slos]
            most = np.array([np.inf if bound is None else bound for bound in asked])
            met &= ~(seconds > most[source])  # an answer of one token has no time between tokens to be late with
        return np.asarray(met)

    def goodput(self, members: Bools) -> Estimate:
        """Share of some requests that were answered and met all of their service-level objectives at once."""
        assert self.good is not None
        return self.share(self.good, members, self.good_with)

    def good_with(self, other: OtherLoad) -> Bools:
        """(m,) as :attr:`good`, with another load."""
        met = self._meets(other.status, self.source[other.request], other.ttft_s, other.tpot_s, other.latency_s)
        assert met is not None
        return met

    def asked(self, target: Target) -> Asked:
        """The figure of a target on times or shares, with its interval; unknown where there are no such requests."""
        if target.key in ("accuracy", *USD):
            return Asked(None)
        sources = self.runs[0].requests.sources
        members = self.all.requests
        if target.source is not None:
            members = self.source == sources.index(target.source) if target.source in sources else ~members
        hour = None
        if target.every_hour:
            hour = self._worst_hour(target, members)
            if hour is None:
                return Asked(UNKNOWN)
            members = members & (self.hour == hour)
        return Asked(self._figure(target, members), hour, self._late(target, members), target.bound)

    def made_best(self, name: str) -> Asked:
        """A figure that plans are compared by, other than accuracy and cost, which stand elsewhere."""
        if name == "accuracy_per_usd":
            return Asked(self.accuracy_per_usd() or UNKNOWN)
        if name == "goodput" and self.good is None:
            return Asked(UNKNOWN)
        return Asked(self._figure(Target(name, name, np.inf), self.all.requests))

    def _late(self, target: Target, members: Bools) -> Estimate | None:
        """Share of some requests that are later than a percentile may be."""
        if target.percentile is None:
            return None
        name: TimeName = target.percentile[0]  # type: ignore[assignment]
        times = self.of_name(name)

        def after(other: OtherLoad) -> Bools:
            values = {"latency": other.latency_s, "ttft": other.ttft_s, "tpot": other.tpot_s}[name]
            return np.asarray(values > target.bound)

        return self.share(times.values > target.bound, members & times.known, after)

    def _figure(self, target: Target, members: Bools) -> Estimate:
        if target.percentile is not None:
            name, part = target.percentile
            times = self.of_name(name)  # type: ignore[arg-type]
            return self.quantiles(times, members, [part])[0][0] if (members & times.known).any() else UNKNOWN
        if target.key == "goodput":
            return self.goodput(members)
        if target.key == "cut_off_rate":
            return UNKNOWN if self.cut_off is None else self._cut_off_share(self.cut_off, members)
        what = ENDS[target.key]
        return self.share(among(self.status, what), members, lambda other: among(other.status, what))

    @cached_property
    def hour(self) -> I64:
        """(n,) hour of the run that each request arrived in, 0 first."""
        arrival_s = np.concatenate([run.result.arrival_s for run in self.runs])
        return np.asarray(arrival_s // HOUR_S, dtype=np.int64)

    def _worst_hour(self, target: Target, members: Bools) -> int | None:
        """The hour in which a figure is farthest from its bound, or over it; hours without such requests have none."""
        if target.percentile is not None:
            name, part = target.percentile
            times = self.of_name(name)  # type: ignore[arg-type]
            keep, values = members & times.known, times.values
        elif target.key == "goodput":
            assert self.good is not None
            keep, values, part = members, self.good.astype(np.float64), None
        elif target.key == "cut_off_rate":
            cut = np.zeros(len(members), dtype=np.bool_) if self.cut_off is None else self.cut_off
            keep, values, part = members, cut.astype(np.float64), None
        else:
            keep, values, part = members, among(self.status, ENDS[target.key]).astype(np.float64), None
        if not keep.any():
            return None
        hour, kept = self.hour[keep], values[keep]
        order = np.argsort(hour, kind="stable")
        hours, begins = np.unique(hour[order], return_index=True)
        parts = np.split(kept[order], begins[1:])
        figures = [float(one.mean()) if part is None else quantile(one, part) for one in parts]
        return int(hours[int(np.argmin(figures) if target.at_least else np.argmax(figures))])

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
        parts = self._parts(dict(enumerate(self.model.arm_names)), self.arm, of_row)
        scenario = self.model.scenario
        falls = any(arm.fallbacks for arm in scenario.arms.values())
        if not falls and (scenario.budget is None or not scenario.budget.arms):
            return parts
        answered, by = self.status == COMPLETED, self._joined("answered_by")
        fell = answered & (by != self.arm)
        found = {}
        for k, name in enumerate(self.model.arm_names):
            here, share = self.arm == k, float((answered & (by == k)).mean())
            one = parts.get(name) or (_NOBODY if share else None)
            if one is not None:
                found[name] = replace(
                    one, fallback_share=float(fell[here].mean()) if here.any() else 0.0, answered_share=share
                )
        return found

    def per_request(self, values: F64) -> Estimate:
        """Mean of a figure over all requests, with its interval."""
        value = float(values.mean())
        return intervals.mean(value, self.of_requests(values, self.all.requests, abs(value))[0])

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


def _most_seconds(model: Model) -> float:
    """From a request's arrival to its end, as far as timeouts limit it."""
    falls_back = any(arm.fallbacks for arm in model.scenario.arms.values())
    most = 0.0
    for item in model.deployments:
        lasts_s = np.inf if item.timeout_s is None else item.timeout_s
        # Where each attempt, or arm, has its own time, only a deadline is one of the request.
        if falls_back or (item.retry is not None and "timeout" in item.retry.reasons):
            lasts_s = np.inf
        most = max(most, lasts_s if item.deadline_s is None else min(lasts_s, item.deadline_s))
    return most


def quantile(seconds: F64, part: float) -> float:
    """The least of the seconds that at least such a part of them does not exceed."""
    place = intervals.place(len(seconds), part)
    return float(np.partition(seconds, place)[place])


def ratio(part: F64, whole: F64) -> float:
    """Share of the sum of the one in that of the other; 0 where there is nothing."""
    total = float(whole.sum())
    return float(part.sum()) / total if total > 0 else 0.0
