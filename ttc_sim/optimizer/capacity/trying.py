"""One choice of hardware and replicas, simulated: whether the targets hold, and by how much they are missed.

What is random, and what the policy makes of it, is the same for every choice: it is drawn and carried once, and a choice costs the
engine's time. The runs are those of :func:`ttc_sim.simulate`, or fresh ones, by their purpose; figures are those of its summary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.draws import F64, I64
from ttc_sim.base.intervals import place
from ttc_sim.engine import compiled
from ttc_sim.engine.work import EngineResult, Work
from ttc_sim.optimizer.capacity.hardware import Choice
from ttc_sim.optimizer.dropping import LIMITS_OF_MEMORY, may_drop
from ttc_sim.policies import Policy, Requests, rule_of
from ttc_sim.scenario import Target, Targets
from ttc_sim.scenario.targets import USD
from ttc_sim.simulation.billing import Run, bill_run
from ttc_sim.simulation.drawing import Draws, as_requests, draw
from ttc_sim.simulation.ending import as_sent
from ttc_sim.simulation.model import Model
from ttc_sim.simulation.offering import Offers, offer, offer_all, run_offers
from ttc_sim.simulation.pooling import ENDS, HOUR_S, UNTIMED
from ttc_sim.simulation.result import Result
from ttc_sim.simulation.running import deployments_ready, run_once
from ttc_sim.simulation.token_times import times_of_works
from ttc_sim.simulation.turn_lengths import chosen

Config = tuple[tuple[int, int], ...]
"""Of each pool that is searched: which choice, and how many replicas."""
BY_REQUEST = ("accuracy", "cut_off_rate", *USD)
"""Targets that need a whole summary; of all others requests' times and ends say whether they hold."""
A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True)
class Ready:
    """What a run needs that no choice of hardware changes; no arms and work where arms are chosen by live load, or requests
    by what users wait for."""

    draws: Draws
    requests: Requests
    arm: I64 | None
    offers: Offers | None


@dataclass(frozen=True)
class Ends:
    """How each request of one run ended: arrays of (n,)."""

    status: NDArray[np.int8]
    arrival_s: F64
    ttft_s: F64
    tpot_s: F64
    latency_s: F64
    source: I64

    def of(self, members: NDArray[np.bool_] | I64) -> Ends:
        """Those of some requests."""
        return Ends(*(getattr(self, one.name)[members] for one in fields(self)))


