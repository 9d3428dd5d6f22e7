"""The scenario that a plan was made on, as it is today by the logs: rate, mix of sources, scores, lengths, prices and speeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from ttc_sim.base.draws import F64, I64
from ttc_sim.base.figures import number, percent
from ttc_sim.deploying.monitoring.cells import Bands, bands_of
from ttc_sim.deploying.monitoring.reference import Reference
from ttc_sim.deploying.monitoring.served import Bools, Served
from ttc_sim.predictor.judging.drift import FEWEST
from ttc_sim.scenario import Api, Arrivals
from ttc_sim.workload.population import Population

_LIKE = 0.02  # relative, below which nothing is said to have changed
_SURE = 3.0  # standard errors, below which what may be chance is taken to be as planned
_WHERE = "what came"


@dataclass(frozen=True)
class Today:
    """What is different today.

    Attributes:
        changes: new values by path, as a variation of :func:`ttc_sim.what_if` has them, each with where it comes from.
        population: the problems so often as their scores come today.
        said: each change in words; assumed: what is not in the logs, and taken to be as planned.
    """

    changes: dict[str, tuple[object, str]]
    population: Callable[[Population], Population]
    said: tuple[str, ...]
    assumed: tuple[str, ...]


def as_it_is(now: Served, planned: Reference, rate_per_s: float) -> Today:
    """What the logs say of today.

    Args:
        rate_per_s: requests that came a second.
    """
    changes: dict[str, object] = {}
    said: list[str] = []
    for part in (
        _traffic(now, planned, rate_per_s),
        _prices(now, planned),
        _speeds(now, planned),
        _lengths(now, planned),
    ):
        for path, value, words in part:
            if path:
                changes[path] = value
            said += [words] if words else []
    bands = bands_of(planned.served, now)
    assumed = [
        "who arrives when within a day, and how often each problem comes within a band of scores, are as planned",
        "right answers of each arm on a problem are as measured, whatever the logs say of them",
    ]
    often = f"problems of each source come as often as their {bands.score} does, in {bands.count - 1} bands"
    none = "no score stands both in the logs and in the plan: problems come as often as planned"
    assumed.append(none if bands.score is None else often)
    return Today(
        {path: (value, _WHERE) for path, value in changes.items()},
        lambda population: _as_often(population, now, planned, bands),
        tuple(said),
        tuple(assumed),
    )


_Change = tuple[str, object, str]


def _traffic(now: Served, planned: Reference, rate_per_s: float) -> Iterator[_Change]:
    """Rates of the arrivals, and shares of the sources that share them."""
    workload = planned.model.scenario.workload
    n = np.bincount(now.source, minlength=len(now.sources)) / len(now)
    n0 = np.bincount(planned.served.source, minlength=len(now.sources)) / len(planned.served)
    names = list(workload.sources)
    for stream in workload.streams:
        of = list(stream.sources) or [0]
        came, expected = float(n[of].sum()) * rate_per_s, float(n0[of].sum()) * planned.rate_per_s
        if expected > 0 and came > 0 and len(workload.streams) == 1:
            if abs(factor := came / expected - 1) >= _LIKE:
                said = f"{number(came, 2)} requests a second instead of {number(expected, 2)}"
                yield "ready.traffic", f"{1 + factor:.6g}x", said
        elif expected > 0 and came > 0:
            path = "workload.arrivals" if stream.source is None else f"workload.sources.{stream.source}.arrivals"
            yield from _scaled(path, stream.arrivals, came / expected, expected)
        if stream.source is None and len(of) > 1 and came > 0:
            count = n[of] * len(now)
            within, expects = count / count.sum(), n0[of] / n0[of].sum()
            noise = _SURE * np.sqrt(
                np.maximum(expects * (1 - expects), 1e-9) * (1 / count.sum() + 1 / len(planned.served))
            )
            if (np.abs(within - expects) <= noise).all():
                continue
            within = (count + 0.5) / (count + 0.5).sum()  # a source that sent nothing may send yet
            pairs = list(zip(of, within.tolist(), expects.tolist(), strict=True))
            for k, share, _ in pairs:
                yield f"workload.sources.{names[k]}.share", float(f"{share:.6g}"), ""
            shares = ", ".join(f"{percent(share)} from {names[k]} instead of {percent(was)}" for k, share, was in pairs)
            yield "", None, shares


def _scaled(path: str, arrivals: Arrivals, factor: float, expected: float) -> Iterator[_Change]:
    if abs(factor - 1) < _LIKE:
        return
    steps, users = getattr(arrivals, "steps", None), getattr(arrivals, "users", None)
    said = f"{number(expected * factor, 2)} requests a second instead of {number(expected, 2)}"
    if steps is not None:
        made = [{**one.model_dump(), "rate_per_s": one.rate_per_s * factor} for one in steps]
        yield f"{path}.steps", made, said
    elif users is not None:
        yield f"{path}.users", max(round(users * factor), 1), said
    elif hasattr(arrivals, "rate_per_s"):
        rate = arrivals.rate_per_s if arrivals.rate_per_s is not None else expected
        yield f"{path}.rate_per_s", float(f"{rate * factor:.6g}"), said


def _prices(now: Served, planned: Reference) -> Iterator[_Change]:
    """Prices of endpoints, by what was billed for the tokens that came."""
    for d, (name, item) in enumerate(planned.model.scenario.deployments.items()):
        price = planned.model.prices[d]
        if not isinstance(item, Api) or price is None:
            continue
        ratios = []
        for one in (now, planned.served):
            here = _alone_on(one, planned, d)
            each = np.maximum(np.nan_to_num(one.calls[here], nan=1.0), 1.0)
            tokens = (one.prompt[here], one.cached[here], one.reasoning[here], one.visible[here])
            by_list = float(np.sum(price.cost_usd(*tokens, each)))
            ratios.append(float(one.usd[here].sum()) / by_list if here.sum() >= FEWEST and by_list > 0 else None)
        if ratios[0] is None or not ratios[1] or abs((factor := ratios[0] / ratios[1]) - 1) < _LIKE:
            continue
        yield (
            f"deployments.{name}.price.factor",
            float(f"{item.price.factor * factor:.6g}"),
            f"prices of {name} times {factor:.3g}",
        )


def _speeds(now: Served, planned: Reference) -> Iterator[_Change]:
    """Times to the first token and for each after it, of endpoints."""
    for d, (name, item) in enumerate(planned.model.scenario.deployments.items()):
        if not isinstance(item, Api):
            continue
        for key, least in (("first_token", 1), ("per_token", 20)):
            logs = []
            for one in (now, planned.served):
                here = _alone_on(one, planned, d) & one.answered & ~np.isnan(one.first_token_s) & ~(one.calls > 1)
                here &= one.output >= least
                further = (one.latency_s - one.first_token_s) / np.maximum(one.output - 1, 1)
                taken = one.first_token_s[here] if key == "first_token" else further[here]
                logs.append(np.log(taken[taken > 0]))
            if min(map(len, logs)) < FEWEST:
                continue
            apart = float(np.median(logs[0]) - np.median(logs[1]))
            # A median's standard error is about 1.25 times that of a mean.
            noise = _SURE * 1.25 * math.sqrt(sum(float(one.var()) / len(one) for one in logs))
            if abs(apart) <= max(noise, 2 * _LIKE):
                continue
            factor = math.exp(apart)
            law = getattr(item, key)
            where = f"deployments.{name}.{key}"
            what = "first tokens" if key == "first_token" else "further tokens"
            yield (
                f"{where}.median_s",
                float(f"{law.median_s * factor:.6g}"),
                f"{what} of {name} take {factor:.3g} times as long",
            )
            if law.p95_s is not None:
                yield f"{where}.p95_s", float(f"{law.p95_s * factor:.6g}"), ""


def _alone_on(served: Served, planned: Reference, deployment: int) -> Bools:
    """(n,) requests all of whose calls went to a deployment, as far as can be told."""
    mine = np.array([arm.deployment == deployment and arm.name in planned.prices for arm in planned.model.arms])
    return np.asarray(mine[served.arm] & (served.arm == served.answered_by))


def _lengths(now: Served, planned: Reference) -> Iterator[_Change]:
    """Output tokens of a call, by profile, in the same cells of source and band as planned."""
    bands = bands_of(planned.served, now)
    arms = planned.model.scenario.arms
    profiles: dict[str, list[int]] = {}
    for a, arm in enumerate(planned.model.arms):
        if arms[arm.name].profile is not None:
            profiles.setdefault(str(arms[arm.name].profile), []).append(a)
    for profile, its in profiles.items():
        made, expected, variance, requests = 0.0, 0.0, 0.0, 0
        cells = [_cells(one, bands, its, len(planned.model.arms)) for one in (now, planned.served)]
        for cell in np.unique(cells[0][cells[0] >= 0]).tolist():
            ours, theirs = (_of_a_call(one)[at == cell] for one, at in zip((now, planned.served), cells, strict=True))
            problems = np.unique(planned.served.problem[cells[1] == cell])
            if len(theirs) < FEWEST:
                continue
            made += float(ours.sum())
            expected += float(theirs.mean()) * len(ours)
            variance += len(ours) ** 2 * float(ours.var() / len(ours) + theirs.var() / len(problems))
            requests += len(ours)
        if requests < FEWEST or expected <= 0 or made <= 0:
            continue
        factor = made / expected
        if abs(made - expected) <= max(_SURE * math.sqrt(variance), 2 * _LIKE * expected):
            continue
        yield (
            f"ready.lengths:{planned.model.arms[its[0]].name}",
            f"{factor:.4g}x",
            f"answers of {profile} are {factor:.3g} times as long",
        )


def _of_a_call(served: Served) -> F64:
    """(n,) output tokens of one call, where calls are counted."""
    return served.output / np.maximum(np.nan_to_num(served.calls, nan=1.0), 1.0)


def _cells(served: Served, bands: Bands, arms: list[int], count: int) -> I64:
    """(n,) source, band and arm of answered requests on these arms, as one number; -1 of others."""
    here = np.isin(served.arm, arms) & served.answered & (served.arm == served.answered_by)
    cell = (served.source * bands.count + bands.of(served)) * count + served.arm
    return np.asarray(np.where(here, cell, -1), dtype=np.int64)


def _as_often(population: Population, now: Served, planned: Reference, bands: Bands) -> Population:
    """The same problems, each as often as the logs say of its source and band of scores; about as many in all."""
    if bands.score is None or bands.score not in population.scores:
        return population
    own = replace(
        planned.served,
        scores={bands.score: population.scores[bands.score]},
        at_s=np.zeros(len(population)),
    )
    band, came = bands.of(own), bands.of(now)
    times = np.ones(len(population), dtype=np.int64)
    for source in range(len(population.sources)):
        here = population.source == source
        count = np.bincount(came[now.source == source], minlength=bands.count)[: bands.count - 1]
        has = np.bincount(band[here], minlength=bands.count)[: bands.count - 1]
        count = np.where(has > 0, count, 0)
        if count.sum() < FEWEST:
            continue
        each = count / count.sum() / np.maximum(has, 1) * here.sum()
        # Evenly spread copies, so that the whole comes out right however uneven single ones are.
        rows = np.flatnonzero(here)
        wanted = 4 * each[np.minimum(band[rows], bands.count - 2)]
        order = np.argsort(band[rows], kind="stable")
        ends = np.round(np.cumsum(wanted[order]))
        times[rows[order]] = np.diff(np.concatenate([[0.0], ends])).astype(np.int64)
    return population.taken(np.repeat(np.arange(len(population)), times))


__all__ = ["Today", "as_it_is"]
