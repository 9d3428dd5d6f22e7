"""Thinking ended early, and thinking made to go on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import betainc, betaln, expit

from ttc_sim.base.draws import F64, I64


@dataclass(frozen=True)
class ForcedAnswers:
    """How often an answer forced after a share of the thinking is already the final one.

    The share of its thinking that an attempt needs is Beta-distributed; its mean and spread move with the logarithm of how
    long the attempt thinks (which says more than the problem's level does). A small part needs all of it.

    The default is fitted (:func:`fit_forced`) to DeepSeek-R1-Distill-Qwen-32B on 270 MATH-500 problems, measured by
    meitann/LLM_Reasoning.

    Attributes:
        mean: intercept and slope of the logit of the mean needed share, over the logarithm of thinking tokens / 500.
        precision: intercept and slope of the logarithm of the Beta's a + b.
        whole: share of attempts that need all of their thinking.
    """

    mean: tuple[float, float] = (0.2423, -0.1648)
    precision: tuple[float, float] = (0.8404, -0.0584)
    whole: float = 0.0556

    def stands(self, share: F64, thinking: F64) -> F64:
        """Chance that the answer stands after a share (0 to 1) of so many tokens of thinking; arrays of one shape."""
        x = np.log(np.maximum(thinking, 1.0) / 500.0)
        mean, total = expit(self.mean[0] + self.mean[1] * x), np.exp(self.precision[0] + self.precision[1] * x)
        part = (1 - self.whole) * betainc(mean * total, (1 - mean) * total, np.clip(share, 0.0, 1.0))
        chance: F64 = np.where(share >= 1.0, 1.0, part)
        return chance

    def needed(self, thinking: F64) -> F64:
        """Mean share of the thinking after which the answer stands."""
        x = np.log(np.maximum(thinking, 1.0) / 500.0)
        mean: F64 = self.whole + (1 - self.whole) * expit(self.mean[0] + self.mean[1] * x)
        return mean


def fit_forced(needed_share: F64, thinking: F64) -> ForcedAnswers:
    """Maximum likelihood from the shares of thinking (above 0; 1: all) that attempts of so many tokens needed."""
    whole = needed_share >= 0.995
    x = np.log(np.maximum(thinking[~whole], 1.0) / 500.0)
    y = np.clip(needed_share[~whole], 0.005, 0.995)

    def loss(p: F64) -> float:
        mean, total = expit(p[0] + p[1] * x), np.exp(np.clip(p[2] + p[3] * x, -3, 6))
        a, b = mean * total, (1 - mean) * total
        return float(-np.sum((a - 1) * np.log(y) + (b - 1) * np.log1p(-y) - betaln(a, b)))

    best = minimize(
        loss, np.array([0.0, 0.0, 1.0, 0.0]), method="Nelder-Mead", options={"maxiter": 4000, "xatol": 1e-6}
    )
    p = best.x
    return ForcedAnswers((float(p[0]), float(p[1])), (float(p[2]), float(p[3])), float(whole.mean()))


@dataclass(frozen=True, eq=False)
class Probes:
    """Answers that attempts were made to give on their way: whether each was right.

    What was right on the way and wrong in the end is overthinking: accuracy over the cap then rises, peaks and falls.

    Attributes:
        start: (attempts + 1,) those of attempt ``k`` are ``start[k]:start[k + 1]``, the earliest first.
        tokens: (probes,) of thinking before each; right: (probes,) whether it was.
    """

    start: I64
    tokens: I64
    right: NDArray[np.bool_]

    def at(self, cap: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """(attempts,) whether any was asked of it, and whether an answer forced after ``cap`` tokens is right.

        It is the last one's that was asked for by then; before the first one nothing is known to be right.
        """
        by_then = np.concatenate([[0], np.cumsum(self.tokens <= cap)])
        count = by_then[self.start[1:]] - by_then[self.start[:-1]]
        last = np.maximum(self.start[:-1] + count - 1, 0)
        right = np.zeros(len(count), dtype=np.bool_) if not len(self.right) else (count > 0) & self.right[last]
        return np.diff(self.start) > 0, right

    def selected(self, at: I64) -> Probes:
        """Those of some attempts."""
        size = np.diff(self.start)[at]
        start = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
        rows = np.repeat(self.start[at] - start[:-1], size) + np.arange(start[-1])
        return Probes(start, self.tokens[rows], self.right[rows])


@dataclass(frozen=True)
class Extensions:
    """What one more "Wait" does to an answer.

    ``gain``: chance that a wrong answer becomes right, for a problem that the model can solve at all; it shrinks by ``fades``
    with every further extension. ``loss``: chance that a right answer becomes wrong, the same every time; so accuracy rises,
    peaks and falls, sooner on easy problems, where there is little to gain. Each adds ``longer`` times the attempt's own
    thinking.

    The defaults are fitted to what s1-32B gains by forcing (arXiv 2501.19393: AIME 50.0 to 56.7, MATH-500 92.6 to 93.0, GPQA
    56.6 to 59.6 percent, each taken as one extension) and to GSM8K falling from 87.3 to 70.3 percent when 1,100 tokens of
    thinking become 15,980 (arXiv 2506.04210).
    """

    gain: float = 0.129
    loss: float = 0.0185
    fades: float = 0.3
    longer: float = 1.0

    def after(self, accuracy: F64, extensions: int) -> F64:
        """Accuracy after so many extensions of problems that are all solvable, from the accuracy before."""
        for k in range(extensions):
            accuracy = accuracy + (1 - accuracy) * self.gain * self.fades**k - accuracy * self.loss
        return accuracy
