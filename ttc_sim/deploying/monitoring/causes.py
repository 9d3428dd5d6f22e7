"""Which assumption of the plan broke: what was realized less what was promised, in parts that add up.

Each step replaces one thing that the plan expects by what came, in the order in which a request meets them: the mix of sources,
scores within a source, arms within a band of scores, fallbacks, and then, arm by arm, calls, tokens and prices, or answers in time
and right ones. The parts are the differences between one step and the next (direct standardization; Kitagawa 1955, Journal of the
American Statistical Association 50), so that they add up exactly, whatever came. Other orders share interactions out otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from ttc_sim.base.draws import F64, uniforms
from ttc_sim.base.estimates import Estimate
from ttc_sim.deploying.monitoring.cells import (
    ANSWERED,
    CALLS,
    GRADED,
    OUTPUT,
    PROMPT,
    RIGHT,
    USD,
    Bands,
    N,
    bands_of,
    counted,
)
from ttc_sim.deploying.monitoring.reference import Reference
from ttc_sim.deploying.monitoring.served import Served
from ttc_sim.optimizer.promises import as_mapping

Table = NDArray[np.float64]  # (sources, bands, arms, 2, figures)
_RESAMPLES = 200
_BATCHES = 100  # of the plan's own simulation
_ROUNDING = 1e-12
_MOST_BLOCKS = 500  # that are resampled; of longer logs several stretches are one
Key = tuple[str, str | None]


@dataclass(frozen=True)
class Part:
    """One part of a difference.

    Attributes:
        what: ``sources``, ``scores``, ``routing``, ``fallbacks``, ``calls``, ``prompt tokens``, ``output tokens``, ``prices``,
            ``pools``, ``no answer``, ``right answers``, ``grading`` or ``correction``; of: which arm, or deployment, if one.
        by: what it adds, with an interval from resampling blocks of the log and problems of the plan, which all parts of a figure
            keep at once with 95%; ``pools`` and ``correction`` have none.
    """

    what: str
    of: str | None
    by: Estimate

    @property
    def more_than_noise(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.by.low > 0 or self.by.high < 0

    def as_json(self) -> dict[str, object]:
        """Plain mapping."""
        return {"what": self.what, "of": self.of, **as_mapping(self.by), "more_than_noise": self.more_than_noise}


@dataclass(frozen=True)
class Causes:
    """A figure's difference from its promise, in parts.

    Attributes:
        figure: ``cost_usd_per_request`` or ``accuracy``; promised, realized: values.
        parts: that add up to the difference, the largest first; score: that bands were told by, if any.
    """

    figure: str
    promised: float
    realized: float
    parts: tuple[Part, ...]
    score: str | None

    @property
    def difference(self) -> float:
        """Realized less promised."""
        return self.realized - self.promised

    def as_json(self) -> dict[str, object]:
        """Plain mapping."""
        return {
            "figure": self.figure,
            "promised": self.promised,
            "realized": self.realized,
            "parts": [one.as_json() for one in self.parts],
            "score": self.score,
        }


def find_causes(
    now: Served, planned: Reference, promised: dict[str, float], block_s: float, seconds: float
) -> tuple[Causes, ...]:
    """Trace the cost of a request, and accuracy where it is known, back to what the plan expected.

    Args:
        promised: value of each figure, by name; block_s: of the stretches that are resampled; seconds: that the log is about.
    """
    if not len(now):
        return ()
    bands = bands_of(planned.served, now)
    blocks = np.unique(np.floor(now.at_s / block_s), return_inverse=True)[1].astype(np.int64)
    blocks = blocks * min(_MOST_BLOCKS, int(blocks.max()) + 1) // (int(blocks.max()) + 1)
    tables = counted(now, bands, planned.prices, blocks, int(blocks.max()) + 1)
    problem = planned.served.problem
    # Whole problems are resampled, as another set of them might have been measured.
    then = np.where(problem < 0, np.arange(len(problem)), problem) % _BATCHES
    references = counted(planned.served, bands, planned.prices, then, _BATCHES)
    found = []
    arms = now.arms
    places = tuple(planned.model.scenario.arms[name].deployment for name in arms)
    if (cost := promised.get("cost_usd_per_request")) is not None:
        standing = planned.standing_usd_per_s * seconds / len(now) if seconds else planned.standing_usd_per_request
        pools = standing - planned.standing_usd_per_request
        means = references.sum(axis=0)
        expected = float(means[..., USD].sum() / means[..., N].sum()) + planned.standing_usd_per_request
        more: dict[Key, float] = {("pools", None): pools} if planned.standing_usd_per_s else {}
        found.append(
            _causes(
                "cost_usd_per_request",
                cost,
                expected,
                tables,
                references,
                partial(cost_parts, arms=arms, places=places),
                more,
                bands,
            )
        )
    accuracy = promised.get("accuracy")
    if accuracy is not None and now.graded.any():
        means = references.sum(axis=0)
        share = means[..., RIGHT].sum() / means[..., N].sum()
        found.append(
            _causes(
                "accuracy", accuracy, float(share), tables, references, partial(accuracy_parts, arms=arms), {}, bands
            )
        )
    return tuple(found)


def _causes(
    figure: str,
    promised: float,
    expected: float,
    tables: NDArray[np.float64],
    references: NDArray[np.float64],
    parts_of: Callable[[Table, Table], dict[Key, float]],
    more: dict[Key, float],
    bands: Bands,
) -> Causes:
    values = parts_of(tables.sum(axis=0), references.sum(axis=0))
    drawn: dict[Key, list[float]] = {key: [] for key in values}
    weights = [_weights(len(tables), "hours"), _weights(len(references), "plan")]
    for k in range(_RESAMPLES):
        now, then = (np.tensordot(w[k], of, axes=1) for w, of in zip(weights, (tables, references), strict=True))
        if now[..., N].sum() == 0 or (figure == "accuracy" and now[..., GRADED].sum() == 0):
            continue
        for key, value in parts_of(now, then).items():
            drawn.setdefault(key, []).append(value)
    alone = len(tables) == 1
    least = _ROUNDING * (abs(promised) + abs(expected))
    values = {key: value for key, value in values.items() if abs(value) > least}
    widths = float(ndtri(1 - 0.025 / max(len(values), 1)))  # by Bonferroni
    parts = [Part(*key, _around(value, drawn[key], widths, alone)) for key, value in values.items()]
    parts += [Part(*key, Estimate(value, value, value)) for key, value in more.items()]
    corrected = expected - promised
    if abs(corrected) > least:
        parts.append(Part("correction", None, Estimate(corrected, corrected, corrected)))
    realized = promised + sum(part.by.value for part in parts)
    ordered = sorted(
        [part for part in parts if part.by.value != 0],
        key=lambda part: (-abs(part.by.value), part.what, part.of or ""),
    )
    return Causes(figure, promised, realized, tuple(ordered), bands.score)


def _weights(count: int, what: str) -> F64:
    """(resamples, count) how often each is drawn, of as many with replacement."""
    picked = (uniforms(0, f"monitoring/{what}", _RESAMPLES, count) * count).astype(np.int64)
    flat = picked + np.arange(_RESAMPLES)[:, None] * count
    return np.bincount(flat.ravel(), minlength=_RESAMPLES * count).reshape(_RESAMPLES, count).astype(np.float64)


def _around(value: float, drawn: list[float], widths: float, alone: bool) -> Estimate:
    if alone or len(drawn) < _RESAMPLES // 2:
        return Estimate(value, -np.inf, np.inf)
    half = widths * float(np.std(drawn))
    return Estimate(value, value - half, value + half)


def cost_parts(now: Table, then: Table, arms: tuple[str, ...], places: tuple[str, ...]) -> dict[Key, float]:
    """Parts of the mean bill of calls now less that of the plan; they add up to it.

    Args:
        places: deployment of each arm, whose prices are told together.
    """
    parts, weight, expected = _steps(now, then, _per_request(then, USD), _per_request(now, USD))
    seen = (then[..., N] > 0) & (now[..., N] > 0)
    figures = (CALLS, PROMPT, OUTPUT, USD)
    (k, p, o, usd), (k0, p0, o0, usd0) = (
        [np.nan_to_num(_per_request(one, at)) for at in figures] for one in (now, then)
    )
    more = np.where(seen, k / np.maximum(k0, 1e-12), 1.0)
    calls = np.where(seen, (more - 1) * (p0 + o0), 0.0)
    prompt = np.where(seen, p - more * p0, 0.0)
    # Of a cell that the plan does not have, what is not as expected of its arm elsewhere is taken to be tokens.
    output = np.where(seen, o - more * o0, np.where(weight > 0, usd - expected, 0.0))
    prices = np.where(seen, (usd - p - o) - (usd0 - p0 - o0), 0.0)
    for what, each in (("calls", calls), ("prompt tokens", prompt), ("output tokens", output), ("prices", prices)):
        by_arm = np.where(weight > 0, weight * each, 0.0).sum(axis=(0, 1, 3))
        for name, value in zip(places if what == "prices" else arms, by_arm.tolist(), strict=True):
            parts[what, name] = parts.get((what, name), 0.0) + value
    return parts


def accuracy_parts(now: Table, then: Table, arms: tuple[str, ...]) -> dict[Key, float]:
    """Parts of the share of right answers now less that of the plan; they add up to it."""
    answered, was_answered = _per_request(now, ANSWERED), _per_request(then, ANSWERED)
    q0 = _of(then, RIGHT, GRADED)
    share0 = np.where(then[..., N] > 0, was_answered * np.nan_to_num(q0), np.nan)
    q = _of(now, RIGHT, GRADED)
    share = np.where(answered > 0, answered * q, np.where(now[..., N] > 0, 0.0, np.nan))
    parts, weight, expected = _steps(now, then, share0, share)
    # Of a cell without grades nothing is known but what was expected.
    known = ~np.isnan(share)
    realized = np.where(known, share, expected)
    base = np.where(np.isnan(q0), np.nan_to_num(q), q0)
    t0 = np.where(then[..., N] > 0, was_answered, answered)
    unanswered = np.where(known & (then[..., N] > 0), (answered - t0) * base, 0.0)
    right = realized - expected - unanswered
    for what, each in (("no answer", unanswered), ("right answers", right)):
        by_arm = np.where(weight > 0, weight * each, 0.0).sum(axis=(0, 1, 3))
        parts |= {(what, arm): float(value) for arm, value in zip(arms, by_arm.tolist(), strict=True)}
    all_graded, all_answered, all_sent = (float(now[..., at].sum()) for at in (GRADED, ANSWERED, N))
    plain = all_answered / all_sent * float(now[..., RIGHT].sum()) / all_graded
    parts["grading", None] = plain - float(np.where(weight > 0, weight * realized, 0.0).sum())
    return parts


def _steps(now: Table, then: Table, was: F64, came: F64) -> tuple[dict[Key, float], F64, F64]:
    """Mean figure of the plan's cells, step by step with the shares that came; shares of the cells; and what is expected of each.

    Args:
        was: (sources, bands, arms, 2) figure a request of the plan's cells, NaN where it has none; came: likewise.
    """
    n, n0 = now[..., N], then[..., N]
    known = ~np.isnan(was)
    y0 = np.where(known, was, 0.0) * n0
    n0 = np.where(known, n0, 0.0)
    weight = n / n.sum()

    def mean(axes: tuple[int, ...]) -> F64:
        size = n0.sum(axis=axes, keepdims=True)
        return np.where(size > 0, y0.sum(axis=axes, keepdims=True) / np.where(size > 0, size, 1.0), np.nan)

    def filled(first: F64, *others: F64) -> F64:
        for other in others:
            first = np.where(np.isnan(first), other, first)
        return np.asarray(np.broadcast_to(first, n.shape))

    whole = filled(mean((0, 1, 2, 3)), np.zeros(1))
    of_source = filled(mean((1, 2, 3)), whole)
    of_band = filled(mean((2, 3)), of_source)
    here = np.where(n > 0, came, np.nan)
    of_arm = filled(mean((3,)), mean((0, 1, 3)), here, of_band)
    of_cell = filled(np.where(known, was, np.nan), here, of_arm)
    steps = [
        float(np.where(weight > 0, weight * one, 0.0).sum()) for one in (whole, of_source, of_band, of_arm, of_cell)
    ]
    names = ("sources", "scores", "routing", "fallbacks")
    parts: dict[Key, float] = {(name, None): b - a for name, a, b in zip(names, steps[:-1], steps[1:], strict=True)}
    return parts, weight, of_cell


def _per_request(table: Table, at: int) -> F64:
    return _of(table, at, N)


def _of(table: Table, at: int, by: int) -> F64:
    size = table[..., by]
    return np.where(size > 0, table[..., at] / np.where(size > 0, size, 1.0), np.nan)


__all__ = ["Causes", "Part", "accuracy_parts", "cost_parts", "find_causes"]
