"""What a policy would have come to on requests that another one sent where it would, as arrays.

Each request was sent to an arm by a chance that is known, its propensity p. Those that another policy would have sent to the same
arm stand for themselves and for the ones like them that went elsewhere, each for 1 / p:

- ``inverse propensity``: mean of [arm = wanted] r / p (D. G. Horvitz and D. J. Thompson, 1952): unbiased, wild where p is small;
- ``self-normalized``: the same over the mean of [arm = wanted] / p (A. Swaminathan and T. Joachims, 2015): steadier, hardly biased;
- ``doubly robust``: mean of q(wanted) + [arm = wanted] (r - q(arm)) / p with a model q of what each arm makes of a request
  (M. Dudik, J. Langford and L. Li, 2011): unbiased however wrong the model is, and the steadier the better it is.

Where only some r are known, p is the chance that the arm was chosen and that r is known of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ttc_sim.base import intervals
from ttc_sim.base.draws import F64, I64
from ttc_sim.base.estimates import Estimate
from ttc_sim.base.intervals import Variance
from ttc_sim.deploying.logs.joined import Flags

METHODS = ("doubly robust", "self-normalized", "inverse propensity")
_FEW = 2.0  # effective requests, below which nothing is said of how they vary
_FAR = 2.0  # times as far off as usual: of what nothing bounds, a few requests are far above all others
_SURE = 5  # known rewards of an arm, from which on its own spread is taken


@dataclass(frozen=True)
class Tried:
    """What became of ``n`` requests on the arms that they were sent to. Arrays are (n,) unless said otherwise.

    Attributes:
        arm: index, 0 to k - 1; propensity: chance with which it was chosen.
        others: how many other arms might have been chosen; policy_arm: that the policy chose, which is tried most often.
        reward: NaN where it is not known; known: chance that it is, on that arm.
        model: (n, k) what is predicted of each arm, without what is known of the request itself.
        cluster: requests that belong together, 0 to m - 1: turns of a session.
        most: that a reward can be, at least 0; ``math.inf`` if nothing bounds it.
    """

    arm: I64
    propensity: F64
    others: I64
    policy_arm: I64
    reward: F64
    known: F64
    model: F64
    cluster: I64
    most: float

    def taken(self, rows: Flags) -> Tried:
        """Some of the requests."""
        found = {name: value[rows] for name, value in vars(self).items() if name not in ("most", "cluster")}
        _, cluster = np.unique(self.cluster[rows], return_inverse=True)
        return Tried(**found, cluster=cluster.astype(np.int64), most=self.most)

    def chance_of(self, wanted: I64) -> F64:
        """Chance with which a wanted arm was chosen; of those that were not, as if all but the policy's were alike."""
        others = np.maximum(self.others, 1)
        tried = np.where(self.arm == self.policy_arm, (1 - self.propensity) / others, self.propensity)
        most_often = np.maximum(1 - others * self.propensity, self.propensity)
        unlike = np.where(wanted == self.policy_arm, most_often, tried)
        return np.asarray(np.where(self.arm == wanted, self.propensity, unlike))


@dataclass(frozen=True)
class Terms:
    """What each request adds to an estimate, and the variance that requests not seen may add to it.

    Attributes:
        value: (n,) terms whose mean is the estimate.
        unseen: (n,) for each.
        effective: requests, all alike, that would say as much (L. Kish).
        largest: weight of a single request, 1 / p.
        matched: requests that were sent where they were wanted and of which the reward is known.
    """

    value: F64
    unseen: F64
    effective: float
    largest: float
    matched: int


def terms(tried: Tried, wanted: I64, method: str) -> Terms:
    """Terms of a policy that wants each request on an arm, by one of the ``METHODS``."""
    rows = np.arange(len(wanted))
    seen = (tried.arm == wanted) & ~np.isnan(tried.reward)
    weight = np.zeros(len(wanted))
    weight[seen] = 1 / (tried.propensity[seen] * tried.known[seen])
    total = float(weight.sum())
    model = tried.model if method == "doubly robust" else np.zeros_like(tried.model)
    reward = np.where(np.isnan(tried.reward), 0.0, tried.reward)
    predicted = model[rows, wanted]
    if method == "self-normalized":
        mean = float(weight @ reward) / total if total else 0.0
        scale = len(wanted) / total if total else 0.0
        value = mean + scale * weight * (reward - mean)
        predicted = np.full(len(wanted), mean)
        model = np.full_like(model, mean)
    else:
        value = predicted + weight * (reward - predicted)
    squares = float((weight**2).sum())
    return Terms(
        value=value,
        unseen=_unseen(tried, wanted, seen, (reward - model[rows, tried.arm]) ** 2),
        effective=total**2 / squares if squares else 0.0,
        largest=float(weight.max(initial=0.0)),
        matched=int(seen.sum()),
    )


