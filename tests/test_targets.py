"""Targets on times, shares, goodput and cost: each figure beside the records that it comes from, plans beside brute force."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from typer.testing import CliRunner

import ttc_sim as ttc
from tests.test_optimum import asking, at, pool, small
from ttc_sim.base.errors import InputError
from ttc_sim.cli import app
from ttc_sim.optimizer.nearest import loosened
from ttc_sim.optimizer.plan import load_plan
from ttc_sim.optimizer.planning import plan_model
from ttc_sim.optimizer.promises import check_targets, judge_targets, judged
from ttc_sim.optimizer.proposing.objectives import broken_by_arm, objectives_of
from ttc_sim.policies import Always
from ttc_sim.scenario import Scenario, Targets, load_scenario, scenario_from_dict, with_changes
from ttc_sim.simulation.drawing import draw
from ttc_sim.simulation.expectations import expect_arms
from ttc_sim.simulation.model import load_model
from ttc_sim.simulation.result import Result, simulate
from ttc_sim.simulation.running import run_once

SLO = {"ttft_s": 0.6, "tpot_s": 0.012, "latency_s": 4.0}


def api(**more: Any) -> dict[str, Any]:
    price = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 5.0}
    times = {"first_token": {"median_s": 0.5, "p95_s": 1.0}, "per_token": {"median_s": 0.01, "p95_s": 0.02}}
    return {"kind": "api", "price": price, **times, **more}


def plain(**changes: Any) -> dict[str, Any]:
    """Traffic of plain lengths on one deployment."""
    return {
        "name": "plain",
        "replications": 2,
        "workload": {
            "arrivals": {"process": "poisson", "rate_per_s": 3.0},
            "requests": 600,
            "lengths": {"prompt_tokens": 200, "output_tokens": {"median": 120, "p95": 900}},
        },
        "deployments": {"d": api()},
        "arms": {"a": {"deployment": "d"}},
        "policy": "Always('a')",
        **changes,
    }


def two_sources(**targets: Any) -> Scenario:
    """Hard and easy problems, on a small pool that times out and an endpoint that rejects."""
    sets = {"everyday": {"problem_set": "reasoning-gym", "subset": "reasoning-gym-easy", "share": 3}}
    sets["research"] = {"problem_set": "reasoning-gym", "subset": "reasoning-gym-hard", "share": 1}
    raw: dict[str, Any] = {
        "name": "two",
        "replications": 3,
        "workload": {"arrivals": {"process": "poisson", "rate_per_s": 0.2}, "requests": 1500, "sources": sets},
        "deployments": {
            "p": {**pool(2.0, 1), "timeout_s": 12.0},
            "e": api(timeout_s=9.0, requests_per_minute=3, retry={"retries": 1, "base_s": 1.0, "max_s": 2.0}),
        },
        "arms": {
            "m": {"profile": "reasoning-gym/mistral-small-3.1-24b-instruct", "deployment": "p"},
            "l": {"profile": "reasoning-gym/llama-4-maverick", "deployment": "e"},
        },
        "policy": "Banded([0.5], ['m', 'l'])",
        "targets": targets,
    }
    return scenario_from_dict(raw)


EVERY = {
    "ttft_p50_s": 1.0,
    "ttft_p97_s": 2.0,
    "tpot_p90_s": 0.02,
    "tpot_p99.5_s": 0.05,
    "latency_p60_s": 9.0,
    "latency_p95_s": 10.0,
    "timeout_rate": 0.3,
    "timed_out_rate": 0.2,
    "rejected_rate": 0.2,
    "goodput": 0.7,
}


def by_hand(records: pl.DataFrame, key: str, slo: dict[str, float]) -> float:
    """A figure from the records alone, by counting."""
    status = records["status"].to_numpy()
    if key == "goodput":
        good = status == "completed"
        for name, most in slo.items():
            good &= np.array([value is None or value <= most for value in records[name].to_list()])
        return float(good.mean())
    if key.endswith("_rate"):
        ends = {
            "timeout_rate": ["timed_out", "rejected"],
            "timed_out_rate": ["timed_out"],
            "rejected_rate": ["rejected"],
        }
        return float(np.isin(status, ends[key]).mean())
    name, percent = key.removesuffix("_s").split("_p")
    values = records.filter(pl.col("status") != "rejected") if name == "latency" else records
    seconds = sorted(value for value in values[f"{name}_s"].to_list() if value is not None)
    # The least value that at least so many of them do not exceed.
    return next(float(x) for k, x in enumerate(seconds, 1) if k >= float(percent) / 100 * len(seconds) - 1e-9)


def above(records: pl.DataFrame, name: str, most: float) -> float:
    """Share of those that have such a time that takes longer."""
    return float((records[name].drop_nulls().to_numpy() > most).mean())


@pytest.fixture(scope="module")
def crowded() -> Result:
    """Everything at once: whole, by source, and by hour; two hours of arrivals."""
    own = {**EVERY, "slo": {"latency_s": 8.0}}
    targets = {**EVERY, "slo": SLO, "sources": {"everyday": {**own, "every_hour": True}, "research": EVERY}}
    return simulate(two_sources(**targets))


def test_each_figure_is_what_the_records_say(crowded: Result) -> None:
    """Of all requests each by the SLO of its source, of a source, and of its worst hour."""
    records, found = crowded.records, crowded.summary()
    assert crowded.model.scenario.targets is not None
    assert {"timed_out", "rejected", "completed"} == set(records["status"])
    assert records["arrival_s"].max() > 3600  # type: ignore[operator]
    own = {"everyday": {"latency_s": 8.0}, "research": SLO}
    for target in crowded.model.scenario.targets.asked():
        figure = found.quantity(target.name)
        assert figure is not None
        if target.source is None and target.key == "goodput":
            counted = [by_hand(rows, "goodput", own[str(s[0])]) * len(rows) for s, rows in records.group_by("source")]
            assert figure.value == pytest.approx(sum(counted) / len(records))
            continue
        slo = own.get(target.source or "", SLO)
        mine = records if target.source is None else records.filter(source=target.source)
        if not target.every_hour:
            assert figure.value == pytest.approx(by_hand(mine, target.key, slo), rel=1e-12), target
            continue
        hours = {int(h[0]): rows for h, rows in mine.group_by(pl.col("arrival_s") // 3600)}
        each = {hour: by_hand(rows, target.key, slo) for hour, rows in hours.items()}
        worst = min(each.values()) if target.at_least else max(each.values())
        assert figure.value == pytest.approx(worst, rel=1e-12), target
        assert each[found.asked[target.name].hour or 0] == worst
        assert figure.low < figure.high


def test_the_same_key_is_the_same_figure_everywhere(crowded: Result) -> None:
    """What the summary prints anyway, and what a target on it is judged by."""
    found = crowded.summary()
    for key, figure in {
        "latency_p95_s": found.latency_s["p95"],
        "ttft_p50_s": found.ttft_s["p50"],
        "tpot_p90_s": found.tpot_s["p90"],
        "timed_out_rate": found.timeout_rate,
        "timeout_rate": found.unserved_rate,
        "goodput": found.goodput,
    }.items():
        assert found.asked[key].figure == figure, key
        # An arm under two names, a source that is all: another summary without the targets says the same.
    bare = simulate(with_changes(crowded.model.scenario, {"targets": None})).summary()
    assert bare.latency_s == found.latency_s
    assert bare.ttft_s == found.ttft_s
    assert bare.goodput is None


def test_of_those_that_gave_up_the_token_they_waited_for_counts() -> None:
    """Where nobody is served in time, no percentile looks good because the slow ones are gone."""
    raw = plain(deployments={"d": {**pool(1.0, base_s=0.1), "max_num_seqs": 1, "timeout_s": 20.0}}, replications=1)
    found = simulate(scenario_from_dict(raw))
    records = found.records
    waited = records.filter(pl.col("first_token_s").is_null(), pl.col("status") == "timed_out")
    assert len(waited) > 0.3 * len(records)
    assert waited["ttft_s"].to_numpy() == pytest.approx(20.0)
    assert found.summary().ttft_s["p90"].value == pytest.approx(20.0)
    cut = records.filter(pl.col("first_token_s").is_not_null(), pl.col("status") == "timed_out")
    made = (cut["reasoning_tokens"] + cut["visible_tokens"]).to_numpy()
    gaps = np.maximum(made - 1, 1)
    assert cut["tpot_s"].to_numpy() == pytest.approx(((cut["finished_s"] - cut["first_token_s"]) / gaps).to_numpy())


def test_time_per_token_is_that_of_the_longest_in_a_row() -> None:
    """With times that do not vary it is the endpoint's own, however many samples run side by side; one token has none."""
    fixed = api(first_token={"median_s": 0.5}, per_token={"median_s": 0.01})
    found = simulate(scenario_from_dict(plain(deployments={"d": fixed}))).records
    assert found["tpot_s"].drop_nulls().to_numpy() == pytest.approx(0.01)
    one = plain(deployments={"d": fixed})
    one["workload"]["lengths"] = {"prompt_tokens": 5, "output_tokens": 1}
    got = simulate(scenario_from_dict({**one, "targets": {"tpot_p95_s": 1.0, "goodput": 0.5, "slo": {"tpot_s": 1e-9}}}))
    assert got.records["tpot_s"].null_count() == len(got.records)
    percentile, goodput = judged(got)
    assert math.isnan(percentile.realized.value)
    assert percentile.met is None
    assert goodput.realized.value == 1.0
    raw = load_scenario("reasoning-gateway").model_dump(mode="json", exclude={"path"}, exclude_none=True)
    arm = {"profile": "reasoning-gym/llama-4-maverick", "deployment": "d", "strategy": "MajorityVote(n=3)"}
    raw |= {"deployments": {"d": fixed}, "arms": {"a": arm}, "policy": "Always('a')", "targets": None, "search": {}}
    votes = simulate(scenario_from_dict(raw), requests=200, replications=1).records
    assert votes["tpot_s"].drop_nulls().to_numpy() == pytest.approx(0.01)


