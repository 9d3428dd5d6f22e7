"""Traffic of a real day: arrivals of its own for each source, durations, and rates that change."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from scipy import stats

from ttc_sim.base.errors import InputError
from ttc_sim.engine import reference
from ttc_sim.optimizer.optimizing import optimize
from ttc_sim.scenario import Poisson, Scenario, Shape, scenario_from_dict, with_changes
from ttc_sim.scenario.traffic import ARRIVALS
from ttc_sim.simulation.carrying import carry
from ttc_sim.simulation.drawing import draw
from ttc_sim.simulation.model import load_model
from ttc_sim.simulation.result import simulate
from ttc_sim.testing import ArrivalsConformance
from ttc_sim.testing.engines import run_both
from ttc_sim.testing.examples import STEP, pool_of, work_of
from ttc_sim.workload import generate
from ttc_sim.workload.clock import of_shape

POISSON = {"process": "poisson", "rate_per_s": 0.2}
USERS = {"process": "closed_loop", "users": 4, "think_s": 20}
LENGTHS = {"prompt_tokens": 20, "output_tokens": {"median": 10, "p95": 30}}
POOL = {
    "kind": "gpu_pool",
    "replicas": 2,
    "usd_per_replica_hour": 2.0,
    "step_time": STEP,
    "max_num_seqs": 8,
    "max_num_batched_tokens": 256,
}
API = {
    "kind": "api",
    "price": {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 2.0},
    "first_token": {"median_s": 0.5, "p95_s": 1.3},
    "per_token": {"median_s": 0.01, "p95_s": 0.03},
}
DAY = [0.0] * 6 + [1.0] * 6 + [3.0] * 6 + [2.0] * 6
MODEL = "mmlu-pro/llama-3.1-8b-instruct"


def scenario(workload: dict[str, Any], folder: Path | None = None, **changes: Any) -> Scenario:
    raw = {
        "name": "day",
        "seed": 3,
        "replications": 3,
        "workload": workload,
        "deployments": {"pool": POOL},
        "arms": {"a": {"deployment": "pool"}},
        "policy": "Always('a')",
        **changes,
    }
    return scenario_from_dict(raw, "day" if folder is None else str(folder / "day.yaml"))


def of_problems(workload: dict[str, Any], **changes: Any) -> Scenario:
    sources = {name: {"problem_set": "mmlu-pro", **source} for name, source in workload["sources"].items()}
    arms = {"a": {"deployment": "api", "profile": MODEL}}
    return scenario({**workload, "sources": sources}, **{"deployments": {"api": API}, "arms": arms, **changes})


def arrivals(one: Scenario, run: int = 0) -> np.ndarray[Any, Any]:
    return draw(load_model(one), run).traffic.arrival_s


def trace(folder: Path, name: str, times: list[float], prompt: int = 20, output: int = 10) -> dict[str, Any]:
    n = len(times)
    table = pl.DataFrame(
        {"arrival_s": times, "prompt_tokens": [prompt] * n, "reasoning_tokens": [0] * n, "visible_tokens": [output] * n}
    )
    table.write_csv(folder / name)
    return {"process": "trace", "file": name, "format": "traffic"}


# ------------------------------------------------------------------------------------------------------------- shapes


def test_hours_and_days_get_what_their_factors_say() -> None:
    """Against the shape, by the chi-square of 168 counts; the run starts in the middle of an hour."""
    weekdays = {"monday": 1.0, "tuesday": 1, "wednesday": 1, "thursday": 2, "friday": 1, "saturday": 0.5, "sunday": 0.5}
    shape = Shape(by_hour=[1 + h for h in range(24)], by_weekday=weekdays, starts="thursday 17:30")
    made = generate(Poisson(process="poisson", rate_per_s=0.1, shape=shape), 240_000, 1, folder=Path(), where="")
    hour = (3 * 24 + 17.5 + made.arrival_s / 3600) % 168
    weeks = made.arrival_s[-1] // 604800
    whole = made.arrival_s < weeks * 604800
    counts = np.bincount(hour[whole].astype(int), minlength=168)
    factors = np.outer(list(weekdays.values()), np.arange(1, 25)).ravel()
    expected = 0.1 * 604800 * weeks * factors / factors.sum()
    assert stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue > 0.01
    assert counts.sum() == pytest.approx(0.1 * 604800 * weeks, abs=4 * math.sqrt(counts.sum()))
    within = made.arrival_s[whole] % 3600
    assert stats.kstest(within / 3600, "uniform").pvalue > 0.01


@pytest.mark.parametrize("growth", [0.25, -0.25])
def test_growth_compounds_from_the_start_of_the_run(growth: float) -> None:
    shape = Shape(growth_per_week=growth)
    made = generate(Poisson(process="poisson", rate_per_s=0.02, shape=shape), 40_000, 1, folder=Path(), where="")
    weeks = int(made.arrival_s[-1] // 604800)
    assert weeks >= 2
    counts = np.bincount((made.arrival_s // 604800).astype(int))[:weeks]
    first = 0.02 * 604800 * growth / math.log1p(growth)  # the integral of (1 + growth) ** t over a week
    expected = first * (1 + growth) ** np.arange(weeks)
    assert np.abs((counts - expected) / np.sqrt(expected)).max() < 3.5
    assert made.rate_per_s == pytest.approx(len(made.arrival_s) / made.arrival_s[-1], rel=0.02)


@pytest.mark.parametrize(
    "shape",
    [
        {"by_hour": DAY, "starts": "08:20"},
        {"by_weekday": [1, 1, 1, 1, 1, 0, 0], "by_hour": [1.0] * 23 + [0.0], "growth_per_week": 0.5},
        {"by_weekday": [0, 0, 0, 0, 0, 0, 1], "starts": "sunday 23:59", "growth_per_week": -0.1},
        {"growth_per_week": 1e-9},
    ],
)
def test_expected_arrivals_are_the_integral_of_the_rate(shape: dict[str, Any]) -> None:
    """Beside brute force over a fine grid; and moments are its inverse."""
    made = Shape(**shape)
    clock = of_shape(made, 2.0)
    grid = (np.arange(1_000_000) + 0.5) * (17 * 86400 / 1_000_000)
    factors = np.array(made.factors)
    rate = 2 * factors[((made.starts_h + grid / 3600) % len(factors)).astype(int)]
    rate = rate * (1 + made.growth_per_week) ** (grid / 604800)
    assert clock.expected(17 * 86400) == pytest.approx(float(rate.mean()) * 17 * 86400, rel=1e-4)
    asked = np.linspace(0.5, clock.expected(17 * 86400), 5000)
    moments = clock.moments(asked)
    np.testing.assert_allclose([clock.expected(float(at)) for at in moments], asked, rtol=1e-9)
    hours = ((made.starts_h + moments[:-1] / 3600 - 1e-9) % len(factors)).astype(int)
    assert (factors[hours] > 0).all()


@pytest.mark.parametrize(
    "process",
    [{"process": "poisson"}, {"process": "gamma", "cv": 3.0}, {"process": "weibull", "cv": 0.4}, {"process": "even"}],
)
def test_a_shape_that_is_flat_changes_nothing(process: dict[str, Any]) -> None:
    plain = arrivals(scenario({"arrivals": {**process, "rate_per_s": 0.3}, "lengths": LENGTHS, "requests": 2000}))
    flat = {**process, "rate_per_s": 0.3, "shape": {"by_hour": [7] * 24, "by_weekday": [2] * 7}}
    shaped = arrivals(scenario({"arrivals": flat, "lengths": LENGTHS, "requests": 2000}))
    np.testing.assert_allclose(shaped, plain, rtol=1e-12)


def test_an_even_process_has_as_many_in_an_hour_as_the_shape_says() -> None:
    shape = {"by_hour": [0.0, 1, 2, 3] * 6}
    even = {"process": "even", "rate_per_s": 0.01, "shape": shape}
    at = arrivals(scenario({"arrivals": even, "lengths": LENGTHS, "duration": "24 h"}))
    assert np.bincount((at // 3600).astype(int), minlength=24).tolist()[:8] == [0, 23, 48, 72, 0, 24, 48, 72]


def test_a_shrinking_rate_does_not_come_to_any_number() -> None:
    shrinking = {"process": "poisson", "rate_per_s": 0.001, "shape": {"growth_per_week": -0.9}}
    with pytest.raises(InputError, match=r"workload\.requests: got 1000; expected at most \d+: with this growth"):
        arrivals(scenario({"arrivals": shrinking, "lengths": LENGTHS, "requests": 1000}))
    assert 0 < len(arrivals(scenario({"arrivals": shrinking, "lengths": LENGTHS, "duration": "5000 d"}))) < 500


@pytest.mark.parametrize("growth", [0.0, 0.1])
@pytest.mark.parametrize("test", [name for name in dir(ArrivalsConformance) if name.startswith("test_")])
def test_shaped_arrivals_keep_what_all_processes_keep(test: str, growth: float) -> None:
    made = Poisson(process="poisson", rate_per_s=0.02, shape=Shape(by_hour=DAY, growth_per_week=growth))
    kept = {"arrivals": made, "enough_requests": 17_280, "runs": 4}
    getattr(type("Shaped", (ArrivalsConformance,), kept)(), test)()


# --------------------------------------------------------------------------------------------- arrivals of one's own

SHAPED = {"process": "gamma", "rate_per_s": 0.1, "cv": 2, "shape": {"by_hour": DAY, "starts": "11:00"}}


@pytest.mark.parametrize("extent", [{"duration": "2 h"}, {"requests": 1500}])
def test_a_source_does_not_notice_the_others(extent: dict[str, Any]) -> None:
    """Its arrivals, problems, attempts and calls are the same bytes alone, beside others, and beside others that change."""
    alone = of_problems({"sources": {"a": {"arrivals": SHAPED}}, **extent})
    columns = ["arrival_s", "problem", "correct", "prompt_tokens", "visible_tokens", "cost_usd", "latency_s"]

    def of_a(other: dict[str, Any], **more: Any) -> pl.DataFrame:
        beside = of_problems({"sources": {"b": other, "a": {"arrivals": SHAPED}}, **extent, **more})
        records = simulate(beside, replications=2).records
        assert records["source"].n_unique() == 2
        return records.filter(pl.col("source") == "a").select("run", *columns)

    own = simulate(alone, replications=2).records.select("run", *columns)
    for found in (
        of_a({"arrivals": POISSON}),
        of_a({"arrivals": {**POISSON, "rate_per_s": 0.3}}),
        of_a({}, arrivals=POISSON),
    ):
        for run in (0, 1):
            mine, theirs = (one.filter(pl.col("run") == run) for one in (own, found))
            n = min(len(mine), len(theirs))
            assert n > 100
            assert "duration" not in extent or len(mine) == len(theirs)
            assert mine[:n].equals(theirs[:n])


def test_shared_arrivals_do_not_notice_a_source_of_its_own() -> None:
    shared = {"x": {"share": 3}, "y": {}}
    plain = of_problems({"arrivals": POISSON, "sources": shared, "duration": "1 h"})
    beside = of_problems({"arrivals": POISSON, "sources": {**shared, "own": {"arrivals": SHAPED}}, "duration": "1 h"})
    columns = ["run", "source", "arrival_s", "problem", "correct", "latency_s"]
    before, after = (simulate(one, replications=2).records for one in (plain, beside))
    assert before.select(columns).equals(after.filter(pl.col("source") != "own").select(columns))
    assert (after["source"] == "own").sum() > 100


def test_two_equal_poisson_sources_are_one_of_twice_the_rate() -> None:
    two = {"a": {"arrivals": POISSON}, "b": {"arrivals": POISSON}}
    made = draw(load_model(scenario({"sources": two, "lengths": LENGTHS, "requests": 20_000})), 0)
    gaps = np.diff(made.traffic.arrival_s)
    assert (gaps >= 0).all()
    assert stats.kstest(gaps * 0.4, "expon").pvalue > 0.01
    assert made.source is not None
    assert abs(made.source.mean() - 0.5) < 3 / math.sqrt(4 * 20_000)
    assert made.traffic.rate_per_s == pytest.approx(0.4)


def test_requests_of_a_number_are_the_first_of_all() -> None:
    """Of processes whose rates change against each other, by hand: made one by one, put side by side, cut."""
    sources = {
        "a": {"arrivals": SHAPED},
        "b": {"arrivals": {"process": "even", "rate_per_s": 0.05}},
        "c": {"arrivals": POISSON},
    }
    whole = scenario({"sources": sources, "lengths": LENGTHS, "requests": 700})
    each = [arrivals(scenario({"sources": {k: v}, "lengths": LENGTHS, "requests": 700})) for k, v in sources.items()]
    made = draw(load_model(whole), 0)
    np.testing.assert_array_equal(made.traffic.arrival_s, np.sort(np.concatenate(each))[:700])
    for k, mine in enumerate(each):
        assert made.source is not None
        at = made.traffic.arrival_s[made.source == k]
        np.testing.assert_array_equal(at, mine[: len(at)])


def test_shares_follow_from_rates() -> None:
    """Of the night a source that only comes by night has more than of the day; both as counted over many runs."""
    night = {"process": "poisson", "rate_per_s": 0.1, "shape": {"by_hour": [1.0] * 6 + [0.0] * 18}}
    sources = {"day": {"arrivals": POISSON}, "night": {"arrivals": night}, "x": {"share": 1}, "y": {"share": 3}}
    for extent in ({"duration": "6 h"}, {"duration": "24 h"}, {"requests": 4000}):
        one = of_problems({"arrivals": POISSON, "sources": sources, **extent})
        model = load_model(one)
        assert model.population is not None
        counts = np.zeros(4)
        for k in range(20):
            source = draw(model, k).source
            assert source is not None
            counts += np.bincount(source, minlength=4)
        assert stats.chisquare(counts, model.population.share * counts.sum()).pvalue > 0.001, extent
    assert load_model(
        of_problems({"arrivals": POISSON, "sources": sources, "duration": "24 h"})
    ).population.share.tolist() == (pytest.approx([0.4, 0.2, 0.1, 0.3]))  # type: ignore[union-attr]


def test_figures_by_source_add_up() -> None:
    night = {"process": "poisson", "rate_per_s": 0.1, "shape": {"by_hour": DAY}}
    sources = {"day": {"arrivals": POISSON}, "night": {"arrivals": night, "priority": 2}}
    for one in (
        scenario({"sources": sources, "lengths": LENGTHS, "duration": "8 h"}),
        of_problems({"sources": sources, "duration": "8 h"}),
    ):
        result = simulate(one)
        summary = result.summary()
        assert set(summary.per_source) == {"day", "night"}
        usd = sum(part.share * part.cost_usd_per_request.value for part in summary.per_source.values())
        assert usd == pytest.approx(summary.cost_usd_per_request.value)
        assert sum(part.share for part in summary.per_source.values()) == pytest.approx(1)
        by_source, everyone = result.over_time(3600, "source"), result.over_time(3600)
        counted = by_source.group_by("interval", maintain_order=True).agg(pl.col("arrivals").sum())
        assert counted["arrivals"].to_list() == pytest.approx(everyone["arrivals"].to_list())
        assert by_source.filter((pl.col("source") == "night") & (pl.col("interval") < 6))["arrivals"].sum() == 0


def test_a_source_is_urgent_without_problems_too() -> None:
    sources = {"slow": {"arrivals": {**POISSON, "rate_per_s": 7.0}, "priority": 1}, "urgent": {"arrivals": POISSON}}
    pool = {**POOL, "replicas": 1, "scheduling": "priority", "max_num_seqs": 1}
    result = simulate(
        scenario({"sources": sources, "lengths": LENGTHS, "duration": "20 min"}, deployments={"pool": pool})
    )
    urgent, slow = (result.records.filter(pl.col("source") == name)["latency_s"].mean() for name in ("urgent", "slow"))
    assert urgent < slow / 5  # type: ignore[operator]


def test_lengths_of_each_source(tmp_path: Path) -> None:
    lengths = {"prompt_tokens": 7, "output_tokens": 3}
    sources = {
        "batch": {"arrivals": trace(tmp_path, "batch.csv", [0.0, 5, 9], 50, 5)},
        "chat": {"arrivals": POISSON, "lengths": lengths},
    }
    result = simulate(scenario({"sources": sources, "duration": "10 min"}, tmp_path), replications=1)
    said = {
        name: result.records.filter(pl.col("source") == name).select("prompt_tokens", "visible_tokens").unique().rows()
        for name in sources
    }
    assert said == {"batch": [(50, 5)], "chat": [(7, 3)]}
    shared = {"x": {"lengths": lengths}, "y": {"share": 2}}
    records = simulate(scenario({"arrivals": POISSON, "sources": shared, "lengths": LENGTHS, "requests": 900})).records
    assert set(records.filter(pl.col("source") == "x")["prompt_tokens"]) == {7}
    assert set(records.filter(pl.col("source") == "y")["prompt_tokens"]) == {20}
    assert abs((records["source"] == "y").mean() - 2 / 3) < 0.03  # type: ignore[operator]


def test_targets_policies_and_arms_know_the_source() -> None:
    sources = {"a": {"arrivals": POISSON}, "b": {"arrivals": {**POISSON, "rate_per_s": 0.1}}}
    arms = {"one": {"deployment": "pool"}, "two": {"deployment": "pool", "sources": ["b"]}}
    targets = {"sources": {"b": {"latency_p95_s": 5}}}
    whole = scenario(
        {"sources": sources, "lengths": LENGTHS, "duration": "30 min"},
        arms=arms,
        targets=targets,
        policy={"a": "Always('one')", "b": "Always('two')"},
    )
    result = simulate(whole)
    assert result.records.group_by("source").agg(pl.col("arm").unique().first()).sort("source").rows() == [
        ("a", "one"),
        ("b", "two"),
    ]
    assert result.summary().quantity("sources.b.latency_p95_s").value < 5  # type: ignore[union-attr]
    with pytest.raises(InputError, match=r"policy: got 'two'; expected an arm that is offered to source a: one"):
        simulate(whole, "Always('two')")
    with pytest.raises(InputError, match=r"targets\.sources\.c: got 'c'; expected one of a, b"):
        with_changes(whole, {"targets.sources": {"c": {"latency_p95_s": 5}}})


def test_traffic_alone_of_several_sources_is_planned_for() -> None:
    """One policy for all; targets of a source bind."""
    fast = {**API, "price": {"input_usd_per_mtok": 10.0, "output_usd_per_mtok": 20.0}, "first_token": {"median_s": 0.1}}
    fast["per_token"] = {"median_s": 0.001}
    sources = {
        "a": {"arrivals": POISSON},
        "b": {"arrivals": {**POISSON, "rate_per_s": 3.0}, "lengths": {"prompt_tokens": 200, "output_tokens": 60}},
    }

    def plan(most_s: float) -> Any:
        return optimize(
            scenario(
                {"sources": sources, "lengths": LENGTHS, "duration": "10 min"},
                arms={"fast": {"deployment": "fast"}, "pool": {"deployment": "pool"}},
                deployments={"pool": POOL, "fast": fast},
                targets={"minimize": "cost", "sources": {"b": {"latency_p95_s": most_s}}},
                search={"replicas": {"pool": [1, 2, 4]}, "scores": []},
                policy=None,
            )
        )

    loose, tight = plan(300), plan(0.4)
    assert loose.status == tight.status == "met"
    assert loose.predicted.cost_usd_per_request.value < tight.predicted.cost_usd_per_request.value
    assert set(tight.predicted.per_source) == {"a", "b"}


# ----------------------------------------------------------------------------------------------------- closed loops


@pytest.mark.parametrize(
    "others", [{}, {"chat": {"arrivals": POISSON}, "more": {"arrivals": {**USERS, "users": 2, "think_s": 0}}}]
)
def test_users_send_until_the_run_ends(others: dict[str, Any]) -> None:
    """By the reference engine too; and of each user the next request would have come later."""
    one = scenario({"sources": {**others, "users": {"arrivals": USERS}}, "lengths": LENGTHS, "duration": "15 min"})
    model = load_model(one)
    run = simulate(one, replications=1).runs[0]
    work = carry(model, run.draws, run.arm).work
    slow = reference.run([work], model.deployment_names, model.deployments, tables=model.step_tables)
    np.testing.assert_allclose(slow.arrival_s, run.result.arrival_s, rtol=1e-9)
    np.testing.assert_allclose(slow.finished_s, run.result.finished_s, rtol=1e-9)
    assert run.result.arrival_s.max() < 900
    traffic, number = run.draws.traffic, list(one.workload.sources).index("users")
    assert traffic.after is not None
    assert run.draws.source is not None
    assert traffic.think_s is not None
    follows = traffic.after >= 0
    waited = run.result.arrival_s[follows] - run.result.finished_s[traffic.after[follows]]
    np.testing.assert_allclose(waited, traffic.think_s[follows], atol=1e-9)
    assert (run.draws.source[follows] == run.draws.source[traffic.after[follows]]).all()
    # The users' think times, one by one, as a source of its own draws them.
    alone = {"sources": {"users": {"arrivals": USERS}}, "lengths": LENGTHS, "requests": 2000}
    think_s = draw(load_model(scenario(alone)), 0).traffic.think_s
    assert think_s is not None
    mine = np.flatnonzero(run.draws.source == number)
    sent = run.draws.traffic.client[mine] - run.draws.traffic.client[mine].min()
    for user in range(4):
        his = mine[sent == user]
        np.testing.assert_array_equal(traffic.think_s[his], think_s[user::4][: len(his)])
        assert run.result.finished_s[his[-1]] + think_s[user::4][len(his)] >= 900


def test_users_beside_others_go_by_time() -> None:
    sources = {"users": {"arrivals": USERS}, "chat": {"arrivals": POISSON}}
    one = scenario({"sources": sources, "lengths": LENGTHS, "duration": "10 min"})
    with pytest.raises(
        InputError, match=r"workload\.requests: got 50; expected 'duration' instead: how many requests the users"
    ):
        simulate(one, requests=50)
    assert simulate(one).summary().verdict == "stable"
    problems = of_problems({"sources": sources, "duration": "10 min"})
    summary = simulate(problems).summary()  # shares as the runs tell them
    counted = simulate(problems).records["source"].value_counts(normalize=True)
    assert {name: part.share for name, part in summary.per_source.items()} == pytest.approx(dict(counted.rows()))
    assert summary.accuracy is not None
    assert summary.accuracy.low < summary.accuracy.value < summary.accuracy.high
    for ask in (
        lambda: simulate(problems, "Utility(price_of_accuracy=0.01)"),
        lambda: optimize(with_changes(problems, {"targets": {"maximize": "accuracy", "cost_usd_per_request": 1.0}})),
    ):
        with pytest.raises(InputError, match=r"workload: sources: got 'users, chat'; expected arrivals with a rate"):
            ask()


def test_merged_users_and_others_in_both_engines() -> None:
    sources = {
        "x": {"arrivals": {**USERS, "users": 3}},
        "y": {"arrivals": POISSON},
        "z": {"arrivals": {**USERS, "users": 5, "think_s": 1}},
    }
    made = draw(load_model(scenario({"sources": sources, "lengths": LENGTHS, "duration": "2 min"})), 0)
    traffic = made.traffic
    assert traffic.after is not None
    work = work_of(traffic.arrival_s, "merged")
    result = run_both([replace(work, after=traffic.after, think_s=traffic.think_s)], ["pool"], [pool_of()])
    assert (result.status == 0).all()
    assert (traffic.after < np.arange(len(made))).all()


# -------------------------------------------------------------------------------------------------------- durations


@pytest.mark.parametrize(
    "workload",
    [
        {"arrivals": POISSON},
        {"arrivals": {**POISSON, "process": "weibull", "cv": 4.0}},
        {"arrivals": SHAPED},
        {
            "arrivals": {
                "process": "piecewise",
                "steps": [{"duration_s": 60, "rate_per_s": 1}, {"duration_s": 600, "rate_per_s": 0}],
            }
        },
        {"sources": {"a": {"arrivals": POISSON}, "b": {"arrivals": SHAPED}}},
        {"arrivals": POISSON, "sources": {"a": {"share": 2}, "b": {}, "c": {"arrivals": SHAPED}}},
    ],
)
def test_a_duration_is_as_many_requests_as_come_in_it(workload: dict[str, Any]) -> None:
    timed = load_model(scenario({**workload, "lengths": LENGTHS, "duration": "50 min"}))
    by_time = draw(timed, 0)
    n = len(by_time)
    assert by_time.traffic.arrival_s[-1] < 3000
    by_number = draw(load_model(scenario({**workload, "lengths": LENGTHS, "requests": n + 1})), 0)
    assert by_number.traffic.arrival_s[-1] >= 3000
    same = by_number.taken(np.arange(n))
    for name in ("arrival_s", "prompt_tokens", "visible_tokens", "reasoning_tokens"):
        np.testing.assert_array_equal(getattr(by_time.traffic, name), getattr(same.traffic, name))
    np.testing.assert_array_equal(by_time.uniform("x", 2), same.uniform("x", 2))
    assert (by_time.source is None) == (same.source is None)
    if by_time.source is not None:
        np.testing.assert_array_equal(by_time.source, same.source)
    assert {len(draw(timed, k)) for k in range(4)} != {n}


def test_pools_are_paid_for_the_duration() -> None:
    """Whatever arrives: 2 replicas at 2 dollars for each hour, and a day's bill is 24 of these."""
    for workload in (
        {"arrivals": POISSON},
        {"arrivals": SHAPED},
        {"arrivals": USERS},
        {"sources": {"a": {"arrivals": USERS}, "b": {"arrivals": POISSON}}},
    ):
        result = simulate(scenario({**workload, "lengths": LENGTHS, "duration": "3 h"}))
        summary = result.summary()
        for run in result.runs:
            assert run.cost_usd.sum() == pytest.approx(12)
        bill = summary.cost_usd_per_day
        assert (bill.low, bill.value, bill.high) == pytest.approx((96, 96, 96))  # there is nothing random in it
        assert result.over_time(3600)["usd"].to_list()[:3] == pytest.approx([4, 4, 4])
        assert result.over_time(3600)["arrivals"].sum() == pytest.approx(len(result.records) / 3)
        assert summary.requests == round(len(result.records) / 3)
    crowded = simulate(scenario({"arrivals": {**POISSON, "rate_per_s": 200}, "lengths": LENGTHS, "duration": "1 min"}))
    assert crowded.summary().verdict == "overloaded"
    for run in crowded.runs:
        assert run.paid_s == pytest.approx(run.result.finished_s.max())


