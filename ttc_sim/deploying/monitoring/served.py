"""Requests that were decided and what became of them, in flat arrays: of a log, or of a plan's own simulation beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.draws import F64, I64
from ttc_sim.engine.work import COMPLETED, FAILED, IN_FLIGHT, REJECTED, TIMED_OUT
from ttc_sim.policies import DIFFICULTY
from ttc_sim.simulation.billing import Run
from ttc_sim.simulation.model import Model
from ttc_sim.strategies import Single, Strategy

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Served:
    """``n`` requests whose end is known, in the order in which they were sent.

    Attributes:
        at_s: (n,) when each was sent, in seconds; of a log on the clock of UTC.
        sources, arms: names; source, arm: (n,) index into them, the arm that was decided; answered_by: that answered, or was the
            last that did not.
        status: (n,) as the engines have it: ``COMPLETED``, ``TIMED_OUT``, ``REJECTED`` or ``FAILED``.
        latency_s: (n,) from sent to the end; first_token_s: (n,) NaN where none came.
        calls: (n,) of models; NaN where that is not known. prompt, cached, reasoning, visible: (n,) tokens of all of them.
        usd: (n,) of calls; pools and fixed fees are paid by the hour, and stand elsewhere.
        correct: (n,) of the answer, 1 or 0; NaN where nobody graded it.
        told: (n,) prompt tokens as the policy was told; scores: (n,) each, NaN where one has none.
        chance: (n,) of a right answer, as predicted; NaN where it was not.
        problem: (n,) of a simulation: which problem it is, so that repeated ones are not taken for many; -1 of a log.
    """

    at_s: F64
    sources: tuple[str, ...]
    arms: tuple[str, ...]
    source: I64
    arm: I64
    answered_by: I64
    status: I64
    latency_s: F64
    first_token_s: F64
    calls: F64
    prompt: F64
    cached: F64
    reasoning: F64
    visible: F64
    usd: F64
    correct: F64
    told: F64
    scores: Mapping[str, F64]
    chance: F64
    problem: I64

    def __len__(self) -> int:
        return len(self.at_s)

    @property
    def answered(self) -> Bools:
        """(n,) whether an answer came in time."""
        return np.asarray(self.status == COMPLETED)

    @property
    def timed(self) -> Bools:
        """(n,) whether its seconds count in percentiles: a request that timed out is as late as when it gave up."""
        return np.asarray((self.status == COMPLETED) | (self.status == TIMED_OUT))

    @property
    def output(self) -> F64:
        """(n,) reasoning and visible tokens."""
        return self.reasoning + self.visible

    @property
    def graded(self) -> Bools:
        """(n,) answered, and known to be right or wrong."""
        return self.answered & ~np.isnan(self.correct)

    def right(self) -> tuple[F64, F64]:
        """(n,) right answers, and what each request counts for: none of those answered without a grade, and of those that got no
        answer, which are wrong for sure, the share that is graded of the others."""
        graded, answered = self.graded, self.answered
        share = float(graded.sum() / answered.sum()) if answered.any() else 1.0
        counts = np.where(graded, 1.0, np.where(answered, 0.0, share if graded.any() else 0.0))
        return np.where(graded, np.nan_to_num(self.correct), 0.0), counts

    def taken(self, rows: I64 | Bools) -> Served:
        """Some of them."""
        kept: dict[str, Any] = {
            one.name: value[rows] for one in fields(self) if isinstance(value := getattr(self, one.name), np.ndarray)
        }
        return replace(self, **kept, scores={name: values[rows] for name, values in self.scores.items()})


def of_runs(model: Model, runs: Sequence[Run]) -> Served:
    """The requests of simulated runs, one run after another on the clock."""
    parts = [_of_run(model, run) for run in runs]
    start, joined = 0.0, []
    for part in parts:
        joined.append(replace(part, at_s=part.at_s + start))
        start = float(joined[-1].at_s.max(initial=start)) + 1.0
    first = joined[0]
    made: dict[str, Any] = {
        one.name: np.concatenate([getattr(part, one.name) for part in joined])
        for one in fields(first)
        if isinstance(getattr(first, one.name), np.ndarray)
    }
    scores = {name: np.concatenate([part.scores[name] for part in joined]) for name in first.scores}
    return replace(first, **made, scores=scores)


def _of_run(model: Model, run: Run) -> Served:
    result, n = run.result, len(run.arm)
    calls = np.full(n, np.nan)
    single = np.array([_is_one_call(arm.strategy) for arm in model.arms])
    once = single[run.arm] & single[run.answered_by]
    tries = 1.0 + result.retries
    if result.attempts is not None:
        tries = tries + result.attempts.error_retries + result.attempts.timeout_retries + result.attempts.fallbacks
    calls[once] = tries[once]
    scores = {name: np.asarray(values, dtype=np.float64) for name, values in run.requests.scores.items()}
    whole = Served(
        at_s=np.asarray(result.arrival_s, dtype=np.float64),
        sources=tuple(run.requests.sources),
        arms=tuple(model.arm_names),
        source=np.asarray(run.requests.source, dtype=np.int64),
        arm=np.asarray(run.arm, dtype=np.int64),
        answered_by=np.asarray(run.answered_by, dtype=np.int64),
        status=result.status.astype(np.int64),
        latency_s=run.latency_s,
        first_token_s=run.ttft_s,
        calls=calls,
        prompt=run.prompt_tokens.astype(np.float64),
        cached=run.cached_tokens.astype(np.float64),
        reasoning=run.reasoning_tokens.astype(np.float64),
        visible=run.visible_tokens.astype(np.float64),
        usd=run.api_cost_usd,
        correct=np.where(result.status == COMPLETED, run.answered_correctly, np.nan),
        told=np.asarray(run.requests.prompt_tokens, dtype=np.float64),
        scores=scores,
        chance=np.full(n, np.nan),
        problem=np.full(n, -1) if run.row is None else np.asarray(run.row, dtype=np.int64),
    )
    return whole.taken(np.flatnonzero((result.status != IN_FLIGHT) & ~np.isnan(result.arrival_s)))


def _is_one_call(strategy: Strategy) -> bool:
    return isinstance(strategy, Single) and (strategy.cap is None or strategy.on_cap == "truncate")


__all__ = ["COMPLETED", "DIFFICULTY", "FAILED", "REJECTED", "TIMED_OUT", "Served", "of_runs"]
