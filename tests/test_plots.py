"""Plots: whatever is drawn, no text is cut or covers another, everything is told apart without colours, and axes have units."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
from matplotlib.figure import Figure
from typer.testing import CliRunner

import ttc_sim as ttc
from ttc_sim.assumptions.found import Index
from ttc_sim.base.errors import InputError
from ttc_sim.base.estimates import Estimate
from ttc_sim.cli import app
from ttc_sim.deploying.monitoring.keeping import Asked, Judged, Look
from ttc_sim.evaluation.economics import VerifierCurve
from ttc_sim.optimizer.routers import RouterInScenario, RouterPoint
from ttc_sim.optimizer.validating import Validation, Verdict
from ttc_sim.predictor.judging.metrics import Bin, Quality
from ttc_sim.predictor.judging.report import ModelReport, Report, RouterReport
from ttc_sim.predictor.judging.routing import SHARES, Routing
from ttc_sim.reporting import plots
from ttc_sim.reporting.picture import Picture, as_bytes
from ttc_sim.reporting.plots.budget import families_of
from ttc_sim.reporting.plots.requests import MOST, phases
from ttc_sim.reporting.plots.style import fitted, legend_below, look, named, tidy
from ttc_sim.serving.offers import Offer
from ttc_sim.simulation.summary import Summary

from .plot_boxes import faults_of, grey_of, visible_texts
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
        spent: dict[str, Any] = {"tokens_per_request": tokens, "tokens_in_a_row": tokens, "by_band": bands}
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
_DIFFERENT = {
    **{"difficulty": (30,), "lengths": (1,), "backtest": (30,), "monitored": (1, 9), "validation": (1, 14)},
    **dict.fromkeys(("latency", "requests", "tornado", "reliability", "offers", "verifiers", "comparison"), (1, 9, 30)),
}
"""Of those that are drawn alike with some other number: with which they differ."""
CASES = [(name, count) for name in DRAWN for count in _DIFFERENT.get(name, COUNTS)]


@pytest.mark.parametrize(("name", "count"), CASES)
def test_nothing_is_cut_covered_or_alike(name: str, count: int) -> None:
    figure = DRAWN[name](count)
    assert faults_of(figure) == []
    assert len(visible_texts(figure)) > 5
    # However many there are, it stays a figure that a page has room for.
    assert figure.get_figwidth() < 16
    assert figure.get_figheight() < 20


def test_the_checks_find_what_is_wrong() -> None:
    """A label beyond the page, two that overlap, a legend on the data, two alike in grey, and an axis without a unit."""
    figure = Picture(4, 3)
    figure.set_layout_engine("none")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="#0072B2", label="one")
    axes.plot([0, 1], [1, 0], color="#006f9f", label="other")
    axes.set_xlabel("weather")
    axes.text(0.5, 0.5, "here")
    axes.text(0.52, 0.5, "here too")
    axes.text(1.0, 0.9, "beyond the right end of the page")
    axes.legend()
    found = faults_of(figure)
    for fault in (
        "cut: 'beyond",
        "overlap: 'here' and 'here too'",
        "a legend on the data",
        "alike in grey",
        "no unit: 'weather'",
    ):
        assert any(one.startswith(fault) for one in found), (fault, found)


def test_many_looks_are_told_apart_without_colours() -> None:
    looks = [look(k) for k in range(60)]
    for one, other in combinations(looks, 2):
        same = (one.marker, one.inside, one.dash) == (other.marker, other.inside, other.dash)
        assert not same or abs(grey_of(one.color) - grey_of(other.color)) > 0.1
    for k in range(60):
        assert len({(one.color, one.marker) for one in looks[k : k + 30]}) == len(looks[k : k + 30])


@pytest.mark.parametrize("name", ["arms", "plan", "spend", "budget", "requests"])
def test_both_kinds_of_file_are_the_same_bytes_each_time(name: str) -> None:
    for kind, begins in (("png", b"\x89PNG"), ("svg", b"<?xml")):
        figure = DRAWN[name](2)
        first, same, again = (as_bytes(one, kind) for one in (figure, figure, DRAWN[name](2)))
        assert first == same == again
        assert first.startswith(begins)


def test_names_that_are_too_long_are_cut_and_legends_stay_on_the_page() -> None:
    figure = Picture(5, 2)
    axes = figure.add_subplot()
    for k, name in enumerate(names(30)):
        axes.plot([0, 1], [k, k], **look(k).line, label=named(name, 200))
    tidy(axes)
    legend_below(figure)
    assert faults_of(fitted(figure)) == []
    assert figure.get_figheight() > 3


def test_questions_choose_the_plot_and_others_are_refused() -> None:
    result = simulated(2)
    titles = {
        question: [axes.get_title(loc="left") for axes in result.plot(question).axes] for question in ("arms", "spend")
    }
    assert titles["arms"] != titles["spend"]
    assert [axes.get_title(loc="left") for axes in result.plot().axes] == titles["arms"]
    with pytest.raises(
        InputError, match=r"Result\.plot: question: got 'spent'; expected 'spend' \(nearest of arms, day,"
    ):
        result.plot("spent")
    with pytest.raises(InputError, match="expected one of frontier"):
        planned().plot("nonsense")


def test_the_command_line_asks_the_same(tmp_path: Path) -> None:
    words = ["simulate", "qa-gateway", "--requests", "60", "--replications", "1", "--no-baselines"]
    got = CliRunner().invoke(app, [*words, "--plot", str(tmp_path / "s.svg"), "--question", "spend"])
    assert got.exit_code == 0, got.output
    result = ttc.simulate("qa-gateway", requests=60, replications=1)
    result.plot("spend").savefig(tmp_path / "same.svg", dpi=150)
    assert (tmp_path / "s.svg").read_bytes() == (tmp_path / "same.svg").read_bytes()
    for more, says in (
        (
            ["--plot", str(tmp_path / "n.svg"), "--question", "spent"],
            "--question: question: got 'spent'; expected 'spend'",
        ),
        (["--question", "spend"], "expected a file to draw the answer to"),
    ):
        refused = CliRunner().invoke(app, [*words, *more])
        assert isinstance(refused.exception, InputError)
        assert says in str(refused.exception)
    assert not (tmp_path / "n.svg").exists()


def test_phases_of_requests_add_up_to_their_latency() -> None:
    result = ttc.simulate("competition-maths", requests=200, replications=1)
    rows = phases(result.records)
    parts = [rows[f"{name}_s"].to_numpy() for name in ("queue", "prefill", "thinking", "answering")]
    assert all((part >= -1e-9).all() for part in parts)
    assert sum(parts) == pytest.approx(rows["latency_s"].to_numpy())
    assert len(result.plot("requests").axes[0].get_yticks()) == MOST
    thinks = rows.filter(pl.col("reasoning_tokens") > 0)
    share = thinks["thinking_s"] / (thinks["thinking_s"] + thinks["answering_s"])
    of_tokens = thinks["reasoning_tokens"] / (thinks["reasoning_tokens"] + thinks["visible_tokens"])
    assert share.to_numpy() == pytest.approx(of_tokens.to_numpy())


def test_bars_of_spending_end_where_the_tables_do() -> None:
    result = simulated(9)
    summary = result.summary()
    tokens, dollars = result.plot("spend").axes
    ends = []
    for axes in (tokens, dollars):
        bars: list[Any] = [
            one for one in axes.patches if abs(cast(Any, one).get_y() + cast(Any, one).get_height() / 2) < 0.1
        ]
        ends.append(max(one.get_x() + one.get_width() for one in bars))
    whole = summary.tokens_per_request
    assert ends[0] == pytest.approx(whole["prompt"].value + whole["output"].value)
    assert ends[1] == pytest.approx(1000 * summary.cost_usd_per_request.value)


def test_strategies_that_differ_in_their_numbers_are_one_line_with_its_peak() -> None:
    one = evaluated()
    spent = {
        "BudgetForcing(min_tokens=1000000)": 0.62,
        "BudgetForcing(min_tokens=1000000, extensions=4)": 0.66,
        "BudgetForcing(min_tokens=1000000, extensions=8)": 0.6,
    }
    found = [
        replace(one, strategy=name, accuracy=about(share), tokens_per_request=100.0 * k, by_band={})
        for k, (name, share) in enumerate(spent.items(), 1)
    ]
    found.append(replace(one, strategy="Single()", accuracy=about(0.5), tokens_per_request=50.0, by_band={}))
    families = families_of(found)
    assert list(families) == ["BudgetForcing(min_tokens=1000000, extensions=...)", "Single()"]
    assert families["BudgetForcing(min_tokens=1000000, extensions=...)"].numbers == [
        "extensions 1",
        "extensions 4",
        "extensions 8",
    ]
    said = [text.get_text() for text in visible_texts(plots.plot_budget(found))]
    assert "66.0% at extensions 4" in said


def test_what_the_gallery_says_draws_its_pictures() -> None:
    """With fewer requests than there."""
    root = Path(__file__).resolve().parents[1]
    code = (
        "import re, sys; sys.path.insert(0, 'scripts'); import make_gallery\n"
        "page = make_gallery.PAGE.read_text()\n"
        "page = re.sub(r'(requests\"?[=:] ?)\\d+', r'\\g<1>60', re.sub(r'(replications\"?[=:] ?)\\d', r'\\g<1>2', page))\n"
        "print(*(name for name, figure in make_gallery.drawn(page)), sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    drawn = done.stdout.split()
    assert {path.name for path in (root / "docs" / "gallery").iterdir()} == {Path(name).name for name in drawn}
    page = (root / "docs" / "gallery.md").read_text(encoding="utf-8")
    assert set(drawn) == set(re.findall(r"\]\((gallery/[^)]+)\)", page))
    assert sum(path.stat().st_size for path in (root / "docs" / "gallery").iterdir()) < 1_000_000
