"""Plans for several worlds: what a plan is judged by, what is asked for and what is refused, and what is told."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

import ttc_sim as ttc
from tests.test_optimizer import gateway
from tests.test_optimum import asking, at, pool, small
from tests.test_robust_optimum import several_of
from ttc_sim.base.draws import uniforms
from ttc_sim.base.errors import InputError
from ttc_sim.cli import app
from ttc_sim.optimizer.plan import Plan, load_plan
from ttc_sim.optimizer.planning import choose_for, plan_model
from ttc_sim.optimizer.robust import plan_for_worlds, read_worlds
from ttc_sim.optimizer.robust.judging import Over, SimulatedInWorlds
from ttc_sim.optimizer.robust.ready import auroc_of
from ttc_sim.policies import Always
from ttc_sim.scenario import scenario_from_dict
from ttc_sim.simulation.model import Model, load_model
from ttc_sim.strategies import BestOfN

DEAR = {"dear": {"deployments.mid.price.output_usd_per_mtok": "3x"}}
LONG = {"long": {"ready.lengths": "1.5x"}}


def few(**targets: Any) -> Model:
    """Three arms on endpoints, on a few hundred problems."""
    raw = gateway(replications=2, targets={"confidence": 0.5, "minimize": "cost", "accuracy": 0.5, **targets})
    raw["workload"]["requests"] = 200
    whole = load_model(scenario_from_dict(raw))
    assert whole.population is not None
    keep = np.zeros(len(whole.population), dtype=np.bool_)
    keep[np.argsort(uniforms(1, "few", len(keep))[:, 0])[:300]] = True
    return load_model(whole.scenario, whole.population.restricted(keep))


def robust(model: Model, worlds: object, over: str | float | None = None) -> Plan:
    given = worlds if over is None else {"worlds": worlds, "over": over}
    return plan_for_worlds(model, read_worlds(given, model.scenario.path))


# ------------------------------------------------------------------------------------------ what a plan is judged by


def seen(*ranks: tuple[float, float]) -> list[Any]:
    return [SimpleNamespace(rank=lambda _, rank=rank: (*rank, 0.0)) for rank in ranks]


@pytest.mark.parametrize(
    ("weights", "share", "ranks", "counted", "rank"),
    [
        ((1, 1, 1), 1.0, [(0.0, 1.0), (0.2, 0.5), (0.0, 3.0)], [0, 1, 2], (0.2, 3.0)),
        ((1, 1, 1), 0.6, [(0.0, 1.0), (0.2, 0.5), (0.0, 3.0)], [0, 2], (0.0, 3.0)),
        ((1, 1, 1), 0.3, [(0.0, 1.0), (0.2, 0.5), (0.0, 3.0)], [0], (0.0, 1.0)),
        ((0, 1, 1), 1.0, [(0.9, 9.0), (0.0, 0.5), (0.0, 3.0)], [1, 2], (0.0, 3.0)),  # shown, and no more
        ((1, 3, 1), 0.6, [(0.0, 1.0), (0.0, 5.0), (0.0, 3.0)], [0, 1, 2], (0.0, 5.0)),  # 0.4 without the heavy one
        ((0.1, 0.2, 0.7), 0.3, [(0.0, 1.0), (0.0, 2.0), (0.0, 3.0)], [0, 1], (0.0, 2.0)),  # 0.1 + 0.2 is 0.3
    ],
)
def test_a_plan_is_judged_by_the_worst_of_the_worlds_that_count(
    weights: tuple[float, ...],
    share: float,
    ranks: list[tuple[float, float]],
    counted: list[int],
    rank: tuple[float, float],
) -> None:
    over = Over(("a", "b", "c"), tuple(map(float, weights)), share)
    parts = seen(*ranks)
    one: Any = SimpleNamespace(parts=parts, over=over)
    one.counted = lambda targets: SimulatedInWorlds.counted(one, targets)
    targets: Any = None
    assert one.counted(targets) == counted
    assert SimulatedInWorlds.rank(one, targets)[:2] == rank


@pytest.mark.parametrize("number", range(40))
def test_more_worlds_are_never_better_and_a_greater_share_neither(number: int) -> None:
    """Of one and the same plan, whatever it comes to in each."""
    u = uniforms(number, "ranks", 6, 3)
    ranks = [(max(0.0, float(a) - 0.6), float(b), 0.0) for a, b, _ in u]
    weights = [float(c) for *_, c in u]
    parts = [SimpleNamespace(rank=lambda _, rank=rank: rank) for rank in ranks]

    def judged(k: int, share: float) -> tuple[float, float, float]:
        one: Any = SimpleNamespace(parts=parts[:k], over=Over(("w",) * k, tuple(weights[:k]), share))
        one.counted = lambda targets: SimulatedInWorlds.counted(one, targets)
        return SimulatedInWorlds.rank(one, None)  # type: ignore[arg-type]

    for k in range(1, 6):
        for mine, more in zip(judged(k, 1.0)[:2], judged(k + 1, 1.0)[:2], strict=True):
            assert mine <= more
    misses = [judged(6, share)[0] for share in (0.2, 0.5, 0.8, 1.0)]
    assert misses == sorted(misses)


# ------------------------------------------------------------------------------------------------------------- plans


def test_the_scenario_alone_gives_the_plain_plan() -> None:
    model = few()
    plan, plain = robust(model, ["base"]), plan_model(model)
    assert plan.scenario.policy == plain.scenario.policy
    assert repr(plan.predicted.cost_usd_per_request) == repr(plain.predicted.cost_usd_per_request)
    assert repr(plan.checks) == repr(plain.checks)
    assert plan.robust is not None
    assert plan.robust.same_as_plain
    assert plan.robust.cost_usd_per_request.value == 0
    assert [one.name for one in plan.robust.worlds] == ["base"]


MOST = {"minimize": None, "accuracy": None, "maximize": "accuracy", "cost_usd_per_request": 0.002}


@pytest.mark.parametrize("targets", [{"latency_p95_s": 22.0}, MOST])
def test_the_worst_case_is_no_worse_than_the_plain_plans(targets: dict[str, Any]) -> None:
    told = robust(few(**targets), {**DEAR, **LONG}).robust
    assert told is not None
    sign = -1 if told.objective == "accuracy" else 1
    misses = [max(check.miss for one in told.worlds for check in getattr(one, who).checks) for who in ("plan", "plain")]
    assert (misses[0], sign * told.worst) <= (misses[1], sign * told.worst_plain)


def test_another_world_never_makes_the_worst_case_better() -> None:
    """By the best of any kind: the simplest is the plan as long as what another gains is no more than noise."""
    model = few(latency_p95_s=22.0)
    ranks = []
    for worlds in (["base"], DEAR, {**DEAR, **LONG}):
        several = several_of(model, worlds)
        ranks.append(min(one.verified.rank(several.targets)[:2] for one in choose_for(several).found.values()))
    for (miss, worst), (miss_of_more, worst_of_more) in pairwise(ranks):
        assert miss <= miss_of_more
        assert miss_of_more > 0 or worst <= 1.005 * worst_of_more  # proposers leave a thousandth


def test_figures_of_a_world_are_those_of_the_scenario_changed_by_hand() -> None:
    """Replicas, beside brute force: as many as the busiest world takes, and no more."""
    model = asking(small(), minimize="cost", accuracy=0.01, latency_p95_s=14.0)
    plan = robust(model, {"busy": {"workload.arrivals.rate_per_s": 7.0}})
    told = plan.robust
    assert told is not None
    raw = {**model.scenario.model_dump(mode="python", exclude={"path"})}
    raw["workload"]["arrivals"]["rate_per_s"] = 7.0
    busy = load_model(scenario_from_dict(raw), model.population)

    def p95_s(where: Model, count: int) -> float:
        return at(where, Always("a"), p=count).latency_s["p95"].value

    sizes = [1, 2, 3, 4, 5, 6, 8, 12]
    fewest = min(count for count in sizes if max(p95_s(model, count), p95_s(busy, count)) <= 14.0)
    assert plan.status == "met"
    assert plan.predicted.replicas == {"p": fewest}
    assert told.worlds[1].plan.summary.latency_s["p95"].value == pytest.approx(p95_s(busy, fewest))
    assert told.worlds[0].plan.summary.latency_s["p95"].value == pytest.approx(p95_s(model, fewest))
    assert told.binding["latency_p95_s"] == "busy"
    assert told.plain_breaks == ("busy",)
    # Pools cost most for each request where the fewest come.
    assert told.decides == "base"
    usd = {one.name: one.plan.summary.cost_usd_per_request.value for one in told.worlds}
    assert told.worst == usd["base"] > usd["busy"]
    assert plan.predicted.cost_usd_per_request.value == usd["base"]


def test_of_a_share_of_the_worlds_the_dearest_may_be_left() -> None:
    model = asking(small(), minimize="cost", accuracy=0.01, latency_p95_s=14.0)
    worlds = {"busy": {"workload.arrivals.rate_per_s": 7.0}, "slack": {"workload.arrivals.rate_per_s": 3.5}}
    every, most = robust(model, worlds), robust(model, worlds, 0.6)
    assert every.robust is not None
    assert most.robust is not None
    assert every.robust.holds == 1.0
    assert 0.6 <= most.robust.holds < 1.0
    assert most.status == "met"
    assert [one.name for one in most.robust.worlds if not one.counted] == ["busy"]
    assert most.robust.worst < every.robust.worst
    assert most.predicted.replicas["p"] < every.predicted.replicas["p"]
    heavy = {**worlds, "busy": {**worlds["busy"], "weight": 10}}
    assert robust(model, heavy, 0.6).predicted.replicas == every.predicted.replicas


def test_a_world_without_a_weight_is_shown_and_need_not_hold() -> None:
    model = asking(small(), minimize="cost", accuracy=0.01, latency_p95_s=14.0)
    plan = robust(model, {"busy": {"workload.arrivals.rate_per_s": 7.0, "weight": 0}})
    assert plan.status == "met"
    assert plan.robust is not None
    assert plan.predicted.replicas == plan_model(model).predicted.replicas
    assert plan.robust.plain_breaks == ("busy",)
    assert plan.robust.holds == 1.0


def test_a_plan_reads_back_and_plans_again_to_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "longer.yaml").write_text("ready.lengths: 1.5x\n")
    targets = {
        "confidence": 0.5,
        "minimize": "cost",
        "accuracy": 0.5,
        "robust": {"worlds": [{"name": "longer", "file": "longer.yaml", "weight": 2}, "slow"], "over": 0.7},
    }
    raw = gateway(replications=2, targets=targets)
    raw["workload"]["requests"] = 200
    file = tmp_path / "s.yaml"
    file.write_text(yaml.safe_dump(raw))
    for name in ("one", "two"):
        ttc.optimize(file).save(tmp_path / f"{name}.yaml")
    assert (tmp_path / "one.yaml").read_bytes() == (tmp_path / "two.yaml").read_bytes()
    saved = load_plan(tmp_path / "one.yaml")
    told = yaml.safe_load((tmp_path / "one.yaml").read_text())["robust"]
    assert [(one["name"], one["weight"]) for one in told["worlds"]] == [("base", 1.0), ("longer", 2.0), ("slow", 1.0)]
    assert saved.scenario.targets is not None
    assert saved.scenario.targets.robust is not None
    assert saved.scenario.targets.robust.over == 0.7
    assert ttc.simulate(saved.scenario, replications=1, requests=50).summary().accuracy is not None


def test_traffic_without_problems_is_planned_for_in_several_worlds() -> None:
    raw: dict[str, Any] = {
        "name": "plain",
        "replications": 2,
        "workload": {
            "arrivals": {"process": "poisson", "rate_per_s": 2.0},
            "requests": 150,
            "lengths": {"prompt_tokens": 300, "output_tokens": {"median": 300, "p95": 900}},
        },
        "deployments": {"p": pool(2.0)},
        "arms": {"own": {"deployment": "p"}},
        "search": {"caps": {"own": [1500, None]}, "replicas": {"p": [1, 2, 3, 4, 6]}},
        "targets": {"minimize": "cost", "latency_p95_s": 19, "cut_off_rate": 0.05, "confidence": 0.5},
    }
    model = load_model(scenario_from_dict(raw))
    plain, plan = plan_model(model), robust(model, {"long": {"ready.lengths": "1.5x"}})
    assert plan.robust is not None
    assert plan.status == "met"
    base, long = plan.robust.worlds
    assert (
        long.plan.summary.tokens_per_request["output"].value
        > 1.3 * base.plan.summary.tokens_per_request["output"].value
    )
    assert not long.plain.holds
    assert long.plan.holds
    assert plan.predicted.replicas["p"] > plain.predicted.replicas["p"]
    assert plan.robust.accuracy is None


# ---------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("worlds", "expected"),
    [
        ([], r"worlds: got \[\]; expected at least 1"),
        ({}, r"worlds: got \[\]; expected at least 1"),
        (["busy", "busy"], r"worlds\.1\.name: got 'busy'; expected a name of its own"),
        ("bussy", r"--robust: world: got 'bussy'; expected 'busy' \(nearest of"),
        ("nowhere.yaml", r"nowhere\.yaml: file: .*expected a file of worlds"),
        (3, r"optimize: robust: got 3; expected True"),
        ({"x": {"workload.arivals.rate_per_s": 2.0}}, r"world x: workload\.arivals\.rate_per_s: .*expected 'arrivals'"),
        ({"x": {"deployments.mid.price.output_usd_per_mtok": -1}}, r"world x: deployments\.mid\.price\..*: got -1; expected"),
        ({"x": {"policy": "Always('mistral')"}}, r"world x: policy: got .*one decision"),
        ({"x": {"targets.accuracy": 0.1}}, r"world x: targets\.accuracy: got 0\.1; expected .*same targets"),
        ({"x": {"ready.cap": 100}}, r"world x: ready\.cap: got 100; expected .*one decision"),
        ({"x": {"arms.claude.strategy": "Single(cap=9)"}}, r"world x: arms\.claude\.strategy: got .*one decision"),
        ({"x": {"search.bands": 9}}, r"world x: search\.bands: got 9; expected"),
        ({"x": {"seed": 9}}, r"world x: seed: got 9; expected"),
        ({"x": {"workload.requests": 9}}, r"world x: workload\.requests: got 9; expected"),
        ({"x": {"workload.arrivals.rate_per_s": 2.0}}, r"world x: workload\.arrivals\..*: got 2\.0; expected another value"),
        ({"x": {"arms.new": {"deployment": "mid", "profile": "reasoning-gym/llama-4-maverick"}}}, r"world x: arms: .*one decision"),
        ({"misjudged": {}}, r"world: got 'misjudged'; expected a world that has something to change"),
        ({"x": {}}, r"world: got 'x'; expected one of busy"),
        ({"base": {"seed": 2}}, r"worlds\.0\.name: got 'base'; expected another name"),
        ({"worlds": ["busy"], "over": 0}, r"over: got 0; expected worst, or the share"),
        ({"worlds": ["busy"], "over": 1.5}, r"over: got 1\.5; expected worst, or the share"),
        ({"worlds": ["busy"], "over": "best"}, r"over: got 'best'; expected worst, or the share"),
        ({"worlds": [{"name": "busy", "weight": -1}]}, r"weight: got -1"),
        ({"worlds": [{"name": "busy", "weight": 0}, {"name": "base", "weight": 0}]}, r"worlds: .*a weight above 0"),
        ({"worlds": [{"name": "b", "sets": {}}]}, r"'set'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_a_line(worlds: object, expected: str) -> None:
    scenario = scenario_from_dict(gateway())
    with pytest.raises(InputError, match=expected) as found:
        ttc.optimize(scenario, robust=worlds)  # type: ignore[arg-type]
    assert "\n" not in str(found.value)


def test_a_share_without_worlds_and_worlds_without_an_objective_are_refused() -> None:
    with pytest.raises(InputError, match=r"optimize: over: got 0\.9; expected worlds beside it"):
        ttc.optimize(scenario_from_dict(gateway()), over=0.9)
    with pytest.raises(InputError, match=r"targets\.robust: .*'minimize' or 'maximize' beside it"):
        scenario_from_dict(gateway(targets={"latency_p95_s": 20, "robust": {"worlds": ["busy"]}}))
    with pytest.raises(InputError, match=r"targets\.robust\.over: got 2; expected worst, or the share"):
        scenario_from_dict(
            gateway(targets={"minimize": "cost", "accuracy": 0.5, "robust": {"worlds": ["busy"], "over": 2}})
        )


def test_the_line_of_a_wrong_value_is_named(tmp_path: Path) -> None:
    worlds = tmp_path / "worlds.yaml"
    worlds.write_text(
        "worlds:\n- {name: one, set: {ready.lengths: 2x}}\n- name: two\n  set:\n    ready.traffic: 2x\n"
        "    deployments.mid.price.output_usd_per_mtok: free\n"
    )
    scenario = scenario_from_dict(gateway())
    with pytest.raises(InputError, match=r"worlds\.yaml: line 6: deployments\.mid.*: got 'free'; expected a number"):
        ttc.optimize(scenario, robust=worlds)
    raw = gateway()
    raw["targets"]["robust"] = {
        "worlds": [{"name": "two", "set": {"deployments.mid.price.output_usd_per_mtok": "free"}}]
    }
    file = tmp_path / "s.yaml"
    file.write_text(yaml.safe_dump(raw))
    line = next(k for k, one in enumerate(file.read_text().splitlines(), 1) if "free" in one)
    with pytest.raises(InputError, match=rf"s\.yaml: line {line}: deployments\.mid.*: got 'free'"):
        ttc.optimize(file)
    byname = tmp_path / "byname.yaml"
    byname.write_text("two:\n  ready.traffic: 2x\n  policy: Always('mid')\n")
    with pytest.raises(InputError, match=r"byname\.yaml: line 3: policy: got"):
        ttc.optimize(scenario, robust=byname)


# ------------------------------------------------------------------------------------------------------- command line


def test_the_command_line_tells_world_by_world(tmp_path: Path) -> None:
    raw = gateway(replications=2)
    raw["workload"]["requests"] = 150
    raw["targets"] = {"minimize": "cost", "accuracy": 0.5, "confidence": 0.5}
    file, out = tmp_path / "s.yaml", tmp_path / "p.json"
    file.write_text(yaml.safe_dump(raw))
    said = CliRunner().invoke(app, ["optimize", str(file), "--robust", "--json", str(out)])
    assert said.exit_code in (0, 2), said.output
    told = json.loads(out.read_text())["robust"]
    assert [one["name"] for one in told["worlds"]] == ["base", "busy", "long", "dear", "slow", "misrouted"]
    assert told["over"] == "worst"
    assert any("misjudged was left out" in note for note in told["notes"])
    text = re.sub(r"\s+", " ", said.output)
    assert "Over all worlds" in text
    assert "1.5x the requests" in text
    assert re.search(r"planning for 6 worlds: 0 of \d+ steps", text)
    wrong = CliRunner().invoke(app, ["optimize", str(file), "--robust", "busy", "--over", "2"])
    assert wrong.exit_code != 0


def test_ready_made_worlds_change_what_they_say() -> None:
    assert auroc_of(BestOfN(4, auroc=0.8)) == 0.8
    rates = BestOfN(4, tpr=0.9, fpr=0.1)
    told = auroc_of(rates)
    assert told is not None
    assert told == pytest.approx(0.9651, abs=1e-3)  # d' = 2 x 1.2816
