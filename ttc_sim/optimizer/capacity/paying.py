"""Whether prefill and decode apart pays: beside replicas that do both, at what each costs and on the same GPUs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ttc_sim.optimizer.capacity.searching import Search
from ttc_sim.optimizer.capacity.trying import Config, target_holds


@dataclass(frozen=True)
class Split:
    """So many replicas that take prompts in and that answer, on the same GPUs as the plan's.

    Attributes:
        prefill: 0 where all do both; replicas: that answer, or do both.
        figures: of each target on times or shares, on the runs of the search; missed: targets that do not hold.
    """

    prefill: int
    replicas: int
    figures: Mapping[str, float]
    missed: tuple[str, ...]


@dataclass(frozen=True)
class Apart:
    """What prefill and decode apart is worth at one pool, the others being as planned.

    Attributes:
        usd_per_day: of the cheapest that meets the targets with prefill apart; mixed_usd_per_day: without; ``None`` where none
            does.
        splits: of the plan's GPUs, as far as they can be divided like that.
    """

    usd_per_day: float | None
    mixed_usd_per_day: float | None
    splits: tuple[Split, ...]

    @property
    def pays(self) -> bool:
        """Whether it is cheaper, or alone does."""
        if self.usd_per_day is None:
            return False
        return self.mixed_usd_per_day is None or self.usd_per_day < self.mixed_usd_per_day

    def as_json(self) -> dict[str, object]:
        """Plain mapping."""
        return {**vars(self), "pays": self.pays, "splits": [vars(one) for one in self.splits]}


def apart_or_not(search: Search, best: Config, say: Callable[[str], object]) -> dict[str, Apart]:
    """Of each pool for which both are in the search space.

    Args:
        search: that found ``best``, the cheapest that meets the targets.
    """
    found = {}
    for at, (name, choices) in enumerate(zip(search.pools, search.choices, strict=True)):
        if len({one.prefill > 0 for one in choices}) < 2:
            continue
        chosen = choices[best[at][0]].prefill > 0
        say(f"{name}: the cheapest {'that does both on each replica' if chosen else 'with prefill and decode apart'}")
        other = Search(search.trials, dict(zip(search.pools, search.bounds, strict=True)), search.budget, say)
        other.refuted = search.refuted
        other.only = _others(search, best, at, chosen)
        config = other.run().best
        mine, others = search.usd_per_day(best), None if config is None else search.usd_per_day(config)
        apart, mixed = (mine, others) if chosen else (others, mine)
        found[name] = Apart(apart, mixed, _splits(search, best, at))
    return found


def _others(search: Search, best: Config, at: int, chosen: bool) -> Callable[[tuple[int, ...]], bool]:
    def allowed(which: tuple[int, ...]) -> bool:
        same = all(k == best[pool][0] for pool, k in enumerate(which) if pool != at)
        return same and (search.choices[at][which[at]].prefill > 0) != chosen

    return allowed


def _splits(search: Search, best: Config, at: int) -> tuple[Split, ...]:
    """The plan's GPUs of a pool, divided in all ways that are in the search space."""
    choices, (which, count) = search.choices[at], best[at]
    mine = choices[which]
    hardware = mine.gpu, mine.tensor_parallel, mine.precision, mine.option
    if not mine.pool.prefill_like_pool:
        return ()
    found = []
    for k, one in enumerate(choices):
        replicas = count + mine.prefill - one.prefill
        if (one.gpu, one.tensor_parallel, one.precision, one.option) != hardware or replicas not in one.numbers:
            continue
        config = tuple((k, replicas) if pool == at else other for pool, other in enumerate(best))
        figures = search.trials.values(config)
        missed = tuple(a.name for a in search.trials.asked if not target_holds(a, figures[a.name]))
        found.append(Split(one.prefill, replicas, figures, missed))
    return tuple(found)


__all__ = ["Apart", "Split", "apart_or_not"]
