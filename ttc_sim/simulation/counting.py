"""What counts in a mean over requests: what is expected of their problems, and what the runs saw.

What is expected over all measured problems, less what was planned for the requests that happened to come, plus what became of them,
is exact where requests run to their end. Where many are cut off (by a timeout, of attempts that would have gone on for long) what
was planned varies more than what became of them. So the planned figures are a control variate, each arm with its own coefficient
(P. Glasserman, Monte Carlo Methods in Financial Engineering, 2003, section 4.1): 1 where all goes as planned, 0 where the plan says
nothing of what became of a request. What was seen is weighted by kind of problem (post-stratified), so that parts add up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ttc_sim.base.draws import F64, I64


@dataclass(frozen=True)
class Quantity:
    """A figure of each request: what it ``was``, (n,), what was ``planned``, (n,), and what is ``expected``, (P,) by problem."""

    was: F64
    planned: F64
    expected: F64


@dataclass(frozen=True)
class Counting:
    """Weights in means: of what each request was, (n,), of what was planned for it, (n,), and of what is expected, (P,)."""

    was: F64
    planned: F64
    expected: F64


def count(
    quantities: Mapping[str, Quantity], judged: str, parts: Sequence[tuple[I64, I64]], weight: F64
) -> Counting | None:
    """Weigh what was planned against what was seen, so that no part's figure is below 0; ``None`` where all went as planned.

    The same for all quantities, so that tokens times prices stay the bill, and in all parts, so that they add up.

    Args:
        quantities: figures that are never below 0; judged: the one that coefficients are best for.
        parts: for each way in which requests are split, the number of the part that each request, (n,), and each problem, (P,),
            belongs to; by the arm that they are sent to first.
        weight: (P,) of each problem.
    """
    if not any((one.was != one.planned).any() for one in quantities.values()):
        return None
    sizes = [int(max(of_request.max(initial=0), of_row.max(initial=0))) + 1 for of_request, of_row in parts]
    kind, kind_of_row = (np.ravel_multi_index([part[k] for part in parts], sizes) for k in (0, 1))
    kinds, n = int(np.prod(sizes)), len(kind)
    part = np.stack(np.unravel_index(np.arange(kinds), sizes))
    came, share = np.bincount(kind, minlength=kinds), np.bincount(kind_of_row, weights=weight, minlength=kinds)
    # What was seen of a kind counts for its share of the traffic; of a kind that did not come something is only expected.
    times = np.where(came > 0, share * n / np.maximum(came, 1), 0.0)

    def summed(values: F64) -> F64:
        return np.bincount(kind, weights=values, minlength=kinds) / n

    was, planned = (
        np.stack([summed(values) for values in side]) * times
        for side in zip(*[(one.was, one.planned) for one in quantities.values()], strict=True)
    )
    expected = np.stack(
        [np.bincount(kind_of_row, weights=weight * one.expected, minlength=kinds) for one in quantities.values()]
    )
    arm, arms = parts[0][0], sizes[0]
    changed = np.zeros(arms, dtype=np.bool_)
    for one in quantities.values():
        changed[arm[one.was != one.planned]] = True
    part_of = np.where(changed, _coefficient(quantities[judged], arm, arms), 1.0)
    while True:
        of_kind = part_of[part[0]]
        total = np.where(came > 0, was + of_kind * (expected - planned), expected)
        below = np.zeros(kinds, dtype=np.bool_)
        for number, size in zip(part, sizes, strict=True):
            sums = np.stack([np.bincount(number, weights=row, minlength=size) for row in total])
            below |= (sums < -1e-9 * np.abs(was).sum(axis=1, keepdims=True)).any(axis=0)[number]
        more = np.zeros(arms, dtype=np.bool_)
        more[part[0][below & (came > 0)]] = True
        more &= changed & (part_of > 0)
        if not more.any():
            break
        part_of[more] = 0.0
    of_request, seen = part_of[arm], changed[arm]
    return Counting(
        was=np.where(seen, times[kind], 1.0),
        planned=np.where(seen, times[kind] * of_request, 1.0),
        expected=np.where(changed[parts[0][1]] & (came[kind_of_row] > 0), part_of[parts[0][1]], 1.0),
    )


def _coefficient(one: Quantity, arm: I64, arms: int) -> F64:
    """(arms,) by how much what became of a request rises with what was planned, from 0 to 1: covariance over variance."""
    number = np.maximum(np.bincount(arm, minlength=arms), 1)

    def centred(values: F64) -> F64:
        return np.asarray(values - (np.bincount(arm, weights=values, minlength=arms) / number)[arm])

    was, planned = centred(one.was), centred(one.planned)
    varies = np.bincount(arm, weights=planned * planned, minlength=arms)
    together = np.bincount(arm, weights=was * planned, minlength=arms)
    return np.asarray(np.clip(np.where(varies > 0, together / np.maximum(varies, 1e-300), 1.0), 0.0, 1.0))
