"""Reasoning lengths for attempts of which they were not recorded, from another measured source."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ttc_sim.base.draws import I64, uniforms
from ttc_sim.measured.profiles import Profile


def fill_reasoning(
    correct: NDArray[np.bool_],
    problem: I64,
    source: I64,
    ranks_right: NDArray[np.float64],
    ranks_wrong: NDArray[np.float64],
    correlation: float,
    seed: int,
) -> I64:
    """Give attempts the reasoning lengths of another source, longer ones to those that failed.

    The marginal distribution of the result is the source's. How an attempt's rank in it depends on its outcome, and how
    alike the ranks of one problem's attempts are, are measured on a model whose lengths were recorded.

    Args:
        correct: (n,) outcome of each attempt; problem: (n,) its problem.
        source: lengths to hand out, in tokens, any number of equally likely ones.
        ranks_right, ranks_wrong: ranks (0 to 1) that right and wrong attempts had there.
        correlation: of two attempts at one problem there, 0 to 1, on the scale of normal scores.
        seed: of the draws.

    Returns:
        (n,) reasoning tokens.
    """
    from scipy.special import ndtr, ndtri

    shared = ndtri(uniforms(seed, "fill/problem", int(problem.max()) + 1)[:, 0])
    own = ndtri(uniforms(seed, "fill/attempt", len(correct))[:, 0])
    u = ndtr(np.sqrt(correlation) * shared[problem] + np.sqrt(1 - correlation) * own)
    rank = np.where(correct, np.quantile(ranks_right, u), np.quantile(ranks_wrong, u))
    # Ranking again makes the marginal exactly the source's; the draws break ties.
    order = np.lexsort((u, rank))
    quantile = np.empty(len(correct))
    quantile[order] = (np.arange(len(correct)) + 0.5) / len(correct)
    ordered = np.sort(source)
    return ordered[np.minimum((quantile * len(ordered)).astype(np.int64), len(ordered) - 1)].astype(np.int64)


def resample_reasoning(profile: Profile, correct: NDArray[np.bool_], truncated: NDArray[np.bool_], seed: int) -> I64:
    """Reasoning lengths for new attempts of a model whose own were not recorded.

    Drawn from the profile's attempts with the same outcome; an attempt that used up its limit takes those that did.
    """
    table = profile.attempts
    u = uniforms(seed, f"resample/{profile.name}", len(correct))[:, 0]
    out = np.zeros(len(correct), dtype=np.int64)
    everything = np.sort(table["reasoning_tokens"].to_numpy().astype(np.int64))
    for stopped in (False, True):
        for right in (False, True):
            mine = (truncated == stopped) & (correct == right)
            like = table.filter((pl.col("truncated") == stopped) & (pl.col("correct") == right))
            pool = np.sort(like["reasoning_tokens"].to_numpy().astype(np.int64)) if len(like) else everything
            out[mine] = pool[np.minimum((u[mine] * len(pool)).astype(np.int64), len(pool) - 1)]
    return out
