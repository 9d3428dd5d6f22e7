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
from dataclasses import dataclass

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

    def taken(self, rows: Flags | I64) -> Tried:
        """Some of the requests, or some several times."""
        found = {name: value[rows] for name, value in vars(self).items() if name not in ("most", "cluster")}
        cluster = self.cluster[rows]
        present = np.bincount(cluster) > 0
        return Tried(**found, cluster=(np.cumsum(present) - 1)[cluster], most=self.most)

    def chance_of(self, wanted: I64) -> F64:
        """Chance with which a wanted arm was chosen; of those that were not, as if all but the policy's were alike."""
        others = np.maximum(self.others, 1)
        tried = np.where(self.arm == self.policy_arm, (1 - self.propensity) / others, self.propensity)
        most_often = np.maximum(1 - others * self.propensity, self.propensity)
        unlike = np.where(wanted == self.policy_arm, most_often, tried)
        return np.asarray(np.where(self.arm == wanted, self.propensity, unlike))


@dataclass(frozen=True)
class Terms:
    """What each of ``n`` requests adds to an estimate, and the variance that requests not seen may add to it.

    Attributes:
        value: (n,) terms whose mean is the estimate; unseen: (n,) of each.
        weight: (n,) for how many requests it stands: 0 of those that were sent elsewhere, or of which nothing is known.
    """

    value: F64
    unseen: F64
    weight: F64

    @property
    def effective(self) -> float:
        """Requests, all alike, that would say as much (L. Kish)."""
        squares = float((self.weight**2).sum())
        return float(self.weight.sum()) ** 2 / squares if squares else 0.0


def terms(tried: Tried, wanted: I64, method: str) -> Terms:
    """Terms of a policy that wants each request on an arm, by one of the ``METHODS``."""
    rows = np.arange(len(wanted))
    seen = (tried.arm == wanted) & ~np.isnan(tried.reward)
    weight = np.zeros(len(wanted))
    weight[seen] = 1 / (tried.propensity[seen] * tried.known[seen])
    reward = np.where(np.isnan(tried.reward), 0.0, tried.reward)
    if method == "doubly robust":
        predicted, of_own = tried.model[rows, wanted], tried.model[rows, tried.arm]
        value = predicted + weight * (reward - predicted)
    elif method == "inverse propensity":
        of_own = np.zeros(len(wanted))
        value = weight * reward
    else:
        total = max(float(weight.sum()), math.ulp(0.0))
        mean = float(weight @ reward) / total
        of_own = np.full(len(wanted), mean)
        value = mean + len(wanted) * (weight / total) * (reward - mean)
    return Terms(value, _unseen(tried, wanted, seen, (reward - of_own) ** 2), weight)


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
    made = Estimate(value, value - variance.half, value + variance.half).clipped(least, most)
    if least == 0 and most == 1:
        # Of few that are all right or all wrong, or nearly, Wilson's reaches farther; of weights that do not cancel, Student's.
        share = intervals.share(made.value, variance, found.effective)
        return Estimate(made.value, min(made.low, share.low), max(made.high, share.high))
    if least == 0 and math.isinf(most) and value > 0:
        return intervals.mean(value, variance)
    return made


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


def difference(tried: Tried, logged: I64, instead: I64, method: str) -> Estimate:
    """How much more a policy comes to than the one that was logged; exactly 0 of requests that both want on the same arm.

    Where they differ, what each comes to has an interval of its own, longer on one side where few are right or a few are far above
    all others. Their distances add up (G. Y. Zou and A. Donner, 2008), and so does how many requests they differ on.
    """
    differ = logged != instead
    if not differ.any():
        return Estimate(0.0, 0.0, 0.0)
    part, most = tried.taken(differ), tried.most
    n, of = len(differ), part.cluster
    theirs, ours = (terms(part, wanted[differ], method) for wanted in (instead, logged))
    high, low = (mean(one, of, 0.0, most) for one in (theirs, ours))
    both = intervals.covariance(theirs.value / len(of), ours.value / len(of), of)
    scale = math.sqrt(_variance(theirs, of).value * _variance(ours, of).value)
    together = min(max(both / scale, -1.0), 1.0) if scale else 0.0
    share = float(differ.mean())
    found = float(theirs.value.mean() - ours.value.mean())
    as_many = found * intervals.of_units((differ - share) / n, tried.cluster).half
    down = share * _added(high.value - high.low, low.high - low.value, together)
    up = share * _added(high.high - high.value, low.value - low.low, together)
    found *= share
    made = Estimate(found, found - math.hypot(down, as_many), found + math.hypot(up, as_many))
    return Estimate(found, max(made.low, -most * share), min(made.high, most * share))


def _added(one: float, other: float, together: float) -> float:
    """Distance of a difference's end, from those of both parts."""
    if math.isinf(one) or math.isinf(other):
        return math.inf
    return math.sqrt(max(one * one + other * other - 2 * together * one * other, 0.0))


def compare(tried: Tried, logged: I64, instead: I64) -> Mapping[str, Compared]:
    """Two policies beside each other, by every method; both of arms that were tried."""
    found = {}
    for method in METHODS:
        ours, theirs = (
            mean(terms(tried, wanted, method), tried.cluster, 0.0, tried.most) for wanted in (logged, instead)
        )
        found[method] = Compared(ours, theirs, difference(tried, logged, instead, method))
    return found


__all__ = ["METHODS", "Compared", "Terms", "Tried", "compare", "difference", "mean", "terms"]
