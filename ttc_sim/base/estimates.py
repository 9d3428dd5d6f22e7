"""A figure, its interval, and the resamples that the interval comes from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.draws import F64, I64, uniforms

RESAMPLES = 400
Z95 = 1.959963984540054  # two-sided 95% of the normal


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95% interval."""

    value: float
    low: float
    high: float

    def shifted(self, by: float) -> Estimate:
        """The same estimate, moved."""
        return Estimate(self.value + by, self.low + by, self.high + by)

    def scaled(self, by: float) -> Estimate:
        """The same estimate, so many times as large."""
        return Estimate(self.value * by, self.low * by, self.high * by)

    def clipped(self, least: float, most: float = float("inf")) -> Estimate:
        """The same estimate within the range that the figure can have."""
        return Estimate(*(float(min(max(x, least), most)) for x in (self.value, self.low, self.high)))

    @property
    def sd(self) -> float:
        """Standard error that the interval stands for."""
        return (self.high - self.low) / (2 * Z95)

    @staticmethod
    def around(value: float, sd: float) -> Estimate:
        """A normal 95% interval."""
        return Estimate(value, value - Z95 * sd, value + Z95 * sd)


@dataclass(frozen=True)
class Resampler:
    """Bootstrap weights of clusters, the same for every figure, so that figures of two policies stay comparable.

    Attributes:
        cluster: (n,) cluster of each row, 0 to k - 1.
        weights: (resamples, k) how often each cluster stands in each resample.
    """

    cluster: I64
    weights: F64

    @classmethod
    def of(cls, cluster: I64, resamples: int = RESAMPLES) -> Resampler:
        """Resample as many clusters as there are, with replacement."""
        clusters = int(cluster.max(initial=-1)) + 1
        picked = (uniforms(0, "bootstrap", resamples, clusters) * clusters).astype(np.int64)
        flat = picked + np.arange(resamples)[:, None] * clusters
        counts = np.bincount(flat.ravel(), minlength=resamples * clusters)
        return cls(cluster, counts.reshape(resamples, clusters).astype(np.float64))

    def restricted(self, keep: NDArray[np.bool_]) -> Resampler:
        """The same resamples, of some of the rows."""
        return Resampler(self.cluster[keep], self.weights)

    def mean(self, values: F64, stratum: I64, share: F64) -> tuple[float, F64]:
        """Mean within each stratum, weighted by the strata's shares: the value and its resamples.

        A stratum that a resample happens to miss takes the value of the full sample.
        """
        strata = len(share)
        flat = self.cluster * strata + stratum
        clusters = self.weights.shape[1]
        size = clusters * strata
        total = np.bincount(flat, weights=values, minlength=size).reshape(clusters, strata)
        count = np.bincount(flat, minlength=size).reshape(clusters, strata).astype(np.float64)
        whole = total.sum(axis=0) / np.maximum(count.sum(axis=0), 1)
        den = self.weights @ count
        means = np.where(den > 0, (self.weights @ total) / np.maximum(den, 1e-300), whole)
        return float(whole @ share), means @ share
