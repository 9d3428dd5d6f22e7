"""The health of a plan: of each check what sets it off, what does not, and odd plans that none of them trips over."""

from __future__ import annotations

import datetime
import io
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

import ttc_sim as ttc
from ttc_sim.base.draws import uniforms
from ttc_sim.base.errors import InputError
from ttc_sim.cli import app
from ttc_sim.optimizer.checking_plans import check_plan
from ttc_sim.optimizer.health.assumed import aged
from ttc_sim.optimizer.health.check import Check, by_severity, read_checks
from ttc_sim.optimizer.health.examine import CHECKS, examine
from ttc_sim.optimizer.health.measured import half_width
from ttc_sim.optimizer.health.subject import Subject
from ttc_sim.optimizer.novelty import Novelty
from ttc_sim.optimizer.promises import check_targets
from ttc_sim.reporting.health import print_health
from ttc_sim.scenario import Scenario, scenario_from_dict
from ttc_sim.simulation.drawing import draw
from ttc_sim.simulation.expectations import expected_under
from ttc_sim.simulation.model import load_model
from ttc_sim.simulation.pooling import Pooled
from ttc_sim.simulation.response_fit import with_responses
from ttc_sim.simulation.running import run_once
from ttc_sim.simulation.summary import summarize_pooled

CARD = {"origin": "test", "licence": "CC0", "date": "2026-11-24", "tokenizer": "bytes", "limits": "made up"}
API: dict[str, Any] = {
    "kind": "api",
    "price": {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 5.0},
    "first_token": {"median_s": 0.5},
    "per_token": {"median_s": 0.01},
}
POOL: dict[str, Any] = {
    "kind": "gpu_pool",
    "replicas": 1,
    "usd_per_replica_hour": 2.0,
    "max_num_seqs": 4,
    "step_time": {"base_s": 0.012, "per_prefill_token_s": 6e-5, "per_sequence_s": 3e-4, "per_kv_token_s": 6e-8},
}
TWO = {"api": API, "pool": {**POOL, "replicas": 2}}
TODAY = datetime.date(2026, 11, 26)


def world(
    folder: Path, problems: int = 200, attempts: int = 3, card: dict[str, Any] | None = None, **columns: Any
) -> None:
    """A problem set and one model's attempts at it, in a folder."""
    keys = [f"q{k}" for k in range(problems)]
    for name, file, more in (
        ("set", "problem_set", {"cluster": "problem"}),
        ("model", "profile", {"model": "model", "reasoning": "none", **(card or {})}),
    ):
        (folder / name).mkdir()
        (folder / name / f"{file}.yaml").write_text(yaml.safe_dump({**CARD, **more}))
    tokens = 100 + np.arange(problems) % 50
    table = {"problem": keys, "subset": "all", "group": keys, "prompt_tokens": tokens}
    pl.DataFrame(table).write_parquet(folder / "set" / "problems.parquet")
    n, chance = problems * attempts, uniforms(7, "health", problems * attempts, 2)
    made = {
        "problem": np.repeat(keys, attempts),
        "attempt": np.tile(np.arange(attempts), problems),
        "prompt_tokens": np.repeat(tokens, attempts),
        "reasoning_tokens": 0,
        "visible_tokens": (100 + 200 * chance[:, 0]).astype(np.int64),
        "correct": chance[:, 1] < 0.6,
        "truncated": False,
        "answer": "x",
        **{name: values[:n] if isinstance(values, np.ndarray) else values for name, values in columns.items()},
    }
    pl.DataFrame(made).write_parquet(folder / "model" / "attempts.parquet")


def raw(**changes: Any) -> dict[str, Any]:
    return {
        "name": "examined",
        "replications": 2,
        "workload": {
            "arrivals": {"process": "poisson", "rate_per_s": 2.0},
            "requests": 400,
            "sources": {"all": {"problem_set": "set"}},
        },
        "deployments": {"api": API, "pool": POOL},
        "arms": {
            "hosted": {"profile": "model", "deployment": "api"},
            "own": {"profile": "model", "deployment": "pool"},
        },
        "policy": "Always('hosted')",
        "targets": {"minimize": "cost", "accuracy": 0.5, "latency_p95_s": 60.0},
        **changes,
    }