@pytest.mark.parametrize("runs", [1, 6])
def test_how_many_come_is_uncertain_in_the_bill_of_a_request(runs: int) -> None:
    """A pool's bill is the same whoever comes; shared by as many as happen to, the bill of a request is not."""
    fixed = of_problems(
        {"sources": {"a": {"arrivals": POISSON}}, "duration": "10 min"},
        deployments={"pool": {**POOL, "max_num_batched_tokens": 4096}},
        arms={"a": {"deployment": "pool", "profile": MODEL}},
        replications=runs,
    )
    summary = simulate(fixed).summary()
    usd, day = summary.cost_usd_per_request, summary.cost_usd_per_day
    assert (day.low, day.value, day.high) == pytest.approx((96, 96, 96))
    assert usd.low < 4 / 6 / 120 < usd.high  # 10 minutes of 4 dollars an hour, 120 requests
    by_chance = usd.value / math.sqrt(120 * runs)
    assert 0.3 * by_chance < usd.sd < 4 * by_chance


def test_steady_figures_do_not_depend_on_the_duration() -> None:
    short, long = (
        simulate(scenario({"arrivals": POISSON, "lengths": LENGTHS, "duration": lasts}, replications=8)).summary()
        for lasts in ("1 h", "8 h")
    )
    assert short.rate_per_s == pytest.approx(long.rate_per_s, rel=0.05)
    assert short.latency_s["mean"].low < long.latency_s["mean"].high
    assert long.latency_s["mean"].low < short.latency_s["mean"].high
    assert long.latency_s["mean"].sd < short.latency_s["mean"].sd
    calls = [
        simulate(
            scenario(
                {"arrivals": SHAPED, "lengths": LENGTHS, "duration": lasts},
                deployments={"api": API},
                arms={"a": {"deployment": "api"}},
            )
        )
        for lasts in ("24 h", "72 h")
    ]
    bills = [one.summary().cost_usd_per_day for one in calls]
    assert bills[0].low < bills[1].high
    assert bills[1].low < bills[0].high
    assert calls[0].summary().rate_per_s == pytest.approx(0.1)