def test_calls_that_run_on_say_nothing_of_what_had_come_in_time() -> None:
    slow = api(timeout_s=1.5, on_timeout="finish")
    records = simulate(scenario_from_dict(plain(deployments={"d": slow}))).records
    gave_up = records.filter(pl.col("status") == "timed_out")
    assert len(gave_up) > 0
    assert gave_up["tpot_s"].null_count() == len(gave_up)
    assert gave_up["ttft_s"].max() <= 1.5 + 1e-9  # type: ignore[operator]


def day(**targets: Any) -> Scenario:
    """Three hours, the second of which is more than one replica can serve."""
    steps = [{"duration_s": 3600, "rate_per_s": rate} for rate in (0.2, 1.4, 0.2)]
    raw = plain(replications=1, deployments={"d": {**pool(2.0), "max_num_seqs": 4}}, targets=targets)
    raw["workload"] |= {"arrivals": {"process": "piecewise", "steps": steps}, "requests": 6480}
    return scenario_from_dict(raw)


def test_the_worst_hour_is_not_hidden_by_the_day() -> None:
    """A day kept by its mean, an hour that is not; and a single run says how unsure it is of either."""
    whole, hourly = (
        judged(simulate(day(goodput=0.5, slo={"ttft_s": 1.0}, every_hour=each)))[0] for each in (False, True)
    )
    assert whole.hour is None
    assert hourly.hour == 1
    assert hourly.realized.value < 0.5 * whole.realized.value
    assert hourly.met is False
    assert 0 < hourly.realized.high - hourly.realized.low < 0.5
    assert hourly.words == "goodput, every hour"