def of(folder: Path, **changes: Any) -> Scenario:
    return scenario_from_dict(raw(**changes), str(folder / "s.yaml"))


def subject(scenario: Scenario, **changes: Any) -> Subject:
    """A scenario's own policy, as if it had been planned."""
    policy = scenario.parsed_policy()
    assert policy is not None
    model = with_responses(load_model(scenario), policy)
    runs = [run_once(model, policy, draw(model, k, purpose="verify")) for k in range(scenario.replications)]
    pooled = Pooled(model, runs, expected_under(model, policy, runs))
    summary = summarize_pooled(pooled)
    targets = () if scenario.targets is None else check_targets(summary, scenario.targets)
    return replace(Subject(pooled, policy, summary, targets, None, None, None), **changes)


def checks(scenario: Scenario, **changes: Any) -> dict[str, Check]:
    """By name, whatever was found; each says so in one line, with figures that JSON takes."""
    found = examine(subject(scenario, **changes))
    assert len(found) == len({check.name for check in found}) == len(CHECKS)
    for check in aged(found, TODAY):
        assert check.says
        assert "\n" not in check.says
        assert "nan" not in check.says.lower().split()
        json.dumps(check.as_json(), allow_nan=False)
    assert examine(subject(scenario, **changes)) == found  # nothing by chance or by the calendar
    return {check.name: check for check in found}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("world")
    world(place)
    return place


def test_a_plan_with_nothing_to_say_against_it(folder: Path) -> None:
    deployments = {"api": {**API, "latency_from": "our log"}, "pool": POOL}
    found = checks(of(folder, deployments=deployments))
    assert {check.name: check.status for check in found.values() if check.status in ("problem", "warning")} == {}


# ---------------------------------------------------------------------------------------------------------- targets


def test_missed_targets_are_told_with_what_would_hold(folder: Path) -> None:
    """What is said to hold does: asked for that, the same figures keep it."""
    found = checks(of(folder, targets={"minimize": "cost", "accuracy": 0.62, "latency_p95_s": 60.0}))
    missed = found["targets"]
    assert missed.status == "problem"
    (one,) = [target for target in missed.figures["targets"] if not target["holds"]]  # type: ignore[attr-defined]
    assert one["name"] == "accuracy"
    assert f"{one['would_hold_at']:.4g}" in missed.says
    assert 0.3 < one["would_hold_at"] < 0.62
    again = checks(of(folder, targets={"minimize": "cost", "accuracy": one["would_hold_at"] - 1e-6}))
    assert again["targets"].status == "ok"
    closer = checks(of(folder, targets={"minimize": "cost", "accuracy": one["would_hold_at"] + 0.005}))
    assert closer["targets"].status == "problem"


@pytest.mark.parametrize(("highest", "status"), [(0.79, "problem"), (0.3, "not applicable")])
def test_a_confidence_that_no_plan_reaches(folder: Path, highest: float, status: str) -> None:
    asked = 0.62 if highest > 0.5 else 0.8
    scenario = of(folder, targets={"minimize": "cost", "accuracy": asked, "latency_p95_s": 60.0})
    found = checks(scenario, highest_confidence=highest)
    chance = min(check.chance for check in subject(scenario).targets)
    assert found["confidence"].status == status
    assert found["confidence"].figures["chance"] == pytest.approx(chance)
    assert ("79%" in found["confidence"].says) == (highest == 0.79)
    without = checks(of(folder, targets=None))
    assert without["targets"].status == without["confidence"].status == "not applicable"


# ------------------------------------------------------------------------------------------------------------- load


