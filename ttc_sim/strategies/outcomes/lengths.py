"""How long attempts would be that were never made: as long as measured ones that ended alike, of problems as long."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit, ndtr, ndtri
from scipy.stats import rankdata

from ttc_sim.base.draws import F64, I64
from ttc_sim.strategies.outcomes.attempts import Attempts

# What is believed of a profile before problems with several attempts are seen (docs/more-samples.md says where from): how
# alike two attempts at a problem are in length, 0 to 1, as if so many attempts had shown it, and how far off its logit may be.
_ALIKE, _SHOWN, _DOUBT = 0.85, 10.0, 0.8
_POINTS = 4096
_EDGES = np.concatenate([[0.0], ndtr(np.linspace(-3.75, 3.75, 31)), [1.0]])
_NODES, _MASS = ndtri((_EDGES[1:] + _EDGES[:-1]) / 2), np.diff(_EDGES)


@dataclass(frozen=True, eq=False)
class Lengths:
    """Lengths on the scale of normal scores (the normal quantile of an attempt's rank among all of the profile's).

    One more attempt at problem ``p`` is at ``level[p] + spread[p] * e + noise * f``, with ``e`` standard normal for the request and
    ``f`` for the attempt, and ``longer`` above that if it is wrong. It stands for the measured attempt with the same place among
    all that ended so, right or wrong; so both keep their lengths, over all problems.

    Attributes:
        level: (P,) what the problem's attempts say of it; spread: (P,) how uncertain that is.
        noise: how far attempts at one problem lie apart.
        longer: how much longer wrong attempts at a problem are than right ones.
        alike: correlation of two attempts at a problem.
        base, step: of the scale's points.
        place: (2, points) place among the wrong (0) and among the right (1) attempts, from 0.
        made: attempts by length, the wrong ones first; first: (3,) where wrong and right ones start among them, and the end.
    """

    level: F64
    spread: F64
    noise: float
    longer: float
    alike: float
    base: float
    step: float
    place: F64
    made: I64
    first: I64


def fit_lengths(attempts: Attempts, chance: F64, x: F64 | None = None, doubted: float = 0.0) -> Lengths:
    """Fit the lengths of further attempts.

    A linear mixed model of the normal scores: a problem's level, and what is the same for all problems, the shift of wrong
    attempts and the slope over predicted difficulty. Generalised least squares weighs what attempts at one problem say of the
    shift against what different problems say, by how alike attempts at one problem are.

    Args:
        attempts: of a profile.
        chance: (P,) that a further attempt is right.
        x: (P,) logit of a predicted chance to be right.
        doubted: standard errors by which attempts at a problem are less alike than found.
    """
    count, measured = np.maximum(attempts.count, 1).astype(np.float64), attempts.count > 0
    owner = attempts.owner
    total = attempts.reasoning_tokens + attempts.visible_tokens
    score = ndtri((rankdata(total) - 0.5) / len(total))
    same = np.stack([np.ones(len(count)), np.zeros(len(count)) if x is None else x], axis=1)
    terms = np.concatenate([same[owner], ~attempts.correct[:, None]], axis=1)

    def mean(values: F64) -> F64:
        return np.bincount(owner, weights=values, minlength=len(count)) / count

    more = float(np.maximum(attempts.count - 1, 0).sum())
    alike, apart, rest, weights = _ALIKE, 1.0, score, np.zeros(3)
    for _ in range(6):
        pull = 1 - np.sqrt((1 - alike) / (1 + (count - 1) * alike))
        kept = [values - (pull * mean(values))[owner] for values in (*terms.T, score)]
        table, y = np.stack(kept[:3], axis=1), kept[3]
        # As if a weight of 0 had been seen once.
        weights = np.linalg.solve(table.T @ table + (1 - alike) * np.eye(3), table.T @ y)
        rest = score - terms @ weights
        within = float(((rest - mean(rest)[owner]) ** 2).sum())
        apart = float(np.mean(rest**2)) or 1.0
        alike = float(np.clip(1 - (within / apart + _SHOWN * (1 - _ALIKE)) / (more + _SHOWN), 0.01, 0.99))
    if doubted:
        alike = float(expit(logit(alike) - doubted * _DOUBT * np.sqrt(_SHOWN / (_SHOWN + more))))
    known = attempts.count * alike / (1 + (attempts.count - 1) * alike)
    level, longer = same @ weights[:2] + known * mean(rest), float(weights[2])
    spread, noise = np.sqrt(apart * alike * (1 - known)), float(np.sqrt(apart * (1 - alike)))
    points = np.linspace(level.min() + min(longer, 0.0) - 6, level.max() + max(longer, 0.0) + 6, _POINTS)
    around = np.sqrt(spread[measured] ** 2 + noise**2)[:, None] * _NODES
    places, made = [], []
    for right in (False, True):
        at = (level[measured] + (0.0 if right else longer))[:, None] + around
        order = np.argsort(at, axis=None)
        weight = (chance if right else 1 - chance)[measured]
        passed = np.cumsum((weight[:, None] * _MASS).ravel()[order])
        members = np.flatnonzero(attempts.correct == right)
        members = members if len(members) else np.arange(len(total))
        members = members[np.argsort(total[members], kind="stable")]
        upto = np.concatenate([[0.0], np.cumsum(1 / count[owner[members]])])
        share = np.interp(points, at.ravel()[order], passed / max(passed[-1], 1e-300))
        places.append(np.interp(share, upto / upto[-1], np.arange(len(upto))))
        made.append(members)
    first = np.cumsum([0, len(made[0]), len(made[1])]).astype(np.int64)
    step = float(points[1] - points[0])
    return Lengths(
        level, spread, noise, longer, alike, float(points[0]), step, np.stack(places), np.concatenate(made), first
    )
