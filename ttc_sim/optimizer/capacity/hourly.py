"""The cheapest schedule by hour of the day: each hour alone says where to begin, exact simulation of whole runs where to end.

How many replicas an hour needs is found by simulating the requests of that hour alone, with some that come before. Hours are not
alone: what one leaves undone the next has to do, and a target on the whole day lets some hours be worse than others. So the
schedule is then simulated whole, gains replicas where it misses, and loses them wherever the targets still hold.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.draws import F64, I64
from ttc_sim.base.errors import InputError
from ttc_sim.base.progress import Progress, Step, silent
from ttc_sim.optimizer.capacity.hardware import Choice, fewest_that_fail, with_autoscaling
from ttc_sim.optimizer.capacity.trying import Config, Ends, Ready, Trials, target_holds
from ttc_sim.scenario import Autoscaling, GpuPool, Scenario, ScheduleStep
from ttc_sim.simulation.model import Model
from ttc_sim.simulation.pooling import HOUR_S

HOURS = 24
_BEFORE_S = 1800.0  # that requests come before an hour begins, so that it finds the pool at work
_LOOKS = 16  # whole runs that are spent on making a schedule cheaper
_LONGEST_START_S = 1800.0


def schedule_of(counts: I64, start_s: float) -> Autoscaling:
    """Replicas by hour of the day as a schedule: more are started so early that they serve as their hour begins.

    Args:
        counts: (24,); start_s: that a replica takes to start, at most half an hour.
    """
    lead_s = math.ceil(start_s)
    steps = [ScheduleStep(at="00:00", replicas=int(counts[0]))]
    for hour, (before, now) in enumerate(pairwise(counts.tolist()), start=1):
        if now != before:
            steps.append(ScheduleStep(at=_clock(hour * 3600 - (lead_s if now > before else 0)), replicas=now))
    if counts[0] > counts[-1] and lead_s > 0:  # for the next day
        steps.append(ScheduleStep(at=_clock(HOURS * 3600 - lead_s), replicas=int(counts[0])))
    return Autoscaling(schedule=steps)


def _clock(at_s: int) -> str:
    minutes, seconds = divmod(at_s, 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}" + (f":{seconds:02d}" if seconds else "")


class Hourly:
    """Schedules of one pool by the hour of the day, the others being what they are.

    Args:
        trials: that simulate; fixed: what meets the targets with fixed numbers; pool: which of them is to have a schedule.
        within_s: when a run begins and ends to be paid for.
    """

    def __init__(
        self, scenario: Scenario, trials: Trials, fixed: Config, pool: int, within_s: tuple[float, float]
    ) -> None:
        self.scenario, self.trials, self.fixed, self.pool = scenario, trials, fixed, pool
        self.name = list(trials.pools)[pool]
        self.which, self.most = fixed[pool]
        self.seconds = _seconds_of(*within_s)
        self.configs: dict[tuple[int, ...], Config] = {}
        flat = with_autoscaling(scenario, self.name, self._base, Autoscaling(schedule=_flat(self.most)), self.most)
        assert flat.pool.start_up is not None
        self.start_s = float(flat.pool.start_up.takes_s or 0.0)

    @property
    def _base(self) -> Choice:
        return self.trials.pools[self.name][self.which]

    @property
    def has_room(self) -> bool:
        """Whether an hour is long enough for replicas to start."""
        return self.start_s <= _LONGEST_START_S

    def check(self, field: str) -> None:
        """Refuse a start-up that an hour has no room for.

        Raises:
            InputError: it takes more than half an hour.
        """
        if not self.has_room:
            expected = f"a start-up of at most {_LONGEST_START_S:g} s, or another rule than an hourly schedule"
            raise InputError(self.scenario.path, field, self.start_s, expected)

    def mean(self, counts: I64) -> float:
        """Replicas over the time that runs are paid for."""
        return float(counts @ self.seconds / self.seconds.sum())

    def config(self, counts: I64) -> Config:
        """With a schedule of so many replicas by hour."""
        key = tuple(counts.tolist())
        if key not in self.configs:
            choices = self.trials.pools[self.name]
            scaled = schedule_of(counts, self.start_s)
            failing = fewest_that_fail(self._base.pool)
            if failing > scaled.most:  # replicas that are said to fail have a place, whether or not they are ever there
                scaled = scaled.model_copy(update={"maximum": failing})
            choices.append(with_autoscaling(self.scenario, self.name, choices[self.which], scaled, key[0]))
            entry = len(choices) - 1, key[0]
            self.configs[key] = tuple(entry if at == self.pool else one for at, one in enumerate(self.fixed))
        return self.configs[key]

    # ------------------------------------------------------------------------------------------------------- hours alone

    def alone(self, least: int = 1) -> I64:
        """(24,) the fewest replicas with which each hour alone keeps the targets, at most the fixed number, which an hour has that
        no run comes to."""
        parts = self.trials.map(self._requests_of, range(HOURS))
        low, high = np.full(HOURS, min(least, self.most)), np.full(HOURS, self.most)
        low[self.seconds == 0] = self.most
        empty = np.array([not part for part in parts])
        high[empty & (self.seconds > 0)] = min(least, self.most)
        while (low < high).any():
            hours = np.flatnonzero(low < high)
            middle = (low + high) // 2
            held = self.trials.map(lambda h: self._holds_alone(parts[h], int(middle[h])), hours.tolist())  # noqa: B023
            for hour, holds in zip(hours, held, strict=True):
                low[hour], high[hour] = (low[hour], middle[hour]) if holds else (middle[hour] + 1, high[hour])
        return low.astype(np.int64)

    def _requests_of(self, hour: int) -> list[tuple[Ready, NDArray[np.bool_]]]:
        """Of each run the requests of an hour and of some time before, and which of these are the hour's."""
        found = []
        for run, ready in enumerate(self.trials.ready):
            arrival_s = ready.draws.traffic.arrival_s
            since_s = (arrival_s - hour * HOUR_S + _BEFORE_S) % (HOURS * HOUR_S)
            at = np.flatnonzero(since_s < HOUR_S + _BEFORE_S)
            inside = since_s[at] >= _BEFORE_S
            if inside.any():
                found.append((self.trials.some(run, at), inside))
        return found

    def _holds_alone(self, parts: list[tuple[Ready, NDArray[np.bool_]]], count: int) -> bool:
        entry = self.which, count
        model = self.trials.at(tuple(entry if at == self.pool else one for at, one in enumerate(self.fixed)))
        model = _without_failures_beyond(model, self.name, count)
        return _holds(self.trials, [self.trials.ends_of(model, ready).of(inside) for ready, inside in parts])

    # -------------------------------------------------------------------------------------------------------- whole days

    def cheapest(self, least: int, most: int, say: Progress = silent) -> I64 | None:
        """(24,) replicas by hour with which the targets hold and none can be left out; ``None`` if none are found.

        Args:
            least, most: replicas of an hour.
        """
        most = min(most, self.most)
        if least > most:
            return None
        counts = np.clip(self.alone(least), least, most)
        say(Step("autoscaling", detail=f"{self.name}: hours alone need {self.mean(counts):.1f} replicas in the mean"))
        while True:
            held, missed = self._look(counts)
            if held:
                break
            more = missed & (counts < most)
            if not more.any():
                more = counts < most
            if not more.any():
                return None
            counts = np.where(more, counts + 1, counts)
        return self._fewer(counts, least)

    def _fewer(self, counts: I64, least: int) -> I64:
        """Take replicas away wherever the targets still hold: from all hours at once, and then from ever fewer of them."""
        waiting, looks = [np.flatnonzero(self.seconds > 0)], 0
        while waiting and looks < _LOOKS:
            group = waiting.pop()
            group = group[counts[group] > least]
            if not len(group):
                continue
            fewer = counts.copy()
            fewer[group] -= 1
            looks += 1
            held, missed = self._look(fewer)
            if held:
                counts = fewer
                waiting.append(group)
            elif len(group) > 1:
                worse = group[missed[group]]
                if len(worse) in (0, len(group)):
                    worse = group[: len(group) // 2]
                waiting += [worse, np.setdiff1d(group, worse)]
        return counts

    def _look(self, counts: I64) -> tuple[bool, NDArray[np.bool_]]:
        """Whether the targets hold with a schedule, and (24,) the hours that alone would miss them."""
        trials, config = self.trials, self.config(counts)
        ends = trials.map(lambda run: trials.ends(config, run), range(len(trials.ready)))
        held = trials.judge(config, ends)
        hours = [_by_hour(one.arrival_s) for one in ends]
        missed = [
            not _holds(trials, [one.of(at[h]) for one, at in zip(ends, hours, strict=True)]) for h in range(HOURS)
        ]
        return held, np.array(missed)


def _holds(trials: Trials, ends: list[Ends]) -> bool:
    """Whether all targets hold of some requests alone; those hold that are about none of them."""
    values = [(one, trials.value(one, ends)) for one in trials.asked]
    return all(math.isnan(value) or target_holds(one, value) for one, value in values)


def _without_failures_beyond(model: Model, name: str, count: int) -> Model:
    """The model without failures of replicas of a pool that are not there."""
    pool = model.scenario.deployments[name]
    if not isinstance(pool, GpuPool) or fewest_that_fail(pool) <= count or pool.failures is None:
        return model
    left = [one for one in pool.failures.at or [] if one.replica < count]
    pool = pool.model_copy(update={"failures": pool.failures.model_copy(update={"at": left})})
    deployments = {**model.scenario.deployments, name: pool}
    return replace(model, scenario=model.scenario.model_copy(update={"deployments": deployments}))


def _by_hour(arrival_s: F64) -> list[I64]:
    """Which requests arrive in each hour of the day."""
    hour = np.asarray(arrival_s // HOUR_S % HOURS, dtype=np.int8)
    order = np.argsort(hour, kind="stable")
    return np.split(order, np.searchsorted(hour[order], np.arange(1, HOURS)))


def _flat(count: int) -> list[ScheduleStep]:
    return [ScheduleStep(at="00:00", replicas=count)]


def _seconds_of(from_s: float, to_s: float) -> F64:
    """(24,) of each hour of the day between two moments."""
    edges = np.unique([from_s, to_s, *np.arange(math.floor(from_s / HOUR_S) + 1, math.ceil(to_s / HOUR_S)) * HOUR_S])
    hours = np.asarray(edges[:-1] // HOUR_S % HOURS, dtype=np.int64)
    return np.bincount(hours, np.diff(edges), HOURS).astype(np.float64)
