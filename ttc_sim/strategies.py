"""Strategies: how test-time compute is spent on one request.

A strategy is a small frozen dataclass that a user writes as ``Single(cap=4096)``. What it does to tokens and
correctness is in :mod:`ttc_sim.outcomes`, vectorised over all requests.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ttc_sim import notation
from ttc_sim.errors import InputError


def _check_cap(where: str, cap: int | None, on_cap: str) -> None:
    if cap is not None and (isinstance(cap, bool) or not isinstance(cap, int) or cap < 1):
        raise InputError(where, "cap", cap, "a whole number of output tokens, at least 1, or None")
    if on_cap not in ("truncate", "force_answer"):
        raise InputError(where, "on_cap", on_cap, "'truncate' or 'force_answer'")


@dataclass(frozen=True)
class Single:
    """One attempt, with an optional cap on its output tokens (reasoning and visible together).

    Args:
        cap: most output tokens, or ``None`` for the model's own limit.
        on_cap: what happens to an attempt that would be longer: ``"truncate"`` stops it without an answer;
            ``"force_answer"`` ends the thinking at the cap and has it answer from there.

    >>> Single(cap=4096)
    Single(cap=4096, on_cap='truncate')
    """

    cap: int | None = None
    on_cap: Literal["truncate", "force_answer"] = "truncate"

    def __post_init__(self) -> None:
        _check_cap("Single", self.cap, self.on_cap)

    @property
    def samples(self) -> int:
        """Samples drawn per request."""
        return 1


@dataclass(frozen=True)
class MajorityVote:
    """``n`` parallel attempts; the most frequent answer wins, a tie by the draw of the request.

    Args:
        n: attempts per request, at least 1.
        cap: as for :class:`Single`, for each attempt.
        on_cap: as for :class:`Single`.

    >>> MajorityVote(n=3).samples
    3
    """

    n: int
    cap: int | None = None
    on_cap: Literal["truncate", "force_answer"] = "truncate"

    def __post_init__(self) -> None:
        if isinstance(self.n, bool) or not isinstance(self.n, int) or not 1 <= self.n <= 1024:
            raise InputError("MajorityVote", "n", self.n, "a whole number of attempts from 1 to 1024")
        _check_cap("MajorityVote", self.cap, self.on_cap)

    @property
    def samples(self) -> int:
        """Samples drawn per request."""
        return self.n


Strategy: TypeAlias = Single | MajorityVote

STRATEGIES: dict[str, type] = {"Single": Single, "MajorityVote": MajorityVote}


def parse_strategy(text: str, *, where: str = "strategy", field: str = "strategy") -> Strategy:
    """Read the one notation of strategies.

    >>> parse_strategy("MajorityVote(n=3, cap=2048)")
    MajorityVote(n=3, cap=2048, on_cap='truncate')
    """
    made = notation.parse(text, STRATEGIES, where=where, field=field)
    if not isinstance(made, (Single, MajorityVote)):
        raise InputError(where, field, text, "a strategy such as Single(cap=4096) or MajorityVote(n=3)")
    return made


def with_cap(strategy: Strategy, cap: int | None) -> Strategy:
    """The same strategy under another cap."""
    return dataclasses.replace(strategy, cap=cap)
