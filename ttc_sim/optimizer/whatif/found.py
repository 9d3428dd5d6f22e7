"""What variations come to beside the base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property

import polars as pl

from ttc_sim.base.display import Displayed
from ttc_sim.base.estimates import Estimate
from ttc_sim.optimizer.promises import TargetVerdict
from ttc_sim.simulation.differences import Compared
from ttc_sim.simulation.summary import Summary


@dataclass(frozen=True)
class Change:
    """One value that a variation changes: where it stands (or the ready-made variation), what it was in effect, and what it is."""

    path: str
    was: object
    now: object


@dataclass(frozen=True)
class CarriedOut:
    """What one policy comes to in one world.

    Attributes:
        policy: its notation, or that of each source; summary: all figures; targets: those of the scenario beside what they came to.
        compared: by name, every figure beside the base's: before, after, and the paired difference; empty for the base itself.
        status: of a plan, whether its targets are met or it is the nearest to them; ``None`` where none was made.
    """

    policy: str | Mapping[str, str]
    figures: Mapping[str, Estimate]
    summary: Summary
    targets: tuple[TargetVerdict, ...]
    compared: Mapping[str, Compared]
    status: str | None = None

    @property
    def comes_to_the_same(self) -> bool:
        """Whether nothing differs from the base."""
        return all(one.difference == Estimate(0.0, 0.0, 0.0) for one in self.compared.values())

    def as_json(self) -> dict[str, object]:
        """Plain mapping: the policy, every figure, the targets."""
        found: dict[str, object] = {"policy": self.policy if isinstance(self.policy, str) else dict(self.policy)}
        if self.status is not None:
            found["status"] = self.status
        for name, figure in self.figures.items():
            beside = self.compared.get(name)
            found[name] = asdict(figure)
            if beside is not None:
                found[name] = {
                    **asdict(figure),
                    "difference": {**asdict(beside.difference), "more_than_noise": beside.more_than_noise},
                }
        found["replicas"] = dict(self.summary.replicas)
        found["verdict"] = self.summary.verdict
        return {**found, "targets": [one.as_json() for one in self.targets]}


@dataclass(frozen=True)
class Varied:
    """One variation.

    Attributes:
        name: of the variation; changes: what differs in it from the base.
        kept: what the base's policy comes to in it; replanned: what a policy does that was planned for it, if one was.
        notes: what a reader must know.
    """

    name: str
    changes: tuple[Change, ...]
    kept: CarriedOut
    replanned: CarriedOut | None
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        """Plain mapping: ``name``, ``set``, ``was``, the figures with the policy kept, and ``replanned``."""
        return {
            "name": self.name,
            "set": {one.path: one.now for one in self.changes},
            "was": {one.path: one.was for one in self.changes},
            **self.kept.as_json(),
            "replanned": None if self.replanned is None else self.replanned.as_json(),
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class WhatIf(Displayed):
    """What :func:`ttc_sim.what_if` found.

    Attributes:
        name: of the scenario; base: the scenario as it is; variations: in the order in which they were asked for.
        notes: what a reader of any figure must know.
    """

    name: str
    base: CarriedOut
    variations: tuple[Varied, ...]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        said = [f"{one.name}: {_in_brief(one.kept)}" for one in self.variations[:3]]
        more = len(self.variations) - len(said)
        return f"<WhatIf on {self.name}: {'; '.join(said)}{f'; and {more} more' if more else ''}>"

    @cached_property
    def table(self) -> pl.DataFrame:
        """One row per variation, policy (``kept`` or ``replanned``) and figure."""
        rows = [
            (
                one.name,
                policy,
                name,
                beside.before.value,
                beside.after.value,
                beside.difference.value,
                beside.difference.low,
                beside.difference.high,
                beside.more_than_noise,
            )
            for one in self.variations
            for policy, carried in (("kept", one.kept), ("replanned", one.replanned))
            if carried is not None
            for name, beside in carried.compared.items()
        ]
        numbers = ("base", "value", "difference", "low", "high")
        schema = {
            **dict.fromkeys(("variation", "policy", "figure"), pl.String),
            **dict.fromkeys(numbers, pl.Float64),
            "more_than_noise": pl.Boolean,
        }
        return pl.DataFrame(rows, schema=schema, orient="row")

    def as_json(self) -> dict[str, object]:
        """Plain mapping for JSON: ``base`` and ``variations``, figures by name with their intervals and what they differ by."""
        return {
            "scenario": self.name,
            "base": self.base.as_json(),
            "variations": [one.as_json() for one in self.variations],
            "notes": list(self.notes),
        }


def _in_brief(carried: CarriedOut) -> str:
    said = []
    for name, times, unit in (
        ("accuracy", 100.0, " points"),
        ("cost_usd_per_month", 1.0, " $ a month"),
        ("latency_p95_s", 1.0, " s p95"),
    ):
        if name in carried.compared:
            said.append(f"{times * carried.compared[name].difference.value:+.3g}{unit}")
    return ", ".join(said)


__all__ = ["CarriedOut", "Change", "Varied", "WhatIf"]
