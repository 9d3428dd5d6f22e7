"""Fresh runs of autoscaling beside those of fixed numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ttc_sim.optimizer.capacity.autoscaling import Found
from ttc_sim.optimizer.capacity.saving import Saving, Served, served
from ttc_sim.optimizer.capacity.trying import Config, Trials
from ttc_sim.optimizer.promises import TargetVerdict, judge_targets
from ttc_sim.scenario import Targets
from ttc_sim.scenario.targets import USD
from ttc_sim.simulation.result import Result


def refuted(verdicts: Sequence[TargetVerdict]) -> bool:
    """Whether fresh runs say of a target, other than on dollars, that it is missed."""
    return any(one.met is False for one in verdicts if one.name.split(".")[-1] not in USD)


class Beside:
    """Verifies autoscaling on the fresh runs that have verified the fixed numbers.

    Args:
        fresh: trials on other draws than the search's; fixed: numbers, and what fresh runs made of them.
        interval_s: over which runs are kept, if they are.

    Attributes:
        results: of what was verified; accepted: what was cheaper than all before, the fixed numbers first.
    """

    def __init__(
        self, fresh: Trials, fixed: Config, result: Result, interval_s: float | None, targets: Targets
    ) -> None:
        self.fresh, self.interval_s, self.targets = fresh, interval_s, targets
        self.results = {fixed: result}
        self.fixed, self.accepted = fixed, [self._served(fixed, result)]

    def _served(self, config: Config, result: Result) -> Served:
        prices = {
            name: choices[k].usd_per_day
            for (name, choices), (k, _) in zip(self.fresh.pools.items(), config, strict=True)
        }
        return served(result, prices, self.interval_s is not None)

    def verifies(self, config: Config) -> bool:
        """Whether no target is refuted, and it is cheaper than what is known to be."""
        result = self.fresh.result(config, self.interval_s)
        verdicts = judge_targets(result.summary(), self.targets, self.fresh.model.population)
        if refuted(verdicts):
            return False
        found = self._served(config, result)
        if found.usd_per_day >= self.accepted[-1].usd_per_day:
            return False
        self.results[config] = result
        self.accepted.append(found)
        return True

    def saving(self, found: Found) -> Saving:
        """What was chosen beside the fixed numbers."""
        return Saving(
            chosen=found.config != self.fixed,
            fixed=self.accepted[0],
            plan=self.accepted[-1],
            perfect=found.perfect,
            candidates=tuple(found.candidates),
            lasts_s=float(np.mean([run.paid_s for run in self.results[self.fixed].runs])),
        )
