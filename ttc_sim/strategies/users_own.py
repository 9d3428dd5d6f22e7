"""A user's own function as a strategy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ttc_sim.base.consent import FileFunction, called_by
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

    def check_consent(self) -> None:
        """See that the file of the function may run, if it stands in one."""
        if isinstance(self.function, FileFunction):
            self.function.check_consent()

    @property
    def is_at_hand(self) -> bool:
        """Whether it can be called without running a file first."""
        return not isinstance(self.function, FileFunction) or self.function.has_run

    def carry_out(self, trial: Trial) -> Outcome:
        """What the function returns.

        Raises:
            InputError: it failed, or returned something else than an outcome of these requests.
        """
        function = called_by(self.function)
        with users_code(self.where, "strategy", "a function that carries a Trial out"):
            made = function(trial)
        return checked(made, trial, self.where)
