"""How a score is distributed, by some of its quantiles: what a predictor's card keeps of scores, and tests against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import kstwo

from ttc_sim.base.draws import F64
from ttc_sim.base.errors import InputError
from ttc_sim.policies import DIFFICULTY, NOVELTY

LEVELS = (0.0, 0.01, 0.02, 0.05, *(k / 10 for k in range(1, 10)), 0.95, 0.98, 0.99, 1.0)
DIGITS = 4
"""Decimals that the card keeps of scores."""
_SLACK = 10.0**-DIGITS  # covers what rounding and single precision do to a score


@dataclass(frozen=True)
class Quantiles:
    """Distribution of a score over problems.

    Attributes:
        values: (k,) increasing: the scores at the levels ``LEVELS``, each once.
        shares: (k,) share of problems with at most that score; more than the level where scores are equal.
        mean: of the score; problems: how many.
    """

    values: F64
    shares: F64
    mean: float
    problems: int

    @classmethod
    def of(cls, scores: F64) -> Quantiles:
        """Of a sample (n,).

        >>> Quantiles.of(np.array([0.2, 0.4, 1.0, 1.0])).shares.tolist()
        [0.25, 0.5, 1.0]
        """
        values = np.unique(np.quantile(scores, LEVELS, method="inverted_cdf"))
        shares = np.searchsorted(np.sort(scores), values, side="right") / len(scores)
        return cls(values, shares, float(scores.mean()), len(scores))

    def deciles(self) -> tuple[F64, F64]:
        """Edges between tenths, each once, and the share of problems up to each."""
        at = np.unique(np.searchsorted(self.shares, np.arange(1, 10) / 10 - 1e-6))
        return self.values[at], self.shares[at]


@dataclass(frozen=True)
class CardScores:
    """Distributions by score (``difficulty``, ``novelty``, ``p:HEAD``) of problems that the predictor was not trained on."""

    scores: Mapping[str, Quantiles]
    prompts: int
    origin: str


def kolmogorov_smirnov(reference: Quantiles, now: F64) -> float:
    """P-value of the two-sample Kolmogorov-Smirnov test of a sample (n,) against what is known of another.

    The distance between the two distribution functions is taken at the quantiles' points only, and with the slack that rounded
    scores need. So it is at most the full distance, ties or none, and the p-value, from the distribution of the full one, is
    conservative: false alarms come at most as often as asked. Movements between two neighbouring points are seen less.
    """
    ordered = np.sort(now)
    less, more = (np.searchsorted(ordered, reference.values + by, side="right") / len(now) for by in (-_SLACK, _SLACK))
    distance = float(np.maximum(reference.shares - more, less - reference.shares).max())
    size = reference.problems * len(now) / (reference.problems + len(now))
    return float(np.clip(kstwo.sf(max(distance, 0.0), max(round(size), 1)), 0, 1))


def to_card(scores: Mapping[str, F64]) -> dict[str, object]:
    """What the card says of scores by name, each (n,)."""
    found = {name: Quantiles.of(np.round(values, DIGITS)) for name, values in scores.items()}
    return {
        "problems": len(next(iter(scores.values()))),
        **{
            name: {
                "mean": round(one.mean, DIGITS),
                "at_most": [round(float(value), DIGITS) for value in one.values],
                "share": [round(float(share), 6) for share in one.shares],
            }
            for name, one in found.items()
        },
    }


def from_card(card: object, where: Path) -> dict[str, CardScores]:
    """By training set, what :func:`to_card` wrote into a card under ``scores``; nothing where an older card has none.

    Raises:
        InputError: something else stands there.
    """
    sets = card.get("scores") if isinstance(card, Mapping) else None
    if sets is None:
        return {}
    found = {}
    try:
        for name, said in sets.items():
            problems = int(said["problems"])
            scores = {str(key): _read(one, problems) for key, one in said.items() if key != "problems"}
            if not {DIFFICULTY, NOVELTY} <= set(scores):
                raise ValueError
            found[str(name)] = CardScores(scores, problems, f"{name} of {where.name} (out of fold)")
    except (AttributeError, KeyError, TypeError, ValueError):
        raise InputError(where, "scores", sets, "quantiles as `ttc-sim predictor train` writes them") from None
    return found


def _read(said: Any, problems: int) -> Quantiles:
    values, shares = (np.asarray(said[name], dtype=np.float64) for name in ("at_most", "share"))
    good = len(values) > 0 and values.shape == shares.shape and abs(shares[-1] - 1) < 1e-6 and problems > 0
    if not good or not ((np.diff(values) > 0).all() and (np.diff(shares) > 0).all() and shares[0] > 0):
        raise ValueError
    return Quantiles(values, shares, float(said["mean"]), problems)


__all__ = ["LEVELS", "CardScores", "Quantiles", "from_card", "kolmogorov_smirnov", "to_card"]
