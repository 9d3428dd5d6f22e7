"""Settings carried out one after another on the same requests: what :func:`ttc_sim.what_if` says of each, as fast as one drags.

It is the same simulation. What an arm makes of a request is kept from one setting to the next, so that a move only chooses arms
anew, runs the queue and bills it; and only a few figures are worked out, each the same to the digit.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property

import numpy as np

from ttc_sim.base.estimates import Estimate
from ttc_sim.optimizer.whatif.carrying_out import Desk
from ttc_sim.optimizer.whatif.preparing import said_of
from ttc_sim.optimizer.whatif.ready import Effect
from ttc_sim.optimizer.whatif.saying import Variation
from ttc_sim.policies import Policy
from ttc_sim.simulation.differences import Compared, compare_figures, in_brief, values_in_brief
from ttc_sim.simulation.drawing import Draws
from ttc_sim.simulation.memory import Memory
from ttc_sim.simulation.model import Model
from ttc_sim.simulation.pooling import Pooled
from ttc_sim.simulation.standing import over_runs, worst

_WORKLOADS = 3  # whose requests are kept


@dataclass(frozen=True)
class Tried:
    """What a setting comes to.

    Attributes:
        values: of figures, by name, as of :func:`ttc_sim.what_if`: ``accuracy`` (where it is known), ``cost_usd_per_request``,
            ``_per_day`` and ``_per_month``, ``latency_p50_s``, ``latency_p95_s``, ``timeout_rate``.
        shares: of the requests that are sent to each arm, but for those that get none.
        verdict: of the deployments, ``stable``, ``backlogged`` or ``overloaded``.
    """

    values: Mapping[str, float]
    shares: Mapping[str, float]
    verdict: str
    _figures: Callable[[], Mapping[str, Estimate]] = field(repr=False, compare=False)
    _compare: Callable[[], Mapping[str, Compared]] = field(repr=False, compare=False)

    @cached_property
    def figures(self) -> Mapping[str, Estimate]:
        """The same with their intervals, which take as long again."""
        return self._figures()

    @cached_property
    def compared(self) -> Mapping[str, Compared]:
        """Each figure beside the base's, with the paired difference."""
        return self._compare()


class Trying(Desk):
    """The desk of what-if, with a memory of the requests."""

    def drawn(self, model: Model, run: int, effects: Sequence[Effect]) -> Draws:
        """As without a memory, of the first settings with such arrivals; then those again."""
        key = run, repr(model.scenario.workload), *(one.requests for one in effects)
        if key not in self._kept:
            self._kept[key] = replace(super().drawn(model, run, effects), memory=Memory())
            if len(self._kept) > _WORKLOADS * self.given.replications:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    @cached_property
    def _kept(self) -> OrderedDict[object, Draws]:
        return OrderedDict()

    @cached_property
    def _before(self) -> tuple[Pooled, dict[str, Estimate], float]:
        """The base."""
        pooled = self.pooled(self.model, self.policy, ())
        return pooled, *in_brief(pooled)

    @property
    def base_figures(self) -> Mapping[str, Estimate]:
        """Of the base, by name."""
        return self._before[1]

    @property
    def base_requests(self) -> int:
        """Of a run of the base, in the mean."""
        return round(self._before[0].count / self.given.replications)

    def tried_policy(self, policy: Policy) -> Tried:
        """What another policy comes to in the base."""
        return self._of(self.pooled(self.model, policy, ()))

    def tried(self, changes: Mapping[str, object]) -> Tried:
        """What the scenario comes to with other values.

        Args:
            changes: by path, as of a variation of :func:`ttc_sim.what_if`; none for the base.

        Raises:
            InputError: a path that leads nowhere, or a scenario that is invalid with them.
        """
        if not changes:
            return self._of(self._before[0])
        variation = Variation("setting", {path: (now, "explore") for path, now in changes.items()})
        with said_of(variation):
            prepared = self.prepared(variation)
            model, policy = self.loaded(prepared)
            return self._of(self.pooled(model, policy, prepared.effects))

    def _of(self, after: Pooled) -> Tried:
        before, first, rate_per_s = self._before
        brief = cache(lambda: (first, rate_per_s) if after is before else in_brief(after))

        def compare() -> Mapping[str, Compared]:
            second, other_rate_per_s = brief()
            return compare_figures(before, after, first, second, (rate_per_s, other_rate_per_s))

        shares = np.bincount(after.arm, minlength=len(after.model.arms)) / after.count
        return Tried(
            values=values_in_brief(after),
            shares={name: float(share) for name, share in zip(after.model.arm_names, shares, strict=True) if share > 0},
            verdict=worst(over_runs([run.standings for run in after.runs])).verdict,
            _figures=lambda: brief()[0],
            _compare=compare,
        )


__all__ = ["Tried", "Trying"]