def test_a_day_with_empty_hours() -> None:
    """Nobody comes from midnight to six, nor in the last hours of the run."""
    shape = {"by_hour": DAY, "starts": "18:00"}
    workload = {"arrivals": {**POISSON, "rate_per_s": 0.05, "shape": shape}, "lengths": LENGTHS, "duration": "12 h"}
    targets = {"goodput": 0.9, "slo": {"latency_s": 60}, "every_hour": True}
    for deployments, arms in (
        ({"pool": POOL}, {"a": {"deployment": "pool"}}),
        ({"api": API}, {"a": {"deployment": "api"}}),
    ):
        result = simulate(scenario(workload, deployments=deployments, arms=arms, targets=targets))
        day = result.over_time(3600)
        assert len(day) == 12
        assert (day["arrivals"][:6] > 0).all()
        assert day["arrivals"][6:].to_list() == [0.0] * 6
        assert day["goodput"][6:].is_null().all()
        assert result.summary().verdict == "stable"
        hour = result.summary().asked["goodput"].hour
        assert hour is not None
        assert hour < 6


def test_a_source_that_sends_nothing_in_a_run() -> None:
    """In some runs it does, in others not; a target on it is judged by those that came."""
    rare = {"arrivals": {**POISSON, "rate_per_s": 1 / 900}, "lengths": {"prompt_tokens": 9, "output_tokens": 9}}
    targets = {"sources": {"rare": {"latency_p95_s": 60}}}
    for workload, build in (
        ({"sources": {"often": {"arrivals": POISSON, "lengths": LENGTHS}, "rare": rare}}, scenario),
        ({"sources": {"often": {"arrivals": POISSON}, "rare": {"arrivals": rare["arrivals"]}}}, of_problems),
    ):
        result = simulate(build({**workload, "duration": "10 min"}, targets=targets, replications=8))
        counts = [int((run.requests.source == 1).sum()) for run in result.runs]
        assert min(counts) == 0 < max(counts)
        summary = result.summary()
        assert summary.per_source["rare"].share > 0
        figure = summary.asked["sources.rare.latency_p95_s"].figure
        assert figure is not None
        assert 0 < figure.value < 60
        assert result.over_time(600, "source").filter(pl.col("source") == "rare")["arrivals"].sum() == sum(counts) / 8


