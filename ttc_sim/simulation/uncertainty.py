"""How uncertain figures of several runs are: because of the problems that were measured, and because of the runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base import intervals
from ttc_sim.base.draws import F64, I64
from ttc_sim.base.intervals import NONE, STILL, Swing, Variance
from ttc_sim.base.small_numbers import numbered
from ttc_sim.scenario import Api
from ttc_sim.simulation.batches import between_recorded, dealt_whole, in_batches, recorded_of, sessions_of
from ttc_sim.simulation.billing import Run
from ttc_sim.simulation.model import Model, spread
from ttc_sim.simulation.other_load import OtherLoad, with_load

_BATCHES = 20
FEW_RUNS = 3  # fewer say less of how runs differ than their batches do
_LEAST, _MOST = 0.02, 0.5  # other load that is tried, relative
_LEAST_REPLAYED = 100  # requests of a replay of which lengths may explain the variation
_LEAST_BY_CHANCE = 0.1  # of the variance
_NEGLIGIBLE = 0.002  # error of the load, relative, that moves no wait to speak of

Bools = NDArray[np.bool_]
Found = TypeVar("Found")


@dataclass(frozen=True)
class Influence:
    """What requests and problems add to the deviation of a mean.

    Attributes:
        at: (k,) positions of the requests that it is over, of all runs side by side.
        by_chance: (k,) what each adds to how runs differ.
        of_problems: (k,) what each adds to how problems differ; ``None`` where problems change nothing of them.
        rows: (m,) problems of the population that something is expected of; expected: (m,) what each of those adds.
    """

    at: I64
    by_chance: F64
    of_problems: F64 | None
    rows: I64
    expected: F64


class Uncertainty:
    """Variances of means over the requests of all runs side by side.

    A figure is uncertain by the problems in two ways: those requests would be others, and all requests together would ask for
    more or less of what they share, which moves everybody's waits. The second is what it comes to at the least and the most load
    that the problems allow.
    """

    def __init__(self, model: Model, runs: Sequence[Run]) -> None:
        self.model, self.runs = model, runs
        self.count = sum(len(run.arm) for run in runs)
        self.replay = nothing_random(model, runs)
        self.run = np.repeat(np.arange(len(runs)), [len(run.arm) for run in runs])
        self.groups = len(runs)
        traffics = [run.draws.traffic for run in runs]
        self.session, self.recorded = sessions_of(traffics), recorded_of(traffics)
        # A run has few sessions, of which each is dear or not as a whole: batches of them say more than a few runs.
        self.batched = len(runs) < (FEW_RUNS if self.session is None else _BATCHES)
        if self.batched:
            # Batches one after another stand in for independent runs (the method of batch means).
            self.groups = min(_BATCHES * len(runs), self.count)
            self.run = np.arange(self.count) * self.groups // self.count
            if self.session is not None:
                self.run, self.groups = in_batches(self.session, self.groups)
        spent = [run.result.spending for run in runs]
        self.budget_ended = any(one is not None and one.done.any() for one in spent)
        # Before a budget is exhausted a run is another one than after it.
        self.by_neighbours = self.batched and (model.scenario.workload.rate_changes or self.budget_ended)
        self.source = np.concatenate([run.requests.source for run in runs])
        rows = [run.row for run in runs if run.row is not None]
        self.row = np.concatenate(rows) if model.population is not None else None
        self._known: dict[object, Any] = {}

    def once(self, key: object, make: Callable[[], Found]) -> Found:
        """What several figures ask for, or one beside many others, worked out once; ``key`` says what it is."""
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]  # type: ignore[no-any-return]

    # ------------------------------------------------------------------------------------------------------ problems

    @cached_property
    def problem(self) -> tuple[I64, I64]:
        """Of the population: (P,) number of each problem, and (problems,) the task type of each; types of a single problem, which
        say nothing of how such problems differ, count as one."""
        population = self.model.population
        assert population is not None
        number = numbered(population.problem)
        first = np.unique(number, return_index=True)[1]
        group = numbered(population.group)[first]
        group = np.where(np.bincount(group)[group] == 1, -1, group)
        return number, np.unique(group, return_inverse=True)[1].astype(np.int64)

    @cached_property
    def known_types(self) -> bool:
        """Whether intervals are asked for that hold for new problems of the same task types alone."""
        targets = self.model.scenario.targets
        return targets is not None and targets.generalize == "known"

    @cached_property
    def whole_types(self) -> bool:
        """Whether intervals are for task types like those measured, which is wider than for the same ones."""
        population = self.model.population
        return population is not None and int(population.cluster.max()) < int(self.problem[0].max())

    def of_problems(
        self, influence: F64, row: I64, scale: float, own: float = 0.0, *, share: bool = False, same: bool = True
    ) -> tuple[Variance, Variance]:
        """Between problems or task types, as the problem sets say, and between problems of the same task types.

        Args:
            influence: (n,) what each row adds to the figure's deviation; row: (n,) its problem in the population.
            scale: what a single problem leaves uncertain.
            own: part of the sums' squares that is the requests' own, not their problem's.
            share: whether the figure is one, of which a problem more could be all or nothing.
            same: whether the second is wanted; the first stands in for it otherwise.
        """
        population = self.model.population
        assert population is not None
        cluster = population.cluster[row]
        if self.known_types or (same and self.whole_types):
            problem, group = self.problem
            of_same = intervals.of_units(influence, problem[row], group, scale=scale, own=own, one_more=share)
            if self.known_types:
                return of_same, of_same
        printed = intervals.of_units(influence, cluster, scale=scale, own=own, one_more=share)
        return printed, of_same if same and self.whole_types else printed

    # ---------------------------------------------------------------------------------------------------------- runs

    def of_runs(self, influence: F64, run: I64, scale: float, session: I64 | None = None) -> Variance:
        """Between runs, of what each request adds to the figure's deviation.

        Args:
            run: of each; session: likewise, where batches of sessions stand in for runs.
        """
        if self.replay:
            return NONE
        run, groups = self._dealt(run) if session is None else dealt_whole(run, session, self.groups)
        if groups < 2:
            return Variance(scale**2)
        between = intervals.of_neighbours if self.by_neighbours else intervals.of_runs
        return between(influence, run, groups)

    def of_recorded(self, influence: F64, at: I64, scale: float) -> Variance:
        """Between the recorded sessions that those of the runs were drawn from, which are a sample themselves.

        Args:
            influence: (k,) what each adds to the figure's deviation; at: (k,) positions of the requests.
            scale: what a single one leaves uncertain.
        """
        if self.recorded is None or self.session is None or self.replay or not influence.any():
            return NONE
        return between_recorded(influence, self.recorded[at], self.session[at], scale)

    def in_groups(self, groups: int) -> I64:
        """(n,) so many batches instead, or runs, if there are as many."""
        if self.groups == groups:
            return self.run
        if self.session is not None:
            return in_batches(self.session, groups)[0]
        return np.arange(self.count) * groups // self.count

    def _dealt(self, run: I64) -> tuple[I64, int]:
        """Runs of some requests, or batches that stand in for them, and how many: those of one hour lie in few of a run's
        batches, which would say nothing of how they vary, and make batches of their own."""
        if not self.batched or 2 * (1 + np.count_nonzero(np.diff(run))) >= self.groups:
            return run, self.groups
        groups = min(self.groups, len(run))
        return np.arange(len(run)) * groups // max(len(run), 1), groups

    # ---------------------------------------------------------------------------------------------------------- both

    def of_requests(
        self,
        values: F64,
        keep: Bools,
        scale: float,
        changing: F64 | None = None,
        *,
        share: bool = False,
        same: bool = True,
    ) -> tuple[Variance, Variance]:
        """Variance of the mean of some requests' values: as printed, and for the same task types.

        Args:
            values: of the requests kept.
            scale, share: as of :meth:`of_problems`.
            changing: the part of them that other problems would change, where that is not all.
            same: whether the second is wanted; the first stands in for it otherwise.
        """
        return self.variances(self.influence(values, keep, changing), scale, share=share, same=same)

    def influence(self, values: F64, keep: Bools, changing: F64 | None = None) -> Influence:
        """What each of some requests adds to the mean of their values; arguments as of :meth:`of_requests`."""
        by_chance = self._by_chance(values, keep) / len(values)
        of_problems = None
        if self.row is not None:
            source = self.source if len(values) == self.count else self.source[keep]
            of_problems = self.centred(values if changing is None else changing, source) / len(values)
        return Influence(np.flatnonzero(keep), by_chance, of_problems, np.empty(0, dtype=np.int64), np.empty(0))

    def variances(
        self,
        influence: Influence,
        scale: float,
        of_chance: float | None = None,
        *,
        share: bool = False,
        same: bool = True,
    ) -> tuple[Variance, Variance]:
        """Variance of a mean: as printed, and for the same task types.

        Args:
            scale, share, same: as of :meth:`of_requests`; of_chance: what a single run leaves uncertain, where that is not as much.
        """
        session = None if self.session is None or not self.batched else self.session[influence.at]
        scale_of_chance = scale if of_chance is None else of_chance
        run = self.of_runs(influence.by_chance, self.run[influence.at], scale_of_chance, session)
        if self.row is None:
            run = run.plus(self.of_recorded(influence.by_chance, influence.at, scale))
            return run, run
        parts, rows, own = influence.expected, influence.rows, 0.0
        if influence.of_problems is not None:
            parts = np.concatenate([parts, influence.of_problems])
            rows = np.concatenate([rows, self.row[influence.at]])
            # Sums over a problem's requests vary by the requests too, which is already in the variance between runs.
            own = float(influence.of_problems @ influence.of_problems)
        printed, of_same = self.of_problems(parts, rows, scale, own, share=share, same=same)
        return both(run, printed, of_same)

    def _by_chance(self, values: F64, keep: Bools) -> F64:
        """Values less their mean; of few replays less all that lengths, the same in every run, say of them."""
        plain = np.asarray(values - values.mean())
        lengths = None if self._lengths is None else self._lengths[keep]
        if lengths is None or len(lengths) < _LEAST_REPLAYED:
            return plain
        rest = np.asarray(values - lengths @ np.linalg.lstsq(lengths, values, rcond=None)[0])
        # Where lengths say nearly all, the rest is a few requests cut short, and few runs do not tell how few there may be.
        return rest if rest @ rest > _LEAST_BY_CHANCE * (plain @ plain) else plain

    @cached_property
    def _lengths(self) -> F64 | None:
        """(n, k) what lengths a few replays were given, and 1; ``None`` where they are drawn."""
        traffic = self.runs[0].draws.traffic
        if not self.batched or self.row is not None or not self.model.scenario.workload.is_replay:
            return None
        given = [traffic.prompt_tokens, traffic.reasoning_tokens, traffic.visible_tokens]
        known = [np.tile(lengths.astype(np.float64), len(self.runs)) for lengths in given if lengths is not None]
        return np.stack([np.ones(self.count), *known], axis=1)

    def of_shares(self, values: F64, keep: Bools) -> Variance:
        """Variance of the share of some requests, by 0 or 1 of each of them."""
        return self.of_share(values, self.influence(values, keep))

    def of_share(self, values: F64, influence: Influence) -> Variance:
        """The same, of what each of them is known to add."""
        value = float(values.mean())
        return self.variances(influence, float(np.sqrt(value * (1 - value))), share=True, same=False)[0]

    @cached_property
    def _sizes(self) -> I64:
        return np.maximum(np.bincount(self.source), 1)

    def centred(self, values: F64, source: I64) -> F64:
        """Values less the mean of their source: its share of the requests is given."""
        size = self._sizes if source is self.source else np.maximum(np.bincount(source), 1)
        return np.asarray(values - (np.bincount(source, weights=values) / size)[source])

    # ---------------------------------------------------------------------------------------------------------- load

    @cached_property
    def load(self) -> F64 | None:
        """(n,) what each request adds to the relative deviation of the load; ``None`` where nothing is shared or queued for."""
        work = [run.work_s for run in self.runs if run.work_s is not None]
        if len(work) < len(self.runs) or self.row is None:
            return None
        if not self.budget_ended and all(run.work_s is run.planned_api_cost_usd for run in self.runs):
            return None  # a budget alone is shared, and nobody has felt it
        together = np.concatenate(work)
        total = float(together.sum())
        return self.centred(together, self.source) / total if total > 0 else None

    @cached_property
    def of_load(self) -> Variance:
        """Of the load, relative, between samples of problems; of few runs also between runs."""
        assert self.load is not None
        assert self.row is not None
        own = float(self.load @ self.load)
        found, _ = self.of_problems(self.load, self.row, 0.0, own, same=False)
        if not self.batched:
            return found
        # Batches of a run say little of a queue that builds up over many of them.
        recorded = self.model.scenario.workload.is_replay
        return found.plus(Variance((own + (0.0 if recorded else 1 / self.count)) * self._unevenness))

    @cached_property
    def _unevenness(self) -> float:
        """How many times fewer requests make up the load that counts: 1 where waits rise with it at all times alike."""
        if (others := self._with_other_loads) is None:
            return 1.0
        by_batch = []
        for other in others:
            n = len(other.latency_s)
            by_batch.append(np.bincount(np.arange(n) * _BATCHES // n, weights=other.latency_s, minlength=_BATCHES) / n)
        rise = np.maximum(by_batch[1] - by_batch[0], 0.0)
        return _BATCHES * float(rise @ rise) / float(rise.sum()) ** 2 if rise.any() else 1.0

    @cached_property
    def _with_other_loads(self) -> tuple[OtherLoad, OtherLoad] | None:
        """The first run with about the least and the most load that the problems allow."""
        if self.load is None or self.row is None or self.runs[0].draws.traffic.after is not None:
            return None
        half = self.of_problems(self.load, self.row, 0.0, float(self.load @ self.load), same=False)[0].half
        times = 1 + min(max(half, _LEAST), _MOST)
        return with_load(self.model, self.runs[0], 1 / times), with_load(self.model, self.runs[0], times)

    @cached_property
    def other_loads(self) -> tuple[OtherLoad, ...]:
        """The first run with less and with more load; nothing where the load is known so well that it would change nothing."""
        if self.load is None or np.sqrt(self.of_load.value) < _NEGLIGIBLE:
            return ()
        return self._with_other_loads or ()

    def swing(
        self, values: F64, keep: Bools, rest: Variance, before: float, after: Callable[[OtherLoad], float]
    ) -> Swing:
        """What the load, as uncertain as it is, does to a figure of some requests.

        Args:
            values: of the requests kept, whose mean rises with the figure; rest: variance of that mean, were the load known.
            before: the figure in the first run; after: with another load.
        """
        if not self.other_loads or self.load is None or self.row is None or self.model.population is None:
            return STILL
        less, more = self.leaning(before, after)
        influence = np.zeros(self.count)
        influence[keep] = self.centred(values, self.source[keep]) / len(values)
        together = intervals.covariance(influence, self.load, self.model.population.cluster[self.row])
        together -= float(influence @ self.load)  # the requests' own
        errors = float(np.sqrt(rest.value * self.of_load.value))
        return swing_of(less, more, together / errors if errors > 0 else 0.0)

    def leaning(self, before: float, after: Callable[[OtherLoad], float]) -> tuple[float, float]:
        """What a figure of the first run changes by at the ends of the load's interval of 95%, the less and the more of it.

        Args:
            before: the figure; after: with another load.
        """
        if not self.other_loads:
            return 0.0, 0.0
        # What was tried is about the end of the load's interval.
        less, more = (
            (after(other) - before) * self.of_load.half / abs(float(np.log(other.times))) for other in self.other_loads
        )
        return less, more


def swing_of(less: float, more: float, correlation: float) -> Swing:
    """The swing of a figure that changes by so much with less load, and with more, and goes so much with it otherwise."""
    correlation = min(max(correlation, -1.0), 1.0)
    return Swing(max(-less, -more, 0.0), max(less, more, 0.0), correlation if more >= less else -correlation)


def nothing_random(model: Model, runs: Sequence[Run]) -> bool:
    """Whether a run is a replay that would come out the same again: a recorded trace, on servers whose times do not vary."""
    workload = model.scenario.workload
    if model.population is not None or not workload.is_replay:
        return False
    if any(lengths is not None and lengths.vary for lengths in workload.all_lengths):
        return False
    if any(len(stream.sources) > 1 for stream in workload.streams):
        return False  # which source a request is of
    used = {model.arms[a].deployment for run in runs for a in np.unique([run.arm, run.answered_by]).tolist()}
    varies = any(
        spread(latency) > 0
        for d in used
        if isinstance(item := model.deployments[d], Api)
        for latency in (item.first_token, item.per_token)
    )
    # Whatever goes wrong by chance, or makes clients wait for a while that is drawn.
    fails = any(
        run.result.attempts is not None
        and any(
            counts.any()
            for counts in (
                run.result.attempts.errors,
                run.result.attempts.error_retries,
                run.result.attempts.timeout_retries,
            )
        )
        for run in runs
    )
    return not varies and not fails and not any(run.result.retries.any() for run in runs)


def both(run: Variance, printed: Variance, same: Variance) -> tuple[Variance, Variance]:
    """Variances of runs and of problems together, as printed and for the same task types.

    The second is never the wider, as it can be where few runs leave their variance less sure than that of the problems.
    """
    new = run.plus(printed)
    return new, min(new, run.plus(same), key=lambda one: one.half)
