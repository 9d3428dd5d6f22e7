"""What every policy is."""

from __future__ import annotations

from collections.abc import Sequence

from ttc_sim.base.draws import I64
from ttc_sim.policies.requests import LiveRule, Load, Requests


class Policy:
    """Maps requests to arms: the base of the frozen dataclasses that a user writes.

    A policy of one's own inherits from this and has :meth:`choose`; if it looks at live load, :meth:`choose_one` as well, and
    :attr:`looks_at_load` says so. :class:`ttc_sim.testing.PolicyConformance` tests it.
    """

    def arm_names(self) -> tuple[str, ...]:
        """Arms the policy may choose, as far as it can say before it runs; empty if it cannot."""
        return ()

    def choose(self, requests: Requests, arms: Sequence[str]) -> I64:
        """Index into ``arms`` for each request, shape (n,)."""
        raise NotImplementedError(f"{type(self).__name__} needs a method choose(requests, arms)")

    @property
    def looks_at_load(self) -> bool:
        """Whether requests are sent as they arrive, by live load; then :meth:`choose` is what an empty system would give."""
        return False

    def choose_one(self, requests: Requests, index: int, arms: Sequence[str], load: Load | None = None) -> int:
        """Index of the arm of one request as it arrives, by live load."""
        return int(self.choose(requests, arms)[index])

    def live_rule(self, requests: Requests, arms: Sequence[str]) -> LiveRule | None:
        """The same as a rule that both engines know; ``None`` if it is Python alone, which the reference engine runs."""
        return None

    @property
    def looks_at_problem_alone(self) -> bool:
        """Whether the arm follows from a request's problem, whenever it arrives, so that expectations over problems hold."""
        return not self.looks_at_load

    @property
    def uses_responses(self) -> bool:
        """Whether it weighs what arms are expected to do (:class:`ttc_sim.policies.responses.Response`)."""
        return False

    def for_source(self, source: str) -> Policy:
        """The policy of one source of requests: itself, unless it has one of its own for each."""
        return self
