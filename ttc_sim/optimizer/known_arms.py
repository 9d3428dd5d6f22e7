"""What is expected of the arms of a search space, worked out once for each that is looked at."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ttc_sim.base.draws import F64
from ttc_sim.optimizer.proposing.objectives import broken_by_arm
from ttc_sim.optimizer.space import load_model_like, with_arms
from ttc_sim.scenario import Targets
from ttc_sim.scenario.arm_space import ArmFamily, Family, Variant, cascades_of, families_of, rungs_of
from ttc_sim.simulation.expectations import Expectations, expect_arms
from ttc_sim.simulation.expected_times import first_guess
from ttc_sim.simulation.model import Model

Numbers = tuple[int, ...]
"""One from each range of a family."""


@dataclass(frozen=True)
class KnownArms:
    """The search space, and what is expected of every arm of it that was looked at.

    Attributes:
        model: of the scenario as it was written; targets: that say what is late; prepared: what becomes of a model before anything
            is expected of it.
        families: of the search space, by place.
        rows: by name of an arm, what is expected of it (:class:`Expectations`); late: (limits + 1, P) what it breaks.
    """

    model: Model
    targets: Targets
    prepared: Callable[[Model], Model]
    families: list[Family]
    rows: dict[str, list[F64]] = field(default_factory=dict)
    late: dict[str, F64] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Model, targets: Targets, prepared: Callable[[Model], Model]) -> KnownArms:
        """Of a scenario's search space, before any was looked at."""
        of_arms = families_of(model.scenario)
        families: list[Family] = [one for ones in of_arms.values() for one in ones]
        return cls(model, targets, prepared, [*families, *cascades_of(model.scenario, of_arms)])

    @property
    def numbers(self) -> list[list[Numbers]]:
        """Of each family, the numbers of its ranges' rungs that go together."""
        return [[one for one in rungs_of(family) if family.variant(one) is not None] for family in self.families]

    def expectations(
        self, numbers: Sequence[Iterable[Numbers]], between: Mapping[str, tuple[str, str]] | None = None
    ) -> Expectations:
        """Of the arms with these numbers, by family; what is known already is not worked out again.

        Args:
            between: by name, arms that lie halfway between two others, and are taken to be late as often as these are on average.
        """
        of_arms: dict[str, list[Variant]] = {name: [] for name in self.model.scenario.arms}
        cascades: list[Variant] = []
        for family, some in zip(self.families, numbers, strict=True):
            made = [variant for one in some if (variant := family.variant(one)) is not None]
            if isinstance(family, ArmFamily):
                of_arms[family.arm] += made
            else:
                cascades += made
        model = self.prepared(load_model_like(self.model, with_arms(self.model.scenario, of_arms, cascades)))
        new = {arm.name for arm in model.arms if arm.name not in self.rows}
        if new:
            part = _with_stages(model, new)
            found = expect_arms(part)
            tables = (found.correct, found.prompt, found.reasoning, found.visible, found.api_cost_usd, found.gpu_s)
            self.rows.update({arm.name: [table[v] for table in tables] for v, arm in enumerate(part.arms)})
            for name, others in (between or {}).items():
                self.late.setdefault(name, np.mean([self.late[other] for other in others], axis=0))
            slow = _with_stages(model, [name for name in new if name not in self.late])
            if slow.arms:
                late = broken_by_arm(self._of(slow), self.targets, first_guess(model))
                self.late.update({arm.name: late[:, v] for v, arm in enumerate(slow.arms)})
        return self._of(model)

    def _of(self, model: Model) -> Expectations:
        tables = [np.stack(values) for values in zip(*(self.rows[arm.name] for arm in model.arms), strict=True)]
        correct, prompt, reasoning, visible, api_cost_usd, gpu_s = tables
        sources = [] if model.population is None else model.population.sources
        offered = np.array([[source in arm.sources for source in sources] for arm in model.arms], dtype=np.bool_)
        return Expectations(model, correct, prompt, reasoning, visible, api_cost_usd, gpu_s, offered)


def _with_stages(model: Model, names: Collection[str]) -> Model:
    """The model with these arms and those that they send requests on to."""
    stages = {other for arm in model.arms if arm.name in names for other in arm.strategy.other_arms}
    return replace(model, arms=tuple(arm for arm in model.arms if arm.name in names or arm.name in stages))