def test_what_holds_in_every_hour_holds_over_the_day() -> None:
    for key in ("ttft_p90_s", "latency_p99_s", "rejected_rate"):
        whole, hourly = (judged(simulate(day(**{key: 0.5}, every_hour=each)))[0] for each in (False, True))
        assert whole.realized.value <= hourly.realized.value


def test_a_day_costs_what_its_pools_do() -> None:
    found = simulate(day(cost_usd_per_day=48.0), replications=3).summary()
    assert found.cost_usd_per_day.value == pytest.approx(48.0)
    (one,) = judge_targets(found, Targets(cost_usd_per_day=48.0000001), None)
    assert one.met
    parts = simulate(
        two_sources(cost_usd_per_day=1.0, sources={n: {"cost_usd_per_day": 1.0} for n in ("everyday", "research")})
    )
    whole, *each = (parts.summary().quantity(check.name) for check in judged(parts))
    assert whole is not None
    assert sum(one.value for one in each if one is not None) == pytest.approx(whole.value)


# ------------------------------------------------------------------------------------------------------- planning


def test_what_a_proposer_believes_is_what_simulation_finds() -> None:
    """Shares broken, of arms whose times no queue changes: each objective beside the records."""
    raw = load_scenario("reasoning-gateway").model_dump(mode="json", exclude={"path"}, exclude_none=True)
    arm = {"profile": "reasoning-gym/llama-4-maverick", "deployment": "d"}
    asked: dict[str, Any] = {"ttft_p95_s": 0.7, "tpot_p90_s": 0.012, "latency_p50_s": 8.0, "goodput": 0.9, "slo": SLO}
    asked["sources"] = {
        "research": {"ttft_p95_s": 0.4, "accuracy": 0.5, "timed_out_rate": 0.1, "cost_usd_per_request": 1.0}
    }
    raw |= {"deployments": {"d": api(timeout_s=15.0)}, "arms": {"a": arm}, "policy": "Always('a')", "search": {}}
    model = load_model(scenario_from_dict({**raw, "targets": {"maximize": "accuracy", **asked}}))
    targets, expectations = model.scenario.targets, expect_arms(model)
    assert targets is not None
    believed = broken_by_arm(expectations, targets, {})[:, 0] @ expectations.population.weight
    run = run_once(model, Always("a"), draw(model, 0, requests=12_000))
    records = run.table(model)
    research = records.filter(source="research")
    found = {
        "latency_p50_s": above(records, "latency_s", 8.0),
        "tpot_p90_s": above(records, "tpot_s", 0.012),
        "ttft_p95_s": above(records, "ttft_s", 0.7),
        "goodput": 1 - by_hand(records, "goodput", SLO),
        "sources.research.accuracy": 1 - float((run.planned_correct[run.requests.source == 1]).mean()),
        "sources.research.cost_usd_per_request": float(run.planned_api_cost_usd[run.requests.source == 1].mean()),
        "sources.research.ttft_p95_s": above(research, "ttft_s", 0.4),
        "sources.research.timed_out_rate": by_hand(research, "timed_out_rate", {}),
    }
    names = list(objectives_of(targets, 1.0))
    assert names == list(found)
    for value, name in zip(believed, names, strict=False):
        assert value == pytest.approx(found[name], abs=0.02), name


