"""Measured attempts, and what came of requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.draws import F64, I64
from ttc_sim.strategies.outcomes.forcing import ForcedAnswers, Probes

Bools = NDArray[np.bool_]
MODELLED = "samples modelled, not measured, as more are asked for than were made (docs/more-samples.md)"
"""What is said where :func:`ttc_sim.strategies.outcomes.modelled_share` is above 0."""
LIMITED = "attempts stopped at a limit before they answered, so that what more tokens would have brought is unknown"
"""What is said where :meth:`Attempts.stopped_before` is above 0."""


@dataclass(frozen=True, eq=False)
class Attempts:
    """A profile's attempts on ``P`` problems, problem by problem.

    Attributes:
        name: of the profile.
        start: (P + 1,) attempts on problem ``p`` are ``start[p]:start[p + 1]``; none where it was not measured.
        prompt_tokens: (attempts,), and so on, in tokens.
        correct: (attempts,) whether the answer was right.
        answer: (attempts,) code of the answer; -1 where none was given; ``None`` if answers were not recorded.
        reasoning_known: whether reasoning tokens are told apart from visible ones.
        verifier_score: (attempts,) scores of a verifier, higher is better; ``None`` if there are none.
        truncated: (attempts,) whether a limit stopped it before it answered; ``None`` if that was not recorded.
        forced: how answers forced early come out, fitted to the profile's own; ``None`` for the default.
        expected: (P,) predicted chances to be right, by which problems are alike; ``None`` if there are none.
        probes: answers forced on the way, where those were measured; ``None`` if they were not.
    """

    name: str
    start: I64
    prompt_tokens: I64
    reasoning_tokens: I64
    visible_tokens: I64
    correct: Bools
    answer: I64 | None
    reasoning_known: bool
    verifier_score: F64 | None = None
    truncated: Bools | None = None
    forced: ForcedAnswers | None = None
    expected: F64 | None = None
    probes: Probes | None = None

    @cached_property
    def count(self) -> I64:
        """(P,) attempts on each problem."""
        return np.diff(self.start)

    @cached_property
    def owner(self) -> I64:
        """(attempts,) problem of each attempt."""
        return np.repeat(np.arange(len(self.count)), self.count)

    @cached_property
    def right(self) -> I64:
        """(P,) right attempts on each problem."""
        total = np.concatenate([[0], np.cumsum(self.correct)])
        right: I64 = (total[self.start[1:]] - total[self.start[:-1]]).astype(np.int64)
        return right

    def stopped_before(self, cap: int | None) -> float:
        """Share of attempts that a limit stopped before they answered, and before they had come to the cap; 0 if not recorded."""
        if self.truncated is None or not len(self.truncated):
            return 0.0
        before = True if cap is None else self.reasoning_tokens + self.visible_tokens < cap
        return float(np.mean(self.truncated & before))

    def selected(self, start: I64, at: I64) -> Attempts:
        """Some of the attempts: ``at`` them, problem by problem as ``start`` says."""

        def taken(values: NDArray[Any] | None) -> Any:
            return None if values is None else values[at]

        return replace(
            self,
            start=start,
            prompt_tokens=self.prompt_tokens[at],
            reasoning_tokens=self.reasoning_tokens[at],
            visible_tokens=self.visible_tokens[at],
            correct=self.correct[at],
            answer=taken(self.answer),
            verifier_score=taken(self.verifier_score),
            truncated=taken(self.truncated),
            probes=None if self.probes is None else self.probes.selected(at),
        )

    def between(self, problems: I64, first: I64, last: I64) -> Attempts:
        """Attempts ``first`` to ``last`` of each of some problems, in the order that these are given in."""
        size = last - first
        start = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
        at = np.repeat(self.start[problems] + first - start[:-1], size) + np.arange(start[-1])
        expected = None if self.expected is None else self.expected[problems]
        return replace(self.selected(start, at), expected=expected)


@dataclass(frozen=True)
class Samples:
    """``n`` attempts of each of ``m`` requests; arrays are (m, n).

    Attributes:
        prompt_tokens: (m,).
        thinking: tokens of thinking; the whole output where thinking was not recorded apart.
        answered: whether there is an answer at all.
        answer: codes; equal where answers are, within a request; negative where there is none.
        score: of the profile's verifier, if it carries any.
    """

    prompt_tokens: I64
    reasoning_tokens: I64
    visible_tokens: I64
    correct: Bools
    answered: Bools
    answer: I64
    score: F64 | None = None

    @property
    def tokens(self) -> I64:
        """(m, n) output tokens."""
        return self.reasoning_tokens + self.visible_tokens


@dataclass(frozen=True)
class Stage:
    """Samples that run at the same time on one deployment.

    Attributes:
        deployment: name; ``None`` is the arm's own. ``arm``: runs where that arm does, if one is named.
        runs: (m,) which requests come to this stage.
        prompt_tokens: (m,); reasoning_tokens, visible_tokens: (m, n).
        needed: (m,) samples that end before the rest is cancelled.
    """

    runs: Bools
    prompt_tokens: I64
    reasoning_tokens: I64
    visible_tokens: I64
    needed: I64
    deployment: str | None = None
    arm: str | None = None

    @property
    def calls(self) -> int:
        """API calls with a prompt of their own: the readings of a verifier, which has a deployment of its own; else one."""
        return 1 if self.deployment is None else self.visible_tokens.shape[1]

    @cached_property
    def cut_tokens(self) -> tuple[I64, I64]:
        """Reasoning and visible tokens (m, n) up to the moment when the last needed sample ends, all going equally fast."""
        n = self.visible_tokens.shape[1]
        if (self.needed >= n).all():
            return self.reasoning_tokens, self.visible_tokens
        total = self.reasoning_tokens + self.visible_tokens
        last = np.take_along_axis(np.sort(total, axis=1), self.needed[:, None] - 1, axis=1)
        reasoning = np.minimum(self.reasoning_tokens, last)
        return reasoning, np.minimum(self.visible_tokens, last - reasoning)


@dataclass(frozen=True)
class Outcome:
    """What came of ``m`` requests.

    Attributes:
        stages: one after the other.
        correct: (m,) whether the final answer is right.
    """

    stages: tuple[Stage, ...]
    correct: Bools

    @staticmethod
    def of(samples: Samples, correct: Bools, needed: I64 | None = None) -> Outcome:
        """One stage on the arm's own deployment."""
        m, n = samples.visible_tokens.shape
        stage = Stage(
            runs=np.ones(m, dtype=np.bool_),
            prompt_tokens=samples.prompt_tokens,
            reasoning_tokens=samples.reasoning_tokens,
            visible_tokens=samples.visible_tokens,
            needed=np.full(m, n, dtype=np.int64) if needed is None else needed,
        )
        return Outcome((stage,), correct)

    def then(self, stages: Sequence[Stage], correct: Bools) -> Outcome:
        """The same, and more stages after it."""
        return Outcome((*self.stages, *stages), correct)

    def only(self, runs: Bools, arm: str | None = None) -> Outcome:
        """The same for some of the requests, on another arm's deployment if one is named."""
        return Outcome(
            tuple(replace(one, runs=one.runs & runs, arm=one.arm or arm) for one in self.stages), self.correct
        )

    @property
    def samples(self) -> int:
        """Samples of a request on the arm's own deployment, all stages together."""
        return sum(one.visible_tokens.shape[1] for one in self.stages if one.deployment is None and one.arm is None)

    @property
    def prompt_tokens(self) -> I64:
        """(m,) of all stages that run."""
        return np.asarray(sum(np.where(one.runs, one.prompt_tokens, 0) for one in self.stages))

    @property
    def reasoning_tokens(self) -> I64:
        """(m,) of all stages and samples, each as far as it goes."""
        return np.asarray(sum(np.where(one.runs, one.cut_tokens[0].sum(axis=1), 0) for one in self.stages))

    @property
    def visible_tokens(self) -> I64:
        """(m,) of all stages and samples, each as far as it goes."""
        return np.asarray(sum(np.where(one.runs, one.cut_tokens[1].sum(axis=1), 0) for one in self.stages))


def reading(deployment: str, prompt: I64, n: int, tokens: int, runs: Bools) -> Stage:
    """A verifier's or judge's call of each request that runs: its prompt (m,) tokens, and ``n`` outputs of so many tokens."""
    m = len(prompt)
    return Stage(
        runs=runs,
        prompt_tokens=prompt,
        reasoning_tokens=np.zeros((m, n), dtype=np.int64),
        visible_tokens=np.full((m, n), tokens, dtype=np.int64),
        needed=np.full(m, n, dtype=np.int64),
        deployment=deployment,
    )