class Trials:
    """Simulates choices on the same requests.

    Args:
        model: of the scenario; policy: that requests are sent by.
        pools: that are searched, by name, with what each may run on.
        purpose: of the draws; runs: how many.
        workers: threads; what comes out is the same whatever their number.
    """

    def __init__(
        self,
        model: Model,
        policy: Policy,
        pools: Mapping[str, list[Choice]],
        purpose: str,
        runs: int,
        workers: int,
        requests: int | None = None,
    ) -> None:
        self.model, self.policy, self.pools, self.workers = model, policy, pools, workers
        self.targets = Targets() if model.scenario.targets is None else model.scenario.targets
        self.asked = [one for one in self.targets.asked() if one.key not in BY_REQUEST]
        self.known: dict[Config, bool] = {}
        self.provided: dict[Config, dict[str, float]] = {}
        self.engine_runs = 0
        # A policy that a Python function decides is run by the reference engine, one run after another.
        self.side_by_side = not policy.looks_at_load
        compiled.warm_up()
        self.ready = self.map(lambda k: self._get_ready(k, purpose, requests), range(runs))

    def map(self, work: Callable[[A], B], items: Sequence[A]) -> list[B]:
        """Side by side, as far as there are workers; in the order of the items."""
        if self.workers == 1 or len(items) < 2 or not self.side_by_side:
            return [work(one) for one in items]
        pool = ThreadPoolExecutor(min(self.workers, len(items)))
        try:
            return list(pool.map(work, items))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _get_ready(self, run: int, purpose: str, requests: int | None) -> Ready:
        draws = as_sent(self.model, self.policy, draw(self.model, run, purpose=purpose, requests=requests))
        if self.policy.looks_at_load or draws.cut_by_run:
            return Ready(draws, as_requests(self.model, draws), None, None)
        draws, seen, arm = chosen(self.model, self.policy, draws)
        return Ready(draws, seen, arm, offer(self.model, draws, arm))

    # ---------------------------------------------------------------------------------------------------- a choice

    def some(self, run: int, at: I64) -> Ready:
        """Some of a run's requests, in order, with the same draws; arms must not depend on live load."""
        ready = self.ready[run]
        assert ready.arm is not None
        draws, arm = ready.draws.taken(at), ready.arm[at]
        return Ready(draws, as_requests(self.model, draws), arm, offer(self.model, draws, arm))

    def at(self, config: Config) -> Model:
        """The model with these choices."""
        pools, tables = dict(self.model.scenario.deployments), list(self.model.step_tables)
        for (name, choices), (which, count) in zip(self.pools.items(), config, strict=True):
            pools[name] = choices[which].pool.model_copy(update={"replicas": count})
            tables[self.model.deployment_names.index(name)] = choices[which].table
        scenario = self.model.scenario.model_copy(update={"deployments": pools})
        return replace(self.model, scenario=scenario, step_tables=tuple(tables))

    def used(self) -> list[str]:
        """Names of the deployments that a request may be sent to."""
        names = self.model.deployment_names
        found: set[int] = set()
        for one in self.ready:
            rule = rule_of(self.policy, one.requests, self.model.arm_names)
            if one.offers is not None:
                works = one.offers.works
            elif rule is None and not self.policy.looks_at_load:
                works = offer(self.model, *chosen(self.model, self.policy, one.draws)[::2]).works
            elif rule is None:
                works = offer_all(self.model, one.draws).works
            else:
                arms = [np.full(len(one.draws), arm, dtype=np.int64) for arm in np.unique(rule.arms).tolist()]
                works = [work for arm in arms for work in offer(self.model, one.draws, arm).works]
            found |= {d for work in works for d in np.unique(work.deployment).tolist()}
        return [names[d] for d in sorted(found)]

    def works(self) -> list[Work] | None:
        """The runs' work; ``None`` where it depends on live load, on what users wait for, on what falls back, or on a
        budget."""
        offers = [one.offers for one in self.ready]
        known = [one.works[0] for one in offers if one is not None and one.following is None and one.budgets is None]
        return known if len(known) == len(offers) else None

    def _engine(self, model: Model, ready: Ready, interval_s: float | None = None) -> EngineResult:
        assert ready.offers is not None
        offers = ready.offers
        return run_offers(model, ready.draws, offers.works, offers.following, offers.budgets, interval_s=interval_s)

    def run(self, model: Model, ready: Ready, interval_s: float | None = None) -> Run:
        """Some requests on a model, with their bill."""
        if ready.offers is None or ready.arm is None:
            return run_once(model, self.policy, ready.draws, interval_s)
        offers, result = ready.offers, self._engine(model, ready, interval_s)
        able = deployments_ready(self.policy, None, ready.requests, model.arm_names, offers)
        return bill_run(model, ready.draws, ready.requests, ready.arm, offers, result, able, interval_s)

    def ends(self, config: Config, run: int) -> Ends:
        """How the requests of a run end on these choices."""
        return self.ends_of(self.at(config), self.ready[run])

    def ends_of(self, model: Model, ready: Ready) -> Ends:
        """How some requests end on a model."""
        self.engine_runs += 1
        source = ready.requests.source
        if ready.offers is None:
            whole = self.run(model, ready)
            # Of users some requests are not sent in time.
            result, times, source = whole.result, (whole.ttft_s, whole.tpot_s), whole.requests.source
        else:
            result = self._engine(model, ready)
            times = times_of_works(result, ready.offers.works, model.deployments)
        latency_s = result.finished_s - result.arrival_s
        return Ends(result.status, result.arrival_s, *times, latency_s, source)

    def usd_per_day(self, config: Config) -> float:
        """Price of the replicas; of pools that autoscale, of those that are provided in the mean of the runs."""
        usd = 0.0
        for (name, choices), (k, count) in zip(self.pools.items(), config, strict=True):
            provided = count if choices[k].autoscaling is None else self._provided(config).get(name, 0.0)
            usd += choices[k].usd_per_day * provided + choices[k].fixed_usd_per_day
        return usd

    def _provided(self, config: Config) -> Mapping[str, float]:
        """Replicas of each pool in the mean of the runs, as their bills have it."""
        if config not in self.provided:
            model = self.at(config)
            runs = self.map(lambda one: self.run(model, one).provisioned, self.ready)
            self.engine_runs += len(runs)
            names = dict.fromkeys(name for run in runs for name in run)
            self.provided[config] = {
                name: float(np.mean([run[name].replicas for run in runs if name in run])) for name in names
            }
        return self.provided[config]

    def result(self, config: Config, interval_s: float | None = None) -> Result:
        """All runs on these choices, as :func:`ttc_sim.simulate` gives them back."""
        model = self.at(config)
        runs = self.map(lambda one: self.run(model, one, interval_s), self.ready)
        self.engine_runs += len(runs)
        return Result(model=model, policy=self.policy, runs=tuple(runs))

    # --------------------------------------------------------------------------------------------------- its targets

    def look(self, configs: Sequence[Config]) -> list[bool]:
        """Whether the targets hold on each of these choices.

        Of each the first run is looked at; where it has more late requests than all runs may have together, the rest is not run.
        """
        new = [one for one in dict.fromkeys(configs) if one not in self.known]
        first = self.map(lambda one: self.ends(one, 0), new)
        rest = range(1, len(self.ready))
        hopeful = [k for k, one in enumerate(new) if not self._refuted(first[k])]
        pairs = [(k, run) for k in hopeful for run in rest]
        more = self.map(lambda pair: self.ends(new[pair[0]], pair[1]), pairs)
        for k, config in enumerate(new):
            ends = [first[k], *(one for (at, _), one in zip(pairs, more, strict=True) if at == k)]
            self.judge(config, ends, refuted=k not in hopeful)
        return [self.known[one] for one in configs]

    def judge(self, config: Config, ends: Sequence[Ends], refuted: bool = False) -> bool:
        """Whether the targets hold where requests end like that, which is remembered.

        Args:
            ends: of all runs or, where that is enough to refute a choice, of some.
        """
        held = not refuted and all(target_holds(one, self.value(one, ends)) for one in self.asked)
        if held and self._accuracy_may_fall():
            summary = self.result(config).summary()
            held = all(
                target_holds(one, figure.value)
                for one in self.targets.asked()
                if one.key == "accuracy" and (figure := summary.quantity(one.name)) is not None
            )
        self.known[config] = held
        return held

    def values(self, config: Config) -> dict[str, float]:
        """The figures of all targets that requests' times and ends say, by name; over all runs."""
        ends = self.map(lambda run: self.ends(config, run), range(len(self.ready)))
        return {one.name: self.value(one, ends) for one in self.asked}

    def _accuracy_may_fall(self) -> bool:
        """Whether requests that are dropped may keep accuracy from a target."""
        scenario = self.model.scenario
        drops = may_drop(scenario.deployments, LIMITS_OF_MEMORY) or scenario.budget is not None
        return bool(drops) and any(one.key == "accuracy" for one in self.targets.asked())

    def _refuted(self, ends: Ends) -> bool:
        """Whether one run alone has more requests that miss a target than all runs together may have."""
        for target in self.asked:
            if target.every_hour or len(self.ready) == 1 or any(one.draws.cut_by_run for one in self.ready):
                continue
            values = self._of(target, ends)[0]
            most = sum(len(one.draws) for one in self.ready)  # that may count
            allowed: float
            if target.percentile is not None:
                late, allowed = (values > target.bound).sum(), most - 1 - place(most, target.percentile[1])
            elif target.at_least:
                late, allowed = (values < 1).sum(), (1 - target.bound) * most + 1e-6
            else:
                late, allowed = (values > 0).sum(), target.bound * most + 1e-6
            # Sources' shares vary from run to run, so what is known of the others is left some room.
            if target.source is None and late > allowed:
                return True
        return False

    def _of(self, target: Target, ends: Ends) -> tuple[F64, F64, int]:
        """Values of the requests that a target is about, when those arrived, and how many may count at all."""
        sources = self.ready[0].requests.sources
        members = np.ones(len(ends.status), dtype=np.bool_)
        if target.source is not None:
            members = ends.source == (sources.index(target.source) if target.source in sources else -1)
        count = int(members.sum())
        if target.percentile is not None:
            times = {"latency": ends.latency_s, "ttft": ends.ttft_s, "tpot": ends.tpot_s}[target.percentile[0]]
            members &= ~np.isin(ends.status, UNTIMED) if target.percentile[0] == "latency" else ~np.isnan(times)
            return times[members], ends.arrival_s[members], count
        if target.key == "goodput":
            good = self._good(ends)
            return good[members], ends.arrival_s[members], count
        happened = np.isin(ends.status, ENDS[target.key]).astype(np.float64)
        return happened[members], ends.arrival_s[members], count

    def _good(self, ends: Ends) -> F64:
        met = ends.status == 0
        slos = [self.targets.slo_of(name) for name in self.ready[0].requests.sources]
        for key, seconds in (("ttft_s", ends.ttft_s), ("tpot_s", ends.tpot_s), ("latency_s", ends.latency_s)):
            most = np.array([np.inf if (b := getattr(one, key, None)) is None else b for one in slos])
            met &= ~(seconds > most[ends.source])
        return np.asarray(met, dtype=np.float64)

    def value(self, target: Target, ends: Sequence[Ends]) -> float:
        """As :class:`ttc_sim.simulation.pooling.Pooled` has it, without an interval; NaN where there are no such requests."""
        parts = [self._of(target, one) for one in ends]
        values, arrival_s = np.concatenate([one[0] for one in parts]), np.concatenate([one[1] for one in parts])
        if not len(values):
            return float("nan")
        part = None if target.percentile is None else target.percentile[1]
        if not target.every_hour:
            return _figure(values, part)
        hour = np.asarray(arrival_s // HOUR_S, dtype=np.int64)
        order = np.argsort(hour, kind="stable")
        _, begins = np.unique(hour[order], return_index=True)
        figures = [_figure(one, part) for one in np.split(values[order], begins[1:])]
        return min(figures) if target.at_least else max(figures)


def _figure(values: F64, part: float | None) -> float:
    if part is None:
        return float(values.mean())
    at = place(len(values), part)
    return float(np.partition(values, at)[at])


def target_holds(target: Target, value: float) -> bool:
    """Whether a figure keeps a target; one that is unknown does not."""
    return bool(value >= target.bound if target.at_least else value <= target.bound)
