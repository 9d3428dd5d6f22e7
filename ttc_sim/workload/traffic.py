"""What every arrival process yields."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.draws import F64, I64
from ttc_sim.base.prefix_tree import PrefixTree
from ttc_sim.workload.beginnings import Beginnings


@dataclass(frozen=True)
class Traffic:
    """Arrivals of ``n`` requests and, where the process carries them, their lengths.

    Attributes:
        arrival_s: (n,) seconds, not decreasing, from 0; NaN for requests that wait for an answer.
        client: (n,) index of the client; 0 where there is one.
        prompt_tokens, reasoning_tokens, visible_tokens: (n,) or ``None``.
        prefix_id: (n,) prefix that the prompt shares with others, numbered from 0, -1 for none; or ``None``.
        after: (n,) request whose answer this one waits for, or -1, with ``think_s`` (n,) seconds between; ``None`` if none waits.
        rate_per_s: mean rate, by which a day's bill is reckoned. Of requests that were asked for by number it is that in the long
            run: the configured one where there is one, else that of these arrivals. Of a rate that grows, of several processes and
            of a duration it is what is expected in the run over the time that it lasts.
        prefix_tokens: (n,) leading tokens of the prompt that are those of its prefix; all of it if ``None``.
        notes: what a reader of any figure must know of them.
        lasts_s: seconds of the run, from 0, where a duration was asked for; ``None`` where a number of requests was.
        prefixes: what the prefixes have in common, by ``prefix_id``; nothing if ``None``.
        session: (n,) number of the session that it is a turn of, -1 of none; turn: (n,) which one, from 0; reused_tokens: (n,)
            leading tokens of its prompt that its session has sent or had answered before; ``None`` without any.
        recorded: (n,) number of the recorded session that it was drawn from, -1 of none; ``None`` without any.
        ends: (n,) whether it is the last request of its session, also of those that are left out here; the last that is here if
            ``None``.
        beginnings: what prompts of sessions begin with, from which their prefixes follow; ``None`` where that is not known.
        summary: (n,) whether a request asks for a summary of its conversation, as the policy would have it; ``None`` if none does.
        goes_on_per_s: mean rate of each process in the long run after the run, where that is not ``rate_per_s``.
    """

    arrival_s: F64
    client: I64
    prompt_tokens: I64 | None
    reasoning_tokens: I64 | None
    visible_tokens: I64 | None
    prefix_id: I64 | None
    rate_per_s: float
    after: I64 | None = None
    think_s: F64 | None = None
    prefix_tokens: I64 | None = None
    notes: tuple[str, ...] = ()
    lasts_s: float | None = None
    goes_on_per_s: tuple[float, ...] = ()
    prefixes: PrefixTree | None = None
    session: I64 | None = None
    turn: I64 | None = None
    reused_tokens: I64 | None = None
    recorded: I64 | None = None
    ends: NDArray[np.bool_] | None = None
    beginnings: Beginnings | None = None
    summary: NDArray[np.bool_] | None = None

    def with_ends(self) -> Traffic:
        """The same, with the last request of each session that is here as its last of all, where nothing else is known."""
        if self.session is None or self.ends is not None:
            return self
        last = np.full(int(self.session.max(initial=-1)) + 2, -1, dtype=np.int64)
        last[self.session] = np.arange(len(self.session))
        ends = np.zeros(len(self.session), dtype=np.bool_)
        found = last[:-1]  # what is of no session stands at the end
        ends[found[found >= 0]] = True
        return replace(self, ends=ends)

    def taken(self, at: I64 | slice) -> Traffic:
        """Some of the requests, in order; none of them waits for one that is left out."""
        changed: dict[str, Any] = {}
        for one in fields(self):
            values = getattr(self, one.name)
            if isinstance(values, np.ndarray):
                changed[one.name] = values[at]
        if self.after is not None:
            number = np.full(len(self.arrival_s) + 1, -1, dtype=np.int64)
            kept = np.arange(len(self.arrival_s))[at]
            number[kept] = np.arange(len(kept))
            changed["after"] = number[changed["after"]]
        if self.prefixes is not None:
            changed["prefixes"], renumbered = self.prefixes.kept(changed["prefix_id"])
            changed["prefix_id"] = renumbered[changed["prefix_id"]]
        if self.beginnings is not None:
            changed["beginnings"] = self.beginnings.taken(at)
        return replace(self, **changed)

    @staticmethod
    def of(arrival_s: F64, rate_per_s: float) -> Traffic:
        """Requests of one client that arrive then, and carry no lengths.

        >>> Traffic.of(np.array([0.5, 0.7]), 2.0).client
        array([0, 0])
        """
        return Traffic(arrival_s, np.zeros(len(arrival_s), dtype=np.int64), None, None, None, None, rate_per_s)
