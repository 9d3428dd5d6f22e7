"""Frontiers of two objectives: every point beside its own simulation, none beaten, and plans of points."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import ttc_sim as ttc
from tests.test_objectives import endpoints
from tests.test_optimum import asking, small
from tests.test_targets import api, plain
from ttc_sim.base.errors import InputError
from ttc_sim.cli import app
from ttc_sim.optimizer.frontier import Axes
from ttc_sim.optimizer.plan import Plan, load_plan
from ttc_sim.optimizer.planning import plan_model
from ttc_sim.optimizer.space import load_model_like
from ttc_sim.optimizer.validating import carry_out
from ttc_sim.scenario import scenario_from_dict


def not_beaten(plan: Plan) -> None:
    """No point is beaten in both figures by another, the plan or a baseline that keeps the other targets."""
    targets = plan.scenario.targets
    assert targets is not None
    axes = Axes.of(targets)
    points = [axes.losses(point.seen.summary) for point in plan.frontier]
    beside = [one for one in (plan.predicted, *plan.baselines.values()) if axes.keeps_the_rest(one, targets)]
    rivals = [*points, *(axes.losses(one) for one in beside)]
    for mine in points:
        assert mine is not None
        for other in rivals:
            assert other is not None
            assert not (other[0] <= mine[0] and other[1] <= mine[1] and other != mine)
    assert points == sorted(points)  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("axes", "more"),
    [
        (["latency_p95_s", "cost"], {}),
        (["accuracy", "tpot_p90_s"], {}),
        (["goodput", "cost"], {"slo": {"latency_s": 3.0}}),
        (["goodput", "latency_p50_s"], {"slo": {"ttft_s": 0.7}}),
    ],
)
def test_two_objectives_are_traded_between_their_ends(axes: list[str], more: dict[str, Any]) -> None:
    plan = plan_model(endpoints(minimize="cost", accuracy=0.01, frontier=axes, **more))
    not_beaten(plan)
    for point in plan.frontier:
        assert all(figure.low <= figure.value <= figure.high for figure in point.figures.values())
    if "cost" in axes:  # a dear quick endpoint, a cheap slow one, and shares between
        arms = [set(point.seen.summary.per_arm) for point in plan.frontier]
        assert arms[0] == {"quick"}
        assert arms[-1] == {"slow"}
        assert {"quick", "slow"} in arms


def test_a_point_is_what_its_plan_comes_to_and_reads_back(tmp_path: Path) -> None:
    model = asking(small(), minimize="cost", accuracy=0.01, latency_p95_s=60.0, frontier=["latency_p95_s", "cost"])
    plan = plan_model(model)
    not_beaten(plan)
    assert len({point.replicas["p"] for point in plan.frontier}) > 1  # more replicas are faster, and dearer
    for k in (1, len(plan.frontier)):
        one = plan.at(k)
        one.save(tmp_path / "point.yaml")
        saved = load_plan(tmp_path / "point.yaml")
        assert saved.scenario.policy == plan.frontier[k - 1].policy
        assert saved.promised["latency_p95_s"] == plan.frontier[k - 1].figures["latency_p95_s"]
        again, _ = carry_out(load_model_like(model, one.scenario), one.policy, "verify")
        assert again.latency_s["p95"].value == one.predicted.latency_s["p95"].value
    for wrong in (0, len(plan.frontier) + 1, 1.5):
        with pytest.raises(InputError, match="point"):
            plan.at(wrong)  # type: ignore[arg-type]


def test_a_frontier_not_asked_for_is_simulated_too() -> None:
    plan = plan_model(endpoints(minimize="cost", accuracy=0.01))
    not_beaten(plan)
    for said in (point.as_json() for point in plan.frontier):
        assert said["simulated"] is True
        assert set(said["figures"]) == {"accuracy", "cost_usd_per_request"}  # type: ignore[call-overload]


def test_traffic_without_problems_has_a_frontier_and_the_command_takes_a_point(tmp_path: Path) -> None:
    slow, quick = (
        api(),
        api(price={"input_usd_per_mtok": 9.0, "output_usd_per_mtok": 9.0}, per_token={"median_s": 0.002}),
    )
    raw = plain(
        deployments={"d": slow, "q": quick}, arms={"a": {"deployment": "d"}, "b": {"deployment": "q"}}, policy=None
    )
    raw["targets"] = {"minimize": "cost", "latency_p95_s": 60.0, "frontier": ["latency_p95_s", "cost"]}
    plan = ttc.optimize(scenario_from_dict(raw))
    not_beaten(plan)
    assert [set(point.seen.summary.per_arm) for point in (plan.frontier[0], plan.frontier[-1])] == [{"b"}, {"a"}]
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(raw))
    out = tmp_path / "s.json"
    words = [
        "optimize",
        str(tmp_path / "s.yaml"),
        "--point",
        "1",
        "--json",
        str(out),
        "--plan",
        str(tmp_path / "p.yaml"),
    ]
    shown = CliRunner().invoke(app, words, catch_exceptions=False)
    assert shown.exit_code == 0
    assert "Frontier of p95 s and $ / 1k requests" in shown.output
    assert json.loads(out.read_text())["frontier"][0]["policy"] == load_plan(tmp_path / "p.yaml").scenario.policy
    with pytest.raises(InputError, match="accuracy"):
        scenario_from_dict({**raw, "targets": {**raw["targets"], "frontier": ["cost", "accuracy"]}})