@pytest.mark.parametrize(
    "targets",
    [
        {"ttft_p95_s": 0.35},
        {"tpot_p99_s": 0.0155},
        {"goodput": 0.95, "slo": {"ttft_s": 0.3, "latency_s": 14.0}},
        {"ttft_p95_s": 0.3, "every_hour": True},
        {"sources": {"easy": {"tpot_p90_s": 0.015}}},
    ],
)
def test_as_few_replicas_as_the_target_takes(targets: dict[str, Any]) -> None:
    """Beside every number of replicas, simulated."""
    model = asking(small(), minimize="cost", accuracy=0.05)
    asked = Targets.model_validate({"minimize": "cost", "accuracy": 0.05, **targets})
    model = load_model(model.scenario.model_copy(update={"targets": asked}), model.population)
    holds = {}
    for replicas in (1, 2, 3, 4, 5, 6, 8, 12):
        found = at(model, Always("a"), p=replicas)
        holds[replicas] = all(check.holds for check in check_targets(found, asked))
    fewest = min(count for count, held in holds.items() if held)
    assert fewest > 1, "a target that any number meets tests nothing"
    plan = plan_model(model)
    assert plan.status == "met"
    assert plan.scenario.deployments["p"].replicas == fewest  # type: ignore[union-attr]


