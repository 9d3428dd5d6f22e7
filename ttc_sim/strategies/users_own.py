"""A user's own function as a strategy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ttc_sim.base.errors import users_code
from ttc_sim.strategies.checking import checked
from ttc_sim.strategies.kind import Strategy
from ttc_sim.strategies.outcomes import Outcome, Trial


@dataclass(frozen=True, repr=False)
class UserStrategy(Strategy):
    """A user's own: ``file.py:function`` with a function from a :class:`ttc_sim.strategies.outcomes.Trial` to its ``Outcome``."""

    where: str
    function: Any

    def __repr__(self) -> str:
        return self.where

    def carry_out(self, trial: Trial) -> Outcome:
        """What the function returns.

        Raises:
            InputError: it failed, or returned something else than an outcome of these requests.
        """
        with users_code(self.where, "strategy", "a function that carries a Trial out"):
            made = self.function(trial)
        return checked(made, trial, self.where)
