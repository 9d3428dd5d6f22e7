"""What every policy is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args, get_type_hints

import numpy as np

from ttc_sim.base.arrays import refuse, whole_numbers
from ttc_sim.base.draws import I64
from ttc_sim.base.errors import InputError, users_code
from ttc_sim.base.notation import call_of
from ttc_sim.base.plugins import called, is_shipped
from ttc_sim.policies.requests import LiveRule, Load, Requests


class Policy:
    """Maps requests to arms: the base of the frozen dataclasses that a user writes.

    A policy of one's own inherits from this and has :meth:`choose`; or, if it looks at live load, :attr:`looks_at_load` says so and
    it has :meth:`choose_one`. :class:`ttc_sim.testing.PolicyConformance` tests it.
    """

    def arm_names(self) -> tuple[str, ...]:
        """Arms the policy may choose, as far as it can say before it runs; empty if it cannot."""
        return ()

    def choose(self, requests: Requests, arms: Sequence[str]) -> I64:
        """Index into ``arms`` for each request, shape (n,): by what is known of that request, whichever others there are."""
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

    def get_ready(self) -> None:
        """Have all that is needed to choose, before long work is begun: what a user's file holds is run."""

    def for_source(self, source: str) -> Policy:
        """The policy of one source of requests: itself, unless it has one of its own for each."""
        return self

    def __repr__(self) -> str:
        """The call that makes it again: its notation."""
        return call_of(self)


def choose_arms(policy: Policy, requests: Requests, arms: Sequence[str]) -> I64:
    """The arm that a policy chooses for each request, by index, shape (n,).

    Raises:
        InputError: a user's own policy failed, or chose what is not there.

    >>> from ttc_sim.policies import Always, Requests
    >>> two = Requests(np.zeros(2), np.zeros(2, dtype=np.int64), ("all",), np.ones(2, dtype=np.int64), {})
    >>> choose_arms(Always("large"), two, ["small", "large"]).tolist()
    [1, 1]
    """
    if is_shipped(type(policy)):
        return policy.choose(requests, arms)
    where = called(type(policy))
    with users_code(where, "choose", "an arm for each request"):
        made = policy.choose(requests, arms)
    chosen = whole_numbers(where, "choose", made, (len(requests),))
    refuse(where, "choose", chosen, (chosen < 0) | (chosen >= len(arms)), f"an index into {len(arms)} arms, from 0")
    return chosen


def choose_live(policy: Policy, requests: Requests, index: int, arms: Sequence[str], load: Load) -> int:
    """The arm that a policy which looks at live load chooses for one request as it arrives, by index.

    Raises:
        InputError: a user's own policy failed, or chose what is not there.
    """
    if is_shipped(type(policy)):
        return policy.choose_one(requests, index, arms, load)
    where, expected = called(type(policy)), f"an index into {len(arms)} arms, from 0"
    with users_code(where, f"choose_one, request {index}", expected):
        made = policy.choose_one(requests, index, arms, load)
    if isinstance(made, bool) or not isinstance(made, (int, np.integer)) or not 0 <= made < len(arms):
        raise InputError(where, f"choose_one, request {index}", made, expected)
    return int(made)


def rule_of(policy: Policy, requests: Requests, arms: Sequence[str]) -> LiveRule | None:
    """A policy that looks at live load as a rule that both engines know, if it is one.

    Raises:
        InputError: a user's own policy failed, or returned no such rule.
    """
    if is_shipped(type(policy)):
        return policy.live_rule(requests, arms)
    where = called(type(policy))
    with users_code(where, "live_rule", "a LiveRule or None"):
        rule = policy.live_rule(requests, arms)
    if rule is None:
        return None
    kinds = get_args(get_type_hints(LiveRule)["kind"])
    if not isinstance(rule, LiveRule) or rule.kind not in kinds:
        raise InputError(where, "live_rule", rule, "a LiveRule of the kind " + " or ".join(kinds))
    choices = rule.arms.shape[1] if np.ndim(rule.arms) == 2 else 0
    order = whole_numbers(where, "live_rule: arms", rule.arms, (len(requests), max(choices, 1)))
    refuse(where, "live_rule: arms", order, (order < 0) | (order >= len(arms)), f"an index into {len(arms)} arms")
    if isinstance(rule.limit, bool) or not isinstance(rule.limit, int) or rule.limit < 0:
        raise InputError(where, "live_rule: limit", rule.limit, "a whole number of sequences, at least 0")
    return LiveRule(rule.kind, order, rule.limit)
