"""Several attempts; the most frequent answer wins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ttc_sim.base.arguments import share, whole
from ttc_sim.base.errors import InputError
from ttc_sim.strategies.attempt import (
    MOST_SAMPLES,
    BudgetForcing,
    SeveralAttempts,
    Single,
    check_cap,
    check_sample,
    samples,
)
from ttc_sim.strategies.outcomes import OnCap, Outcome, Trial, enough, vote


@dataclass(frozen=True, repr=False)
class MajorityVote(SeveralAttempts):
    """``n`` parallel attempts; the most frequent answer wins.

    Args:
        n: attempts per request.
        cap, on_cap: as for :class:`Single`, for each attempt.
        ties: ``"random"`` among the most frequent answers, or ``"shortest"``: the one that the shortest attempt gave.
        stop_early: cancel the rest as soon as the outcome is decided (``True``), or as soon as the leading answer is ahead
            with this probability (adaptive consistency, arXiv 2305.11860).
        of: what each attempt does, instead of a cap.

    >>> MajorityVote(n=5, of=BudgetForcing(cap=4096))
    MajorityVote(n=5, of=BudgetForcing(cap=4096))
    """

    n: int
    cap: int | None = None
    on_cap: OnCap = "truncate"
    ties: Literal["random", "shortest"] = "random"
    stop_early: bool | float = False
    of: Single | BudgetForcing | None = None

    def __post_init__(self) -> None:
        whole("MajorityVote", "n", self.n, 1, MOST_SAMPLES, "attempts")
        check_cap("MajorityVote", self.cap, self.on_cap)
        check_sample("MajorityVote", self.of, self.cap)
        if not isinstance(self.ties, str) or self.ties not in ("random", "shortest"):
            raise InputError("MajorityVote", "ties", self.ties, "'random' or 'shortest'")
        if not isinstance(self.stop_early, bool):
            share("MajorityVote", "stop_early", self.stop_early)

    def carry_out(self, trial: Trial) -> Outcome:
        """Samples, of which those that end after the vote is decided are cancelled."""
        made = samples(trial, self.n, self.attempt)
        answer, needed = made.answer, None
        if self.stop_early is not False and self.n > 1:
            needed = enough(answer, made.tokens, 1.0 if self.stop_early is True else float(self.stop_early))
            # Those that are cancelled do not vote.
            rank = np.argsort(np.argsort(made.tokens, axis=1, kind="stable"), axis=1)
            answer = np.where(rank < needed[:, None], answer, -1)
        shortest = made.tokens if self.ties == "shortest" else None
        final = vote(answer, made.correct, trial.draw("tie", 1)[:, 0], shortest)
        return Outcome.of(made, final, needed)

    @property
    def votes(self) -> bool:
        """It does."""
        return True
