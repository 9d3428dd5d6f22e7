"""Logs of live requests: each decision with what became of it, as flat arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ttc_sim.base.draws import F64, I64

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Counts:
    """What stood in the files, and what of it was not used.

    Attributes:
        lines: all that are whole; torn: those that were cut off as they were written.
        repeated: lines that say again what another one said.
        other_plans: decisions of another plan than the logs were read for.
        without_outcome: decisions of whose end nothing is known.
        outcomes_alone, grades_alone: outcomes and grades whose decision is not there.
        regraded: requests of which a later grade says otherwise than one before; the last counts.
        fell_back: decisions for which the policy could not be asked.
    """

    lines: int = 0
    torn: int = 0
    repeated: int = 0
    other_plans: int = 0
    without_outcome: int = 0
    outcomes_alone: int = 0
    grades_alone: int = 0
    regraded: int = 0
    fell_back: int = 0

    def as_json(self) -> dict[str, int]:
        """By name."""
        return asdict(self)

    @property
    def notes(self) -> tuple[str, ...]:
        """In words, what is not 0."""
        words = {
            "torn": "lines cut off as they were written: left out",
            "repeated": "lines that were there already: counted once",
            "other_plans": "decisions of another plan: left out",
            "without_outcome": "decisions without an outcome (still on their way, or lost)",
            "outcomes_alone": "outcomes without a decision: left out",
            "grades_alone": "grades without a decision: left out",
            "regraded": "requests graded again, and otherwise: the last grade counts",
            "fell_back": "decisions that the policy was not asked for, as its predictor failed",
        }
        return tuple(f"{getattr(self, name):,} {said}" for name, said in words.items() if getattr(self, name))


@dataclass(frozen=True)
class Logs:
    """``n`` decisions in the order in which they were made, each with what became of it. Arrays are (n,) unless said otherwise.

    Attributes:
        request: names; at: seconds since 1970, UTC.
        source: index into ``sources``; session: number of the session, each its own; -1 of none.
        arm: that the request was sent to; policy_arm: that the policy chose; indices into ``arms``.
        propensity: chance with which the arm was chosen, above 0 to 1.
        offered: (n, arms) those that might have been chosen, the one that was included.
        prompt_tokens: as told or estimated when it was decided.
        scores: by name; NaN where the decision has none of that name.
        predicted: ``chance``, ``tokens``, ``usd`` and ``seconds`` of the arm; NaN where not known.
        fell_back: whether the policy was not asked, as its predictor failed.
        has_outcome: whether it is known what became of it; what follows is NaN, or -1, where it is not.
        ended_at: seconds since 1970, UTC; answered_by: arm that answered, or was the last that did not; status: index into
            ``STATUSES``.
        latency_s, first_token_s, calls, read_tokens (of prompts, all calls), cached_tokens, reasoning_tokens, visible_tokens, usd:
            as of :class:`~ttc_sim.deploying.decisions.Outcome`; first_token_s is NaN of an answer without any.
        correct: 1 right, 0 wrong or not answered, NaN where nobody graded an answer, or nothing is known of any.
        counts: of the files.
    """

    request: pl.Series = field(repr=False)
    at: F64 = field(repr=False)
    sources: tuple[str, ...]
    source: I64 = field(repr=False)
    session: I64 = field(repr=False)
    arms: tuple[str, ...]
    arm: I64 = field(repr=False)
    policy_arm: I64 = field(repr=False)
    propensity: F64 = field(repr=False)
    offered: Flags = field(repr=False)
    prompt_tokens: I64 = field(repr=False)
    scores: Mapping[str, F64] = field(repr=False)
    predicted: Mapping[str, F64] = field(repr=False)
    fell_back: Flags = field(repr=False)
    has_outcome: Flags = field(repr=False)
    ended_at: F64 = field(repr=False)
    answered_by: I64 = field(repr=False)
    status: I64 = field(repr=False)
    latency_s: F64 = field(repr=False)
    first_token_s: F64 = field(repr=False)
    calls: F64 = field(repr=False)
    read_tokens: F64 = field(repr=False)
    cached_tokens: F64 = field(repr=False)
    reasoning_tokens: F64 = field(repr=False)
    visible_tokens: F64 = field(repr=False)
    usd: F64 = field(repr=False)
    correct: F64 = field(repr=False)
    counts: Counts

    def __len__(self) -> int:
        return len(self.at)

    @property
    def output_tokens(self) -> F64:
        """Reasoning and visible together, all calls; NaN without an outcome."""
        return self.reasoning_tokens + self.visible_tokens


__all__ = ["Counts", "Flags", "Logs"]
