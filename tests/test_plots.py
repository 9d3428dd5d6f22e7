"""Plots: whatever is drawn, no text is cut or covers another, everything is told apart without colours, and axes have units."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from matplotlib.figure import Figure

import ttc_sim as ttc
from ttc_sim.assumptions.found import Index
from ttc_sim.base.estimates import Estimate
from ttc_sim.deploying.monitoring.keeping import Asked, Judged, Look
from ttc_sim.evaluation.economics import VerifierCurve
from ttc_sim.optimizer.routers import RouterInScenario, RouterPoint
from ttc_sim.optimizer.validating import Validation, Verdict
from ttc_sim.predictor.judging.metrics import Bin, Quality
from ttc_sim.predictor.judging.report import ModelReport, Report, RouterReport
from ttc_sim.predictor.judging.routing import SHARES, Routing
from ttc_sim.reporting import plots
from ttc_sim.serving.offers import Offer
from ttc_sim.simulation.summary import Summary

from .plot_boxes import faults_of, visible_texts
from .test_scenario import GOOD

AWKWARD = ("<script>", "$^$", "_x", "W" * 60, "漢字の名前" * 8, "$a$ and $b$", "a rather long name of an ordinary kind")
COUNTS = (1, 2, 9, 30)


def names(count: int) -> list[str]:
    """So many, the awkward ones first."""
    return [*AWKWARD, *(f"arm {k}" for k in range(30))][:count]


def about(value: float, by: float = 0.1) -> Estimate:
    return Estimate(value, value * (1 - by), value * (1 + by))


@cache
def simulated(count: int) -> ttc.Result:
    """So many arms, each on a deployment of its own, and so many sources."""
    raw = copy.deepcopy(GOOD)
    pool, api = raw["deployments"]["pool"], raw["deployments"]["api"]
    known = names(count)
    raw["deployments"] = {name: copy.deepcopy(api if k else pool) for k, name in enumerate(known)}
    raw["arms"] = {name: {**raw["arms"]["large" if k else "small"], "deployment": name} for k, name in enumerate(known)}
    [source] = raw["workload"]["sources"].values()
    raw["workload"]["sources"] = {name: {**source, "share": 1 / count} for name in known}
    asked = {"accuracy": 0.4, "latency_p95_s": 20, "ttft_p50_s": 1, "sources": {known[-1]: {"latency_p99_s": 50}}}
    scenario = ttc.scenario_from_dict(
        {**raw, "policy": None, "replications": 1, "targets": {"minimize": "cost", **asked}}
    )

    def everywhere(request: ttc.Request) -> str:
        return known[request.index % count]

    return ttc.simulate(scenario, everywhere, requests=max(60, 2 * count), replications=1)


@cache
def planned() -> ttc.Plan:
    return ttc.optimize(
        ttc.scenario_from_dict(
            {
                **GOOD,
                "policy": None,
                "replications": 2,
                "targets": {"minimize": "cost", "accuracy": 0.4, "latency_p95_s": 60},
            }
        )
    )


def many_summaries(count: int) -> dict[str, Summary]:
    first = planned().predicted
    assert first.accuracy is not None
    found = {}
    for k, name in enumerate(names(count)):
        times = {key: one.scaled(1 + 0.3 * k) for key, one in first.latency_s.items()}
        accuracy = first.accuracy.shifted(-0.004 * k)
        cost = first.cost_usd_per_request.scaled(1 + (k % 7) / 3)
        found[name] = replace(first, accuracy=accuracy, cost_usd_per_request=cost, latency_s=times)
    return found


def a_plan(count: int) -> Figure:
    return replace(planned(), baselines=many_summaries(count)).plot()


def a_comparison(count: int) -> Figure:
    rows = many_summaries(count)
    return plots.plot_comparison(rows, next(iter(rows)))


@cache
def varied() -> ttc.WhatIf:
    scenario = ttc.scenario_from_dict({**GOOD, "replications": 2})
    return ttc.what_if(scenario, {"busy": {"workload.arrivals.rate_per_s": "2x"}}, requests=40)


def a_what_if(count: int) -> Figure:
    [one] = varied().variations
    kept = [replace(one, name=name, replanned=one.kept if k % 2 else None) for k, name in enumerate(names(count))]
    return replace(varied(), variations=tuple(kept)).plot()


@cache
def moved() -> ttc.Sensitivity:
    return ttc.sensitivity(
        ttc.scenario_from_dict({**GOOD, "replications": 2}), figure="cost_usd_per_request", requests=40
    )


def a_tornado(count: int) -> Figure:
    found = moved()
    moving = [one for one in found.assumptions if one.effect(found.figure) > 0]
    rows = tuple(replace(moving[k % len(moving)], name=name) for k, name in enumerate(names(count)))
    indices = {found.figure: tuple(Index(name, about(0.3), about(0.5), about(0.2)) for name in names(count))}
    joint = SimpleNamespace(runs=64, indices=indices) if count > 2 else None
    return replace(found, name=AWKWARD[3], assumptions=rows, joint=cast(Any, joint)).plot()


def a_validation(count: int) -> Figure:
    keys = ["accuracy", "cost_usd_per_request", *(f"sources.{name}.latency_p95_s" for name in names(count))][:count]
    verdicts = {key: Verdict(about(0.5 + k), about((0.5 + k) * (1 + 0.3 * (k % 2)))) for k, key in enumerate(keys)}
    return plots.plot_validation(Validation(verdicts, planned().predicted, {}, 9, (), 0.0, {}))


def a_monitored(count: int) -> Figure:
    day = 1_790_000_000.0
    looks = tuple(Look(day + 3600 * k, Estimate(0.5 + 0.01 * k, 0.4, 0.6), k == 3) for k in range(5))
    judged = [
        Judged(Asked(f"sources.{name}.{key}", key, name, kind, 0.5, 0.4, 0.6), 50, about(0.5), "kept", None, looks)
        for name in names(count)
        for key, kind in (("accuracy", "promise"), ("latency_p95_s", "target"), ("cost_usd_per_day", "promise"))
    ]
    return plots.plot_monitored(cast(Any, SimpleNamespace(judged=tuple(judged))))


def a_report(count: int) -> Figure:
    bins = tuple(Bin(0.1 + 0.2 * k, Estimate(0.15 + 0.18 * k, 0.1 + 0.17 * k, 0.2 + 0.19 * k), 50) for k in range(5))
    quality = Quality(about(0.8), about(0.1), about(0.2), about(0.05), 0.5, bins, 250)
    models = {name: ModelReport(quality, "head", "here", {}) for name in names(count)}
    if count == 1:
        return plots.plot_report(Report("mine", 250, "problems", models, {}, None, ()))
    accuracy = 0.4 + 0.3 * SHARES**0.5
    routing = Routing(
        about(0.7), about(0.25), about(0.64), about(0.1), about(0.4), about(0.7), accuracy, accuracy + 0.05, 0.0
    )
    weak, strong = names(count)[:2]
    baselines = {
        name: SimpleNamespace(router=routing) for name in ("prompt_length", "tfidf_logistic", "nearest_neighbours")
    }
    router = RouterReport(weak, strong, "score", routing, 250)
    points = tuple(
        RouterPoint(None, 0.1 * k, about(0.4 + 0.03 * k), about(0.001 * (k + 1)), about(1.0 + k), about(9.0 + k))
        for k in range(min(count, 11))
    )
    within = RouterInScenario(AWKWARD[3], weak, strong, "score", points, None, {}, ())
    return plots.plot_report(Report("mine", 250, "problems", models, cast(Any, baselines), router, ()), within)


def some_offers(count: int) -> Figure:
    offers = [
        Offer(
            name,
            gpus,
            1,
            True,
            gpus,
            9.0,
            9.0,
            9,
            9,
            30 * gpus**0.7 + k,
            100.0,
            2.0,
            0.3 * (1 + k) / gpus**0.3,
            "old" if k % 3 else None,
        )
        for k, name in enumerate(names(count))
        for gpus in (1, 2, 4, 8)
    ]
    return plots.plot_offers(offers, f"a model with a long name {AWKWARD[3]} and more of it")


@cache
def evaluated() -> ttc.Evaluation:
    return ttc.evaluate("math/sky-t1-32b", "Single(cap=2048)", subset="aime24")[0]


def evaluations(count: int) -> ttc.Evaluations:
    one = evaluated()
    kinds = (
        "Single(cap={})",
        "MajorityVote(n={})",
        "BestOfN(n={}, auroc=0.8)",
        "Single(cap={}, on_cap='force_answer')",
    )
    found = []
    for k in range(count):
        tokens = 300.0 * (k // 4 + 1)
        share = about(0.7 - 0.02 * abs(k // 4 - 3) - 0.05 * (k % 4), 0.05)
        bands = {
            band: {
                "accuracy": {"value": share.value * part, "low": share.low * part, "high": share.high * part},
                "tokens_per_request": tokens / part,
            }
            for band, part in (("0.0-0.2", 1.0), ("0.4-0.6", 0.6), ("0.8-1.0", 0.2))
        }
        spent = {"tokens_per_request": tokens, "tokens_in_a_row": tokens, "by_band": bands}
        found.append(replace(one, strategy=kinds[k % 4].format(k // 4 + 2), accuracy=share, **spent))
    return ttc.Evaluations("mine", "given", tuple(found))


def some_verifiers(count: int) -> Figure:
    n = np.array([1, 2, 4, 8, 16])
    law = {
        name: VerifierCurve(n, 0.5 + 0.01 * k + 0.02 * np.log(n), 0.5 + 0 * n, 0.5 + 0.1 * np.log(n), 1.0 * n)
        for k, name in enumerate(names(count))
    }
    return plots.plot_verifiers(law)


def a_backtest(count: int) -> Figure:
    times = {"measured_e2e_s": np.arange(1.0, count + 1), "predicted_e2e_s": 1.1 * np.arange(1.0, count + 1)}
    return plots.plot_backtest({"per_request": times, "per_request_median_error_percent": 10.0, "run": AWKWARD[3]})


DRAWN: Mapping[str, Callable[[int], Figure]] = {
    "arms": lambda count: simulated(count).plot(),
    "latency": lambda count: simulated(count).plot("latency"),
    "day": lambda count: simulated(count).plot("day"),
    "spend": lambda count: simulated(count).plot("spend"),
    "requests": lambda count: simulated(count).plot("requests"),
    "plan": a_plan,
    "comparison": a_comparison,
    "differences": a_what_if,
    "tornado": a_tornado,
    "validation": a_validation,
    "monitored": a_monitored,
    "reliability": a_report,
    "offers": some_offers,
    "strategies": lambda count: evaluations(count).plot(),
    "budget": lambda count: evaluations(count).plot("budget"),
    "verifiers": some_verifiers,
    "backtest": a_backtest,
    "difficulty": lambda count: evaluations(count)[count - 1].plot(),
    "lengths": lambda _: plots.plot_profile(ttc.load_profile("math/sky-t1-32b")),
}
_DIFFERENT = {"difficulty": (1, 30), "lengths": (1,), "backtest": (1, 30), "monitored": (1, 9), "validation": (1, 14)}
"""Of those that are the same with some other number: with which they differ."""
CASES = [(name, count) for name in DRAWN for count in _DIFFERENT.get(name, COUNTS)]


@pytest.mark.parametrize(("name", "count"), CASES)
def test_nothing_is_cut_covered_or_alike(name: str, count: int) -> None:
    figure = DRAWN[name](count)
    assert faults_of(figure) == []
    assert len(visible_texts(figure)) > 5
    # However many there are, it stays a figure that a page has room for.
    assert figure.get_figwidth() < 16
    assert figure.get_figheight() < 20
