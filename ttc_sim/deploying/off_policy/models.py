"""What each arm makes of a request, learnt from the logs: never from the requests that it is asked about."""

from __future__ import annotations

import numpy as np

from ttc_sim.base.draws import F64, I64

FOLDS = 5
_PULL = 3.0  # of each weight towards 0, in requests


def features(scores: dict[str, F64], prompt_tokens: I64, source: I64, sources: int) -> F64:
    """(n, features) of mean 0 and variance 1: chances as log-odds, tokens as logarithms, and one for each source but the last."""
    columns = [np.log1p(prompt_tokens.astype(np.float64))]
    for name, values in scores.items():
        filled = np.where(np.isnan(values), np.nanmean(values) if (~np.isnan(values)).any() else 0.0, values)
        if name.startswith("tokens"):
            columns.append(np.log1p(np.maximum(filled, 0.0)))
        elif filled.min() >= 0 and filled.max() <= 1:
            inside = np.clip(filled, 0.005, 0.995)
            columns.append(np.log(inside / (1 - inside)))
        else:
            columns.append(filled)
    columns += [(source == k).astype(np.float64) for k in range(sources - 1)]
    table = np.stack(columns, axis=1)
    table -= table.mean(axis=0)
    spread = table.std(axis=0)
    return np.asarray(table[:, spread > 1e-12] / spread[spread > 1e-12])


def cross_fitted(table: F64, arm: I64, arms: int, reward: F64, cluster: I64) -> F64:
    """(n, arms) expected reward of each request on each arm: ridge regressions on the features, one for each arm and fold.

    Every cluster is predicted by regressions that have seen none of it, so that what is predicted of a request does not depend on
    what became of it (V. Chernozhukov et al., 2018). Predictions stay between the rewards that were seen of the arm; of an arm that
    a fold has seen nothing of, the mean over all.

    Args:
        table: features of mean 0, (n, features); arm: (n,) that was chosen; reward: (n,), NaN where it is not known.
        cluster: (n,) 0 to m - 1.
    """
    fold = cluster % FOLDS
    n, width = table.shape
    known = ~np.isnan(reward)
    with_one = np.concatenate([np.ones((n, 1)), table], axis=1)
    gram = np.zeros((FOLDS, arms, width + 1, width + 1))
    moment = np.zeros((FOLDS, arms, width + 1))
    low, high = np.full((FOLDS, arms), np.inf), np.full((FOLDS, arms), -np.inf)
    for f in range(FOLDS):
        for k in np.unique(arm[known]).tolist():
            rows = known & (fold == f) & (arm == k)
            if rows.any():
                x, y = with_one[rows], reward[rows]
                gram[f, k], moment[f, k] = x.T @ x, x.T @ y
                low[f, k], high[f, k] = y.min(), y.max()
    pull = _PULL * np.eye(width + 1)
    pull[0, 0] = 0.0
    predicted = np.zeros((n, arms))
    for f in range(FOLDS):
        rest = np.arange(FOLDS) != f
        count = gram[rest, :, 0, 0].sum(axis=0)
        overall = moment[rest, :, 0].sum() / max(count.sum(), 1.0)
        here = fold == f
        for k in range(arms):
            if count[k] == 0:
                predicted[here, k] = overall
                continue
            weights = np.linalg.solve(gram[rest, k].sum(axis=0) + pull, moment[rest, k].sum(axis=0))
            predicted[here, k] = np.clip(with_one[here] @ weights, low[rest, k].min(), high[rest, k].max())
    return predicted


def chance_known(known: np.ndarray, arm: I64, by: F64, of: np.ndarray) -> F64:
    """(n,) share that is known of requests like it: on the same arm and, where there are enough, alike in what they are told by.

    Args:
        known: (n,) whether it is; arm: (n,); by: (n,) a score; of: (n,) requests that count, the others have a share of 1.
    """
    share = np.ones(len(arm))
    for k in np.unique(arm[of]).tolist():
        rows = np.flatnonzero(of & (arm == k))
        parts = 1 + min(int(known[rows].sum()) // _ENOUGH, _MOST_PARTS - 1)
        order = np.searchsorted(np.quantile(by[rows], np.linspace(0, 1, parts + 1)[1:-1]), by[rows])
        hits = np.bincount(order, known[rows].astype(np.float64), minlength=parts)
        each = hits / np.maximum(np.bincount(order, minlength=parts), 1)
        if each[np.unique(order)].min() == 0:
            each[:] = known[rows].mean()
        share[rows] = each[order]
    return share


_ENOUGH, _MOST_PARTS = 20, 4

__all__ = ["FOLDS", "chance_known", "cross_fitted", "features"]
