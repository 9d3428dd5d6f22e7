"""Requests counted by source, band of a score, arm and whether another arm answered: what differences are traced back through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.draws import F64, I64
from ttc_sim.deploying.monitoring.served import Served
from ttc_sim.policies import DIFFICULTY
from ttc_sim.serving.prices import TokenPrices

_BANDS = 5
COUNTED = ("requests", "calls", "prompt_usd", "output_usd", "usd", "answered", "graded", "right")
N, CALLS, PROMPT, OUTPUT, USD, ANSWERED, GRADED, RIGHT = range(len(COUNTED))


@dataclass(frozen=True)
class Bands:
    """Bands of a score: a fifth each of what the plan was made on; ``score`` is ``None`` where there is none to tell them by."""

    score: str | None
    edges: F64

    @property
    def count(self) -> int:
        """Of the bands, and one for requests without that score."""
        return 1 if self.score is None else len(self.edges) + 2

    def of(self, served: Served) -> I64:
        """(n,) band of each request."""
        if self.score is None:
            return np.zeros(len(served), dtype=np.int64)
        values = served.scores.get(self.score, np.full(len(served), np.nan))
        found = np.searchsorted(self.edges, np.nan_to_num(values), side="right")
        return np.where(np.isnan(values), len(self.edges) + 1, found).astype(np.int64)


def bands_of(planned: Served, now: Served) -> Bands:
    """By difficulty, or another score that both have; none where there is none, or it does not vary."""
    common = [name for name in (DIFFICULTY, *sorted(now.scores)) if name in planned.scores and name in now.scores]
    if not common:
        return Bands(None, np.zeros(0))
    values = planned.scores[common[0]]
    edges = np.unique(np.quantile(values[~np.isnan(values)], np.arange(1, _BANDS) / _BANDS))
    return Bands(common[0], edges)


def counted(
    served: Served, bands: Bands, prices: Mapping[str, TokenPrices], group: I64, groups: int
) -> NDArray[np.float64]:
    """(groups, sources, bands, arms, 2, figures of :data:`COUNTED`): sums over the requests of each cell.

    Args:
        prices: by arm, what the plan takes a token to cost; an arm that has none has all of its bill among ``output_usd``.
        group: (n,) that requests are resampled by.
    """
    n = len(served)
    prompt_usd, output_usd = np.zeros(n), served.usd.copy()
    calls = np.where(np.isnan(served.calls), 1.0, served.calls)
    fell = served.arm != served.answered_by
    for index, name in enumerate(served.arms):
        price, here = prices.get(name), (served.arm == index) & ~fell
        if price is None or not here.any():
            continue
        tokens = served.prompt[here], served.cached[here]
        per_call = np.maximum(calls[here], 1.0)
        prompt_usd[here] = price.cost_usd(*tokens, 0.0, 0.0, per_call)
        output_usd[here] = (
            price.cost_usd(*tokens, served.reasoning[here], served.visible[here], per_call) - prompt_usd[here]
        )
    graded = served.graded
    features = (
        np.ones(n),
        calls,
        prompt_usd,
        output_usd,
        served.usd,
        served.answered,
        graded,
        np.nan_to_num(served.correct) * graded,
    )
    shape = (groups, len(served.sources), bands.count, len(served.arms), 2)
    cell = np.ravel_multi_index((group, served.source, bands.of(served), served.arm, fell.astype(np.int64)), shape)
    size = int(np.prod(shape))
    sums = [np.bincount(cell, np.asarray(one, dtype=np.float64), size).reshape(shape) for one in features]
    return np.stack(sums, axis=-1)


__all__ = ["ANSWERED", "CALLS", "GRADED", "OUTPUT", "PROMPT", "RIGHT", "USD", "Bands", "N", "bands_of", "counted"]
