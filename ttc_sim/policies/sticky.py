"""Policies under which a session stays where it is: unless going elsewhere pays, or for good once it has gone up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ttc_sim.base.arguments import finite, in_python
from ttc_sim.base.draws import I64
from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import MOST_REQUESTS, MOST_TOKENS
from ttc_sim.policies.costs import CostTable, cost_table
from ttc_sim.policies.followed import Around, plainly, turns_of
from ttc_sim.policies.memory import Memory, Places
from ttc_sim.policies.per_source import PerSource
from ttc_sim.policies.policy import Policy
from ttc_sim.policies.requests import Requests
from ttc_sim.policies.users_own import UserFunction


@dataclass(frozen=True, repr=False)
class Escalate(Around):
    """A session goes up to the highest of the arms that its policy has asked for, and stays there.

    Args:
        policy: that is asked at every turn; it looks at the request alone.
        arms: from the lowest to the highest; in the order in which the policy names them, if left out.

    >>> from ttc_sim.policies import Threshold
    >>> Escalate(Threshold(at=20, below="small", above="large", score="turn")).order
    ('small', 'large')
    """

    policy: Policy
    arms: Sequence[str] | None = None

    def __post_init__(self) -> None:
        check_inside("Escalate", self.policy, ())
        if self.arms is not None:
            named = isinstance(self.arms, (list, tuple)) and all(isinstance(arm, str) for arm in self.arms)
            if not named or len(set(self.arms)) != len(self.arms):
                raise InputError(
                    "Escalate", "arms", self.arms, "a list of different arms, from the lowest to the highest"
                )
            left = [arm for arm in self.policy.arm_names() if arm not in self.arms]
            if left:
                raise InputError("Escalate", "arms", self.arms, f"all that the policy names: {left[0]} too")
            more = [arm for arm in self.arms if arm not in self.policy.arm_names()]
            if self.policy.arm_names() and more:
                raise InputError("Escalate", "arms", more[0], "an arm that the policy may ask for")
        if len(self.order) < 2:
            raise InputError("Escalate", "arms", self.arms, "at least two arms, here or in the policy")

    @property
    def in_words(self) -> str:
        """What a session adds to the policy, in a line."""
        return f"a session stays at the highest of these that it has come to, of {' < '.join(self.order)}"

    @property
    def order(self) -> tuple[str, ...]:
        """The arms from the lowest to the highest."""
        return tuple(self.policy.arm_names() if self.arms is None else self.arms)

    def arm_names(self) -> tuple[str, ...]:
        """The arms, the lowest first."""
        return self.order

    def follow(self, requests: Requests, arms: Sequence[str], places: Places, memory: Memory) -> I64:
        """See :class:`~ttc_sim.policies.followed.Followed`."""
        from ttc_sim.policies.following import escalated

        asked = plainly(self.policy, requests, arms)
        rank = np.full(len(arms), -1, dtype=np.int64)
        index = np.array([list(arms).index(name) for name in self.order], dtype=np.int64)
        rank[index] = np.arange(len(index))
        if (rank[asked] < 0).any():
            other = list(arms)[int(asked[rank[asked] < 0][0])]
            raise InputError("policy", "Escalate: arms", list(self.order), f"{other} too, which the policy asked for")
        return index[escalated(rank[asked], places.conversation, memory.own)]


@dataclass(frozen=True, repr=False)
class Sticky(Around):
    """A session stays on its arm until the policy asks for another and the cache that is lost is worth it.

    A move costs what it costs to read anew what is warm at the arm left. It is made where all that is said here allows it. With
    nothing said but the policy, a session moves where that costs no more, this turn, than to stay.

    Args:
        policy: that is asked at every turn; it looks at the request alone. The first turn goes where it says.
        worth_usd: US dollars a turn that it is worth to be where the policy asks: a move may cost so much more than to stay, cache
            and answers included. 0 if neither this nor ``lost_tokens`` is given.
        lost_tokens: most tokens, warm where the session is and not where it would go, that a move may lose.
        turns: over how many turns, this one and later ones like it, what a move costs and is worth is counted.
        patience: turns in a row for which the policy must have asked for that arm.
        moves: most moves of a conversation; any number if left out, none with 0.

    >>> from ttc_sim.policies import Threshold
    >>> Sticky(Threshold(at=0.5, below="small", above="large"), worth_usd=0.02, turns=10).arm_names()
    ('small', 'large')
    """

    policy: Policy
    worth_usd: float | None = None
    lost_tokens: int | None = None
    turns: int = 1
    patience: int = 1
    moves: int | None = None

    def __post_init__(self) -> None:
        check_inside("Sticky", self.policy, (Escalate,))
        worth = self.worth_usd
        if worth is not None and (not finite(worth) or worth < 0):
            raise InputError("Sticky", "worth_usd", worth, "a finite number of US dollars a turn, at least 0")
        for name, least, most in (
            ("lost_tokens", 0, MOST_TOKENS),
            ("turns", 1, MOST_REQUESTS),
            ("patience", 1, MOST_REQUESTS),
            ("moves", 0, MOST_REQUESTS),
        ):
            value = getattr(self, name)
            optional = name in ("lost_tokens", "moves")
            if value is None and optional:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise InputError("Sticky", name, value, f"a whole number from {least} to {most:,}")
        if self.turns > 1 and not self._by_usd:
            raise InputError("Sticky", "turns", self.turns, "1 where only tokens are counted, or worth_usd beside them")
        in_python(self, "worth_usd")

    @property
    def in_words(self) -> str:
        """What a session adds to the policy, in a line."""
        said = []
        if self.moves == 0:
            return "a session stays where its first turn went"
        if self._by_usd:
            over = "this turn" if self.turns == 1 else f"each of {self.turns:,} turns"
            said.append(f"at most ${self.worth_usd or 0:.4g} more {over} than to stay")
        if self.lost_tokens is not None:
            said.append(f"at most {self.lost_tokens:,} warm tokens")
        more = f", and the policy asks for it {self.patience:,} turns in a row" if self.patience > 1 else ""
        more += "" if self.moves is None else f"; at most {self.moves:,} times"
        return f"a session stays where it is, unless to move costs {' and '.join(said)}{more}"

    @property
    def _by_usd(self) -> bool:
        return self.worth_usd is not None or self.lost_tokens is None

    def table(self, requests: Requests, arms: Sequence[str]) -> CostTable:
        """Of the arms that the policy may ask for, where it says which."""
        names = self.arm_names() or arms
        needed = (
            self._by_usd
            and self.moves != 0
            and requests.turns is not None
            and bool((requests.turns.session >= 0).any())
        )
        if needed:
            cost_table(requests.costs, names, where=repr(self), needed=True)
        return cost_table(requests.costs, arms, where=repr(self), needed=False)

    def memory(self, requests: Requests, arms: Sequence[str], places: Places) -> Memory:
        """See :class:`~ttc_sim.policies.followed.Followed`."""
        found = super().memory(requests, arms, places)
        if isinstance(self.policy, Escalate):
            found.inner = self.policy.memory(requests, arms, places)
        return found

    def follow(self, requests: Requests, arms: Sequence[str], places: Places, memory: Memory) -> I64:
        """See :class:`~ttc_sim.policies.followed.Followed`."""
        from ttc_sim.policies.following import stayed

        if isinstance(self.policy, Escalate):
            assert memory.inner is not None
            asked = self.policy.follow(requests, arms, places, memory.inner)
        else:
            asked = plainly(self.policy, requests, arms)
        table, out = self.table(requests, arms), np.empty(len(requests), dtype=np.int64)
        worth = (self.worth_usd or 0.0) if self._by_usd else np.nan
        lost = np.nan if self.lost_tokens is None else float(self.lost_tokens)
        moves = -1 if self.moves is None else self.moves
        stayed(
            asked,
            (places.conversation, places.parent, places.session),
            turns_of(requests),
            (table.on, table.usd, table.rules),
            (memory.kept, memory.used, memory.clock, memory.told),
            memory.own,
            (float(worth), lost, self.turns, self.patience, moves),
            out,
        )
        return out


def check_inside(name: str, policy: object, kinds: tuple[type[Policy], ...]) -> None:
    """What is asked must look at the request alone, or be of a kind of these that follow sessions.

    Raises:
        InputError: it is something else.
    """
    fits = isinstance(policy, Policy) and not isinstance(policy, (PerSource, UserFunction)) and not policy.looks_at_load
    if not fits or (isinstance(policy, Around) and not isinstance(policy, kinds)):
        allowed = "".join(f" or {kind.__name__}(...)" for kind in kinds)
        expected = f"a policy that looks at the request alone, such as Always('small'){allowed}"
        raise InputError(name, "policy", policy, expected)


__all__ = ["Escalate", "Sticky", "check_inside"]
