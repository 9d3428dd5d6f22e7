"""What every strategy is: what it does to the requests of a trial, and what others must know of it."""

from __future__ import annotations

from ttc_sim.base.errors import InputError, users_code
from ttc_sim.base.notation import call_of
from ttc_sim.base.plugins import called, is_shipped
from ttc_sim.strategies.checking import checked
from ttc_sim.strategies.outcomes import CarriedOut, Outcome, Trial


class Strategy:
    """How test-time compute is spent on one request: the base of the frozen dataclasses that a user writes.

    A strategy of one's own is a frozen dataclass that inherits from this and has :meth:`carry_out`; its fields are the arguments
    of its notation. What it does must follow from the trial alone, so that the same request fares alike in every simulation.
    :class:`ttc_sim.testing.StrategyConformance` tests it.
    """

    def carry_out(self, trial: Trial) -> Outcome:
        """What becomes of the requests of a trial."""
        raise NotImplementedError(f"{type(self).__name__} needs a method carry_out(trial)")

    @property
    def attempt_cap(self) -> int | None:
        """The cap on each attempt, output tokens; ``None`` if there is none."""
        return None

    @property
    def attempt_caps(self) -> tuple[int | None, ...]:
        """The caps on its attempts at the arm's own model, stage after stage."""
        return (self.attempt_cap,)

    @property
    def takes_cap(self) -> bool:
        """Whether the optimizer may set a cap on it, by :meth:`with_cap`."""
        return False

    def with_cap(self, cap: int | None) -> Strategy:
        """The same strategy under another cap.

        Raises:
            InputError: its attempts have no cap.
        """
        raise InputError("strategy", "cap", repr(self), "a strategy whose attempts have a cap")

    @property
    def other_arms(self) -> tuple[str, ...]:
        """Other arms of the scenario that it sends requests on to."""
        return ()

    @property
    def verifiers(self) -> tuple[str, ...]:
        """Deployments that its verifiers and judges run on."""
        return ()

    @property
    def votes(self) -> bool:
        """Whether the outcome depends on which answers are the same."""
        return False

    @property
    def reads_scores(self) -> bool:
        """Whether a verifier's scores must be in the profile."""
        return False

    def check_consent(self) -> None:
        """See, before long work is begun, that it may be carried out.

        Raises:
            InputError: a function in a file that nobody has consented to.
        """

    def __repr__(self) -> str:
        """The call without what is left at its default: its notation."""
        return call_of(self)


def carry_out(strategy: CarriedOut, trial: Trial) -> Outcome:
    """Carry a strategy out on the requests of a trial.

    Raises:
        InputError: what the strategy needs is not in the profile, or a user's own failed or returned something else.

    >>> import numpy as np
    >>> from ttc_sim.strategies import Single
    >>> from ttc_sim.strategies.outcomes import Attempts, seeded_trial
    >>> one = np.array([0, 1], dtype=np.int64)
    >>> made = Attempts("x", one, one[1:], one[:1], one[1:], np.array([True]), None, True)
    >>> carry_out(Single(), seeded_trial(made, np.zeros(3, dtype=np.int64))).correct
    array([ True,  True,  True])
    """
    if is_shipped(type(strategy)):
        return strategy.carry_out(trial)
    where = called(type(strategy))
    with users_code(where, "carry_out", "a strategy that carries a Trial out"):
        made = strategy.carry_out(trial)
        known = (strategy.verifiers, strategy.other_arms) if isinstance(strategy, Strategy) else (None, None)
    return checked(made, trial, where, deployments=known[0], arms=known[1])