def test_verdicts_know_that_the_rate_changes() -> None:
    """A peak that the pool does not carry passes in a day, and does not in a rate that only grows."""
    pool = {"pool": {**POOL, "replicas": 1, "max_num_seqs": 1}}
    heavy = {"prompt_tokens": 20, "output_tokens": {"median": 1000, "p95": 1100}}
    one = scenario({"arrivals": {**POISSON, "rate_per_s": 100.0}, "lengths": heavy, "requests": 300}, deployments=pool)
    served_per_s = 300 / simulate(one, replications=1).runs[0].result.finished_s.max()
    peak = {"by_hour": [1.0] * 22 + [5.0, 5.0], "starts": "20:00"}
    day = {**POISSON, "rate_per_s": float(0.5 * served_per_s), "shape": peak}

    def verdict(workload: dict[str, Any]) -> str:
        return simulate(scenario({"lengths": heavy, **workload}, deployments=pool)).summary().verdict

    for extent in ({"duration": "4 h"}, {"requests": int(1.1 * served_per_s * 4 * 3600)}):
        summary = simulate(scenario({"arrivals": day, "lengths": heavy, **extent}, deployments=pool)).summary()
        assert summary.verdict == "backlogged", extent
        assert summary.verdicts["pool"].behind_at_end
        assert verdict(
            {"sources": {"a": {"arrivals": day}, "b": {"arrivals": {**POISSON, "rate_per_s": 1e-3}}}, **extent}
        ) == ("backlogged")
    growing = {**POISSON, "rate_per_s": float(0.5 * served_per_s), "shape": {"growth_per_week": 1000.0}}
    assert verdict({"arrivals": growing, "duration": "24 h"}) == "overloaded"
    two = scenario(
        {
            "sources": {"x": {"arrivals": growing}, "y": {"arrivals": {**POISSON, "rate_per_s": 0.01}}},
            "lengths": heavy,
            "duration": "24 h",
        },
        deployments={**pool, "other": POOL},
        arms={"a": {"deployment": "pool"}, "b": {"deployment": "other"}},
        policy={"x": "Always('a')", "y": "Always('b')"},
    )
    verdicts = simulate(two).summary().verdicts
    assert {name: one.verdict for name, one in verdicts.items()} == {"pool": "overloaded", "other": "stable"}


