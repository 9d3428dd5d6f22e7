"""Means over the requests of all runs side by side, with their variances: accuracy, dollars, tokens.

Where something is expected of every problem, a mean is over all problems, and the runs only say what the queue changes
(:mod:`ttc_sim.simulation.counting`).
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base import intervals
from ttc_sim.base.draws import F64, I64
from ttc_sim.base.estimates import Estimate
from ttc_sim.base.intervals import Variance
from ttc_sim.base.small_numbers import distinct
from ttc_sim.base.times import DAY_S
from ttc_sim.engine.work import COMPLETED
from ttc_sim.policies.requests import DIFFICULTY, DIFFICULTY_BANDS
from ttc_sim.simulation.billing import Run
from ttc_sim.simulation.counting import Counting, Quantity, count
from ttc_sim.simulation.model import Model
from ttc_sim.simulation.other_load import OtherLoad
from ttc_sim.simulation.session_accuracy import Ended, accuracy_of_sessions
from ttc_sim.simulation.uncertainty import Bools, Influence, Uncertainty

_TOKENS = ("prompt", "reasoning", "visible")


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


class Means(Uncertainty):
    """Means of the requests of all runs.

    Args:
        expected: per problem, what is expected under the arm that it is sent to, as :func:`ttc_sim.simulation.summary.summarize`
            takes it.
    """

    def __init__(self, model: Model, runs: Sequence[Run], expected: Mapping[str, F64] | None = None) -> None:
        super().__init__(model, runs)
        self.expected = None
        if expected is not None and model.population is not None:
            self.expected = {"output": expected["reasoning"] + expected["visible"], **expected}
        self.timed = runs[0].draws.traffic.lasts_s is not None
        self.arm = self._joined("arm")
        self.status = np.concatenate([run.result.status for run in runs])
        self.correct, self.planned_correct = self._joined("answered_correctly"), self._joined("planned_correct")
        self.cost, self.planned_api_cost = self._joined("cost_usd"), self._joined("planned_api_cost_usd")
        names = ("prompt_tokens", "reasoning_tokens", "visible_tokens")
        self.tokens = np.stack([self._joined(name) for name in names]).astype(np.float64)
        self.planned_tokens = np.concatenate([run.planned_tokens for run in runs], axis=1).astype(np.float64)
        # Longer problems make a pool's bill no larger where it is paid for by arrivals alone.
        by_arrivals = np.repeat([not run.paid_by_work for run in runs], [len(run.arm) for run in runs])
        self.api_cost = self._joined("api_cost_usd")
        self.pool_cost = self.cost - self.api_cost
        self.fixed_cost = by_arrivals * self.pool_cost

    def _joined(self, name: str) -> NDArray[Any]:
        return np.concatenate([getattr(run, name) for run in self.runs])

    @cached_property
    def ended(self) -> Ended | None:
        """Sessions that were over within their runs; ``None`` where nothing is known of how any ends."""
        if self.model.instances is None or self.model.population is not None:
            return None
        return Ended(self.model, self.runs)

    @property
    def turn(self) -> I64:
        """(n,) number of the session that each request is a turn of, in its run; -1 of none."""
        sessions = [run.draws.traffic.session for run in self.runs]
        return np.concatenate([one for one in sessions if one is not None])

    @property
    def all(self) -> Members:
        """All requests."""
        population = self.model.population
        rows = None if population is None else np.ones(len(population), dtype=np.bool_)
        return Members(np.ones(self.count, dtype=np.bool_), rows)

    @cached_property
    def counting(self) -> dict[str, Counting | None]:
        """What counts in means, by what is expected of problems."""
        population = self.model.population
        if self.expected is None or population is None or self.row is None:
            return {}
        none = (np.zeros(self.count, dtype=np.int64), np.zeros(len(population), dtype=np.int64))
        by_arm = (self.arm, self.expected["arm"].astype(np.int64)) if "arm" in self.expected else none
        parts = [by_arm, (self.source, population.source)]
        band = self.band
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
        value, influence, scale = self.parts_of_mean(
            name, values, planned, members, beside=beside, fixed=fixed, share=share
        )
        of_chance = None if self.expected is None or members.rows is None or influence.by_chance.any() else 0.0
        return Figure(value, *self.variances(influence, scale, of_chance, share=share))

    def parts_of_mean(
        self,
        name: str,
        values: F64,
        planned: F64,
        members: Members,
        *,
        beside: F64 | None = None,
        fixed: F64 | None = None,
        share: bool = False,
    ) -> tuple[float, Influence, float]:
        """A mean, what requests and problems add to its deviation, and what a single one leaves uncertain; as :meth:`mean`."""
        whole = self.api_cost, self.pool_cost, self.fixed_cost
        known = values is self.correct or all(map(operator.is_, (values, beside, fixed), whole))
        rows = members.rows
        if known and members.requests.all() and (rows is None or rows.all()):
            return self.once(name, lambda: self._parts_of_mean(name, values, planned, members, beside, fixed, share))
        return self._parts_of_mean(name, values, planned, members, beside, fixed, share)

    def _parts_of_mean(
        self, name: str, values: F64, planned: F64, members: Members, beside: F64 | None, fixed: F64 | None, share: bool
    ) -> tuple[float, Influence, float]:
        here, counting = members.requests, self.counting.get(name)
        at = slice(None) if here.all() else np.flatnonzero(here)
        kept, off = values[at], planned[at]
        if counting is not None:
            kept, off = kept * counting.was[at], off * counting.planned[at]
        kept = kept if beside is None else kept + beside[at]
        changing = kept if fixed is None else kept - fixed[at]
        if self.expected is None or members.rows is None:
            value = float(kept.mean())
            return value, self.influence(kept, here, changing), _scale(value, share)
        population = self.model.population
        assert population is not None
        rows = np.flatnonzero(members.rows)
        part = float(population.weight[rows].sum())
        weight, source, each = population.weight[rows] / part, population.source[rows], self.expected[name][rows]
        each = each if counting is None else each * counting.expected[rows]
        change = (kept - off) / (self.count * part)
        value = float(weight @ each + change.sum())
        total = np.bincount(source, weights=weight)
        by_source = np.bincount(source, weights=weight * each) / np.maximum(total, 1e-300)
        changing = changing - off
        more = self.centred(changing, self.source[at]) / (self.count * part) if changing.any() else None
        # Of a duration as many come as happen to, and a pool's bill is shared by as many.
        about = change - change.mean() if self.timed and here.all() and len(change) > 1 else change
        influence = Influence(np.flatnonzero(here), about, more, rows, weight * (each - by_source[source]))
        return value, influence, _scale(value, share)

    def accuracy(self, members: Members) -> tuple[Estimate, Estimate] | None:
        """Share answered correctly, for new task types and for the same ones; ``None`` where that is unknown.

        Of sessions those whose last requests are among the members.
        """
        if (ended := self.ended) is not None:
            if (self.turn < 0)[members.requests].any():
                return None
            of_sessions = accuracy_of_sessions(ended, self.correct, members.requests)
            return None if of_sessions is None else (of_sessions, of_sessions)
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
        fitted = Variance(self.doubt(members) ** 2)
        printed, same = found.variance.plus(fitted), found.same_types.plus(fitted)
        here = members.requests
        swing = self.swing(self.correct[here], here, printed, self.lost(members, None), lambda o: self.lost(members, o))
        each = (
            intervals.share(value, printed, distinct(population.cluster[rows])),
            intervals.share(value, same, distinct(self.problem[0][rows])),
        )
        return intervals.swung(each[0], swing, most=1.0), intervals.swung(each[1], swing, most=1.0)

    def lost(self, members: Members, other: OtherLoad | None) -> float:
        """Accuracy that timeouts and rejections change, in the first run: as it was, or with another load."""
        n = len(self.runs[0].arm)
        request, status = (np.arange(n), self.status[:n]) if other is None else (other.request, other.status)
        here = members.requests[:n][request]
        if self.budget_ended and here.any():  # which changes who answers, too
            correct = self.correct[:n] if other is None else other.correct
            return float((correct - self.planned_correct[request])[here].mean())
        return -float((self.planned_correct[request] * (status != COMPLETED))[here].mean()) if here.any() else 0.0

    def doubt(self, members: Members) -> float:
        """Standard error of accuracy that comes of what is fitted to the attempts where fewer were made than are drawn."""
        if self.expected is None or members.rows is None:
            return 0.0
        population = self.model.population
        assert population is not None
        weight = population.weight[members.rows]
        return float(weight @ self.expected["correct_doubt"][members.rows] / weight.sum())

    def cost_usd(self, members: Members) -> Figure:
        """US dollars of a request: API calls and GPU pools."""
        beside, fixed = self.pool_cost, self.fixed_cost
        found = self.mean("api_cost_usd", self.api_cost, self.planned_api_cost, members, beside=beside, fixed=fixed)
        if not (self.timed and self.batched and members.requests.all()) or self.replay:
            return found
        # Batches of a run do not tell how many might have come to share the bill of its pools.
        own = Variance((float(fixed.mean()) ** 2) * self._dispersion / self.count)
        return Figure(found.value, found.variance.plus(own), found.same_types.plus(own))

    def parts_of_cost(self, members: Members) -> tuple[float, Influence, float]:
        """Of the same, as :meth:`parts_of_mean`."""
        whole = {"beside": self.pool_cost, "fixed": self.fixed_cost}
        return self.parts_of_mean("api_cost_usd", self.api_cost, self.planned_api_cost, members, **whole)

    def accuracy_per_usd(self) -> Estimate | None:
        """Right answers per US dollar, of all requests; ``None`` where accuracy is unknown, or nothing is paid.

        A ratio of two means deviates, relative to itself, by what each deviates relative to itself, the one less the other (the
        delta method): problems that are dear and solved more often than others leave it less uncertain than either.
        """
        everyone = self.all
        if np.isnan(self.correct).any() or self.row is None:
            return None
        right, of_right, _ = self.parts_of_mean("correct", self.correct, self.planned_correct, everyone, share=True)
        usd, of_usd, _ = self.parts_of_cost(everyone)
        if usd <= 0:
            return None
        if right <= 0:
            return Estimate(0.0, 0.0, 0.0)

        def less(one: F64 | None, other: F64 | None) -> F64 | None:
            if one is None and other is None:
                return None
            return (0.0 if one is None else one / right) - (0.0 if other is None else other / usd)  # type: ignore[return-value]

        by_chance = of_right.by_chance / right - of_usd.by_chance / usd
        relative = Influence(
            of_right.at,
            by_chance,
            less(of_right.of_problems, of_usd.of_problems),
            of_right.rows,
            of_right.expected / right - of_usd.expected / usd,
        )
        of_chance = None if self.expected is None or by_chance.any() else 0.0
        single = float(np.hypot(np.sqrt(max(1 / right - 1, 0.0)), 1.0))
        variance = self.variances(relative, single, of_chance, share=True)[0].plus(
            Variance((self.doubt(everyone) / right) ** 2)
        )
        ratio = right / usd
        printed = Variance(ratio**2 * variance.value, variance.df)
        values = self.correct / usd
        swing = self.swing(
            values,
            everyone.requests,
            printed,
            self.lost(everyone, None) / usd,
            lambda other: self.lost(everyone, other) / usd,
        )
        return intervals.swung(intervals.mean(ratio, printed), swing)

    @cached_property
    def _dispersion(self) -> float:
        """Variance of the number that come in a while over its mean, at least 1, by the gaps between them.

        Of sessions, by the gaps between their beginnings, and how many turns come with each (a compound process).
        """
        times, turns = self.runs[0].result.arrival_s, 1.0
        if self.session is not None:
            _, first, size = np.unique(self.session[: len(times)], return_index=True, return_counts=True)
            times, turns = times[first], float(size @ size) / len(times)
        gaps = np.diff(np.sort(times))
        return turns * max(float(gaps.var() / gaps.mean() ** 2), 1.0) if len(gaps) > 1 and gaps.mean() > 0 else turns

    def usd_per_day(self, rate_per_s: float) -> Estimate:
        """US dollars a day, of all requests: at a rate or, of pools that were paid for just as long as runs last, by that time."""
        lasts = [run.draws.traffic.lasts_s for run in self.runs]
        known = [run.paid_s == seconds for run, seconds in zip(self.runs, lasts, strict=True)]
        fixed = np.repeat(known, [len(run.arm) for run in self.runs]) * self.pool_cost
        beside = self.pool_cost - fixed
        found = self.mean("api_cost_usd", self.api_cost, self.planned_api_cost, self.all, beside=beside)
        rest = intervals.mean(found.value, found.variance).scaled(rate_per_s * DAY_S)
        return rest.shifted(float(fixed.sum()) / sum(run.paid_s for run in self.runs) * DAY_S) if fixed.any() else rest

    def tokens_of(self, members: Members) -> dict[str, Figure]:
        """Prompt, reasoning, visible and all output tokens of a request."""
        return {name: self.mean(name, *self.tokens_named(name), members) for name in (*_TOKENS, "output")}

    def tokens_named(self, name: str) -> tuple[F64, F64]:
        """(n,) ``prompt``, ``reasoning``, ``visible`` or ``output`` tokens of each request, and the same, had it run to its end."""
        if name == "output":
            return self.tokens[1] + self.tokens[2], self.planned_tokens[1] + self.planned_tokens[2]
        return self.tokens[_TOKENS.index(name)], self.planned_tokens[_TOKENS.index(name)]

    @cached_property
    def band(self) -> I64 | None:
        """(P,) number of the band of predicted difficulty that each problem lies in, where it is predicted."""
        population, edges = self.model.population, DIFFICULTY_BANDS
        if population is None or DIFFICULTY not in population.scores:
            return None
        return np.clip(np.digitize(population.scores[DIFFICULTY], edges[1:-1]), 0, len(edges) - 2).astype(np.int64)


def _scale(value: float, share: bool) -> float:
    return float(np.sqrt(max(value * (1 - value), 0.0))) if share else abs(value)
