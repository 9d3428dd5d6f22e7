"""What a plan comes to over all worlds: in which of them it is judged, and by what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ttc_sim.optimizer.looking import Simulated
from ttc_sim.optimizer.promises import TargetCheck
from ttc_sim.scenario import Targets

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Over:
    """By which worlds a plan is judged.

    Attributes:
        names, weights: of the worlds; those without a weight are shown alone.
        share: of their weight, in which all must hold: 1 of the worst case.
    """

    names: tuple[str, ...]
    weights: tuple[float, ...]
    share: float

    def counted(self, ranks: Sequence[tuple[float, ...]]) -> list[int]:
        """The fewest worlds that make up the share, those where the plan is best; of ranks the lower is better."""
        left = self.share * sum(self.weights) * (1 - _ROUNDING)
        found = []
        for k in sorted((k for k, weight in enumerate(self.weights) if weight > 0), key=lambda k: (ranks[k], k)):
            if left <= 0:
                break
            found.append(k)
            left -= self.weights[k]
        return sorted(found)

    def of(self, values: Sequence[float]) -> float:
        """The least bound that as many worlds as make up the share keep to."""
        return max(values[k] for k in self.counted([(value,) for value in values]))


NO_WORLDS = Over((), (), 1.0)


@dataclass(frozen=True)
class SimulatedInWorlds(Simulated):
    """A proposal simulated in every world: policy, summary and model are those of the scenario as it is.

    Every check is that of the world where its target is farthest from being kept, among the worlds that count: in the worst case
    all, else those where the plan does best.

    Attributes:
        parts: what simulation says in each world; over: by which the plan is judged.
    """

    parts: tuple[Simulated, ...] = ()
    over: Over = NO_WORLDS

    @classmethod
    def of(cls, parts: Sequence[Simulated], over: Over, targets: Targets) -> SimulatedInWorlds:
        """Every world's, together; that of the scenario as it is stands first."""
        base = parts[0]
        checks = _farthest(parts, over, over.counted([one.rank(targets) for one in parts]))
        return cls(base.proposal, base.model, base.summary, checks, base.optimism, tuple(parts), over)

    def counted(self, targets: Targets) -> list[int]:
        """Which worlds it is judged by."""
        return self.over.counted([one.rank(targets) for one in self.parts])

    def judged_by(self, targets: Targets) -> Simulated:
        """The same beside other targets."""
        return self.of([one.judged_by(targets) for one in self.parts], self.over, targets)

    def rank(self, targets: Targets) -> tuple[float, float, float]:
        """Of the worlds that count the largest miss, then the worst objective, then the worst of what decides between those that
        are alike. Lower is better."""
        ranks = [self.parts[k].rank(targets) for k in self.counted(targets)]
        miss, objective, other = (max(each) for each in zip(*ranks, strict=True))
        return miss, objective, other


def _farthest(parts: Sequence[Simulated], over: Over, counted: Sequence[int]) -> tuple[TargetCheck, ...]:
    """Of every target the check of the world where it is missed by most or, held in all, least sure to hold."""
    found = []
    for k in range(len(parts[0].checks)):
        world = max(counted, key=lambda w: (*_how_far(parts[w].checks[k]), -w))
        check = parts[world].checks[k]
        if world > 0:
            name = over.names[world]
            check = replace(check, world=name, words=f"{check.words} in world {name}")
        found.append(check)
    return tuple(found)


def _how_far(check: TargetCheck) -> tuple[float, float, float]:
    """How near a target is to being missed, or how far it is: by what is missed, else by its chance, else by what it may lose."""
    room = check.promised.value - check.bound if check.at_least else check.bound - check.promised.value
    return check.miss, -check.chance, -room


__all__ = ["NO_WORLDS", "Over", "SimulatedInWorlds"]