def test_arrivals_of_its_own_can_be_given_in_python() -> None:
    shared = of_problems({"arrivals": POISSON, "sources": {"a": {}, "b": {}}, "requests": 5})
    own = with_changes(shared, {"workload.sources.b.arrivals": SHAPED})
    assert [len(one.sources) for one in own.workload.streams] == [1, 1]
    slower = with_changes(
        own, {"workload.sources.b.arrivals.rate_per_s": 0.01, "workload.sources.b.arrivals.shape.starts": "07:00"}
    )
    assert slower.workload.sources["b"].arrivals.shape.starts == "07:00"  # type: ignore[union-attr]


def test_a_number_of_requests_replaces_a_duration() -> None:
    one = scenario({"arrivals": POISSON, "lengths": LENGTHS, "duration": "1 h"})
    assert [len(run.arm) for run in simulate(one, requests=40).runs] == [40] * 3
    assert with_changes(one, {"workload.requests": 7}).workload.duration is None
    assert (
        with_changes(with_changes(one, {"workload.requests": 7}), {"workload.duration": "2 h"}).workload.requests
        is None
    )
    with pytest.raises(InputError, match="no duration beside requests"):
        with_changes(one, {"workload.requests": 7, "workload.duration": "2 h"})


def test_plans_of_a_duration_are_of_its_rate() -> None:
    gym = {"problem_set": "reasoning-gym"}
    sources = {
        "a": {**gym, "arrivals": {**POISSON, "rate_per_s": 2}, "subset": "reasoning-gym-easy"},
        "b": {**gym, "arrivals": {**POISSON, "rate_per_s": 0.5}, "subset": "reasoning-gym-hard"},
    }
    arms = {name: {"deployment": "api", "profile": f"reasoning-gym/llama-4-{name}"} for name in ("scout", "maverick")}
    targets = {"maximize": "accuracy", "cost_usd_per_day": 1000.0}
    plan = optimize(of_problems({"sources": sources, "duration": "5 min"}, targets=targets, arms=arms, policy=None))
    assert plan.status == "met"
    daily = plan.predicted.cost_usd_per_request.value * 2.5 * 86400
    assert plan.predicted.cost_usd_per_day.value == pytest.approx(daily)
    assert plan.predicted.per_source["a"].share == pytest.approx(0.8)


