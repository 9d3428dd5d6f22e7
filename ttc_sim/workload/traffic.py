"""What every arrival process yields."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ttc_sim.base.draws import F64, I64


@dataclass(frozen=True)
class Traffic:
    """Arrivals of ``n`` requests and, where the process carries them, their lengths.

    Attributes:
        arrival_s: (n,) seconds, not decreasing, from 0; NaN for requests that wait for an answer.
        client: (n,) index of the client; 0 where there is one.
        prompt_tokens, reasoning_tokens, visible_tokens: (n,) or ``None``.
        prefix_id: (n,) prefix that the prompt shares with others, numbered from 0, -1 for none; or ``None``.
        after: (n,) request whose answer this one waits for, or -1, with ``think_s`` (n,) seconds between; ``None`` if none waits.
        rate_per_s: mean rate in the long run: the configured one where there is one, else that of these arrivals.
        prefix_tokens: (n,) leading tokens of the prompt that are those of its prefix; all of it if ``None``.
        notes: what a reader of any figure must know of them.
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

    @staticmethod
    def of(arrival_s: F64, rate_per_s: float) -> Traffic:
        """Requests of one client that arrive then, and carry no lengths.

        >>> Traffic.of(np.array([0.5, 0.7]), 2.0).client
        array([0, 0])
        """
        return Traffic(arrival_s, np.zeros(len(arrival_s), dtype=np.int64), None, None, None, None, rate_per_s)
