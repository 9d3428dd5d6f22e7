"""A user's own function as a strategy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ttc_sim.base.errors import InputError
from ttc_sim.strategies.kind import Strategy, checked
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
        try:
            made = self.function(trial)
        except InputError:
            raise
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            raise InputError(self.where, "strategy", said, "a function that carries a Trial out") from error
        return checked(made, trial, self.where)