def _unseen(tried: Tried, wanted: I64, seen: Flags, squares: F64) -> F64:
    """Variance of one request more on each arm that is wanted, off by half of what is possible, or twice as far as those known.

    Where few requests were sent where they are wanted, those few may be alike by luck, and tell nothing of how they vary.
    """
    arms = tried.model.shape[1]
    known = ~np.isnan(tried.reward)
    count = np.bincount(tried.arm[known], minlength=arms)
    spread = np.bincount(tried.arm[known], squares[known], minlength=arms) / np.maximum(count, 1)
    all_alike = float(np.var(tried.reward[known])) if known.any() else 0.0
    if math.isfinite(tried.most):
        spread = np.maximum(spread, (tried.most / 2) ** 2)
    else:
        spread = _FAR**2 * np.where(count < _SURE, np.maximum(spread, all_alike), spread)
    matched = np.bincount(wanted[seen], minlength=arms)
    told = np.maximum(count, 1) / np.maximum(np.bincount(tried.arm, minlength=arms), 1)
    return np.asarray((spread / (matched + 1) / told)[wanted] / tried.chance_of(wanted))


def mean(found: Terms, cluster: I64, least: float, most: float) -> Estimate:
    """Mean of the terms, with its 95% interval within what is possible; whole where too little is known for any."""
    value = float(found.value.mean())
    if found.effective < _FEW:
        return Estimate(min(max(value, least), most), least, most)
    variance = _variance(found, cluster)
    if least == 0 and most == 1 and 0 < value < 1:
        return intervals.share(value, variance, found.effective)
    if least == 0 and math.isinf(most) and value > 0:
        return intervals.mean(value, variance)
    return Estimate(value, value - variance.half, value + variance.half).clipped(least, most)


def _variance(found: Terms, cluster: I64) -> Variance:
    n, unseen = len(found.value), float(found.unseen.sum())
    seen = intervals.of_units((found.value - found.value.mean()) / n, cluster, scale=math.sqrt(unseen) / n)
    return Variance(seen.value + unseen / n**2, seen.df)


@dataclass(frozen=True)
class Compared:
    """A figure of the plan that was carried out, of the other one, and how much more it is of that: by one method."""

    logged: Estimate
    instead: Estimate
    difference: Estimate

    def as_json(self) -> dict[str, object]:
        """Value, low and high of each; an end that nothing bounds is null."""
        return {
            name: {"value": one.value, "low": _bounded(one.low), "high": _bounded(one.high)}
            for name, one in vars(self).items()
        }


def _bounded(end: float) -> float | None:
    return end if math.isfinite(end) else None


def difference(one: Terms, other: Terms, same: Flags, cluster: I64, most: float) -> Estimate:
    """How much more one policy comes to than another; exactly 0 of requests that both want on the same arm.

    Of what nothing bounds, a few requests may be far above all others: what both come to where they differ has an interval of its
    own on each side, and their distances add up (G. Y. Zou and A. Donner, 2008).
    """
    value = np.where(same, 0.0, one.value - other.value)
    if not value.any():
        return Estimate(0.0, 0.0, 0.0)
    n = len(value)
    effective = min(one.effective, other.effective)
    if math.isfinite(most) or effective < _FEW:
        unseen = np.where(same, 0.0, one.unseen + other.unseen)
        return mean(replace(one, value=value, unseen=unseen, effective=effective), cluster, -most, most)
    theirs, ours = (
        replace(part, value=np.where(same, 0.0, part.value), unseen=np.where(same, 0.0, part.unseen))
        for part in (one, other)
    )
    high, low = (mean(part, cluster, 0.0, most) for part in (theirs, ours))
    both = intervals.covariance(theirs.value / n, ours.value / n, cluster)
    scale = math.sqrt(_variance(theirs, cluster).value * _variance(ours, cluster).value)
    together = min(max(both / scale, -1.0), 1.0) if scale else 0.0
    found = high.value - low.value
    down = _added(high.value - high.low, low.high - low.value, together)
    return Estimate(found, found - down, found + _added(high.high - high.value, low.value - low.low, together))


def _added(one: float, other: float, together: float) -> float:
    """Distance of a difference's end, from those of both parts."""
    if math.isinf(one) or math.isinf(other):
        return math.inf
    return math.sqrt(max(one * one + other * other - 2 * together * one * other, 0.0))


def compare(tried: Tried, logged: I64, instead: I64) -> Mapping[str, Compared]:
    """Two policies beside each other, by every method; both of arms that were tried."""
    found, same = {}, logged == instead
    for method in METHODS:
        ours, theirs = terms(tried, logged, method), terms(tried, instead, method)
        # Weights that are scaled do not cancel, request by request.
        alike = same if method != "self-normalized" or same.all() else np.zeros_like(same)
        found[method] = Compared(
            mean(ours, tried.cluster, 0.0, tried.most),
            mean(theirs, tried.cluster, 0.0, tried.most),
            difference(theirs, ours, alike, tried.cluster, tried.most),
        )
    return found


__all__ = ["METHODS", "Compared", "Terms", "Tried", "compare", "difference", "mean", "terms"]
