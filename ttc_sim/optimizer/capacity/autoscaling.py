"""Autoscaling beside the cheapest fixed numbers: which rule, with which parameters, meets the targets for fewer dollars a day.

Formulas first: from one recorded run of the fixed fleet follows how many replicas a rule wants at least, and so its price at least.
By that candidates are put in order, and those that cannot be cheaper than what is known to hold are not simulated. What is left is
simulated on the same requests as everything else; what holds there is verified on fresh runs, beside the fixed fleet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ttc_sim.base.draws import F64, I64
from ttc_sim.base.errors import InputError
from ttc_sim.base.progress import Progress, Step, silent
from ttc_sim.engine.work import QUEUED, RUNNING
from ttc_sim.optimizer.capacity.hardware import Refused, with_autoscaling
from ttc_sim.optimizer.capacity.hourly import Hourly
from ttc_sim.optimizer.capacity.rules import count_after, has_more, rules_of, words_of
from ttc_sim.optimizer.capacity.saving import Candidate, PerfectSchedule
from ttc_sim.optimizer.capacity.trying import Config, Trials
from ttc_sim.scenario import Autoscaling, Scenario
from ttc_sim.scenario.autoscaling_search import AutoscalingRule
from ttc_sim.simulation.billing import Run

_RECORDED_S = 300.0
_SECOND_THOUGHTS = 8  # candidates that fresh runs may refute before the fixed number is taken
_ALIKE = 1e-9


@dataclass
class _Waiting:
    """A candidate, with what is known of it: at least so many dollars a day, all pools together; and the schedule's hours, if the
    planner made one."""

    pool: str
    config: Config
    scaled: Autoscaling
    least_usd: float
    hours: tuple[int, ...] | None = None
    looked: bool = False
    holds: bool = False


@dataclass
class Found:
    """What was found of one pool or more.

    Attributes:
        config: the cheapest that holds, fixed or not; candidates: all that there are; perfect: by pool.
        refused: what cannot be tried.
    """

    config: Config
    candidates: list[Candidate] = field(default_factory=list)
    perfect: dict[str, PerfectSchedule] = field(default_factory=dict)
    refused: list[Refused] = field(default_factory=list)


class Autoscalers:
    """Goes through the rules of each pool in turn, the others being what was found best for them so far.

    Args:
        trials: of the search; fixed: the cheapest fixed numbers that hold.
        verified: whether fresh runs do not refute a choice that holds, and it is cheaper there too.
    """

    def __init__(
        self,
        scenario: Scenario,
        trials: Trials,
        fixed: Config,
        verified: Callable[[Config], bool],
        say: Progress = silent,
    ) -> None:
        self.scenario, self.trials, self.fixed, self.verified, self.say = scenario, trials, fixed, verified, say

    def run(self) -> Found:
        """What is best for each pool."""
        found = Found(self.fixed)
        recorded = self._recorded()
        for pool, name in enumerate(self.trials.pools):
            if rules_of(self.scenario, name):
                self._of_pool(pool, name, found, recorded)
        return found

    def _recorded(self) -> Run:
        trials = self.trials
        trials.engine_runs += 1
        return trials.run(trials.at(self.fixed), trials.ready[0], _RECORDED_S)

    # ---------------------------------------------------------------------------------------------------------- one pool

    def _of_pool(self, pool: int, name: str, found: Found, recorded: Run) -> None:
        hourly, schedule = self._hourly(pool, name, found, recorded)
        # A rule finds as many replicas as the first hour needs.
        start = self.fixed[pool][1] if schedule is None else schedule[int(recorded.paid_from_s // 3600) % 24]
        waiting = self._candidates(pool, name, found.config, start, recorded, found.refused)
        if hourly is not None and schedule is not None:
            waiting += self._of_schedules(name, found, hourly, np.array(schedule))
        best = None
        for _ in range(_SECOND_THOUGHTS):
            best = self._cheapest(waiting, found.config)
            if best is None or self.verified(best.config):
                break
            best.holds = False
            if best.hours is not None and hourly is not None:
                self.say(Step("autoscaling", detail=f"{name}: fresh runs refute the hourly schedule; one replica more"))
                more = np.minimum(np.array(best.hours) + 1, hourly.most)
                if tuple(more.tolist()) != best.hours:
                    waiting.append(self._scheduled(name, found.config, hourly, more))
            best = None
        found.candidates += [self._told(one) for one in waiting]
        found.config = found.config if best is None else best.config

    def _hourly(
        self, pool: int, name: str, found: Found, recorded: Run
    ) -> tuple[Hourly | None, tuple[int, ...] | None]:
        """The perfect schedule, where arrivals are known beforehand."""
        wanted = [one for one in rules_of(self.scenario, name) if isinstance(one, AutoscalingRule) and one.is_hourly]
        works = self.trials.works()
        field_name = f"search.pools.{name}.autoscaling.schedule"
        if works is None or any(one.after is not None for one in works):
            if wanted:
                expected = "another rule: by the hour a schedule is made where arrivals are known beforehand, and not of users who "
                expected += "wait for answers, sessions, or policies that look at live load"
                raise InputError(self.scenario.path, field_name, "hourly", expected)
            return None, None
        within_s = recorded.paid_from_s, recorded.paid_from_s + recorded.paid_s
        hourly = Hourly(self.scenario, self.trials, found.config, pool, within_s)
        if wanted:
            hourly.check(field_name)
        elif not hourly.has_room:
            return None, None
        self.say(Step("autoscaling", detail=f"{name}: the hours' schedule"))
        counts = hourly.cheapest(1, hourly.most, self.say)
        if counts is None:
            return hourly, None
        saved = (hourly.most - hourly.mean(counts)) * self.trials.pools[name][hourly.which].usd_per_day
        found.perfect[name] = PerfectSchedule(tuple(counts.tolist()), hourly.most, hourly.mean(counts), saved)
        return hourly, tuple(counts.tolist())

    # -------------------------------------------------------------------------------------------------------- candidates

    def _candidates(
        self, pool: int, name: str, config: Config, start: int, recorded: Run, refused: list[Refused]
    ) -> list[_Waiting]:
        budgeted = self._most_within_budget(config, pool)
        base = self.trials.pools[name][self.fixed[pool][0]]
        choices, found = self.trials.pools[name], []
        for rule in rules_of(self.scenario, name):
            for scaled in rule.combinations() if isinstance(rule, AutoscalingRule) else [rule]:
                if budgeted is not None and scaled.most > budgeted:
                    reason = f"at most {budgeted} replicas: there are no more GPUs of its kind"
                    refused.append(Refused(name, words_of(scaled), reason))
                    continue
                own = self.scenario.deployments[name].replicas if rule is scaled else start  # type: ignore[union-attr]
                first = count_after(scaled, own)
                choices.append(with_autoscaling(self.scenario, name, base, scaled, first))
                changed = _changed(config, pool, (len(choices) - 1, first))
                least = self._least(scaled, recorded, name, base.pool.max_num_seqs)
                usd = self._others_usd(config, pool) + least * base.usd_per_day
                found.append(_Waiting(name, changed, scaled, usd))
        return found

    def _of_schedules(self, name: str, found: Found, hourly: Hourly, counts: I64) -> list[_Waiting]:
        made_of = []
        for rule in rules_of(self.scenario, name):
            if not isinstance(rule, AutoscalingRule) or not rule.is_hourly:
                continue
            low, high = rule.hourly_bounds
            made = counts
            if high is not None and high < counts.max():
                reason = f"a maximum of {counts.max()} or more: an hour needs as many"
                found.refused.append(Refused(name, f"an hourly schedule up to {high} replicas", reason))
                continue
            if low > counts.min():
                made = np.maximum(counts, low)
            made_of.append(self._scheduled(name, found.config, hourly, made))
        return made_of

    def _scheduled(self, name: str, config: Config, hourly: Hourly, counts: I64) -> _Waiting:
        made = hourly.config(counts)
        scaled = self.trials.pools[name][made[hourly.pool][0]].autoscaling
        assert scaled is not None
        usd = self._others_usd(config, hourly.pool)
        usd += hourly.mean(counts) * self.trials.pools[name][hourly.which].usd_per_day
        return _Waiting(name, made, scaled, usd, tuple(counts.tolist()))

    def _least(self, scaled: Autoscaling, recorded: Run, name: str, places: int) -> float:
        """Replicas in the mean that a rule wants at least, by what the fixed fleet has had to do.

        Fewer replicas take longer for each request, so no fewer requests are there at a time than in the fixed fleet.
        """
        if scaled.schedule is not None:
            return scaled.mean_replicas if recorded.paid_s >= 86_400 else float(scaled.least)
        line, d = recorded.timeline, self.trials.model.deployment_names.index(name)
        rule = scaled.rule
        if line is None or rule == "target_ttft_s" or scaled.scale_up is not None:
            return float(scaled.least)
        lasts_s = line.lasts_s[: len(line.levels_s)]
        levels = line.levels_s[:, d] / np.maximum(lasts_s, 1e-9)[:, None]
        seen: F64 = levels[:, RUNNING] + levels[:, QUEUED]
        if rule == "target_utilisation":
            seen = levels[:, RUNNING] / places
        elif rule == "target_queue":
            seen = levels[:, QUEUED]
        tolerated = 1 + (0.1 if scaled.tolerance is None else scaled.tolerance)
        wanted = np.clip(seen / scaled.target / tolerated, scaled.least, scaled.most)
        return float(wanted @ lasts_s / lasts_s.sum())

    def _others_usd(self, config: Config, pool: int) -> float:
        """Dollars a day of the other pools."""
        choices = self.trials.pools
        k, count = config[pool]
        return self.trials.usd_per_day(config) - list(choices.values())[pool][k].usd_per_day * count

    def _most_within_budget(self, config: Config, pool: int) -> int | None:
        """Replicas of a pool that there are GPUs for beside the others' most."""
        choices = list(self.trials.pools.values())
        one = choices[pool][config[pool][0]]
        if one.gpu is None or one.gpu not in self.scenario.search.gpus:
            return None
        left = self.scenario.search.gpus[one.gpu]
        for at, (k, _) in enumerate(config):
            other = choices[at][k]
            if at != pool and other.gpu == one.gpu:
                most = other.pool.most_replicas if other.autoscaling is not None else config[at][1]
                left -= most * other.gpus
        return left // one.gpus

    # ------------------------------------------------------------------------------------------------------------ search

    def _cheapest(self, waiting: list[_Waiting], config: Config) -> _Waiting | None:
        """The cheapest candidate that holds, if it is cheaper than what is known; the first of those that cost as much."""
        while True:
            holding = [one for one in waiting if one.holds and self._usd(one) < self._limit(config)]
            best = min(holding, key=self._usd, default=None)
            most = self._limit(config) if best is None else self._usd(best) * (1 - _ALIKE)
            left = [one for one in waiting if not one.looked and one.least_usd < most and not _settled(one, waiting)]
            if not left:
                return best
            left.sort(key=lambda one: one.least_usd)
            # Schedules first, which are known to hold. Then from all over the order of prices: what holds rules out those that have
            # more, what does not those that have fewer.
            made = [one for one in left if one.hours is not None]
            batch = made[:1] or [left[k] for k in sorted({len(left) // 4, len(left) // 2})]
            for one, held in zip(batch, self.trials.look([one.config for one in batch]), strict=True):
                one.looked, one.holds = True, held
                told = f"meets the targets for ${self._usd(one):,.0f} a day" if held else "misses the targets"
                self.say(Step("autoscaling", detail=f"{one.pool} by {words_of(one.scaled)}: {told}"))

    def _usd(self, one: _Waiting) -> float:
        return self.trials.usd_per_day(one.config)

    def _limit(self, config: Config) -> float:
        return self.trials.usd_per_day(config) * (1 - _ALIKE)

    def _told(self, one: _Waiting) -> Candidate:
        meets = self.trials.known[one.config] if one.looked else None
        usd = self._usd(one) if meets else None
        return Candidate(
            one.pool, one.scaled, one.config[list(self.trials.pools).index(one.pool)][1], one.least_usd, usd, meets
        )


def _changed(config: Config, pool: int, entry: tuple[int, int]) -> Config:
    return tuple(entry if at == pool else one for at, one in enumerate(config))


def _settled(one: _Waiting, others: list[_Waiting]) -> bool:
    """Whether another candidate says enough: one that has more and misses, or one that has fewer and holds."""
    if one.hours is not None:
        return False
    known = [other for other in others if other.looked and other.hours is None]
    return any(
        (not other.holds and has_more(other.scaled, one.scaled)) or (other.holds and has_more(one.scaled, other.scaled))
        for other in known
    )
