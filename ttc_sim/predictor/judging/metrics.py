"""How good predicted probabilities are: AUROC, Brier score and calibration error, with bootstrap intervals.

A problem counts once, however often it was attempted: its label is the ``share`` of its attempts that were right, so that it
stands for ``share`` right and ``1 - share`` wrong outcomes. Every function takes weights of shape (R, n), a row a resample,
and answers for all of them at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ttc_sim.base.draws import F64, I64, uniforms
from ttc_sim.base.estimates import Estimate

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


def weighted(weight: F64, values: F64) -> F64:
    """(R,) sums of values (n,) under weights (R, n); unlike a matrix product, the same digits on any number of threads."""
    return np.asarray(np.einsum("rn,n->r", weight, values))


def interval(value: float, resampled: F64) -> Estimate:
    """Percentile interval of a figure from its resampled values; those that do not exist (NaN) are left out."""
    kept = resampled[np.isfinite(resampled)]
    if not len(kept):
        return Estimate(value, float("nan"), float("nan"))
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(kept, [tail, 1 - tail])
    return Estimate(value, min(float(low), value), max(float(high), value))


def error_interval(value: float, resampled: F64, noise: F64) -> Estimate:
    """Interval of a calibration error, which noise can only raise.

    Resamples carry the noise twice, so a percentile interval would lie too high. The lower end takes off what noise alone
    may have put there: by the triangle inequality the true error is at least the value less the mean distance between the
    sample's bins and the truth's, which ``noise`` stands for. The upper end is the percentile interval's, on the safe side.
    """
    plain = interval(value, resampled)
    return Estimate(value, max(0.0, value - interval(0.0, noise).high), plain.high)


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
        return self.of_sorted(weight[:, self.order])

    def of_sorted(self, weight: F64) -> F64:
        """The same from weights in the order of the scores."""
        right = weight * self.right
        wrong = weight - right
        if len(self.starts) < len(self.order):
            right, wrong = (np.add.reduceat(part, self.starts, axis=1) for part in (right, wrong))
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
        return np.asarray(weighted(weight, self.loss) / weight.sum(axis=1))


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
        return self.of_sorted(weight[:, self.order])

    def of_sorted(self, weight: F64) -> F64:
        """The same from weights in the order of the scores."""
        return np.asarray(np.abs(self._by_bin(weight)).sum(axis=1))

    def noise_of_sorted(self, weight: F64) -> F64:
        """(R,) mean distances between the bins of a resample and those of the sample."""
        return np.asarray(np.abs(self._by_bin(weight) - self._by_bin(one(len(self.off)))).sum(axis=1))

    def _by_bin(self, weight: F64) -> F64:
        """Predicted less right, of each bin's part of all problems, (R, bins)."""
        off = np.add.reduceat(weight * self.off, self.starts, axis=1)
        return np.asarray(off / weight.sum(axis=1, keepdims=True))


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
    """All figures of one predictor, with intervals from the same resamples.

    Args:
        p: (n,) probabilities; share: (n,) of each problem's attempts that were right.
        bootstrap: resamples of these problems.
        rate: the constant to compare with; the mean of ``share`` if left out.

    >>> p = np.tile([0.2, 0.8], 50)
    >>> quality(p, p, Bootstrap(np.arange(100), 50)).calibration_error.value
    0.0
    """
    return compared({"": p}, share, bootstrap, rate=rate, bins=bins)[0][""]


def compared(
    predictions: Mapping[str, F64], share: F64, bootstrap: Bootstrap, *, rate: float | None = None, bins: int = BINS
) -> tuple[dict[str, Quality], dict[str, Estimate]]:
    """Several predictors of the same outcomes on the same resamples.

    Args:
        predictions: by name, (n,) probabilities; the other arguments are those of :func:`quality`.

    Returns:
        Figures by name, and by how much the first one's AUROC is above each other's.
    """
    constant = float(share.mean()) if rate is None else rate
    parts = {name: _Parts(p, share, constant, bins) for name, p in predictions.items()}
    for weight in bootstrap.blocks():
        for part in parts.values():
            part.add(weight)
    found = {name: part.figures() for name, part in parts.items()}
    first, *others = parts
    areas = {name: np.concatenate(part.found[0]) for name, part in parts.items()}
    gains = {
        name: interval(found[first].auroc.value - found[name].auroc.value, areas[first] - areas[name])
        for name in others
    }
    return found, gains


