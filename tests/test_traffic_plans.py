"""Plans for traffic without problems: what caps cost by hand, odd traffic, what is refused, and every form that a plan takes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

import ttc_sim as ttc
from ttc_sim.base.errors import InputError
from ttc_sim.cli import app
from ttc_sim.optimizer.plan import load_plan
from ttc_sim.optimizer.promises import promises
from ttc_sim.policies import Banded
from ttc_sim.reporting.text import policy_in_words
from ttc_sim.scenario import Scenario, scenario_from_dict

API = {
    "kind": "api",
    "price": {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 5.0},
    "first_token": {"median_s": 0.5},
    "per_token": {"median_s": 0.01},
}
POOL = {
    "kind": "gpu_pool",
    "replicas": 1,
    "usd_per_replica_hour": 3.6,
    "max_num_seqs": 8,
    "step_time": {"base_s": 0.012, "per_prefill_token_s": 6e-5, "per_sequence_s": 3e-4, "per_kv_token_s": 6e-8},
}
TARGETS = {"minimize": "cost", "latency_p95_s": 15.0, "cut_off_rate": 0.1}


def raw(workload: dict[str, Any], targets: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    return {
        "name": "traffic",
        "replications": 2,
        "workload": workload,
        "deployments": {"api": API, "pool": POOL},
        "arms": {"hosted": {"deployment": "api"}, "own": {"deployment": "pool"}},
        "search": {
            "bands": 4,
            "max_bands": 2,
            "caps": {"hosted": [200, 400, None]},
            "replicas": {"pool": [1, 2, 4]},
        },
        "targets": TARGETS if targets is None else targets,
        **changes,
    }


def recorded(folder: Path, rows: list[tuple[float, int, int]], requests: int | None = None) -> dict[str, Any]:
    (folder / "log.csv").write_text("t,p,o\n" + "".join(f"{t},{p},{o}\n" for t, p, o in rows))
    columns = {"arrival": "t", "prompt_tokens": "p", "output_tokens": "o"}
    arrivals = {"process": "trace", "file": "log.csv", "format": "csv", "columns": columns}
    return {"arrivals": arrivals, "requests": requests or len(rows)}


def of(folder: Path, given: dict[str, Any]) -> Scenario:
    return scenario_from_dict(given, str(folder / "s.yaml"))


STEADY = [(0.5 * k, 100 + 40 * (k % 7), 30 + 45 * (k % 13)) for k in range(40)]


def test_a_plan_is_what_its_simulation_comes_to_in_every_form(tmp_path: Path) -> None:
    scenario = of(tmp_path, raw(recorded(tmp_path, STEADY)))
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(scenario.model_dump(mode="json", exclude_none=True)))
    written = {name: tmp_path / f"plan.{end}" for name, end in (("plan", "yaml"), ("json", "json"), ("plot", "png"))}
    words = [part for name, path in written.items() for part in (f"--{name}", str(path))]
    shown = CliRunner().invoke(app, ["optimize", str(tmp_path / "s.yaml"), *words], catch_exceptions=False)
    assert shown.exit_code == 0
    assert "unknown" in shown.output
    assert "nothing is known of accuracy" in " ".join(shown.output.split())
    plan, said = ttc.optimize(scenario), json.loads(written["json"].read_text())
    assert said["accuracy"] is said["utility_gain"] is said["predictor"] is None
    assert said["frontier"] == []
    assert said["policy"] == plan.scenario.policy
    assert {one["name"] for one in said["targets"]} == {"latency_p95_s", "cut_off_rate"}
    assert written["plot"].read_bytes()[:4] == b"\x89PNG"
    assert "unknown accuracy" in repr(plan)
    assert plan._repr_html_()
    # Nothing in a replay is random: the plan's figures are those of its simulation, however it is asked for.
    saved = load_plan(written["plan"])
    assert saved.promised == promises(plan.predicted)
    assert saved.promised == promises(ttc.simulate(saved.scenario).summary())
    again = tmp_path / "again.json"
    shown = CliRunner().invoke(app, ["simulate", str(written["plan"]), "--json", str(again)], catch_exceptions=False)
    assert shown.exit_code == 0
    figures = json.loads(again.read_text())
    for name in ("accuracy", "cost_usd_per_request", "latency_s", "cut_off_rate", "replicas"):
        assert figures[name] == said[name], name
    for name in ("problems.csv", "attempts.csv"):
        (tmp_path / name).write_text("problem,prompt,model,output_tokens,correct\na,hi,m,5,1\n")
    tables = [part for name in ("problems", "attempts") for part in (f"--{name}", str(tmp_path / f"{name}.csv"))]
    plan_file = str(written["plan"])
    for words, says in (
        (["validate", plan_file, *tables], "a plan for problems"),
        (["cross-validate", str(tmp_path / "s.yaml")], "sources of problems, to know accuracy from"),
        (["optimize", plan_file], "expected a scenario"),
    ):
        with pytest.raises(InputError, match=says):
            CliRunner().invoke(app, words, catch_exceptions=False)


def test_the_share_that_a_cap_cuts_off_is_counted_by_hand(tmp_path: Path) -> None:
    outputs = [10, 20, 30, 40, 50]
    given = raw(recorded(tmp_path, [(k, 50, o) for k, o in enumerate(outputs)]))
    slow = {**API, "timeout_s": 0.75}  # half a second, and a hundredth for each of 26 tokens
    given["deployments"] = {"api": API, "slow": slow}
    given["search"] = {}
    given["arms"] = {
        "all": {"deployment": "api", "strategy": "Single(cap=30)"},
        "few": {"deployment": "api", "strategy": "Single(cap=29)"},
        "late": {"deployment": "slow", "strategy": "Single(cap=25)"},
        "lost": {"deployment": "slow", "strategy": "Single(cap=40)"},
        "whole": {"deployment": "api"},
    }
    del given["targets"]
    for arm, cut_off, timed_out in (
        ("all", 0.4, 0),
        ("few", 0.6, 0),
        ("late", 0.6, 0),
        ("lost", 0, 0.6),
        ("whole", 0, 0),
    ):
        result = ttc.simulate(of(tmp_path, given), f"Always({arm!r})")
        summary = result.summary()
        assert summary.cut_off_rate is not None
        assert summary.cut_off_rate.value == pytest.approx(cut_off), arm
        assert summary.timeout_rate.value == pytest.approx(timed_out), arm
        # A request that times out is not cut off too: the shares add up.
        whole = result.records.filter((result.records["status"] == "completed") & ~result.records["cut_off"])
        assert len(whole) / len(result.records) == pytest.approx(1 - cut_off - timed_out)


def test_with_problems_an_answer_cut_off_is_a_wrong_one_and_no_target_of_its_own() -> None:
    assert ttc.simulate("reasoning-gateway", "Always('maverick')", requests=50).summary().cut_off_rate is None
    with pytest.raises(InputError, match=r"targets.cut_off_rate: got 0.1; expected no such target beside sources"):
        ttc.with_changes("reasoning-gateway", {"targets": {**TARGETS, "accuracy": 0.5}})


ODD: dict[str, list[tuple[float, int, int]]] = {
    "one request": [(3.0, 80, 60)],
    "all at one instant": [(7.0, 50 + k, 20 + 10 * k) for k in range(12)],
    "an hour without arrivals": [(k if k < 10 else 3700 + k, 90, 40 + 5 * k) for k in range(20)],
    "failed rows": [(k, 90 + k, 0 if k % 3 == 0 else 100) for k in range(15)],
}


@pytest.mark.parametrize("minimize", ["cost", "latency_p95_s"])
@pytest.mark.parametrize("deployments", [("api",), ("pool",), ("api", "pool")], ids="+".join)
@pytest.mark.parametrize("odd", ODD)
def test_odd_traffic_is_planned_and_the_plan_holds(
    odd: str, deployments: tuple[str, ...], minimize: str, tmp_path: Path
) -> None:
    other = {"latency_p95_s": 15.0} if minimize == "cost" else {"cost_usd_per_request": 1.0}
    given = raw(recorded(tmp_path, ODD[odd]), {"minimize": minimize, "cut_off_rate": 0.0, **other})
    given["deployments"] = {name: given["deployments"][name] for name in deployments}
    given["arms"] = {name: arm for name, arm in given["arms"].items() if arm["deployment"] in deployments}
    given["search"] = {"bands": 2, **({"replicas": given["search"]["replicas"]} if "pool" in deployments else {})}
    plan = ttc.optimize(of(tmp_path, given))
    assert plan.status == "met"
    assert plan.predicted.accuracy is None
    summary = ttc.simulate(plan.scenario).summary()
    assert promises(summary) == promises(plan.predicted)
    # Whatever is printed beside it is no better.
    name = "cost_usd_per_request" if minimize == "cost" else minimize
    for one in plan.baselines.values():
        assert promises(one)["latency_p95_s"].value > 15.0 or promises(one)[name].value >= promises(summary)[name].value


@pytest.mark.parametrize(
    "workload",
    [
        {
            "arrivals": {"process": "poisson", "rate_per_s": 2.0},
            "lengths": {"prompt_tokens": 80, "output_tokens": {"median": 100, "p95": 400}, "reasoning_share": 0.5},
        },
        {"arrivals": {"process": "clients", "traffic": "servegen-r1", "rate_per_s": 1.0}},
        {
            "arrivals": {
                "process": "piecewise",
                "steps": [{"duration_s": 30, "rate_per_s": 2.0}, {"duration_s": 3600, "rate_per_s": 0.0}],
            },
            "lengths": {"prompt_tokens": 80, "visible_tokens": 30, "reasoning_tokens": 20},
        },
    ],
    ids=["law", "clients", "empty hour"],
)
def test_drawn_traffic_is_planned_within_its_intervals(workload: dict[str, Any], tmp_path: Path) -> None:
    given = raw({**workload, "requests": 80}, {"minimize": "cost", "latency_p95_s": 120.0, "cut_off_rate": 0.1})
    given["search"] |= {"scores": []}
    plan = ttc.optimize(of(tmp_path, given))
    assert plan.status == "met"
    promised, came = promises(plan.predicted), promises(ttc.simulate(plan.scenario, replications=4).summary())
    for name in ("cost_usd_per_request", "cut_off_rate", "latency_p50_s"):
        assert promised[name].low <= came[name].high, name
        assert came[name].low <= promised[name].high, name


def test_what_a_pool_cannot_take_goes_elsewhere_where_that_is_cheapest(tmp_path: Path) -> None:
    """A pool is cheap while it is full, and bursts are too much for it: no static choice is as cheap."""
    bursts = [(60.0 * (k // 12) + 0.01 * (k % 12), 60, 100) for k in range(60)]
    steady = [(2.0 * k + 0.5, 60, 100) for k in range(150)]
    given = raw(recorded(tmp_path, sorted(bursts + steady)), {"minimize": "cost", "latency_p95_s": 2.2})
    given["search"] = {"replicas": {"pool": [1, 2, 3]}}
    given["deployments"] = {
        "api": {**API, "price": {"input_usd_per_mtok": 20.0, "output_usd_per_mtok": 80.0}},
        "pool": {**POOL, "max_num_seqs": 4},
    }
    plan = ttc.optimize(of(tmp_path, given))
    assert plan.status == "met"
    assert str(plan.scenario.policy).startswith("Overflow(arms=['own', 'hosted']")
    assert 0 < plan.predicted.per_arm["hosted"].share < plan.predicted.per_arm["own"].share
    alone = plan.alternatives["one arm"].predicted.cost_usd_per_request.value
    assert plan.predicted.cost_usd_per_request.value < alone


@pytest.mark.parametrize(
    ("targets", "says"),
    [
        (
            {"minimize": "cost", "accuracy": 0.7},
            r"targets.accuracy: got 0.7; .*nothing is known of accuracy without problems",
        ),
        (
            {"maximize": "accuracy"},
            r"targets.maximize: got 'accuracy'; .*nothing is known of accuracy without problems",
        ),
        ({"minimize": "cost"}, r"targets.cut_off_rate: got None; .*the lowest cap always wins"),
        ({"minimize": "latency_p95_s", "latency_p95_s": 3.0, "cut_off_rate": 0.1}, r"targets.latency_p95_s: got 3.0"),
        (None, r"targets: got None; expected targets, such as \{minimize: cost, latency_p95_s: 30\}"),
    ],
)
def test_targets_that_nothing_can_be_known_of_are_refused(targets: Any, says: str, tmp_path: Path) -> None:
    given = raw(recorded(tmp_path, STEADY), targets or TARGETS)
    if targets is None:
        del given["targets"]
    with pytest.raises(InputError, match=says):
        ttc.optimize(of(tmp_path, given))


@pytest.mark.parametrize(
    ("deployment", "limit"),
    [
        ("api", {"timeout_s": 9.0}),
        ("api", {"concurrency": 2}),
        ("pool", {"queue_limit": 0}),
        ("pool", {"timeout_s": 5.0}),
    ],
)
def test_requests_are_not_dropped_to_save_money(deployment: str, limit: dict[str, Any], tmp_path: Path) -> None:
    given = raw(recorded(tmp_path, STEADY))
    given["deployments"] = {**given["deployments"], deployment: {**given["deployments"][deployment], **limit}}
    with pytest.raises(InputError, match=f"targets.timeout_rate: .*deployment {deployment} .*{next(iter(limit))}"):
        ttc.optimize(of(tmp_path, given))
    given["targets"] = {**TARGETS, "timeout_rate": 0.0}
    plan = ttc.optimize(of(tmp_path, given))
    assert plan.status == "met"
    assert plan.predicted.unserved_rate.value == 0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"search": {"scores": ["difficulty"]}}, r"search.scores: got 'difficulty'"),
        (
            {"arms": {"hosted": {"deployment": "api", "sources": []}}, "search": {}},
            r"arms: .*an arm that requests may be sent to",
        ),
        (
            {
                "arms": {"hosted": {"deployment": "api", "strategy": "Single(cap=9, on_cap='force_answer')"}},
                "search": {},
            },
            r"arms.hosted.strategy: .*nothing is known of an answer that is forced",
        ),
    ],
)
def test_what_means_nothing_without_problems_is_refused(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=says):
        ttc.optimize(of(tmp_path, raw(recorded(tmp_path, STEADY), **changes)))


def test_a_trace_without_lengths_is_no_traffic_to_plan(tmp_path: Path) -> None:
    workload = recorded(tmp_path, STEADY)
    workload["arrivals"]["columns"] = {"arrival": "t"}
    with pytest.raises(InputError, match=r"got 'no lengths'; expected a trace or clients that carry token lengths"):
        ttc.optimize(of(tmp_path, raw(workload)))


def test_requests_are_told_apart_by_the_length_of_their_prompts(tmp_path: Path) -> None:
    given = raw(recorded(tmp_path, STEADY))
    given["policy"] = repr(Banded([200.0], ["hosted", "own"], "prompt_tokens"))
    records = ttc.simulate(of(tmp_path, given), replications=1).records
    own = records["arm"].to_numpy() == "own"
    assert 0 < own.sum() < len(own)
    assert (own == (records["prompt_tokens"].to_numpy() >= 200)).all()
    words = policy_in_words(Banded([200.0, 17040.0], ["hosted", "own", "hosted"], "prompt_tokens"))
    assert words[1:] == ["prompt tokens 200 to 17,040: own", "prompt tokens 17,040 and above: hosted"]


def test_a_saved_plan_routes_live_requests_by_the_length_of_their_prompts(tmp_path: Path) -> None:
    given = raw(recorded(tmp_path, STEADY), search={})
    plan = ttc.optimize(of(tmp_path, given))
    by_length = repr(Banded([200.0], ["hosted", "own"], "prompt_tokens"))
    other = replace(plan, scenario=plan.scenario.model_copy(update={"policy": by_length}))
    other.save(tmp_path / "plan.yaml")
    live = ttc.load_plan(tmp_path / "plan.yaml").runtime()
    assert [live.route("Hello", prompt_tokens=tokens).arm for tokens in (199, 200)] == ["hosted", "own"]


def test_as_many_answers_are_cut_off_as_may_be_and_the_share_is_kept(tmp_path: Path) -> None:
    rows = [(float(k), 50, o) for k, o in enumerate([10] * 17 + [300] * 2 + [500])]
    given = raw(recorded(tmp_path, rows), deployments={"api": API}, arms={"hosted": {"deployment": "api"}})
    given["search"] = {"caps": {"hosted": [200, 400, None]}}
    price = {"input": 50e-6, "one": 5e-6}
    for asked, cap, tokens in ((0.0, "", 1270), (0.05, "@400", 1170), (0.14, "@400", 1170), (0.15, "@200", 770)):
        given["targets"] = {"minimize": "cost", "cut_off_rate": asked}
        plan = ttc.optimize(of(tmp_path, given))
        assert plan.scenario.policy == f"Always(arm='hosted{cap}')"
        usd = price["input"] + tokens / len(rows) * price["one"]
        assert plan.predicted.cost_usd_per_request.value == pytest.approx(usd)
    assert np.isclose(plan.predicted.cut_off_rate.value, 0.15)  # type: ignore[union-attr]
