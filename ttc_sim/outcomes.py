"""What a strategy does to tokens and correctness, vectorised over requests, from measured attempts.

Accuracy and tokens need no queue: they follow from the problem, the strategy and the draws of the request. The basis is
the joint empirical distribution: a request's samples are attempts that the model really made on the request's problem.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ttc_sim.draws import F64, I64
from ttc_sim.errors import InputError
from ttc_sim.strategies import Single, Strategy

Bools = NDArray[np.bool_]
_PAIRS_AT_ONCE = 20_000_000  # pairs of answers compared at once, which bounds memory

# Share of problems whose forced answer already equals the final one after 0, 5, ..., 100 percent of the thinking:
# DeepSeek-R1-Distill-Qwen-32B on 270 MATH-500 problems, measured by meitann/LLM_Reasoning.
# fmt: off
FORCED_ANSWER_STANDS = np.array(
    [
        0.0,
        0.037,
        0.052,
        0.089,
        0.13,
        0.167,
        0.215,
        0.252,
        0.293,
        0.348,
        0.4,
        0.437,
        0.485,
        0.559,
        0.619,
        0.689,
        0.752,
        0.789,
        0.83,
        0.874,
        0.956,
    ]
)


@dataclass(frozen=True)
class Attempts:
    """A profile's attempts on ``P`` problems, problem by problem.

    Attributes:
        name: of the profile.
        start: (P + 1,) attempts on problem ``p`` are ``start[p]:start[p + 1]``; none where it was not measured.
        prompt_tokens: (attempts,), and so on, in tokens.
        correct: (attempts,) whether the answer was right.
        answer: (attempts,) code of the answer; -1 where none was given; ``None`` if answers were not recorded.
        reasoning_known: whether reasoning tokens are told apart from visible ones.
    """

    name: str
    start: I64
    prompt_tokens: I64
    reasoning_tokens: I64
    visible_tokens: I64
    correct: Bools
    answer: I64 | None
    reasoning_known: bool

    @property
    def count(self) -> I64:
        """(P,) attempts on each problem."""
        return np.diff(self.start)


@dataclass(frozen=True)
class Outcome:
    """What came of ``m`` requests with ``n`` samples each.

    Attributes:
        prompt_tokens: (m,).
        reasoning_tokens: (m, n) hidden output tokens of each sample; visible_tokens: (m, n) the rest; together >= 1.
        correct: (m,) whether the request's final answer is right.
    """

    prompt_tokens: I64
    reasoning_tokens: I64
    visible_tokens: I64
    correct: Bools


def pick_attempts(attempts: Attempts, problem: I64, picks: F64) -> I64:
    """Choose attempts for each request: without repeats while there are any left, then all over again.

    Args:
        problem: (m,) problem of each request; each must have at least one attempt.
        picks: (m, n) uniform draws.

    Returns:
        (m, n) indices into the attempts.
    """
    m, n = picks.shape
    count, start = attempts.count[problem], attempts.start[problem]
    if n == 1:
        return (start + np.minimum((picks[:, 0] * count).astype(np.int64), count - 1))[:, None]
    # A partial Fisher-Yates shuffle of each request's own attempts, column by column.
    most = int(count.max(initial=1))
    order = np.tile(np.arange(most), (m, 1))
    chosen = np.empty((m, n), dtype=np.int64)
    rows = np.arange(m)
    for j in range(n):
        at = j % count
        swap = at + np.minimum((picks[:, j] * (count - at)).astype(np.int64), count - at - 1)
        picked = order[rows, swap]
        order[rows, swap], order[rows, at] = order[rows, at], picked
        chosen[:, j] = picked
    return chosen + start[:, None]


def _capped(strategy: Strategy, attempts: Attempts, chosen: I64, forced: F64) -> tuple[I64, I64, Bools, Bools]:
    """Reasoning and visible tokens, correctness and whether there is an answer, of attempts under the cap."""
    reasoning, visible = attempts.reasoning_tokens[chosen], attempts.visible_tokens[chosen]
    correct = attempts.correct[chosen]
    if strategy.cap is None:
        return reasoning, visible, correct, np.ones_like(correct)
    total = reasoning + visible
    cap = np.int64(strategy.cap)
    if strategy.on_cap == "truncate":
        kept = np.minimum(reasoning, cap)
        fits = total <= cap
        return kept, np.minimum(visible, cap - kept), correct & fits, fits
    # Thinking is ended at the cap and the answer follows; where thinking was not recorded apart, the whole output
    # counts as thinking. An attempt that was wrong in the end is taken to be wrong when forced as well.
    thinking = reasoning if attempts.reasoning_known else total
    over = thinking > cap
    share = np.minimum(cap / np.maximum(thinking, 1), 1.0)
    stands = forced < np.interp(share, np.linspace(0.0, 1.0, len(FORCED_ANSWER_STANDS)), FORCED_ANSWER_STANDS)
    correct = correct & (~over | stands)
    if attempts.reasoning_known:
        return np.minimum(reasoning, cap), visible, correct, np.ones_like(correct)
    return reasoning, np.where(over, cap, visible), correct, np.ones_like(correct)


def carry_out(strategy: Strategy, attempts: Attempts, problem: I64, picks: F64, forced: F64, tie: F64) -> Outcome:
    """Carry a strategy out for ``m`` requests.

    Args:
        strategy: with ``n = strategy.samples`` samples.
        attempts: of the profile of the model.
        problem: (m,) problem of each request.
        picks: (m, n) uniform draws that choose attempts; forced: (m, n) that decide forced answers; tie: (m,) that
            break ties of a vote.

    Raises:
        InputError: a vote on a profile whose answers were not recorded.
    """
    chosen = pick_attempts(attempts, problem, picks)
    reasoning, visible, correct, answered = _capped(strategy, attempts, chosen, forced)
    if isinstance(strategy, Single):
        final = correct[:, 0]
    else:
        if attempts.answer is None:
            raise InputError(attempts.name, "answer", "not recorded", f"recorded answers, which {strategy!r} votes on")
        final = vote(np.where(answered, attempts.answer[chosen], -1), correct, tie)
    return Outcome(attempts.prompt_tokens[chosen[:, 0]], reasoning, visible, final)


def vote(answer: I64, correct: Bools, tie: F64) -> Bools:
    """Majority vote of each row: whether the most frequent answer is right.

    Args:
        answer: (m, n) answer codes; -1 abstains.
        correct: (m, n) whether each is right; equal answers may differ here by the grader's noise, the first counts.
        tie: (m,) uniform draws: among the most frequent answers that one wins.

    >>> vote(np.array([[7, 7, 9]]), np.array([[True, True, False]]), np.array([0.5]))
    array([ True])
    """
    n = answer.shape[1]
    rows = max(_PAIRS_AT_ONCE // (n * n), 1)
    if len(answer) > rows:
        parts = [slice(at, at + rows) for at in range(0, len(answer), rows)]
        return np.concatenate([vote(answer[part], correct[part], tie[part]) for part in parts])
    same = answer[:, :, None] == answer[:, None, :]
    votes = same.sum(axis=2)
    first = ~np.tril(same, -1).any(axis=2)  # no equal answer further left
    votes = np.where(first & (answer >= 0), votes, 0)
    best = votes.max(axis=1, keepdims=True)
    leading = (votes == best) & (best > 0)
    rank = np.cumsum(leading, axis=1)
    wanted = 1 + np.minimum((tie * rank[:, -1]).astype(np.int64), n - 1)
    winner = leading & (rank == wanted[:, None])
    result: Bools = (winner & correct).any(axis=1)
    return result