class _Parts:
    """The figures of one predictor, gathered block of resamples by block."""

    def __init__(self, p: F64, share: F64, constant: float, bins: int) -> None:
        self.p, self.share, self.constant = p, share, constant
        self.auroc, self.error = Auroc(p, share), CalibrationError(p, share, bins)
        self.losses = Brier(p, share), Brier(np.full_like(p, constant), share)
        self.found: tuple[list[F64], ...] = ([], [], [], [], [], [])

    def of(self, weight: F64) -> tuple[F64, ...]:
        """AUROC, both Brier scores, calibration error and its noise, and share right by bin, for each row of weights."""
        # Scores are sorted once for all that needs them in order.
        ordered, starts = weight[:, self.error.order], self.error.starts
        with np.errstate(invalid="ignore"):
            size = np.add.reduceat(ordered, starts, axis=1)
            right = np.add.reduceat(ordered * self.auroc.right, starts, axis=1) / size
        brier, brier_constant = (loss(weight) for loss in self.losses)
        error, noise = self.error.of_sorted(ordered), self.error.noise_of_sorted(ordered)
        return self.auroc.of_sorted(ordered), brier, brier_constant, error, noise, right

    def add(self, weight: F64) -> None:
        for kept, values in zip(self.found, self.of(weight), strict=True):
            kept.append(values)

    def figures(self) -> Quality:
        count = len(self.p)
        auroc, brier, brier_constant, error, noise, right = (np.concatenate(kept) for kept in self.found)
        values = [values[0] for values in self.of(one(count))]
        size = np.diff(np.append(self.error.starts, count))
        predicted = np.add.reduceat(self.p[self.error.order], self.error.starts) / size
        return Quality(
            auroc=interval(float(values[0]), auroc),
            brier=interval(float(values[1]), brier),
            brier_constant=interval(float(values[2]), brier_constant),
            calibration_error=error_interval(float(values[3]), error, noise),
            rate=self.constant,
            reliability=tuple(
                Bin(float(predicted[k]), interval(float(values[5][k]), right[:, k]), int(size[k]))
                for k in range(len(size))
            ),
            problems=count,
        )


@dataclass(frozen=True)
class PartBrier:
    """Brier scores on a part of the problems, NaN where it holds too few; without an interval where it is one cluster."""

    problems: int
    brier: Estimate
    brier_constant: Estimate


def brier_by_part(
    p: F64,
    share: F64,
    parts: Mapping[str, NDArray[np.bool_]],
    bootstrap: Bootstrap,
    *,
    rate: float,
    fewest: int = 1,
) -> dict[str, PartBrier]:
    """Brier scores of a predictor, and of always predicting ``rate``, on parts of the problems.

    Args:
        p: (n,) probabilities; share: (n,) of each problem's attempts that were right.
        parts: by name, which of the problems, (n,).
        bootstrap: resamples of all problems; those that miss a part are left out for it.
        fewest: problems below which a part has no figures.
    """
    losses = [Brier(p, share).loss, Brier(np.full_like(p, rate), share).loss]
    known = {name: part for name, part in parts.items() if part.sum() >= fewest}
    resampled: dict[str, list[list[F64]]] = {name: [[], []] for name in known}
    for weight in bootstrap.blocks():
        for name, part in known.items():
            here = weight[:, part]
            with np.errstate(invalid="ignore"):
                for kept, loss in zip(resampled[name], losses, strict=True):
                    kept.append(weighted(here, loss[part]) / here.sum(axis=1))
    nothing = Estimate(float("nan"), float("nan"), float("nan"))
    found = {}
    for name, part in parts.items():
        figures = [nothing, nothing]
        if name in known:
            alone = len(np.unique(bootstrap.cluster[part])) < 2
            figures = [
                interval(float(loss[part].mean()), np.array([]) if alone else np.concatenate(kept))
                for loss, kept in zip(losses, resampled[name], strict=True)
            ]
        found[name] = PartBrier(int(part.sum()), *figures)
    return found


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
    "PartBrier",
    "Quality",
    "auroc",
    "brier",
    "brier_by_part",
    "calibration_error",
    "clusters_of",
    "compared",
    "error_interval",
    "interval",
    "quality",
    "weighted",
]