# ------------------------------------------------------------------------------------------------------ whole traces


def test_the_whole_trace_is_its_rows(tmp_path: Path) -> None:
    times = np.sort(np.random.default_rng(1).uniform(0, 500, 200)).tolist()
    for more in ({}, {"rate_per_s": 7.0}):
        recorded = {**trace(tmp_path, "day.csv", times), **more}
        whole, number = (
            simulate(scenario({"arrivals": recorded, **extent}, tmp_path), replications=1)
            for extent in ({"duration": "whole trace"}, {"requests": 200})
        )
        assert whole.records.equals(number.records)
        assert whole.summary() == number.summary()


def test_traces_side_by_side_end_with_the_longest(tmp_path: Path) -> None:
    sources = {
        "long": {"arrivals": trace(tmp_path, "long.csv", [0.0, 100.0, 400.0])},
        "short": {"arrivals": trace(tmp_path, "short.csv", [0.0, 10.0, 20.0])},
        "chat": {"arrivals": POISSON, "lengths": LENGTHS},
    }
    result = simulate(scenario({"sources": sources, "duration": "whole trace"}, tmp_path), replications=2)
    counts = dict(result.records.filter(pl.col("run") == 0)["source"].value_counts().rows())
    assert counts["long"] == counts["short"] == 3
    assert counts["chat"] == pytest.approx(80, abs=30)
    assert result.records["arrival_s"].max() == 400.0
    assert result.runs[0].paid_s == 400.0
    over_and_over = simulate(scenario({"sources": sources, "duration": "10 min"}, tmp_path), replications=1)
    counts = dict(over_and_over.records["source"].value_counts().rows())
    assert counts["short"] == 60  # starts over each 30 s
    assert any("short.csv ends within 10 min" in note for note in over_and_over.summary().notes)


