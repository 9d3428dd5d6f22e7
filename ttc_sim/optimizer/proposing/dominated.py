"""Strides that no best policy takes: another arm does as well in everything for the same problems, and better in something."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ttc_sim.optimizer.proposing.proposal import Question
from ttc_sim.optimizer.proposing.strides import Strides
from ttc_sim.scenario import Api, has_fixed_cost

_FEW = 3200  # strides that a program is quick with anyway


def without_dominated(strides: Strides, question: Question) -> Strides:
    """The strides without those; all, where there are few.

    Whatever the limits are, taking the other arm instead breaks none of them and costs no accuracy: the best that is left is as
    good as the best of all. A pool's load counts apart, as its replicas are bought for it, and
    so does what an endpoint with a fee is sent. Of arms that are alike in everything the
    one that is named last is kept.
    """
    if len(strides.arm) <= _FEW:
        return strides
    model = question.expectations.model
    deployment = np.array([arm.deployment for arm in model.arms])[strides.arm]
    fee = np.array([isinstance(item, Api) and has_fixed_cost(item) for item in model.deployments])[deployment]
    busy = strides.gpu_s + np.where(fee, strides.share, 0.0)
    loads = [np.where(deployment == d, busy, 0.0) for d in np.unique(deployment)]
    figures = np.stack([-strides.correct, strides.cost, strides.timeout, *strides.late, *loads])
    walked = np.stack([strides.source, strides.score, strides.first, strides.last])
    order = np.lexsort((strides.arm, *walked[::-1]))
    starts = np.flatnonzero(np.append(True, (np.diff(walked[:, order], axis=1) != 0).any(axis=0)))
    kept = np.ones(len(order), dtype=np.bool_)
    for some in np.split(order, starts[1:]):
        mine = figures[:, some]
        as_good = (mine[:, :, None] <= mine[:, None, :]).all(axis=0)  # [a, b]: a is no worse than b in anything
        later = np.arange(len(some))[:, None] > np.arange(len(some))
        kept[some] = ~(as_good & (~as_good.T | later)).any(axis=0)
    at = np.flatnonzero(kept)
    return replace(
        strides,
        **{name: getattr(strides, name)[at] for name in ("source", "score", "first", "last", "arm")},
        **{name: getattr(strides, name)[at] for name in ("correct", "cost", "timeout", "gpu_s", "share")},
        late=strides.late[:, at] if len(strides.late) else strides.late,  # which has no second axis without limits
    )
