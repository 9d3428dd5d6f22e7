"""What a session may spend, and what becomes of it then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.arguments import finite, in_python
from ttc_sim.base.draws import I64
from ttc_sim.base.errors import InputError, nearest
from ttc_sim.base.limits import MOST_TOKENS
from ttc_sim.policies.costs import CostTable, cost_table
from ttc_sim.policies.followed import ENDED, Around, Followed, plainly, turns_of
from ttc_sim.policies.memory import Memory, Places, places_of
from ttc_sim.policies.policy import Policy
from ttc_sim.policies.requests import Requests
from ttc_sim.policies.sticky import Escalate, Sticky, check_inside
from ttc_sim.policies.turns import BLOCK


@dataclass(frozen=True, repr=False)
class SessionBudget(Around):
    """A session may spend so much; once it has, its later turns go to another arm, or its contexts are made shorter, or it ends.

    The turn that goes beyond it is still sent: what it costs is known when it is answered. Dollars are those that are expected of
    the session: its tokens at the arms' prices, found in the caches as far as its turns were sent there before and in time.

    Args:
        policy: that chooses until then; one that follows sessions may stand here too.
        usd: US dollars a session; tokens: of prompts and answers, cached or not. One of both, or the one that is spent first.
        to: arm of all turns after that; or
        at_end: ``"stop"``: they are not sent; or ``"compact"``: their contexts are made shorter, also on the arm ``to``.
        above_tokens: with ``"compact"``: where a prompt would be longer than this, a summary is asked for first, by a turn of its
            own that the policy sends somewhere as any other, and takes the place of what the prompt held behind its head.
        to_tokens: that a prompt has then, summary and all, before it grows again.

    >>> from ttc_sim.policies import Always
    >>> SessionBudget(Always("large"), usd=2.0, to="small").arm_names()
    ('large', 'small')
    """

    policy: Policy
    usd: float | None = None
    tokens: int | None = None
    to: str | None = None
    at_end: Literal["stop", "compact"] | None = None
    above_tokens: int | None = None
    to_tokens: int | None = None

    def __post_init__(self) -> None:
        check_inside("SessionBudget", self.policy, (Sticky, Escalate))
        if self.usd is None and self.tokens is None:
            raise InputError("SessionBudget", "usd", None, "US dollars a session, or tokens, or both")
        if self.usd is not None and (not finite(self.usd) or self.usd <= 0):
            raise InputError("SessionBudget", "usd", self.usd, "a finite number of US dollars a session, above 0")
        whole = isinstance(self.tokens, int) and not isinstance(self.tokens, bool)
        if self.tokens is not None and not (whole and 1 <= self.tokens <= _MOST_TOKENS):
            raise InputError("SessionBudget", "tokens", self.tokens, f"a whole number from 1 to {_MOST_TOKENS:,}")
        if self.at_end != "compact" and (self.to is None) == (self.at_end is None):
            expected = "an arm to go on at, or at_end='stop', one of them; or at_end='compact', with or without an arm"
            raise InputError("SessionBudget", "to", self.to, expected)
        if self.to is not None and not isinstance(self.to, str):
            raise InputError("SessionBudget", "to", self.to, "the name of an arm")
        if self.at_end not in (None, "stop", "compact"):
            raise InputError("SessionBudget", "at_end", self.at_end, "'stop' or 'compact'")
        self._check_lengths()
        in_python(self, "usd")

    def _check_lengths(self) -> None:
        for name in ("above_tokens", "to_tokens"):
            value = getattr(self, name)
            if self.at_end != "compact":
                if value is not None:
                    raise InputError(
                        "SessionBudget", name, value, "at_end='compact' beside it, which makes contexts shorter"
                    )
                continue
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not (whole and 1 <= value <= MOST_TOKENS):
                expected = f"a whole number from 1 to {MOST_TOKENS:,}, with at_end='compact'"
                raise InputError("SessionBudget", name, value, expected)
        if self.above_tokens is not None and self.to_tokens is not None and self.to_tokens >= self.above_tokens:
            raise InputError(
                "SessionBudget", "to_tokens", self.to_tokens, f"less than above_tokens {self.above_tokens:,}"
            )

    @property
    def in_words(self) -> str:
        """What a session adds to the policy, in a line."""
        spent = [] if self.usd is None else [f"${self.usd:.4g}"]
        spent += [] if self.tokens is None else [f"{self.tokens:,} tokens"]
        after = "" if self.to is None else f"all its turns go to {self.to}"
        if self.at_end == "stop":
            after = "it ends"
        elif self.at_end == "compact":
            after += ", and " if after else ""
            after += f"a context longer than {self.above_tokens:,} tokens is made shorter, to {self.to_tokens:,}"
        return f"once a session has spent {' or '.join(spent)}, {after}"

    def arm_names(self) -> tuple[str, ...]:
        """Those of the policy, and the arm that it ends with; empty if the policy's are not known."""
        names = self.policy.arm_names()
        return tuple(dict.fromkeys([*names, *([] if self.to is None else [self.to])])) if names else ()

    def table(self, requests: Requests, arms: Sequence[str]) -> CostTable:
        """Of the arms that it may come to, where that is known."""
        of_sessions = requests.turns is not None and bool((requests.turns.session >= 0).any())
        if self.usd is not None and of_sessions:
            cost_table(requests.costs, self.arm_names() or arms, where=repr(self), needed=True)
        return cost_table(requests.costs, arms, where=repr(self), needed=False)

    def memory(self, requests: Requests, arms: Sequence[str], places: Places) -> Memory:
        """See :class:`~ttc_sim.policies.followed.Followed`."""
        found = super().memory(requests, arms, places)
        if isinstance(self.policy, Followed):
            found.inner = self.policy.memory(requests, arms, places)
        return found

    def follow(self, requests: Requests, arms: Sequence[str], places: Places, memory: Memory) -> I64:
        """See :class:`~ttc_sim.policies.followed.Followed`."""
        return self._followed(requests, arms, places, memory)[0]

    def to_compact(self, requests: Requests, arms: Sequence[str]) -> NDArray[np.bool_]:
        """(n,) turns before which contexts are to be made shorter, of sessions as they are without that: behind the first such turn
        of a session all is different once it has been."""
        if self.at_end != "compact" or requests.turns is None:
            return np.zeros(len(requests), dtype=np.bool_)
        places = places_of(requests.turns, requests.prompt_tokens)
        return self._followed(requests, arms, places, self.memory(requests, arms, places))[1]

    def compacts_at(self, memory: Memory, prompt_tokens: int, head_tokens: int) -> bool:
        """Whether the context of a next turn is to be made shorter first, of the one session that is remembered."""
        if self.at_end != "compact" or self.above_tokens is None or self.to_tokens is None:
            return False
        usd, tokens = memory.spent[0, :2].tolist()
        spent = (self.usd is not None and usd >= self.usd) or (self.tokens is not None and tokens >= self.tokens)
        return spent and prompt_tokens > self.above_tokens and head_tokens + BLOCK < self.to_tokens

    def _followed(
        self, requests: Requests, arms: Sequence[str], places: Places, memory: Memory
    ) -> tuple[I64, NDArray[np.bool_]]:
        from ttc_sim.policies.following import within_budget

        if isinstance(self.policy, Followed):
            assert memory.inner is not None
            asked = self.policy.follow(requests, arms, places, memory.inner)
        else:
            asked = plainly(self.policy, requests, arms)
        if self.to is not None and self.to not in arms:  # where the policy inside names none, nobody has looked before
            raise InputError("policy", "SessionBudget: to", self.to, nearest(self.to, arms))
        n, turns = len(requests), requests.turns
        assert turns is not None
        table, out, shorter = self.table(requests, arms), np.empty(n, dtype=np.int64), np.empty(n, dtype=np.bool_)
        head = np.zeros(n, dtype=np.int64) if turns.head_tokens is None else turns.head_tokens
        summary = np.zeros(n, dtype=np.bool_) if turns.summary is None else turns.summary
        then = list(arms).index(self.to) if self.to is not None else ENDED if self.at_end == "stop" else _AS_ASKED
        above, to = self.above_tokens, self.to_tokens
        lengths = (-1, 0) if above is None or to is None else (above, to - BLOCK)
        within_budget(
            asked,
            (places.conversation, places.parent, places.session),
            turns_of(requests),
            (table.on, table.usd, table.rules),
            (memory.kept, memory.used, memory.clock, memory.told),
            memory.spent,
            (np.nan if self.usd is None else float(self.usd), np.nan if self.tokens is None else float(self.tokens)),
            then,
            (np.ascontiguousarray(head), np.ascontiguousarray(summary), *lengths),
            out,
            shorter,
        )
        return out, shorter

    def answered(
        self, requests: Requests, arms: Sequence[str], places: Places, memory: Memory, arm: int, output_tokens: int
    ) -> None:
        """See :class:`~ttc_sim.policies.followed.Followed`."""
        from ttc_sim.policies.following import spent_of

        super().answered(requests, arms, places, memory, arm, output_tokens)
        if output_tokens > 0:
            table, prompt = self.table(requests, arms), int(requests.prompt_tokens[0])
            spent_of(int(places.session[0]), arm, prompt, float(output_tokens), table.usd, memory.spent)
        if memory.inner is not None and isinstance(self.policy, Followed):
            self.policy.answered(requests, arms, places, memory.inner, arm, output_tokens)


_MOST_TOKENS = 10**12
_AS_ASKED = -2  # as the compiled loop knows it

__all__ = ["SessionBudget"]