def test_prefixes_of_two_traces_are_not_shared(tmp_path: Path) -> None:
    rows = [{"timestamp": 1000 * k, "input_length": 600, "output_length": 5, "hash_ids": [1, k + 2]} for k in range(6)]
    for name in ("one.jsonl", "two.jsonl"):
        (tmp_path / name).write_text("\n".join(json.dumps(row) for row in rows))
    each = {"process": "trace", "format": "mooncake"}
    sources = {"a": {"arrivals": {**each, "file": "one.jsonl"}}, "b": {"arrivals": {**each, "file": "two.jsonl"}}}
    made = draw(load_model(scenario({"sources": sources, "duration": "whole trace"}, tmp_path)), 0)
    assert made.source is not None
    assert made.traffic.prefix_id is not None
    ids = [set(made.traffic.prefix_id[made.source == k].tolist()) - {-1} for k in (0, 1)]
    assert ids[0]
    assert not ids[0] & ids[1]


# --------------------------------------------------------------------------------------------------------- bad input

OWN = {"a": {"arrivals": POISSON}}
HOUR = {"duration": "1 h"}
CLIENTS = {"process": "clients", "traffic": "servegen-r1"}
NO_COLUMN = {"prompt_tokens": "x", "output_tokens": 3}
BAD: list[tuple[dict[str, Any], str]] = [
    (
        {"arrivals": POISSON, "duration": 24},
        r"workload\.duration: got 24; expected a time with its unit.*a bare number may be",
    ),
    ({"arrivals": POISSON, "duration": "24"}, r"workload\.duration: got '24'; expected a time with its unit"),
    ({"arrivals": POISSON, "duration": "0 h"}, r"workload\.duration: got '0 h'; expected above 0 s"),
    ({"arrivals": POISSON, "duration": "whole trace"}, "poisson is no trace that ends"),
    ({"arrivals": POISSON, **HOUR, "requests": 5}, "no duration beside requests"),
    ({"arrivals": POISSON}, r"workload\.requests: got None; expected requests of a run, or 'duration'"),
    ({**HOUR}, r"workload\.arrivals: got 'nothing'; expected this key"),
    ({"sources": {**OWN, "b": {}}, **HOUR}, r"workload\.arrivals: got 'nothing'"),
    ({"arrivals": POISSON, "sources": OWN, **HOUR}, "none: every source has arrivals of its own"),
    ({"sources": {"a": {"arrivals": POISSON, "share": 2}}, **HOUR}, r"sources\.a\.share: got 2\.0; expected no share"),
    ({"sources": {**OWN, "b": {"problem_set": "mmlu-pro", "arrivals": POISSON}}, **HOUR}, "have problems, or none"),
    ({"sources": {"a": {"arrivals": POISSON, "subset": "math"}}, **HOUR}, "no subset without a problem_set"),
    (
        {"sources": {"a": {"arrivals": USERS}, **{"b": {"arrivals": POISSON}}}, "requests": 50},
        r"expected 'duration' instead",
    ),
    (
        {"sources": {"a": {"arrivals": {"process": "poison"}}}, "requests": 5},
        r"sources\.a\.arrivals\.process.*'poisson' \(near",
    ),
    (
        {"sources": {"a": {"arrivals": {**USERS, "users": 9}}}, "requests": 5},
        r"sources\.a\.arrivals\.users: got 9; expected at most 5",
    ),
    ({"arrivals": POISSON, "duration": "1 s"}, "a longer one: nothing arrives in it, and 0.2 requests are expected"),
    (
        {"arrivals": {**POISSON, "rate_per_s": 1e6}, "duration": "30 d"},
        r"about 2\.59e\+12 requests.*at most 100,000,000",
    ),
    (
        {"arrivals": {**POISSON, "shape": {"growth_per_week": 1000.0}}, "duration": "5000 d"},
        "more requests than can be counted",
    ),
    (
        {"sources": {"a": {"arrivals": {**CLIENTS, "start_s": 1e6}}}, **HOUR, "lengths": None},
        r"sources\.a\.arrivals\.start_s: got",
    ),
    ({"arrivals": {**USERS, "think_s": 1e9}, "duration": "1 s"}, r"duration: got '1 s'; expected a longer one: noth"),
    (
        {"sources": {"a": {"arrivals": CLIENTS, "lengths": LENGTHS}}, "requests": 9, "lengths": None},
        r"workload\.sources\.a\.lengths: got 'given'; expected nothing: the arrivals carry",
    ),
    (
        {"sources": {"a": {"arrivals": POISSON, "lengths": LENGTHS}}, "requests": 9},
        r"workload\.lengths.*every source has lengths",
    ),
    ({"sources": OWN, "requests": 9, "lengths": None}, r"a\.lengths: got None; expected lengths, problems or"),
    ({"sources": {"a": {"arrivals": POISSON, "lengths": NO_COLUMN}}, "requests": 9, "lengths": None}, "lengths"),
]


