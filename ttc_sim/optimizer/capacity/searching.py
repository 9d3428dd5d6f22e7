"""The cheapest choice that meets the targets: from the cheapest bound on, until no bound is below the best that was found.

More replicas never serve worse, but for chance (relation 10 of the invariants). So what fails rules out all that have no more
replicas of any pool on the same hardware, and what holds rules out all that cost as much or more. For each choice of hardware the
most that could still be cheaper than the best so far is looked at first: if that fails, nothing on this hardware is better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np

from ttc_sim.base.draws import F64, I64
from ttc_sim.base.errors import InputError
from ttc_sim.base.progress import Progress, Step, silent
from ttc_sim.optimizer.capacity.trying import Config, Trials

_AT_ONCE = 4  # kinds of hardware that are looked at side by side, whatever the number of workers
_MOST = 4_000_000  # combinations of replicas of several pools
_STEPS = (1.0, 1.4, 2.2, 4.0)  # times the lower bound, at which what is enough is looked for
_ALIKE = 1e-9

Which = tuple[int, ...]
"""Of each pool, which of its choices."""


@dataclass
class Searched:
    """What a search has looked at.

    Attributes:
        best: the cheapest choice that holds, if any does.
        tops: of each hardware on which nothing holds, the most that was looked at.
        tried: kinds of hardware that were simulated; left: that a bound alone rules out.
    """

    best: Config | None = None
    tops: list[Config] = field(default_factory=list)
    tried: int = 0
    left: int = 0


class Search:
    """Goes through kinds of hardware and numbers of replicas.

    Args:
        trials: that simulate; bounds: of each pool, for each of its choices, replicas that are certainly needed.
        budget: most GPUs of each kind.
    """

    def __init__(
        self,
        trials: Trials,
        bounds: Mapping[str, Sequence[int]],
        budget: Mapping[str, int],
        say: Progress = silent,
    ) -> None:
        self.trials, self.budget, self.say = trials, budget, say
        self.pools = list(trials.pools)
        self.choices = [list(trials.pools[name]) for name in self.pools]
        self.bounds = [list(bounds[name]) for name in self.pools]
        self.refuted: set[Config] = set()
        self.only: Callable[[Which], bool] = lambda _: True  # kinds of hardware that are looked at

    def run(self) -> Searched:
        """Look until nothing is left that could be cheaper."""
        found = Searched()
        waiting = sorted((self.bound_usd(which), which) for which in self._kinds())
        while waiting:
            most = math.inf if found.best is None else self.usd_per_day(found.best)
            hopeful = [one for one in waiting if one[0] < most * (1 - _ALIKE)]
            found.left += len(waiting) - len(hopeful)
            waiting = hopeful
            if found.best is None:
                batch = waiting[:1]
            else:
                batch = waiting[:_AT_ONCE]
                # The most of each that is cheaper: where that fails, nothing on it is better.
                tops = [self._top(which, most) for _, which in batch]
                self._look([top for top in tops if top is not None])
            for _, which in batch:
                found.tried += 1
                self._look_at(which, found)
            waiting = waiting[len(batch) :]
        return found

    # ------------------------------------------------------------------------------------------------------- what is known

    def usd_per_day(self, config: Config) -> float:
        """Price of the replicas."""
        return sum(
            choices[k].usd_per_day * count + choices[k].fixed_usd_per_day
            for choices, (k, count) in zip(self.choices, config, strict=True)
        )

    def bound_usd(self, which: Which) -> float:
        """Price of as many as are certainly needed."""
        return self.usd_per_day(self._least(which))

    def within_budget(self, config: Config) -> bool:
        """Whether there are as many GPUs."""
        return all(count <= self.budget[gpu] for gpu, count in self.gpus(config).items() if gpu in self.budget)

    def gpus(self, config: Config) -> dict[str, int]:
        """GPUs of each kind."""
        used: dict[str, int] = {}
        for choices, (k, count) in zip(self.choices, config, strict=True):
            one = choices[k]
            if one.gpu is not None:
                used[one.gpu] = used.get(one.gpu, 0) + count * one.gpus
            for gpu, beside in one.fixed_gpus.items():
                used[gpu] = used.get(gpu, 0) + beside
        return used

    def named(self, config: Config) -> str:
        """In words."""
        parts = []
        for name, choices, (k, count) in zip(self.pools, self.choices, config, strict=True):
            label = choices[k].name
            parts.append(f"{name} {count} replicas" + (f" of {label}" if label != name else ""))
        return ", ".join(parts).replace(" 1 replicas", " 1 replica")

    def _numbers(self, which: Which) -> list[I64]:
        """Numbers of replicas of each pool that are not certainly too few."""
        found = []
        for choices, bounds, k in zip(self.choices, self.bounds, which, strict=True):
            numbers = np.asarray(choices[k].numbers, dtype=np.int64)
            found.append(numbers[numbers >= bounds[k]])
        return found

    def _kinds(self) -> list[Which]:
        """Combinations of hardware with some numbers left."""
        every = product(*(range(len(choices)) for choices in self.choices))
        kinds = [which for which in every if self.only(which) and all(len(some) for some in self._numbers(which))]
        return [which for which in kinds if self.within_budget(self._least(which))]

    def _least(self, which: Which) -> Config:
        return tuple((k, int(some[0])) for k, some in zip(which, self._numbers(which), strict=True))

    def _top(self, which: Which, most_usd: float) -> Config | None:
        """Of each pool the most that is cheaper than so much, the others being as few as can be; ``None`` if nothing is."""
        least, numbers = self._least(which), self._numbers(which)
        total, top = self.usd_per_day(least), []
        for choices, (k, count), some in zip(self.choices, least, numbers, strict=True):
            price = choices[k].usd_per_day
            cheaper = some[total + price * (some - count) < most_usd * (1 - _ALIKE)]
            if not len(cheaper):
                return None
            top.append((k, int(cheaper[-1])))
        return tuple(top)

    def _look(self, configs: Sequence[Config]) -> list[bool]:
        new = [one for one in configs if one not in self.trials.known and one not in self.refuted]
        self.trials.look(new)
        found = [one not in self.refuted and self.trials.known[one] for one in configs]
        for config, held in zip(configs, found, strict=True):
            if config in new:
                self.say(Step("searching", detail=f"{self.named(config)}: {'meets' if held else 'misses'} the targets"))
        return found

    def _holds(self, config: Config) -> bool:
        return self._look([config])[0]

    # ------------------------------------------------------------------------------------------------- one kind of hardware

    def _look_at(self, which: Which, found: Searched) -> None:
        """Find the cheapest numbers on this hardware that hold, if they are cheaper than the best so far."""
        most = math.inf if found.best is None else self.usd_per_day(found.best)
        top = self._enough(which) if found.best is None else self._top(which, most)
        if top is None:
            return
        if not self._holds(top):
            found.tops.append(top)
            return
        left = self._cheaper(which, top, most)
        if self.within_budget(top) and self.usd_per_day(top) < most * (1 - _ALIKE):
            found.best, most = top, self.usd_per_day(top)
        left = left[self._usd(which, left) < most * (1 - _ALIKE)]
        if len(self.pools) > 1 and len(left) > 1:
            least = self._each_alone(which, top, left)
            left = left[(left >= least).all(axis=1)]
        failed = True
        while len(left):
            # On one pool this is bisection.
            count = left[len(left) // 2]
            config = self._config(which, count)
            if self._holds(config):
                found.best, most, failed = config, self.usd_per_day(config), False
                left = left[self._usd(which, left) < most * (1 - _ALIKE)]
            else:
                left = left[(left > count).any(axis=1)]
        if failed and found.best is None:  # enough, but only beyond the budget
            most_there_is = self._most_within(which)
            found.tops += [] if most_there_is is None else [most_there_is]

    def _enough(self, which: Which) -> Config | None:
        """Numbers that hold, looked for upwards from the bound; the most that there may be if none does."""
        numbers = self._numbers(which)
        step, config = 0, None
        while True:
            times = _STEPS[step] if step < len(_STEPS) else _STEPS[-1] * 2.0 ** (step - len(_STEPS) + 1)
            counts = [
                int(some[min(np.searchsorted(some, math.ceil(times * some[0])), len(some) - 1)]) for some in numbers
            ]
            if config is None or counts != [count for _, count in config]:
                config = self._config(which, counts)
                if self._holds(config):
                    return config
            last = all(count == some[-1] for count, some in zip(counts, numbers, strict=True))
            if last or all(count >= self._useful for count in counts):
                return config
            step += 1

    @property
    def _useful(self) -> int:
        """More replicas than sequences have nothing to do."""
        works = self.trials.works()
        return max((one.samples for one in works), default=1) if works else len(self.trials.ready[0].draws)

    def _cheaper(self, which: Which, top: Config, most_usd: float) -> I64:
        """(combinations, pools) of numbers that are within the budget and cheaper, up to the top; cheapest first."""
        numbers = [some[some <= count] for some, (_, count) in zip(self._numbers(which), top, strict=True)]
        if not self.within_budget(top):
            numbers = self._numbers(which)
            numbers = [some[: self._affordable(which, p, some)] for p, some in enumerate(numbers)]
        if math.prod(len(some) for some in numbers) > _MOST:
            scenario = self.trials.model.scenario
            expected = "fewer numbers of replicas, or a budget (search.gpus): there are too many combinations of pools"
            raise InputError(
                scenario.path, "search.pools", {n: len(s) for n, s in zip(self.pools, numbers, strict=True)}, expected
            )
        grid = np.stack(np.meshgrid(*numbers, indexing="ij"), axis=-1).reshape(-1, len(numbers))
        usd = self._usd(which, grid)
        keep = usd < most_usd * (1 - _ALIKE)
        for gpu, limit in self.budget.items():
            each = [c[k].gpus if c[k].gpu == gpu else 0 for c, k in zip(self.choices, which, strict=True)]
            beside = sum(c[k].fixed_gpus.get(gpu, 0) for c, k in zip(self.choices, which, strict=True))
            keep &= grid @ np.array(each, dtype=np.int64) + beside <= limit
        grid, usd = grid[keep], usd[keep]
        return np.asarray(grid[np.lexsort((*grid.T, usd))])

    def _affordable(self, which: Which, pool: int, numbers: I64) -> int:
        """How many of a pool's numbers are within the budget, the others being as few as can be."""
        least = list(self._least(which))
        low, high = 0, len(numbers)
        while low < high:
            middle = (low + high) // 2
            least[pool] = (which[pool], int(numbers[middle]))
            low, high = (middle + 1, high) if self.within_budget(tuple(least)) else (low, middle)
        return low

    def most_of_each(self) -> list[Config]:
        """Of each hardware as many replicas as the budget allows, whatever is needed."""
        every = product(*(range(len(choices)) for choices in self.choices))
        return [one for which in every if (one := self._most_within(which)) is not None]

    def _most_within(self, which: Which) -> Config | None:
        """As many replicas of all pools as the budget allows, in proportion to what is needed; ``None`` if it allows none."""
        numbers = [
            np.asarray(choices[k].numbers, dtype=np.int64) for choices, k in zip(self.choices, which, strict=True)
        ]
        needed = np.array([bounds[k] for bounds, k in zip(self.bounds, which, strict=True)], dtype=np.float64)
        best = None
        most = max(float(some[-1]) for some in numbers)
        for times in np.geomspace(1 / needed.max(), most, 400):
            at = [
                max(int(np.searchsorted(some, times * n, side="right")) - 1, 0)
                for some, n in zip(numbers, needed, strict=True)
            ]
            config = self._config(which, [int(some[k]) for some, k in zip(numbers, at, strict=True)])
            if not self.within_budget(config):
                break
            best = config
        return best

    def _each_alone(self, which: Which, top: Config, left: I64) -> I64:
        """Of each pool the fewest with which the targets hold while the others are as many as can be."""
        most = np.maximum(left.max(axis=0), [count for _, count in top])
        least = left.min(axis=0)
        for pool in range(len(most)):
            numbers = np.unique(left[:, pool])
            low, high = 0, len(numbers)  # the first that holds, if any does
            while low < high:
                middle = (low + high) // 2
                counts = most.copy()
                counts[pool] = numbers[middle]
                low, high = (low, middle) if self._holds(self._config(which, counts)) else (middle + 1, high)
            least[pool] = numbers[low] if low < len(numbers) else most[pool] + 1
        return np.asarray(least)

    def _usd(self, which: Which, grid: I64) -> F64:
        kinds = [choices[k] for choices, k in zip(self.choices, which, strict=True)]
        fixed = sum(one.fixed_usd_per_day for one in kinds)
        return np.asarray(grid @ np.array([one.usd_per_day for one in kinds]) + fixed)

    @staticmethod
    def _config(which: Which, counts: Sequence[int] | I64) -> Config:
        return tuple((k, int(count)) for k, count in zip(which, counts, strict=True))
