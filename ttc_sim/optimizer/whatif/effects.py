"""What a ready-made variation is asked for, and what it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ttc_sim.base.errors import InputError
from ttc_sim.optimizer.whatif.paths import RELATIVE, factor_of
from ttc_sim.simulation.drawing import Draws
from ttc_sim.workload.population import Population


@dataclass(frozen=True)
class Effect:
    """What a ready-made variation does.

    Attributes:
        changes: of the scenario, by path.
        population: of problems, attempts and scores; draws: of what arrives.
        requests: how many times as many arrive in a run, so that it is as long.
        notes: what a reader must know.
    """

    changes: Mapping[str, object]
    population: Callable[[Population], Population] | None = None
    draws: Callable[[Draws], Draws] | None = None
    requests: float = 1.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """A ready-made variation as it was asked for: of which arm (``None``: all), what, and where that was said."""

    name: str
    arm: str | None
    value: object
    where: str

    def wrong(self, expected: str, value: object = None) -> InputError:
        """It cannot be had."""
        field = self.name if self.arm is None else f"{self.name}:{self.arm}"
        return InputError(self.where, field, self.value if value is None else value, expected)

    @property
    def factor(self) -> float:
        """That it multiplies by."""
        found = factor_of(self.value)
        if found is None or found <= 0 or found == 1:
            raise self.wrong(f"how many times as much, {RELATIVE}")
        return found


__all__ = ["Asked", "Effect"]