@pytest.mark.parametrize(("workload", "said"), BAD, ids=lambda one: one[:40] if isinstance(one, str) else "")
def test_what_cannot_be_is_said(workload: dict[str, Any], said: str) -> None:
    whole = {"lengths": LENGTHS, **workload}
    with pytest.raises(InputError, match=said) as error:
        simulate(scenario({key: value for key, value in whole.items() if value is not None}))
    assert "\n" not in str(error.value)


BAD_SHAPES: list[tuple[dict[str, Any], str]] = [
    ({"by_hour": [1] * 23}, r"shape\.by_hour: got '23 numbers'; expected 24 numbers"),
    ({"by_hour": [1] * 25}, "expected 24 numbers"),
    ({"by_hour": [0] * 24}, "a factor above 0, or nothing ever comes"),
    ({"by_hour": [1] * 23 + [-1]}, r"by_hour\.23: got -1; expected a factor"),
    ({"by_hour": {"0": 1}}, "expected 24 numbers"),
    ({"by_hour": [1] * 23 + ["x"]}, r"by_hour\.23: got 'x'"),
    ({"by_weekday": [1] * 6}, "expected seven numbers"),
    ({"by_weekday": {"monday": 1, "tuseday": 1}}, r"by_weekday\.tuseday: got 'tuseday'; expected one of monday"),
    (
        {"by_weekday": {"monday": 1, "tuesday": 1}},
        "wednesday and thursday and friday and saturday and sunday are missing",
    ),
    ({"by_weekday": [0] * 7}, "a factor above 0"),
    ({"by_hour": DAY, "starts": "25:00"}, r"shape\.starts: got '25:00'; expected an hour such as"),
    ({"by_hour": DAY, **yaml.safe_load("starts: 18:00")}, r"shape\.starts: got 1080; expected quotes.*'18:00'"),
    ({"by_hour": DAY, "starts": 1.5}, r"shape\.starts: got 1\.5"),
    ({"by_hour": DAY, "starts": "monday 08:00"}, "without by_weekday all days are alike"),
    ({"by_weekday": [1] * 7, "starts": "08:00"}, "by_weekday tells them apart"),
    ({"growth_per_week": 0.1, "starts": "08:00"}, "growth begins with the run"),
    ({"growth_per_week": -1}, r"growth_per_week: got -1"),
    ({}, "at least one of by_hour"),
    ({"by_month": []}, r"shape: got 'by_month'"),
]


@pytest.mark.parametrize(("shape", "said"), BAD_SHAPES, ids=lambda one: one[:40] if isinstance(one, str) else "")
def test_shapes_that_cannot_be(shape: dict[str, Any], said: str) -> None:
    for place in (
        {"arrivals": {**POISSON, "shape": shape}},
        {"sources": {"a": {"arrivals": {**POISSON, "shape": shape}}}},
    ):
        with pytest.raises(InputError, match=said):
            scenario({**place, "lengths": LENGTHS, "requests": 5})


@pytest.mark.parametrize(
    "process",
    [
        USERS,
        {"process": "piecewise", "steps": [{"duration_s": 1, "rate_per_s": 1}]},
        {"process": "trace", "file": "x.csv", "format": "azure"},
        {"process": "clients", "traffic": "servegen-r1"},
    ],
)
def test_a_shape_where_it_makes_no_sense(process: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"workload\.arrivals\.shape: got .*; expected no shape: "):
        scenario({"arrivals": {**process, "shape": {"by_hour": DAY}}, "lengths": LENGTHS, "requests": 5})


# --------------------------------------------------------------------------------------------------- docs/traffic.md

PAGE_FILE = Path(__file__).parents[1] / "docs" / "traffic.md"
PAGE = PAGE_FILE.read_text(encoding="utf-8")


def test_every_example_of_the_page_can_be_simulated() -> None:
    examples = [
        yaml.safe_load(text)["workload"] for text in re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    ]
    assert len(examples) == 6
    for workload in examples:
        problems = "problem_set" in next(iter(workload["sources"].values()))
        arm = {"deployment": "api", **({"profile": MODEL} if problems else {})}
        one = scenario(workload, deployments={"api": API}, arms={"a": arm}, replications=1)
        result = simulate(one)
        assert set(result.records["source"]) == set(workload["sources"])
        assert scenario_from_dict(one.model_dump(mode="json", exclude={"path"}, exclude_none=True)) == one.model_copy(
            update={"path": "scenario"}
        )
    first = simulate(
        scenario(examples[0], deployments={"api": API}, arms={"a": {"deployment": "api", "profile": MODEL}})
    )
    nightly = first.over_time(3600, "source").filter(pl.col("source") == "nightly")["arrivals"]
    assert np.flatnonzero(nightly.to_numpy()).tolist() == [18]


def test_the_page_explains_every_process_and_every_key_of_a_shape() -> None:
    said = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE))))
    assert said == {*ARRIVALS.shipped, *Shape.model_fields, "process"}
