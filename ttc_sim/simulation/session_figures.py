"""What sessions come to: turns, dollars, what caches found of their prompts, what that saved, and what switching cost."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np

from ttc_sim.base import intervals
from ttc_sim.base.draws import F64, I64
from ttc_sim.base.estimates import Estimate
from ttc_sim.base.intervals import Variance
from ttc_sim.simulation.pooling import Pooled
from ttc_sim.simulation.prompts import turn_before


@dataclass(frozen=True)
class CacheFigures:
    """What a deployment's cache came to.

    Attributes:
        prompt_share: part of all prompt tokens that were taken in there.
        cached_share: part of those that were found in its cache; written_share: that an API's cache was made to keep.
        saved_usd_per_request: what that made the bill of API calls less by, in the mean of all requests, those to other deployments
            too; below 0 where writing to the cache cost more than was saved. 0 of a pool, whose bill goes by the hour.
    """

    prompt_share: Estimate
    cached_share: Estimate
    written_share: Estimate
    saved_usd_per_request: Estimate


@dataclass(frozen=True)
class SessionFigures:
    """Means over sessions, with 95% intervals for other sessions like these; each counts with the turns that came within the run.

    Attributes:
        sessions: of a run, in the mean of the runs.
        turns: of a session; usd: its bill; prompt_tokens, output_tokens: of all its turns.
        sent_before_share: part of its prompt tokens that it had sent, or had answered, in an earlier turn.
        cached_share: part of them that were found in a cache, whoever had sent them.
        cold_after_switch_share: part of them that it had sent before, and that were not found on a turn that went to another
            deployment than the one before it; cold_share: on other turns: expired, evicted, too short, or ends of blocks.
        switches: of a session; switched_share: of the turns after the first, those that went to another deployment.
        saved_usd: what caches made its bill of API calls less by, with what writing to them cost.
        switch_usd: by how much less that bill would be, had what was cold after a switch been found: what switching costs at most,
            as some of it might have expired without one.
    """

    sessions: float
    turns: Estimate
    usd: Estimate
    prompt_tokens: Estimate
    output_tokens: Estimate
    sent_before_share: Estimate
    cached_share: Estimate
    cold_after_switch_share: Estimate
    cold_share: Estimate
    switches: Estimate
    switched_share: Estimate
    saved_usd: Estimate
    switch_usd: Estimate

    def as_json(self) -> dict[str, object]:
        """Plain mapping."""
        return asdict(self)


def session_figures(pooled: Pooled) -> SessionFigures | None:
    """Of all sessions of all runs; ``None`` without any."""
    prompts = [run.prompts for run in pooled.runs]
    traffics = [run.draws.traffic for run in pooled.runs]
    if pooled.session is None or all(one.session is None or (one.session < 0).all() for one in traffics):
        return None
    none = np.zeros(0, dtype=np.int64)
    turn = (
        np.concatenate([np.full(len(one.arrival_s), -1) if one.session is None else one.session for one in traffics])
        >= 0
    )
    follows = np.concatenate([turn_before(one) for one in traffics]) >= 0
    of = _Sums(pooled, turn)
    spent = {name: np.zeros(pooled.count) for name in ("tokens", "cached", "cold", "saved_usd", "cold_usd")}
    moved, at = np.zeros(pooled.count, dtype=np.bool_), 0
    before = np.zeros(pooled.count)
    for one, traffic in zip(prompts, traffics, strict=True):
        here = slice(at, at := at + len(traffic.arrival_s))
        if one is None:
            continue
        moved[here] = one.moved
        for name, values in spent.items():
            values[here] = one.of_requests(getattr(one, name))
        reused = none if traffic.reused_tokens is None else traffic.reused_tokens
        before[here] = np.minimum(reused, spent["tokens"][here]) if len(reused) else 0.0
    prompt = pooled.tokens[0]
    return SessionFigures(
        sessions=of.count / len(pooled.runs),
        turns=of.mean(turn.astype(np.float64)),
        usd=of.mean(pooled.cost),
        prompt_tokens=of.mean(prompt),
        output_tokens=of.mean(pooled.tokens[1] + pooled.tokens[2]),
        sent_before_share=of.share(before, prompt),
        cached_share=of.share(spent["cached"], prompt),
        cold_after_switch_share=of.share(spent["cold"] * moved, prompt),
        cold_share=of.share(spent["cold"] * ~moved, prompt),
        switches=of.mean(moved.astype(np.float64)),
        switched_share=of.share(moved.astype(np.float64), follows.astype(np.float64)),
        saved_usd=of.mean(spent["saved_usd"], signed=True),
        switch_usd=of.mean(spent["cold_usd"] * moved),
    )


def cache_figures(pooled: Pooled) -> dict[str, CacheFigures]:
    """By deployment that took any prompt in, where any cache found or kept anything."""
    prompts = [run.prompts for run in pooled.runs]
    known = [one for one in prompts if one is not None]
    if len(known) < len(prompts) or not any(one.cached.any() or one.written.any() for one in known):
        return {}
    model, of = pooled.model, _Sums(pooled, np.ones(pooled.count, dtype=np.bool_))

    def at(d: int, name: str) -> F64:
        return np.concatenate([one.of_requests(getattr(one, name) * (one.deployment == d)) for one in known])

    used = np.unique(np.concatenate([one.deployment for one in known])).tolist()
    prompt = pooled.tokens[0]
    requests = np.ones(pooled.count)
    return {
        model.deployment_names[d]: CacheFigures(
            prompt_share=of.share(tokens := at(d, "tokens"), prompt),
            cached_share=of.share(at(d, "cached"), tokens),
            written_share=of.share(at(d, "written"), tokens),
            saved_usd_per_request=of.ratio(at(d, "saved_usd"), requests, signed=True),
        )
        for d in used
    }


class _Sums:
    """Sums over units that are independent of each other: whole sessions, or requests where there are none."""

    def __init__(self, pooled: Pooled, members: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> None:
        unit = np.arange(pooled.count) if pooled.session is None else pooled.session
        self.pooled, self.at = pooled, np.flatnonzero(members)
        _, first, self.unit = np.unique(unit[self.at], return_index=True, return_inverse=True)
        self.count = len(first)
        self.run: I64 = pooled.run[self.at][first]
        self.session: I64 = np.arange(self.count)

    def of(self, values: F64) -> F64:
        """(units,) sums of something."""
        return np.bincount(self.unit, weights=values[self.at], minlength=self.count).astype(np.float64)

    def mean(self, values: F64, *, signed: bool = False) -> Estimate:
        """Mean over units of the sums of something; ``signed``: that may be below 0."""
        sums = self.of(values)
        value = float(sums.mean())
        return _estimate(value, self._variance((sums - value) / self.count, abs(value)), signed=signed)

    def ratio(self, part: F64, whole: F64, most: float = math.inf, *, signed: bool = False) -> Estimate:
        """Of two sums; NaN where the second is 0."""
        parts, wholes = self.of(part), self.of(whole)
        total = float(wholes.sum())
        if total <= 0:
            return Estimate(math.nan, math.nan, math.nan)
        value = float(parts.sum()) / total
        return _estimate(value, self._variance((parts - value * wholes) / total, abs(value)), most, signed=signed)

    def share(self, part: F64, whole: F64) -> Estimate:
        """The same of a part of the whole."""
        return self.ratio(part, whole, 1.0)

    def _variance(self, influence: F64, scale: float) -> Variance:
        batched = self.session if self.pooled.batched and self.pooled.session is not None else None
        return self.pooled.of_runs(influence, self.run, scale, batched)


def _estimate(value: float, variance: Variance, most: float = math.inf, *, signed: bool = False) -> Estimate:
    if signed:
        return Estimate(value, value - variance.half, value + variance.half)
    return intervals.mean(value, variance, most)


__all__ = ["CacheFigures", "SessionFigures", "cache_figures", "session_figures"]
