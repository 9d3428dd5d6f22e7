"""Intervals: what they cover, and where they may not lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from scipy.special import ndtri
from scipy.stats import binomtest, t

from benchmarks.intervals import covered, problems
from tests.test_bills import API, on_problems, replayed
from ttc_sim.base import intervals
from ttc_sim.base.draws import uniforms
from ttc_sim.base.estimates import Estimate, Resampler
from ttc_sim.base.intervals import NONE, STILL, Swing, Variance
from ttc_sim.evaluation.intervals import mean_interval
from ttc_sim.policies import Always
from ttc_sim.reporting.text import print_notes
from ttc_sim.scenario import scenario_from_dict
from ttc_sim.simulation.drawing import draw
from ttc_sim.simulation.expectations import expect_arms
from ttc_sim.simulation.model import load_model
from ttc_sim.simulation.result import simulate
from ttc_sim.simulation.running import run_once
from ttc_sim.simulation.summary import Summary, summarize

# ------------------------------------------------------------------------------------------------------- the formulas


@given(st.integers(1, 500), st.data())
def test_a_share_of_independent_things_has_wilsons_interval(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    p = k / n
    got = intervals.share(p, Variance(p * (1 - p) / n), n)
    known = binomtest(k, n).proportion_ci(method="wilson")
    assert [got.low, got.high] == pytest.approx([known.low, known.high], abs=1e-12)


def test_variances_of_runs_and_clusters_are_the_textbooks() -> None:
    values = uniforms(1, "values", 60)[:, 0]
    run = np.repeat(np.arange(5), 12)
    means = values.reshape(5, 12).mean(axis=1)
    got = intervals.of_runs((values - values.mean()) / 60, run, 5)
    assert got.value == pytest.approx(means.var(ddof=1) / 5)
    assert got.half == pytest.approx(t.ppf(0.975, 4) * means.std(ddof=1) / np.sqrt(5))
    assert intervals.of_units((values - values.mean()) / 60, run).value == pytest.approx(got.value)
    # In strata each mean is taken apart from its own.
    stratum = np.array([0, 0, 1, 1, 1])
    within = sum(len(part) * part.var(ddof=1) for part in (means[:2], means[2:])) / 25
    assert intervals.of_units((values - values.mean()) / 60, run, stratum).value == pytest.approx(within)


@given(
    st.lists(st.floats(-10, 10), min_size=3, max_size=9).filter(lambda one: max(one) - min(one) > 1e-3),
    st.integers(0, 150),
)
def test_figures_in_another_unit_are_as_uncertain(values: list[float], digits: int) -> None:
    large, unit = np.array(values), np.arange(len(values))
    small = intervals.of_units(large * 10.0**-digits, unit)
    assert small.df == pytest.approx(intervals.of_units(large, unit).df)


def test_a_single_unit_says_nothing() -> None:
    one = intervals.of_units(np.zeros(4), np.zeros(4, dtype=np.int64), scale=2.0)
    assert one.half == pytest.approx(1.96 * 2.0, rel=1e-3)
    assert intervals.mean(2.0, one).high > 10


def test_independent_errors_add_up_as_by_welch() -> None:
    both = Variance(3.0, 4).plus(Variance(1.0, 80))
    assert both.value == 4.0
    assert both.df == pytest.approx(16 / (9 / 4 + 1 / 80))
    assert Variance(3.0, 4).plus(NONE) == Variance(3.0, 4)


@given(
    st.lists(st.floats(0, 60), min_size=1, max_size=50),
    st.floats(0.01, 0.99),
    st.floats(0, 0.3),
    st.integers(1, 5),
)
def test_a_quantile_stays_among_the_values(values: list[float], wanted: float, variance: float, df: int) -> None:
    ordered = np.sort(np.array(values))
    got = intervals.quantile(ordered, wanted, Variance(variance, df), len(values))
    assert ordered[0] <= got.low <= got.value <= got.high <= ordered[-1]
    assert got.value == np.quantile(ordered, wanted, method="inverted_cdf") or len(values) * wanted % 1 < 1e-6


@given(st.floats(0.01, 0.99), st.floats(0, 1), st.floats(0, 1), st.floats(-1, 1))
def test_what_else_a_figure_depends_on_only_widens(value: float, down: float, up: float, correlation: float) -> None:
    rest = Estimate(value, value / 2, (1 + value) / 2)
    got = intervals.swung(rest, Swing(down, up, correlation), most=1.0)
    assert 0 <= got.low <= value <= got.high <= 1
    if correlation >= 0:
        assert got.low <= rest.low
        assert got.high >= rest.high
    assert intervals.swung(rest, STILL) == rest
    # Two independent errors that are normal add up as variances do.
    normal = intervals.swung(Estimate.around(10.0, 3.0), Swing(1.96 * 4, 1.96 * 4, 0.0))
    assert (normal.high - 10) / 1.96 == pytest.approx(5.0, rel=1e-3)


def test_one_unit_more_bounds_what_few_units_that_are_alike_claim() -> None:
    """12 problems that time out alike are still 12; of many, one more makes no difference."""
    for units, most in ((12, 4 * 12**2), (2000, 4 * 2000**2)):
        alike = np.zeros(units)
        got = intervals.of_units(alike, np.arange(units), scale=float(np.sqrt(0.1 * 0.9)), one_more=True)
        assert 0.1 * 0.9 / got.value == pytest.approx(most)
    assert intervals.of_units(alike, np.arange(units), scale=0.3) == Variance(0.0, units - 1)


# --------------------------------------------------------------------------------------------------------- what they cover


@pytest.mark.parametrize("wanted", [0.05, 0.5, 0.95, 0.99])
@pytest.mark.parametrize("count", [1, 3, 12, 60, 100, 500])
def test_quantiles_of_few_values_are_covered_or_open(wanted: float, count: int) -> None:
    """Of independent values: 71 never bound the 95th percentile from above, whatever they are, and 72 do."""
    covered = 0
    for k in range(400):
        ordered = np.sort(uniforms(k, f"few/{count}", count)[:, 0])
        variance = Variance(wanted * (1 - wanted) / count)
        found = intervals.quantile(ordered, wanted, variance, count)
        got = intervals.open_ended(found, wanted, variance, count, most=9.0)
        covered += got.low <= wanted <= got.high
        assert (got.high == 9) == (wanted**count > 0.025)
        assert (got.low == 0) == ((1 - wanted) ** count > 0.025)
    assert covered / 400 >= 0.92


def test_open_ends_begin_where_the_largest_value_says_too_little() -> None:
    for wanted, enough in ((0.95, 72), (0.99, 368)):
        for count in (enough - 1, enough):
            one = Estimate(1.0, 0.5, 2.0)
            got = intervals.open_ended(one, wanted, Variance(wanted * (1 - wanted) / count), count)
            assert got == (one if count == enough else Estimate(1.0, 0.5, np.inf))


@pytest.mark.parametrize("problems", [12, 60])
def test_means_over_few_skewed_problems_are_covered(problems: int) -> None:
    """Lengths of problems are about log-normal with a spread of 0.7."""
    drawn = np.exp(0.7 * ndtri(uniforms(1, f"skewed/{problems}", 500, problems)))
    true, table = float(np.exp(0.7**2 / 2)), Resampler.of(np.arange(problems))
    ours, evaluated = [], []
    for values in drawn:
        mean = float(values.mean())
        variance = intervals.of_units((values - mean) / problems, np.arange(problems))
        ours.append(intervals.mean(mean, variance))
        evaluated.append(mean_interval(values, table))
    for found in (ours, evaluated):
        assert 0.91 <= np.mean([one.low <= true <= one.high for one in found]) <= 0.98


@pytest.mark.parametrize(
    ("case", "requests", "widest"),
    [("day, records", 300, 2.0), ("trace", 1500, 2.0), ("single, day", 1500, 1.5), ("few, expected", 300, 2.0)],
)
def test_intervals_cover_the_truth(case: str, requests: int, widest: float, tmp_path: Path) -> None:
    """95% do, give and take chance, and they are not much wider than they must be; see ``benchmarks/intervals.py``."""
    found = covered(case, 100, tmp_path, requests=requests, truth_runs=50, truth_types=5000)
    for name in ("mean s", "p95 s", "p99 s", "ttft p95 s", "timed out", "$", "accuracy"):
        if name in found:
            assert found[name]["covered"] >= 0.88, name
            assert found[name]["width"] <= widest, name


def test_a_day_is_not_a_sample_of_hours() -> None:
    """On a day whose hours differ tenfold, and whose runs hardly do, the interval is that between runs."""
    steps = [{"duration_s": 300, "rate_per_s": rate} for rate in (0.3, 4.5, 0.3)]
    model = load_model(
        scenario_from_dict(on_problems({"process": "piecewise", "steps": steps}, 1500)), problems(5000, 1, 3, False)
    )
    runs = [run_once(model, Always("own"), draw(model, k)) for k in range(13)]
    p95 = [float(np.quantile(run.latency_s, 0.95)) for run in runs[5:]]
    got = summarize(model, runs[:5]).latency_s["p95"]
    assert got.low <= np.mean(p95) <= got.high
    assert got.high - got.low < 6 * np.std(p95)


# --------------------------------------------------------------------------------------------------- where they may not lie


def test_a_replay_repeats_exactly(tmp_path: Path) -> None:
    rows = [(0.2 * i, 100 + 7 * i % 900, 5 + 31 * i % 200) for i in range(300)]
    for runs in (1, 3):
        got = simulate(replayed(tmp_path, rows, timeout_s=9), replications=runs).summary()
        assert got.replay
        figures = [
            *got.latency_s.values(),
            *got.ttft_s.values(),
            *got.tokens_per_request.values(),
            got.cost_usd_per_request,
            got.timeout_rate,
            got.rejected_rate,
        ]
        assert all(one.low == one.value == one.high for one in figures)
        console = Console(width=200, record=True)
        print_notes(console, got)
        assert "replay" in (said := console.export_text())
        assert "independent" not in said
    assert got.timeout_rate.value > 0


def test_what_varies_is_no_replay(tmp_path: Path) -> None:
    scenario = replayed(tmp_path, [(0.5 * i, 100, 50) for i in range(100)])
    varying = scenario.model_dump(mode="python", exclude={"path"})
    varying["deployments"]["pool"] = API
    got = simulate(scenario_from_dict(varying, scenario.path), replications=3).summary()
    assert not got.replay
    assert got.latency_s["p95"].low < got.latency_s["p95"].high
    # Tokens and prices are fixed.
    assert got.cost_usd_per_request.low == got.cost_usd_per_request.high


@pytest.mark.parametrize("runs", [1, 2, 3])
@pytest.mark.parametrize("requests", [1, 3, 40])
@pytest.mark.parametrize("rate_per_s", [0.05, 5.0])
def test_nothing_lies_beyond_what_is_possible(runs: int, requests: int, rate_per_s: float) -> None:
    raw = on_problems({"process": "poisson", "rate_per_s": rate_per_s}, requests, timeout_s=6)
    raw["deployments"]["api"] = {**API, "timeout_s": 6}
    model = load_model(scenario_from_dict(raw), problems(3, 2, 5, False))
    done = [run_once(model, Always("own"), draw(model, k)) for k in range(runs)]
    assert model.population is not None
    arm = np.zeros(len(model.population), dtype=np.int64)
    for got in (summarize(model, done), summarize(model, done, expected=expect_arms(model).under(arm))):
        check_possible(got, 6.0)


def check_possible(got: Summary, timeout_s: float) -> None:
    assert got.accuracy is not None
    parts = [*got.per_arm.values(), *got.per_band.values(), *got.per_source.values()]
    for share in (got.accuracy, got.timeout_rate, got.rejected_rate, *(part.accuracy for part in parts)):
        assert share is not None
        assert 0 <= share.low <= share.value <= share.high <= 1
        # So few requests are sure of nothing.
        assert share.high - share.low > 0.01
    for time in (*got.latency_s.values(), *got.ttft_s.values(), *(part.latency_p95_s for part in parts)):
        assert 0 <= time.low <= time.value <= time.high <= timeout_s or np.isnan(time.value)
    for cost in (got.cost_usd_per_request, *(part.cost_usd_per_request for part in parts)):
        assert 0 <= cost.low <= cost.value <= cost.high


def test_what_too_few_problems_cannot_bound_is_open_and_said() -> None:
    """12 problems say nothing of the longest percent of those that will come, however often they are asked."""
    raw = on_problems({"process": "poisson", "rate_per_s": 0.5}, 400)
    for types, timeout_s in ((12, None), (12, 60.0), (2500, None)):
        if timeout_s is not None:
            raw["deployments"]["api"] = {**raw["deployments"]["api"], "timeout_s": timeout_s}
            raw["deployments"]["pool"] = {**raw["deployments"]["pool"], "timeout_s": timeout_s}
        model = load_model(scenario_from_dict(raw), problems(types, 1, 5, False))
        got = summarize(model, [run_once(model, Always("own"), draw(model, k)) for k in range(5)])
        console = Console(width=200, record=True)
        print_notes(console, got)
        few = types == 12
        assert ("p99" in got.open_ended) == few
        assert "p50" not in got.open_ended
        assert ("Too few problems or task types to bound" in console.export_text()) == few
        if few:
            assert got.latency_s["p99"].high == (timeout_s or np.inf)
        assert got.latency_s["p99"].low > 0
        raw = on_problems({"process": "poisson", "rate_per_s": 0.5}, 400)


@pytest.mark.parametrize(("runs", "rate_per_s", "said"), [(1, 2.0, True), (1, 0.05, False), (3, 2.0, False)])
def test_one_run_of_a_queue_that_builds_up_is_said_to_be_too_few(
    runs: int, rate_per_s: float, said: bool, tmp_path: Path
) -> None:
    """Without problems nothing but the run itself says what more load would do."""
    scenario = replayed(tmp_path, [(i / rate_per_s, 100, 400) for i in range(200)])
    varying = scenario.model_dump(mode="python", exclude={"path"})
    varying["deployments"]["pool"] = {**API, "concurrency": 2}
    got = simulate(scenario_from_dict(varying, scenario.path), replications=runs).summary()
    console = Console(width=200, record=True)
    print_notes(console, got)
    assert ("may say too little of times" in console.export_text()) == said, got.verdict


def test_three_of_three_is_not_sure() -> None:
    raw = on_problems({"process": "poisson", "rate_per_s": 1.0}, 3)
    population = problems(3, 1, 5, False)
    population.attempts["b"].correct[:] = True
    model = load_model(scenario_from_dict(raw), population)
    got = summarize(model, [run_once(model, Always("other"), draw(model, 0))]).accuracy
    assert got is not None
    assert got.value == got.high == 1
    assert got.low < 0.5


@pytest.mark.parametrize("expected", [True, False])
def test_the_same_task_types_are_surer_than_new_ones(expected: bool) -> None:
    """Those for the same types cover what other problems of these types give; both are kept, and it is said which is printed."""
    raw = on_problems({"process": "poisson", "rate_per_s": 2.0}, 400)
    few = problems(12, 40, 5, True)
    model = load_model(scenario_from_dict(raw), few)
    arm = np.ones(len(few), dtype=np.int64)
    under = expect_arms(model).under(arm)
    runs = [run_once(model, Always("other"), draw(model, k)) for k in range(5)]
    got = summarize(model, runs, expected=under if expected else None)
    assert got.accuracy is not None
    same = got.same_types["accuracy"]
    assert same.value == got.accuracy.value
    # Its variance: of the mean of the types' means, each over 40 problems.
    correct = under["correct"].reshape(12, 40)
    known = np.sqrt((correct.var(axis=1, ddof=1) / 40).sum() / 144)
    if expected:
        assert (same.high - same.low) / 2 / 1.96 == pytest.approx(known, rel=0.1)
    between = np.sqrt(correct.mean(axis=1).var(ddof=1) / 12)
    assert (got.accuracy.high - got.accuracy.low) > 2 * (same.high - same.low) > 2 * 1.96 * known
    assert (got.accuracy.high - got.accuracy.low) / 2 == pytest.approx(t.ppf(0.975, 11) * between, rel=0.25)
    console = Console(width=200, record=True)
    print_notes(console, got)
    assert "new task types" in (said := console.export_text())
    assert "same task types: accuracy" in said


def test_by_problem_there_is_one_interval() -> None:
    raw = on_problems({"process": "poisson", "rate_per_s": 2.0}, 50)
    model = load_model(scenario_from_dict(raw), problems(12, 4, 5, False))
    got = summarize(model, [run_once(model, Always("other"), draw(model, 0))])
    assert got.same_types == {}


def test_more_problems_or_runs_make_surer() -> None:
    def width(types: int, runs: int) -> float:
        raw: dict[str, Any] = on_problems({"process": "poisson", "rate_per_s": 1.0}, 200)
        model = load_model(scenario_from_dict(raw), problems(types, 1, 5, False))
        got = summarize(model, [run_once(model, Always("own"), draw(model, k)) for k in range(runs)]).latency_s["mean"]
        return got.high - got.low

    assert width(6400, 8) < width(6400, 3)
    assert width(1600, 8) < width(25, 8)