def test_an_hour_that_is_overloaded_while_the_day_is_fine_is_named(folder: Path) -> None:
    """Three hours, in the second of which more comes than a replica can serve; twice the replicas carry it."""
    steps = [{"duration_s": 3600, "rate_per_s": rate} for rate in (0.1, 2.0, 0.1)]
    workload = {**raw()["workload"], "arrivals": {"process": "piecewise", "steps": steps}, "requests": 7920}
    asked = {"minimize": "cost", "accuracy": 0.1, "timeout_rate": 0.2, "latency_p95_s": 100.0}

    def hours(replicas: int) -> Check:
        pool = {**POOL, "replicas": replicas, "timeout_s": 30.0}
        deployments = {"api": API, "pool": pool}
        pools = {"policy": "Always('own')", "deployments": deployments, "targets": asked, "replications": 1}
        return checks(of(folder, workload=workload, **pools))["hours"]

    found = hours(1)
    assert found.status in ("problem", "warning")
    assert "in hour 1-2" in found.says
    assert "capacity" in found.says
    assert hours(3).status == "ok"


def test_a_run_that_is_too_short_has_no_parts(folder: Path) -> None:
    workload = {**raw()["workload"], "requests": 40}
    assert checks(of(folder, workload=workload))["hours"].status == "not applicable"


def test_a_queue_that_grows_without_end_is_a_problem(folder: Path) -> None:
    workload = {**raw()["workload"], "arrivals": {"process": "poisson", "rate_per_s": 6.0}, "requests": 1500}
    found = checks(of(folder, workload=workload, policy="Always('own')"))["hours"]
    assert found.status == "problem"
    assert "cannot keep up" in found.says