def test_what_cannot_be_met_is_named_and_the_nearest_plan_misses_it_by_least() -> None:
    model = asking(small(), minimize="cost", accuracy=0.05)
    asked = Targets.model_validate({"minimize": "cost", "accuracy": 0.05, "ttft_p95_s": 1e-3})
    model = load_model(model.scenario.model_copy(update={"targets": asked}), model.population)
    plan = plan_model(model)
    assert plan.status == "nearest"
    assert plan.binding == ("ttft_p95_s",)
    mine = max(check.miss for check in plan.checks)
    for replicas in (1, 2, 4, 8, 12):
        assert (
            max(check.miss for check in check_targets(at(model, Always("a"), p=replicas), asked)) >= mine - 0.02 * mine
        )


def test_a_day_s_cost_limits_the_plan() -> None:
    """2 $ an hour for each replica: 100 $ buy two."""
    model = asking(small(), maximize="accuracy", cost_usd_per_day=100.0)
    plan = plan_model(model)
    assert plan.status == "met"
    assert plan.scenario.deployments["p"].replicas <= 2  # type: ignore[union-attr]
    least = plan_model(asking(small(), minimize="cost_usd_per_day", accuracy=0.05, latency_p95_s=14.0))
    same = plan_model(asking(small(), minimize="cost", accuracy=0.05, latency_p95_s=14.0))
    assert least.predicted == same.predicted


def test_a_saved_plan_promises_what_was_asked_for(tmp_path: Path) -> None:
    asked = {"ttft_p95_s": 5.0, "goodput": 0.1, "slo": {"latency_s": 60.0}, "every_hour": True}
    more = {"sources": {"easy": {"tpot_p99.5_s": 1.0, "cost_usd_per_day": 1e4}}}
    targets = Targets.model_validate({"minimize": "cost", "accuracy": 0.05, **asked, **more})
    model = small()
    plan = plan_model(load_model(model.scenario.model_copy(update={"targets": targets}), model.population))
    plan.save(tmp_path / "plan.yaml")
    saved = load_plan(tmp_path / "plan.yaml")
    assert saved.scenario.targets == targets
    assert saved.promised == pytest.approx(plan.saved().promised)
    names = {"ttft_p95_s", "goodput", "sources.easy.tpot_p99.5_s", "sources.easy.cost_usd_per_day"}
    assert names <= set(saved.promised)
    raw = yaml.safe_load((tmp_path / "plan.yaml").read_text())
    raw["promised"]["goodput"]["high"] = 1.5
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(InputError, match=r"promised\.goodput\.high: got 1\.5; expected a finite number, from 0 to 1"):
        load_plan(tmp_path / "plan.yaml")


def test_targets_of_all_kinds_are_loosened_alike() -> None:
    own = {"every_hour": True, "goodput": 0.4}
    given = {"maximize": "accuracy", "ttft_p99_s": 2.0, "goodput": 0.8, "slo": {"ttft_s": 1.0}, "rejected_rate": 0.9}
    loose = loosened(Targets.model_validate({**given, "sources": {"x": own}}), 0.5)
    assert {one.name: one.bound for one in loose.asked()} == pytest.approx(
        {"ttft_p99_s": 3.0, "goodput": 0.4, "rejected_rate": 1.0, "sources.x.goodput": 0.2}
    )
    assert [one.every_hour for one in loose.asked()] == [False, False, False, True]


# ------------------------------------------------------------------------------------------------- what is given


