"""What a plan for several worlds comes to in each of them, beside the plan for the scenario as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from ttc_sim.base.estimates import Estimate
from ttc_sim.optimizer.promises import TargetCheck, as_mapping
from ttc_sim.simulation.summary import Summary


@dataclass(frozen=True)
class Outcome:
    """One policy on its replicas in one world.

    Attributes:
        summary: figures on the requests that plans are verified on, corrected for having chosen on the same problems.
        checks: every target beside its figure there.
    """

    summary: Summary
    checks: tuple[TargetCheck, ...]

    @property
    def holds(self) -> bool:
        """Whether every target holds, with the confidence that was asked for."""
        return all(check.holds for check in self.checks)

    @property
    def missed(self) -> tuple[str, ...]:
        """Names of the targets that do not."""
        return tuple(check.name for check in self.checks if not check.holds)

    @property
    def chance(self) -> float:
        """Of the target that is least sure to hold; 1 without any."""
        return min((check.chance for check in self.checks), default=1.0)

    def as_json(self) -> dict[str, object]:
        """Figures, targets, and whether they hold."""
        summary = self.summary
        return {
            "holds": self.holds,
            "chance": self.chance,
            "accuracy": None if summary.accuracy is None else as_mapping(summary.accuracy),
            "cost_usd_per_request": as_mapping(summary.cost_usd_per_request),
            "cost_usd_per_day": as_mapping(summary.cost_usd_per_day),
            "latency_p95_s": as_mapping(summary.latency_s["p95"]),
            "unserved_rate": as_mapping(summary.unserved_rate),
            "verdict": summary.verdict,
            "targets": [check.as_json() for check in self.checks],
        }


@dataclass(frozen=True)
class InWorld:
    """One world, and what the plan and the plain plan come to in it.

    Attributes:
        name: of the world; changes: new values by path, none of the scenario as it is; why: of a ready-made one, what it stands
            for.
        weight: that it counts for; counted: whether it is among the worlds by which the plan is judged: of the worst case all
            with a weight, of a share the ones where it does best.
        plan: of the robust plan; plain: of the plan that was made for the scenario as it is.
        notes: what a reader must know of the world.
    """

    name: str
    changes: Mapping[str, object]
    why: str
    weight: float
    counted: bool
    plan: Outcome
    plain: Outcome
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, object]:
        """Plain mapping."""
        return {
            "name": self.name,
            "set": dict(self.changes),
            "why": self.why,
            "weight": self.weight,
            "counted": self.counted,
            "plan": self.plan.as_json(),
            "plain": self.plain.as_json(),
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Robustness:
    """How a plan fares in every world that it was made for, and what that costs.

    Attributes:
        over: ``"worst"``, or the share of the worlds by weight that must hold.
        objective: the figure that is made best; worst: what it comes to over the worlds (the worst of them, or of the share where
            it is best), worst_plain: that of the plain plan.
        worlds: the scenario as it is first.
        binding: world by target, that in which the target is nearest to being missed, or missed by most.
        decides: the world whose objective is the one above.
        same_as_plain: whether the plain plan is the robust one.
        cost_usd_per_request, accuracy: what the robust plan costs more (or is right more often) than the plain one in the scenario
            as it is, with 95% intervals over the problems; ``None`` of accuracy where it is unknown.
        policy_plain, replicas_plain: of the plain plan.
        notes: what a reader must know, such as ready-made worlds that were left out.
    """

    over: str | float
    objective: str
    worst: float
    worst_plain: float
    worlds: tuple[InWorld, ...]
    binding: Mapping[str, str]
    decides: str
    same_as_plain: bool
    cost_usd_per_request: Estimate
    accuracy: Estimate | None
    policy_plain: Mapping[str, str] | str
    replicas_plain: Mapping[str, int]
    notes: tuple[str, ...] = ()

    @property
    def holds(self) -> float:
        """Share of the worlds, by weight, in which the plan keeps every target."""
        return self._held([one.plan.holds for one in self.worlds])

    @property
    def plain_holds(self) -> float:
        """The same of the plain plan."""
        return self._held([one.plain.holds for one in self.worlds])

    def _held(self, holds: list[bool]) -> float:
        total = sum(one.weight for one in self.worlds)
        return sum(one.weight for one, held in zip(self.worlds, holds, strict=True) if held) / total

    @property
    def plain_breaks(self) -> tuple[str, ...]:
        """The worlds in which the plain plan misses a target."""
        return tuple(one.name for one in self.worlds if not one.plain.holds)

    def as_json(self) -> dict[str, object]:
        """Plain mapping."""
        return {
            "over": self.over,
            "holds": self.holds,
            "plain_holds": self.plain_holds,
            "objective": self.objective,
            "worst": self.worst,
            "worst_plain": self.worst_plain,
            "decides": self.decides,
            "binding": dict(self.binding),
            "same_as_plain": self.same_as_plain,
            "cost_of_robustness": {
                "cost_usd_per_request": asdict(self.cost_usd_per_request),
                "accuracy": None if self.accuracy is None else asdict(self.accuracy),
            },
            "plain": {
                "policy": dict(self.policy_plain) if isinstance(self.policy_plain, Mapping) else self.policy_plain,
                "replicas": dict(self.replicas_plain),
                "breaks_in": list(self.plain_breaks),
            },
            "worlds": [one.as_json() for one in self.worlds],
            "notes": list(self.notes),
        }