@pytest.mark.parametrize(
    ("limits", "status", "says"),
    [
        ({}, "not applicable", "no endpoint"),
        ({"requests_per_minute": 1000}, "ok", "busiest minute takes"),
        ({"requests_per_minute": 150}, "warning", "requests per minute of api"),
        ({"requests_per_minute": 60}, "problem", "refused"),
        ({"tokens_per_minute": 1_000_000}, "ok", "tokens per minute"),
        ({"tokens_per_minute": 45_000}, "warning", "tokens per minute of api"),
        ({"input_tokens_per_minute": 1_000_000, "output_tokens_per_minute": 28_000}, "warning", "of the output tokens"),
        ({"requests_per_minute": 2000, "limit_window_s": 10}, "ok", "the busiest 10 seconds takes"),
    ],
)
def test_limits_of_endpoints_by_their_busiest_minute(
    folder: Path, limits: dict[str, int], status: str, says: str
) -> None:
    scenario = of(folder, deployments={"api": {**API, **limits}, "pool": POOL})
    found = checks(scenario)["rate limits"]
    assert found.status == status, found.says
    assert says in found.says
    if "requests_per_minute" in limits:
        result = ttc.simulate(scenario)
        window = limits.get("limit_window_s", 60)
        counts = [np.bincount((run.result.arrival_s // window).astype(int)).max() for run in result.runs]
        runs = subject(scenario).pooled.runs
        purpose = [np.bincount((run.result.arrival_s // window).astype(int)).max() for run in runs]
        assert len(counts) == len(purpose)
        busiest = found.figures["busiest_minute"]["api"]["requests_per_minute"]  # type: ignore[index]
        assert busiest == pytest.approx(max(purpose) / (limits["requests_per_minute"] * window / 60))


def test_arms_of_one_endpoint_share_its_limits(folder: Path) -> None:
    """Requests that find others waiting there go to another arm of the same endpoint: its minute has both."""
    scenario = of(
        folder,
        deployments={"api": {**API, "requests_per_minute": 60}, "pool": POOL},
        arms={**raw()["arms"], "again": {"profile": "model", "deployment": "api"}},
        policy="Overflow(['hosted', 'again'], waiting=1)",
    )
    found = checks(scenario)["rate limits"].figures["busiest_minute"]["api"]["requests_per_minute"]  # type: ignore[index]
    runs = subject(scenario).pooled.runs
    assert all(len(set(run.result.arm.tolist())) == 2 for run in runs)
    most = max(np.bincount((run.result.arrival_s // 60).astype(int)).max() for run in runs)
    assert found == pytest.approx(most / 60)


def test_a_single_replica_that_nothing_takes_over_is_told(folder: Path) -> None:
    alone = checks(of(folder, policy="Always('own')"))["redundancy"]
    assert alone.status == "warning"
    assert "pool is a single replica" in alone.says
    arms = raw()["arms"]
    arms["own"]["fallback"] = "hosted"
    assert checks(of(folder, policy="Always('own')", arms=arms))["redundancy"].status == "ok"
    two = {"api": API, "pool": {**POOL, "replicas": 2}}
    assert checks(of(folder, policy="Always('own')", deployments=two))["redundancy"].status == "ok"
    assert checks(of(folder))["redundancy"].status == "not applicable"


def test_percentiles_that_nothing_bounds_are_a_problem_where_a_target_is_on_them(folder: Path) -> None:
    workload = {**raw()["workload"], "requests": 12}
    few = checks(of(folder, workload=workload, replications=1))["percentiles"]
    assert few.status == "problem"
    assert "12 requests in 1 run" in few.says
    unasked = checks(of(folder, workload=workload, replications=1, targets=None))["percentiles"]
    assert unasked.status == "ok"
    assert "nothing bounds" in unasked.says
    many = {**raw()["workload"], "requests": 3000}
    assert checks(of(folder, workload=many))["percentiles"].status == "ok"


# --------------------------------------------------------------------------------------------------------- measured


def test_a_vote_of_nine_on_two_attempts_is_mostly_modelled(tmp_path: Path) -> None:
    world(tmp_path, attempts=2)
    arms = {
        f"vote-{n}": {"profile": "model", "deployment": "api", "strategy": f"MajorityVote(n={n})"} for n in (2, 3, 9)
    }
    found = {n: checks(of(tmp_path, arms=arms, policy=f"Always('vote-{n}')"))["samples"] for n in (2, 3, 9)}
    assert [found[n].status for n in (2, 3, 9)] == ["ok", "warning", "problem"]
    assert "2 of a problem at most" in found[9].says
    assert "78%" in found[9].says  # 7 of 9
    shares = [found[n].figures["arms"][f"vote-{n}"]["share"] for n in (2, 3, 9)]  # type: ignore[index]
    assert shares == pytest.approx([0, 1 / 3, 7 / 9])


def test_attempts_that_a_limit_stopped_before_the_cap(tmp_path: Path) -> None:
    stopped = uniforms(1, "stopped", 600, 1)[:, 0] < 0.3
    visible = np.where(stopped, 400, (100 + 200 * uniforms(2, "visible", 600, 1)[:, 0]).astype(np.int64))
    world(tmp_path, truncated=stopped, visible_tokens=visible)
    arms = {
        "free": {"profile": "model", "deployment": "api"},
        "above": {"profile": "model", "deployment": "api", "strategy": "Single(cap=1000)"},
        "at": {"profile": "model", "deployment": "api", "strategy": "Single(cap=400)"},
    }
    found = {name: checks(of(tmp_path, arms=arms, policy=f"Always('{name}')"))["caps"] for name in arms}
    assert [found[name].status for name in arms] == ["problem", "problem", "ok"]
    assert found["free"].figures["requests_affected"] == pytest.approx(stopped.mean())


def test_a_limit_that_was_not_recorded_shows_where_attempts_end(tmp_path: Path) -> None:
    visible = np.minimum((100 + 300 * uniforms(2, "visible", 600, 1)[:, 0]).astype(np.int64), 380)
    world(tmp_path, visible_tokens=visible)
    looks = checks(of(tmp_path))["caps"]
    assert looks.status == "warning"
    assert "380 tokens" in looks.says
    arms = {"hosted": {"profile": "model", "deployment": "api", "strategy": "Single(cap=300)"}}
    assert checks(of(tmp_path, arms=arms))["caps"].status == "ok"


def test_lengths_of_a_trace_that_are_not_those_of_the_problems(folder: Path) -> None:
    """Problems have 100 to 149 prompt tokens, and attempts 100 to 299 more."""
    rows = "".join(f"{0.5 * k},{{p}},{{o}}\n" for k in range(300))
    columns = {"arrival": "t", "prompt_tokens": "p", "output_tokens": "o"}

    def prompts(prompt: int, output: int) -> Check:
        (folder / "trace.csv").write_text("t,p,o\n" + rows.format(p=prompt, o=output))
        arrivals = {"process": "trace", "file": "trace.csv", "format": "csv", "columns": columns}
        return checks(of(folder, workload={**raw()["workload"], "arrivals": arrivals, "requests": 300}))["prompts"]

    long, chatty, alike = prompts(5000, 200), prompts(125, 2000), prompts(125, 200)
    assert [one.status for one in (long, chatty, alike)] == ["problem", "warning", "ok"]
    assert "100.0% of the trace's prompts" in long.says
    assert "125 prompt and 2,000 output tokens" in chatty.says
    assert checks(of(folder))["prompts"].status == "ok"


def test_thinking_that_is_another_models(tmp_path: Path) -> None:
    world(tmp_path, card={"reasoning": "filled", "reasoning_source": "another model"})
    found = checks(of(tmp_path))["thinking lengths"]
    assert found.status == "warning"
    assert "100.0% of the requests" in found.says


def test_few_problems_behind_an_arm_by_its_interval(tmp_path: Path) -> None:
    world(tmp_path, problems=120)
    scores = {"problem": [f"q{k}" for k in range(120)], "difficulty": np.arange(120) / 120}
    pl.DataFrame(scores).write_parquet(tmp_path / "set" / "scores.parquet")
    found = {
        at: checks(of(tmp_path, policy=f"Threshold(at={at}, below='own', above='hosted')"))["problems"]
        for at in (0.1, 0.3, 0.9999)
    }
    assert [one.status for one in found.values()] == ["problem", "warning", "ok"]
    assert "own in band 1 was chosen on 12 problems" in found[0.1].says
    bands = found[0.1].figures["bands"]
    assert sorted(one["problems"] for one in bands) == [12, 108]  # type: ignore[attr-defined]
    (few,) = [one for one in bands if one["problems"] == 12]  # type: ignore[attr-defined]
    assert sum(one["requests"] for one in bands) == pytest.approx(1)  # type: ignore[attr-defined]
    first = subject(of(tmp_path, policy="Threshold(at=0.1, below='own', above='hosted')"))
    assert first.pooled.expected is not None
    assert few["accuracy"] == pytest.approx(float(first.pooled.expected["correct"][:12].mean()))
    assert few["half_width"] == pytest.approx(half_width(few["accuracy"], 12))


def test_half_widths_cover_as_they_say() -> None:
    """Of shares of 60 that are 0.7 in truth, 95% are within the half-width of Wilson's interval around its middle."""
    seen = (uniforms(3, "wilson", 4000, 60) < 0.7).mean(axis=1)
    middle = [(s + 1.96**2 / 120) / (1 + 1.96**2 / 60) for s in seen]
    inside = [abs(0.7 - m) <= half_width(float(s), 60) for s, m in zip(seen, middle, strict=True)]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.02)


# -------------------------------------------------------------------------------------------------- what is assumed


@pytest.mark.parametrize(("share", "status"), [(0.05, "ok"), (0.1, "warning"), (0.4, "problem")])
def test_novel_traffic(folder: Path, share: float, status: str) -> None:
    found = checks(of(folder), novelty=Novelty(share, 3))
    assert found["novelty"].status == status
    assert checks(of(folder))["novelty"].status == "not applicable"


def test_prices_grow_old(folder: Path) -> None:
    price = {"provider": "anthropic", "model": "claude-sonnet-4-0", "on": "2026-08-20"}
    scenario = of(folder, deployments={"api": {**API, "price": price}, "pool": POOL})
    found = {check.name: check for check in examine(subject(scenario))}
    assert found["prices"].status == found["measurements"].status == "not applicable"
    assert "2026-08-20" in found["prices"].says

    def on(day: str, name: str = "prices") -> Check:
        return {check.name: check for check in aged(tuple(found.values()), datetime.date.fromisoformat(day))}[name]

    # 2026-08-20 and 90 days are 2026-11-18.
    days = ("2026-08-01", "2026-11-18", "2026-11-19", "2027-08-20", "2027-08-21")
    assert [on(day).status for day in days] == ["ok", "ok", "warning", "warning", "problem"]
    assert "91 days before 2026-11-19" in on("2026-11-19").says
    assert on("2027-06-01", "measurements").status == "warning"
    again = aged((on("2027-06-01"),), datetime.date.fromisoformat("2026-11-18"))
    assert again == (on("2026-11-18"),)  # as of another day, as if the first had not been asked for
    undated = {check.name: check for check in aged(examine(subject(of(folder))), TODAY)}
    assert undated["prices"].status == "not applicable"
    assert "no price in use has a date" in undated["prices"].says


def test_list_prices_of_gpus_have_the_day_of_the_list(folder: Path) -> None:
    listed = {k: v for k, v in POOL.items() if k not in ("step_time", "usd_per_replica_hour")}
    listed |= {"model": "meta-llama/Llama-3.1-8B-Instruct", "gpu": "l40s", "tensor_parallel": 1, "precision": "bf16"}
    pools = {"api": API, "pool": listed}
    found = {check.name: check for check in examine(subject(of(folder, deployments=pools, policy="Always('own')")))}
    assert found["prices"].figures["dates"] == {"pool": "2026-09-20"}
    assert "never compared with a server" in found["latencies"].says


def test_times_that_were_typed_in_are_told_from_measured_ones(folder: Path) -> None:
    assert checks(of(folder))["latencies"].status == "warning"
    assert "api: first_token and per_token are typed in" in checks(of(folder))["latencies"].says
    measured = {"api": {**API, "latency_from": "our log of October"}, "pool": POOL}
    found = checks(of(folder, deployments=measured))["latencies"]
    assert found.status == "ok"
    assert found.figures["sources"] == {"api": "measured: our log of October"}
    assert "coefficients" in checks(of(folder, policy="Always('own')"))["latencies"].says


def test_where_times_were_measured_changes_no_figure(folder: Path) -> None:
    one, other = (
        ttc.simulate(of(folder, deployments={"api": item, "pool": POOL})).records
        for item in (API, {**API, "latency_from": "our log"})
    )
    assert one.equals(other)
    with pytest.raises(InputError, match="figures depend on"):
        ttc.what_if(of(folder), {"a": {"deployments.api.latency_from": "x"}})


def test_scores_that_name_no_predictor(tmp_path: Path) -> None:
    world(tmp_path, problems=120)
    scores = {"problem": [f"q{k}" for k in range(120)], "difficulty": np.arange(120) / 120}
    pl.DataFrame(scores).write_parquet(tmp_path / "set" / "scores.parquet")
    routed = checks(of(tmp_path, policy="Threshold(at=0.5, below='own', above='hosted')"))
    assert routed["predictor"].status == "warning"
    assert "names no predictor" in routed["predictor"].says
    assert checks(of(tmp_path))["predictor"].status == "not applicable"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"search": {"replicas": {"pool": [1, 2]}}, "deployments": TWO}, "most replicas, 2"),
        ({"search": {"replicas": {"pool": [1, 2, 3]}}, "deployments": TWO}, None),
        ({"search": {"replicas": {"pool": [2, 4]}}, "deployments": TWO}, "fewest replicas, 2"),
        ({"search": {"replicas": {"pool": [1, 4]}}}, None),
    ],
)  # fmt: skip
def test_a_plan_at_the_edge_of_the_space(folder: Path, changes: dict[str, Any], says: str | None) -> None:
    found = checks(of(folder, policy="Always('own')", **changes))["search space"]
    assert found.status == ("ok" if says is None else "warning")
    assert says is None or says in found.says


def test_caps_and_bands_at_the_edge(tmp_path: Path) -> None:
    world(tmp_path, problems=120)
    scores = {"problem": [f"q{k}" for k in range(120)], "difficulty": np.arange(120) / 120}
    pl.DataFrame(scores).write_parquet(tmp_path / "set" / "scores.parquet")
    arms = {
        f"a@{cap}": {"profile": "model", "deployment": "api", "strategy": f"Single(cap={cap})"}
        for cap in (150, 200, 250)
    }

    def edge(policy: str, **more: Any) -> str:
        return checks(of(tmp_path, arms={**arms, **more}, policy=policy, search={"max_bands": 2}))["search space"].says

    assert "highest cap, 250" in edge("Always('a@250')")
    assert "lowest cap, 150" in edge("Always('a@150')")
    assert "lie within" in edge("Always('a@200')")
    assert "lie within" in edge("Always('a@250')", a={"profile": "model", "deployment": "api"})
    assert "most bands, 2" in edge("Threshold(at=0.5, below='a@200', above='a@250')")


# ------------------------------------------------------------------------------------------------------------- odd


@pytest.mark.parametrize(("problems", "attempts", "requests"), [(1, 1, 1), (1, 3, 5), (2, 1, 30), (40, 2, 1)])
@pytest.mark.parametrize("policy", ["Always('hosted')", "Always('own')", "LeastLoaded(arms=['hosted', 'own'])"])
def test_odd_plans_are_examined(tmp_path: Path, problems: int, attempts: int, requests: int, policy: str) -> None:
    world(tmp_path, problems=problems, attempts=attempts)
    workload = {**raw()["workload"], "requests": requests}
    checks(of(tmp_path, workload=workload, policy=policy, replications=1))


def test_all_at_one_instant_and_nobody_answered(tmp_path: Path) -> None:
    world(tmp_path)
    (tmp_path / "t.csv").write_text("t\n" + "0.0\n" * 50)
    arrivals = {"process": "trace", "file": "t.csv", "format": "csv", "columns": {"arrival": "t"}}
    deployments = {"api": {**API, "timeout_s": 0.1}, "pool": POOL}
    workload = {**raw()["workload"], "arrivals": arrivals, "requests": 50}
    found = checks(of(tmp_path, workload=workload, deployments=deployments))
    assert found["targets"].status == "problem"


def test_traffic_without_problems_is_examined(tmp_path: Path) -> None:
    workload = {"arrivals": {"process": "poisson", "rate_per_s": 2.0}, "requests": 300}
    workload["lengths"] = {"prompt_tokens": 300, "output_tokens": {"median": 150, "p95": 500}}
    arms = {"hosted": {"deployment": "api"}, "own": {"deployment": "pool"}}
    targets = {"minimize": "cost", "latency_p95_s": 60.0}
    found = checks(of(tmp_path, workload=workload, arms=arms, targets=targets))
    for name in ("samples", "caps", "prompts", "thinking lengths", "problems", "novelty", "predictor", "measurements"):
        assert found[name].status == "not applicable", name
    assert found["latencies"].status == "warning"


# ----------------------------------------------------------------------------------------------- saved, read, printed


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan's file, and its JSON beside it."""
    place = tmp_path_factory.mktemp("planned")
    world(place)
    content = raw(policy=None, search={"replicas": {"pool": [1, 2]}})
    (place / "s.yaml").write_text(yaml.safe_dump(content))
    for name in ("plan", "again"):
        words = [
            "optimize",
            str(place / "s.yaml"),
            "--plan",
            str(place / f"{name}.yaml"),
            "--json",
            str(place / f"{name}.json"),
        ]
        got = CliRunner().invoke(app, words)
        assert got.exit_code == 0, got.output
    (place / "said.txt").write_text(got.output)
    return place / "plan.yaml"


def test_the_same_plan_has_the_same_bytes_and_keeps_its_checks(planned: Path) -> None:
    assert planned.read_bytes() == planned.with_name("again.yaml").read_bytes()
    assert planned.with_suffix(".json").read_bytes() == planned.with_name("again.json").read_bytes()
    saved = ttc.load_plan(planned)
    said = json.loads(planned.with_suffix(".json").read_text())["health"]
    assert [check.as_json() for check in saved.health] == said
    assert {check.name for check in saved.health} == {check["name"] for check in said}
    assert len(saved.health) == len(CHECKS)
    assert "as_of: null" in planned.read_text()  # no word of the day that it was made


def test_only_what_is_not_in_order_is_printed_unless_all_is_asked_for(planned: Path) -> None:
    said = planned.with_name("said.txt").read_text()
    health = said[said.index("Health of the plan") :]
    saved = ttc.load_plan(planned)
    for check in saved.health:
        assert (f"{check.status}, {check.name}:" in health) == (check.status in ("problem", "warning"))
    assert "--checks all shows them" in health
    everything = CliRunner().invoke(app, ["check", str(planned), "--checks", "all", "--as-of", "2026-11-26"])
    assert everything.exit_code == (2 if any(c.status == "problem" for c in saved.health) else 0), everything.output
    for name in (check.name for check in saved.health):
        assert f", {name}:" in everything.output


def test_a_plan_is_examined_anew_as_it_was(planned: Path) -> None:
    saved, found = ttc.load_plan(planned), check_plan(planned, TODAY)
    now = {check.name: check for check in found.checks}
    assert now.pop("promises").status == "ok"
    for check in aged(saved.health, TODAY):
        assert now[check.name].status == check.status, check.name
        if check.name not in ("gain", "search space"):
            assert now[check.name].says == check.says


def test_a_plan_from_before_there_were_checks_is_examined_too(planned: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(planned.read_text())
    for key in ("health", "tied", "highest_confidence"):
        content.pop(key, None)
    old = planned.with_name("old.yaml")
    old.write_text(yaml.safe_dump(content))
    assert ttc.load_plan(old).health == ()
    found = {check.name: check for check in check_plan(old, TODAY).checks}
    assert found["gain"].status == "not applicable"
    old.unlink()


def test_what_a_plan_promises_and_no_longer_keeps_is_a_problem(planned: Path) -> None:
    content = yaml.safe_load(planned.read_text())
    deployment = content["scenario"]["deployments"]
    for item in deployment.values():
        if item["kind"] == "api":
            item["price"]["output_usd_per_mtok"] *= 3
        else:
            item["usd_per_replica_hour"] *= 3
    other = planned.with_name("dearer.yaml")
    other.write_text(yaml.safe_dump(content))
    got = CliRunner().invoke(app, ["check", str(other), "--as-of", "2026-11-26"])
    assert got.exit_code == 2
    assert "cost_usd_per_request comes to" in got.output
    other.unlink()


@pytest.mark.parametrize(
    ("health", "said"),
    [
        ("fine", "health: got 'fine'; expected a list of checks"),
        ([{"name": "a"}], r"health\[0\]: got"),
        ([{"name": 1, "status": "ok", "says": "", "figures": {}}], r"health\[0\].name: got 1; expected text"),
        ([{"name": "a", "status": "fine", "says": "", "figures": {}}], r"health\[0\].status: got 'fine'; expected problem or"),
        ([{"name": "a", "status": "ok", "says": "", "figures": 3}], r"health\[0\].figures: got 3"),
    ],
)  # fmt: skip
def test_checks_that_are_none_are_refused(planned: Path, tmp_path: Path, health: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_checks(health, tmp_path / "plan.yaml")


@pytest.mark.parametrize("day", ["tomorrow", "2026-13-01", "26-11-26", ""])
def test_a_day_that_is_none_is_one_line(planned: Path, day: str) -> None:
    got = CliRunner().invoke(app, ["check", str(planned), "--as-of", day])
    assert got.exit_code != 0
    assert isinstance(got.exception, (InputError, SystemExit))
    assert "YYYY-MM-DD" in str(got.exception) + got.output


def test_checks_are_shown_most_severe_first_and_names_as_they_are() -> None:
    found = [
        Check("a", "ok", "fine", {}),
        Check("b", "warning", "of [link=x]arm[/link] \x1b[31mred", {}),
        Check("c", "not applicable", "none", {}),
        Check("d", "problem", "bad", {"x": math.nan}),
    ]
    assert [check.name for check in by_severity(tuple(found))] == ["d", "b", "a", "c"]
    assert found[-1].as_json()["figures"] == {"x": None}

    def printed(some: Sequence[Check], **options: Any) -> str:
        console = Console(width=200, record=True, file=io.StringIO())
        print_health(console, some, day=TODAY, **options)
        return console.export_text()

    said = printed(found)
    assert said.index("problem, d: bad") < said.index("warning, b: of [link=x]arm[/link] \\x1b[31mred")
    assert "fine" not in said
    assert "2 other checks pass or do not apply" in said
    assert "ok, a: fine" in printed(found, everything=True)
    assert printed([]) == ""
