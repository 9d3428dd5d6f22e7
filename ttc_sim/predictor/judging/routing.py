"""What a score is worth as a router between a weak and a strong model, as RouteLLM measures it.

Definitions of RouteLLM (Ong et al., 2024, https://arxiv.org/abs/2406.18665), over ``c``, the share of requests that a router
sends to the strong model, those of the highest scores first:

- PGR(c), the performance gap recovered: accuracy at ``c`` less the weak model's, over the strong model's less the weak one's.
  PGR(0) is 0 and PGR(1) is 1; a router that draws lots has PGR(c) = c on average.
- APGR: the area under PGR over c from 0 to 1, by trapezoids; lots reach 0.5. RouteLLM's code takes ten quantiles of the score
  as thresholds; here every distinct score is one, the limit of ever finer quantiles (``grid=10`` gives theirs). Requests of
  equal score change sides together, and between two thresholds the curve is a straight line.
- CPT(x): the least ``c`` at which the curve reaches PGR = x.
- The oracle knows every outcome: its score is the strong model's share right less the weak model's. ``oracle_gap`` is the oracle's
  APGR less the router's: 0 for a router that orders requests as the oracle does, and never below. (The oracle's curve rises
  above 1 where the weak model is right and the strong one wrong, and comes back to 1 at c = 1 as every curve does.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ttc_sim.base.draws import F64, I64
from ttc_sim.base.errors import InputError
from ttc_sim.base.estimates import Estimate
from ttc_sim.predictor.judging.metrics import Bootstrap, interval, one, tie_starts, weighted

SHARES = np.linspace(0, 1, 21)
"""Shares of strong calls at which curves are written down."""


@dataclass(frozen=True)
class Routing:
    """A router's worth; ``curve`` has a row for each of ``SHARES``.

    Attributes:
        apgr, cpt50, cpt80, oracle_gap: see the module.
        weak, strong: accuracy of each model on these problems.
        accuracy: (21,) of the router at each share of strong calls; oracle: the same of the oracle.
        undefined: share of resamples in which the strong model was not better, so that PGR does not exist; left out.
    """

    apgr: Estimate
    cpt50: Estimate
    cpt80: Estimate
    oracle_gap: Estimate
    weak: Estimate
    strong: Estimate
    accuracy: F64
    oracle: F64
    undefined: float


class Curve:
    """PGR of one score over the share of strong calls, for any weights.

    Args:
        score: (n,) higher is sent to the strong model first.
        weak, strong: (n,) share right of each model.
        grid: thresholds at this many quantiles, as RouteLLM's code has them, instead of at every score.
    """

    def __init__(self, score: F64, weak: F64, strong: F64, grid: int | None = None) -> None:
        self.order = np.argsort(-score, kind="stable")
        self.gain = (strong - weak)[self.order]
        ordered = score[self.order]
        self.starts = tie_starts(ordered) if grid is None else _quantile_starts(ordered, grid)

    def __call__(self, weight: F64) -> tuple[F64, F64]:
        """Shares of strong calls and PGR there, each (R, k + 1), from (0, 0) to (1, 1); NaN where PGR does not exist."""
        here = weight[:, self.order]
        calls = _running(np.add.reduceat(here, self.starts, axis=1))
        gained = _running(np.add.reduceat(here * self.gain, self.starts, axis=1))
        whole = gained[:, -1:]
        with np.errstate(invalid="ignore", divide="ignore"):
            return calls / calls[:, -1:], np.where(whole > 0, gained / whole, np.nan)


def _quantile_starts(descending: F64, grid: int) -> I64:
    """Where the groups between RouteLLM's thresholds start: scores at least as high as a quantile are strong together."""
    edges = np.unique(np.quantile(descending, np.linspace(0, 1, grid + 1)))[:-1]
    counts = np.searchsorted(-descending, -edges, side="right")
    return np.unique(np.concatenate([[0], counts[counts < len(descending)]])).astype(np.int64)


def _running(parts: F64) -> F64:
    return np.concatenate([np.zeros((len(parts), 1)), np.cumsum(parts, axis=1)], axis=1)


