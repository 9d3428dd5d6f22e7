"""How good predicted probabilities are: AUROC, Brier score and calibration error, with bootstrap intervals.

A problem counts once, however often it was attempted: its label is the ``share`` of its attempts that were right, so that it
stands for ``share`` right and ``1 - share`` wrong outcomes. Every function takes weights of shape (R, n), a row a resample,
and answers for all of them at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ttc_sim.draws import F64, I64, uniforms
from ttc_sim.metrics import Estimate

BINS = 15
RESAMPLES = 1000
LEVEL = 0.95
_CELLS = 2_000_000  # of a block of weights: what stays small beside the problems themselves


@dataclass(frozen=True)
class Bootstrap:
    """Resamples of ``n`` problems: whole clusters, drawn with replacement.

    Args:
        cluster: (n,) index of each problem's cluster, 0 to C - 1; the problems' own numbers to resample problems.
        resamples: how many; seed: of the draws, which depend on nothing else but C.

    >>> boot = Bootstrap(np.arange(4), resamples=2, seed=1)
    >>> [float(block.sum()) for block in boot.blocks()]
    [8.0]
    """

    cluster: I64
    resamples: int = RESAMPLES
    seed: int = 0

    def blocks(self) -> Iterator[F64]:
        """Weights of the problems, (rows, n): how often each was drawn; rows add up to ``resamples`` over all blocks."""
        clusters = int(self.cluster.max()) + 1
        at_once = max(1, _CELLS // max(len(self.cluster), clusters))
        for start in range(0, self.resamples, at_once):
            rows = min(at_once, self.resamples - start)
            drawn = uniforms(self.seed, f"bootstrap/{clusters}", rows, clusters, start=start)
            index = (drawn * clusters).astype(np.int64) + np.arange(rows)[:, None] * clusters
            count = np.bincount(index.ravel(), minlength=rows * clusters).reshape(rows, clusters)
            yield count.astype(np.float64)[:, self.cluster]


def one(count: int) -> F64:
    """Weights of the sample itself, (1, n)."""
    return np.ones((1, count))


def interval(value: float, resampled: F64) -> Estimate:
    """Percentile interval of a figure from its resampled values; those that do not exist (NaN) are left out."""
    kept = resampled[np.isfinite(resampled)]
    if not len(kept):
        return Estimate(value, float("nan"), float("nan"))
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(kept, [tail, 1 - tail])
    return Estimate(value, min(float(low), value), max(float(high), value))


def error_interval(value: float, resampled: F64) -> Estimate:
    """Interval of a figure that noise can only raise, such as a calibration error.

    Resamples carry the noise twice, so the percentile interval lies too high. The lower end is the basic bootstrap's
    (twice the value less the upper percentile), which takes the noise off; the upper end is the percentile interval's.
    """
    plain = interval(value, resampled)
    return Estimate(value, max(0.0, min(2 * value - plain.high, plain.low)), plain.high)


def tie_starts(ordered: F64) -> I64:
    """Where runs of equal values start in a sorted array."""
    return np.flatnonzero(np.concatenate([[True], np.diff(ordered) != 0])).astype(np.int64)


class Auroc:
    """Area under the ROC curve of scores ``p`` (n,), for any weights.

    It is the chance that a right outcome got a higher score than a wrong one, ties counting half.

    >>> float(Auroc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([0.0, 1.0, 0.0, 1.0]))(np.ones((1, 4)))[0])
    0.875
    """

    def __init__(self, p: F64, share: F64) -> None:
        self.order = np.argsort(p, kind="stable")
        self.starts = tie_starts(p[self.order])
        self.right = share[self.order]

    def __call__(self, weight: F64) -> F64:
        """(R,) areas; NaN where all outcomes are alike."""
        sorted_weight = weight[:, self.order]
        all_right = sorted_weight * self.right
        right = np.add.reduceat(all_right, self.starts, axis=1)
        wrong = np.add.reduceat(sorted_weight - all_right, self.starts, axis=1)
        below = np.cumsum(wrong, axis=1) - wrong / 2
        pairs = right.sum(axis=1) * wrong.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(pairs > 0, (right * below).sum(axis=1) / pairs, np.nan)


class Brier:
    """Mean squared error of probabilities ``p`` against single outcomes, for any weights.

    >>> float(Brier(np.array([0.5, 0.5]), np.array([1.0, 0.5]))(np.ones((1, 2)))[0])
    0.25
    """

    def __init__(self, p: F64, share: F64) -> None:
        self.loss = share * (1 - p) ** 2 + (1 - share) * p**2

    def __call__(self, weight: F64) -> F64:
        """(R,) means."""
        return np.asarray(weight @ self.loss / weight.sum(axis=1))


class CalibrationError:
    """Expected calibration error over bins of equally many problems, for any weights.

    The mean distance between predicted probability and share right of a bin, weighted by its problems. Problems of equal
    probability share a bin; the bins stay those of the sample when it is resampled.
    """

    def __init__(self, p: F64, share: F64, bins: int = BINS) -> None:
        self.order = np.argsort(p, kind="stable")
        ordered = p[self.order]
        wanted = np.unique((np.arange(bins) * len(p)) // bins)
        starts = tie_starts(ordered)
        self.starts = np.unique(starts[np.searchsorted(starts, wanted, side="right") - 1])
        self.off = ordered - share[self.order]

    def __call__(self, weight: F64) -> F64:
        """(R,) calibration errors."""
        off = np.add.reduceat(weight[:, self.order] * self.off, self.starts, axis=1)
        return np.asarray(np.abs(off).sum(axis=1) / weight.sum(axis=1))


@dataclass(frozen=True)
class Bin:
    """One bin of a reliability plot: mean probability predicted, share that was right with its interval, problems."""

    predicted: float
    right: Estimate
    problems: int


@dataclass(frozen=True)
class Quality:
    """What predicted probabilities of one model are worth; ``rate`` is what ``brier_constant`` always predicts."""

    auroc: Estimate
    brier: Estimate
    brier_constant: Estimate
    calibration_error: Estimate
    rate: float
    reliability: tuple[Bin, ...]
    problems: int


def quality(p: F64, share: F64, bootstrap: Bootstrap, *, rate: float | None = None, bins: int = BINS) -> Quality:
    """All figures with intervals from the same resamples.

    Args:
        p: (n,) probabilities; share: (n,) of each problem's attempts that were right.
        bootstrap: resamples of these problems.
        rate: the constant to compare with; the mean of ``share`` if left out.

    >>> p = np.tile([0.2, 0.8], 50)
    >>> quality(p, p, Bootstrap(np.arange(100), 50)).calibration_error.value
    0.0
    """
    constant = float(share.mean()) if rate is None else rate
    error = CalibrationError(p, share, bins)
    parts = (Auroc(p, share), Brier(p, share), Brier(np.full_like(p, constant), share), error)
    values = [float(part(one(len(p)))[0]) for part in parts]
    resampled: list[list[F64]] = [[] for _ in parts]
    right: list[F64] = []
    ordered_share = share[error.order]
    for weight in bootstrap.blocks():
        for found, part in zip(resampled, parts, strict=True):
            found.append(part(weight))
        here = weight[:, error.order]
        with np.errstate(invalid="ignore"):
            right.append(
                np.add.reduceat(here * ordered_share, error.starts, axis=1)
                / np.add.reduceat(here, error.starts, axis=1)
            )
    auroc, brier, brier_constant, calibration = (np.concatenate(found) for found in resampled)
    size = np.diff(np.append(error.starts, len(p)))
    mean_p = np.add.reduceat(p[error.order], error.starts) / size
    mean_share = np.add.reduceat(ordered_share, error.starts) / size
    by_bin = np.concatenate(right)
    return Quality(
        auroc=interval(values[0], auroc),
        brier=interval(values[1], brier),
        brier_constant=interval(values[2], brier_constant),
        calibration_error=error_interval(values[3], calibration),
        rate=constant,
        reliability=tuple(
            Bin(float(mean_p[k]), interval(float(mean_share[k]), by_bin[:, k]), int(size[k])) for k in range(len(size))
        ),
        problems=len(p),
    )


def difference(first: Auroc, second: Auroc, bootstrap: Bootstrap) -> Estimate:
    """By how much the first area is above the second, on the same resamples."""
    count = len(first.order)
    value = float((first(one(count)) - second(one(count)))[0])
    return interval(value, np.concatenate([first(weight) - second(weight) for weight in bootstrap.blocks()]))


def clusters_of(labels: ArrayLike) -> I64:
    """Indices from 0 of the distinct labels."""
    return np.unique(np.asarray(labels), return_inverse=True)[1].astype(np.int64)


def auroc(p: F64, share: F64) -> float:
    """Area under the ROC curve of the sample itself.

    >>> auroc(np.array([0.2, 0.9]), np.array([0.0, 1.0]))
    1.0
    """
    return float(Auroc(p, share)(one(len(p)))[0])


def brier(p: F64, share: F64) -> float:
    """Brier score of the sample itself."""
    return float(Brier(p, share)(one(len(p)))[0])


def calibration_error(p: F64, share: F64, bins: int = BINS) -> float:
    """Expected calibration error of the sample itself."""
    return float(CalibrationError(p, share, bins)(one(len(p)))[0])


__all__ = [
    "Auroc",
    "Bin",
    "Bootstrap",
    "Brier",
    "CalibrationError",
    "Quality",
    "auroc",
    "brier",
    "calibration_error",
    "clusters_of",
    "difference",
    "error_interval",
    "interval",
    "quality",
]