def test_simulate_prints_and_writes_every_target(tmp_path: Path) -> None:
    raw = plain(
        targets={
            "ttft_p95_s": 0.2,
            "goodput": 0.5,
            "slo": {"latency_s": 30.0},
            "cost_usd_per_day": 1e9,
            "every_hour": True,
        }
    )
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(raw))
    words = ["simulate", str(tmp_path / "s.yaml"), "--no-baselines", "--json", str(tmp_path / "o.json")]
    got = CliRunner(env={"COLUMNS": "200"}).invoke(app, words)
    assert got.exit_code == 0, got.output
    for said in ("ttft_p95_s, every hour (worst: 0-1 h)", "at most 0.2", "no", "cost_usd_per_day", "goodput: "):
        assert said in got.output
    found = json.loads((tmp_path / "o.json").read_text())
    by_name = {one["name"]: one for one in found["targets"]}
    assert by_name["ttft_p95_s"]["met"] is False
    assert by_name["goodput"]["met"] is True
    assert by_name["goodput"]["realized"]["value"] == found["goodput"]["value"]
    assert found["asked"]["cost_usd_per_day"]["value"] == found["cost_usd_per_day"]["value"]


def test_limits_alone_are_judged_and_not_planned_by() -> None:
    scenario = with_changes("competition-maths", {"targets": {"ttft_p95_s": 2.0}})
    with pytest.raises(InputError, match="targets: got 'limits alone'; expected exactly one of 'minimize: cost'"):
        ttc.optimize(scenario)