def area(share: F64, pgr: F64) -> F64:
    """(R,) areas under curves (R, k), by trapezoids."""
    return np.asarray(((pgr[:, 1:] + pgr[:, :-1]) / 2 * np.diff(share, axis=1)).sum(axis=1))


def least_share(share: F64, pgr: F64, wanted: float) -> F64:
    """(R,) least share of strong calls at which the curve reaches PGR ``wanted``.

    >>> float(least_share(np.array([[0.0, 0.5, 1.0]]), np.array([[0.0, 0.8, 1.0]]), 0.4)[0])
    0.25
    """
    after = np.argmax(pgr >= wanted, axis=1)  # PGR starts at 0 and ends at 1, so there is one
    rows = np.arange(len(pgr))
    before = np.maximum(after - 1, 0)
    rise = pgr[rows, after] - pgr[rows, before]
    with np.errstate(invalid="ignore", divide="ignore"):
        part = (wanted - pgr[rows, before]) / rise
    found = share[rows, before] + part * (share[rows, after] - share[rows, before])
    return np.where(np.isnan(pgr[:, -1]), np.nan, found)


def routing(score: F64, weak: F64, strong: F64, bootstrap: Bootstrap, *, where: str = "router") -> Routing:
    """Measure a router.

    Args:
        score: (n,) higher is sent to the strong model first.
        weak, strong: (n,) share right of each model on the same problems.
        bootstrap: resamples of these problems.
        where: what to name in an error.

    Raises:
        InputError: the strong model is not the better one on these problems, so that PGR does not exist.

    >>> weak, strong = np.array([1.0, 0.0, 0.0, 1.0]), np.ones(4)
    >>> routing(strong - weak, weak, strong, Bootstrap(np.arange(4), 20)).oracle_gap.value
    0.0
    """
    check_pair(weak, strong, where)
    router, oracle = Curve(score, weak, strong), Curve(strong - weak, weak, strong)

    def figures(weight: F64) -> F64:
        share, pgr = router(weight)
        apgr = area(share, pgr)
        total = weight.sum(axis=1)
        return np.stack(
            [
                apgr,
                least_share(share, pgr, 0.5),
                least_share(share, pgr, 0.8),
                np.maximum(area(*oracle(weight)) - apgr, 0.0),  # rounding alone can bring it below 0
                weighted(weight, weak) / total,
                weighted(weight, strong) / total,
            ]
        )

    values = figures(one(len(score)))[:, 0]
    resampled = np.concatenate([figures(weight) for weight in bootstrap.blocks()], axis=1)
    apgr, cpt50, cpt80, gap, low, high = (
        interval(float(value), found) for value, found in zip(values, resampled, strict=True)
    )
    gained = strong.mean() - weak.mean()
    curves = [
        weak.mean() + gained * np.interp(SHARES, share[0], pgr[0])
        for share, pgr in (curve(one(len(score))) for curve in (router, oracle))
    ]
    undefined = float(np.isnan(resampled[0]).mean())
    return Routing(apgr, cpt50, cpt80, gap, low, high, curves[0], curves[1], undefined)


def check_pair(weak: F64, strong: F64, where: str) -> None:
    """Refuse two models between which the performance gap recovered does not exist; arguments as for :func:`routing`."""
    if strong.mean() <= weak.mean():
        got = f"accuracy {strong.mean():.4f}, the weak one {weak.mean():.4f}, on {len(weak)} shared problems"
        raise InputError(where, "strong model", got, "a strong model that is right more often (else PGR is undefined)")


def dollars(score: F64, weak_usd: F64, strong_usd: F64) -> F64:
    """(21,) mean US dollars a request at each of ``SHARES`` of strong calls.

    Args:
        score: (n,) as for :func:`routing`; weak_usd, strong_usd: (n,) what each model costs on each problem.
    """
    order = np.argsort(-score, kind="stable")
    starts = tie_starts(score[order])
    calls = _running(np.add.reduceat(np.ones((1, len(score))), starts, axis=1))[0] / len(score)
    more = _running(np.add.reduceat((strong_usd - weak_usd)[order][None], starts, axis=1))[0] / len(score)
    return np.asarray(weak_usd.mean() + np.interp(SHARES, calls, more))


__all__ = ["SHARES", "Curve", "Routing", "area", "check_pair", "dollars", "least_share", "routing"]