def test_a_day_s_cost_is_not_planned_by_without_a_rate() -> None:
    raw = load_scenario("competition-maths").model_dump(mode="json", exclude={"path"}, exclude_none=True)
    raw["deployments"] = {name: api() for name in raw["deployments"]}
    raw["workload"] |= {"arrivals": {"process": "closed_loop", "users": 3}, "requests": 60}
    raw["search"] = {}
    raw["targets"] = {"maximize": "accuracy", "cost_usd_per_day": 10}
    with pytest.raises(
        InputError, match=r"targets\.cost_usd_per_day: got 10.0; expected arrivals with a rate of their own"
    ):
        ttc.optimize(scenario_from_dict(raw))


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ({"ttft_p100_s": 1}, "targets: got 'ttft_p100_s'; expected a percentile above 0 and below 100"),
        ({"tpot_p0_s": 1}, "targets: got 'tpot_p0_s'; expected a percentile above 0 and below 100"),
        ({"latency_p-5_s": 1}, "targets: got 'latency_p-5_s'; expected a percentile above 0 and below 100"),
        ({"latency_pmax_s": 1}, "targets: got 'latency_pmax_s'; expected a percentile above 0 and below 100"),
        ({"ttft_p95": 1}, "targets: got 'ttft_p95'; expected 'ttft_p95_s'"),
        ({"ttft_p95_s": 0}, "targets.ttft_p95_s: got 0; expected greater than 0"),
        ({"ttft_p95_s": "fast"}, "targets.ttft_p95_s: got 'fast'; expected a number"),
        ({"ttft_p95_s": None}, "targets.ttft_p95_s: got None; expected a number"),
        ({"latency_p50_s": 9, "latency_p90_s": 3}, "targets.latency_p50_s: got 9.0; expected at most 3: latency_p90_s"),
        ({"rejected_rate": 0.2, "timeout_rate": 0.1}, "targets.rejected_rate: got 0.2; expected at most timeout_rate"),
        ({"goodput": 1.5, "slo": {"ttft_s": 1}}, "targets.goodput: got 1.5; expected less than or equal to 1"),
        ({"goodput": 0.9}, "targets.goodput: got 0.9; expected an slo beside it"),
        ({"slo": {"ttft_s": 1}}, "targets.slo: got {'ttft_s': 1.0}; expected a goodput beside it"),
        ({"goodput": 0.9, "slo": {}}, "targets.slo: got {}; expected at least one of ttft_s"),
        ({"goodput": 0.9, "slo": {"e2e_s": 1}}, "targets.slo: got 'e2e_s'; expected one of latency_s, tpot_s, ttft_s"),
        (
            {"goodput": 0.9, "slo": {"ttft_s": 5, "latency_s": 2}},
            "targets.slo.ttft_s: got 5.0; expected at most latency_s",
        ),
        (
            {"every_hour": True, "cost_usd_per_day": 5},
            "targets.every_hour: got True; expected a percentile, goodput or a rate",
        ),
        ({"every_hour": 3600, "ttft_p95_s": 5}, "targets.every_hour: got 3600; expected true or false"),
        (
            {"sources": {"nobody": {"ttft_p95_s": 1}}},
            "targets.sources.nobody: got 'nobody'; expected one of everyday, research",
        ),
        ({"sources": {"research": {}}}, "targets.sources.research: got {}; expected a target, or an slo of its own"),
        ({"sources": {"research": {"minimize": "cost"}}}, "targets.sources.research: got 'minimize'; expected one of"),
        (
            {"sources": {"research": {"goodput": 0.5}}},
            "targets.sources.research.goodput: got 0.5; expected an slo beside it",
        ),
        (
            {"sources": {"research": {"slo": {"ttft_s": 1}}}},
            "targets.sources.research.slo: got {'ttft_s': 1.0}; expected a goodput",
        ),
        (
            {"goodput": 0.5, "sources": {"research": {"slo": {"ttft_s": 1}}}},
            "targets.goodput: got 0.5; expected an slo of all requests, or one of source everyday too",
        ),
        ({"minimize": "cost", "maximize": "accuracy"}, "exactly one of 'minimize: cost' and 'maximize: accuracy'"),
        ({"minimize": "dollars", "accuracy": 0.5}, "targets.minimize: got 'dollars'"),
        ({}, "targets: got {}; expected a target, or 'minimize: cost' or 'maximize: accuracy'"),
    ],
)
def test_targets_that_cannot_be_meant(targets: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        with_changes("reasoning-gateway", {"targets": targets})
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_each_source_with_an_slo_of_its_own_leaves_none_to_all() -> None:
    each = {name: {"slo": {"ttft_s": 1}} for name in ("everyday", "research")}
    assert with_changes("reasoning-gateway", {"targets": {"goodput": 0.5, "sources": each}}).targets is not None
    with pytest.raises(InputError, match="expected no slo of all requests: every source has its own"):
        with_changes("reasoning-gateway", {"targets": {"goodput": 0.5, "slo": {"ttft_s": 1}, "sources": each}})


def test_percentiles_are_changed_by_their_keys() -> None:
    once = with_changes("reasoning-gateway", {"targets.ttft_p95_s": 2, "targets.latency_p99.9_s": 300})
    assert once.targets is not None
    twice = with_changes(once, {"targets.ttft_p95_s": 3})
    assert twice.targets is not None
    bounds = {one.key: one.bound for one in twice.targets.asked()}
    assert (bounds["ttft_p95_s"], bounds["latency_p99.9_s"]) == (3.0, 300.0)
    assert scenario_from_dict(once.model_dump(mode="json", exclude={"path"}, exclude_none=True)).targets == once.targets
    with pytest.raises(InputError, match="expected one of"):
        with_changes("reasoning-gateway", {"workload.ttft_p95_s": 3})


# ------------------------------------------------------------------------------------------------ docs/targets.md

PAGE = (Path(__file__).parents[1] / "docs" / "targets.md").read_text(encoding="utf-8")


def test_every_example_of_the_page_can_be_asked_for() -> None:
    examples = re.findall(r"^```yaml\n(targets:.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert len(examples) == 5
    asked: set[str] = set()
    for text in examples:
        scenario = with_changes("reasoning-gateway", yaml.safe_load(text))
        result = simulate(scenario, "Always('maverick')", requests=300, replications=2)
        found = judged(result)
        assert scenario.targets is not None
        assert len(found) == len(scenario.targets.asked())
        assert not any(math.isnan(one.realized.value) for one in found), text
        asked |= {one.name.rpartition(".")[2] if one.name.startswith("sources.") else one.name for one in found}
    assert {"accuracy", "cost_usd_per_day", "goodput", "rejected_rate", "tpot_p99_s", "latency_p99.5_s"} <= asked


def test_the_page_explains_every_key_and_no_other() -> None:
    said = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    fields = {re.sub(r"_p\d+_s", "_pNN_s", name) for name in Targets.model_fields}
    assert said == fields | {"ttft_pNN_s", "tpot_pNN_s", "latency_pNN_s"}
