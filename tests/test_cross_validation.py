"""Plans made on a part of the problems and carried out on the rest; how problems are dealt out; what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import typer
import yaml
from polars.testing import assert_frame_equal
from typer.testing import CliRunner

import ttc_sim as ttc
from tests.test_optimizer import gateway
from ttc_sim.base.draws import uniforms
from ttc_sim.base.errors import InputError
from ttc_sim.cli import app
from ttc_sim.cli.ending import carry_out
from ttc_sim.optimizer import cross_validating
from ttc_sim.optimizer.folds import deal_out, deal_out_by_source, short_of_clusters
from ttc_sim.optimizer.optimism import FOLDS
from ttc_sim.optimizer.planning import plan_model
from ttc_sim.optimizer.space import load_model_like
from ttc_sim.scenario import scenario_from_dict
from ttc_sim.simulation.drawing import draw
from ttc_sim.simulation.expectations import expect_arms
from ttc_sim.simulation.model import load_model
from ttc_sim.simulation.running import run_once
from ttc_sim.simulation.summary import summarize
from ttc_sim.workload.population import Population

HARD = {"problem_set": "reasoning-gym", "subset": "reasoning-gym-hard", "share": 0.3}


def small(**changes: Any) -> dict[str, Any]:
    """A pool and an API, few requests, a coarse search space."""
    raw = gateway(replications=2, search={"bands": 4, "max_bands": 2, "caps": {"claude": [512, 4096]}}, **changes)
    raw["deployments"]["cheap"] = {
        "kind": "gpu_pool",
        "replicas": 1,
        "usd_per_replica_hour": 2.5,
        "max_num_seqs": 64,
        "max_num_batched_tokens": 2048,
        "step_time": {"base_s": 0.0186, "per_prefill_token_s": 9.5e-5, "per_sequence_s": 5e-5, "per_kv_token_s": 6e-8},
    }
    raw["search"]["replicas"] = {"cheap": [1, 2]}
    raw["arms"].pop("maverick")
    raw["workload"]["requests"] = 200
    return raw


def two_sources() -> dict[str, Any]:
    raw = small()
    raw["workload"]["sources"]["hard"] = HARD
    return raw


@pytest.fixture(scope="module")
def found() -> ttc.CrossValidation:
    return ttc.cross_validate(scenario_from_dict(small()), folds=2)


def test_every_fold_is_what_planning_and_carrying_out_by_hand_give(found: ttc.CrossValidation) -> None:
    scenario = scenario_from_dict(small())
    population = load_model(scenario).population
    assert population is not None
    # With one source, parts are alike in size and dealt out in the order of the draws.
    lots = uniforms(scenario.seed, "cross-validate", int(population.cluster.max()) + 1)[:, 0]
    part = (np.argsort(np.argsort(lots)) % 2)[population.cluster]
    assert [fold.problems for fold in found.folds] == [int((part == k).sum()) for k in range(2)]
    for k, fold in enumerate(found.folds):
        plan = plan_model(load_model(scenario, population.restricted(part != k)))
        assert fold.promised == plan.predicted
        assert fold.status == plan.status
        assert fold.scenario.policy == plan.scenario.policy
        new = load_model_like(load_model(scenario, population.restricted(part == k)), plan.scenario)
        assert new.population is not None
        draws = [draw(new, run, purpose=f"cross-validate/{k}") for run in range(scenario.replications)]
        runs = [run_once(new, plan.policy, one) for one in draws]
        arm = plan.policy.choose(new.population.as_requests(), new.arm_names)
        realized = summarize(new, runs, expected=expect_arms(new).under(arm))
        assert fold.realized == realized
        assert {"accuracy", "cost_usd_per_request", "latency_p50_s", "latency_p95_s", "latency_p99_s"} <= set(
            fold.verdicts
        )
        assert realized.accuracy is not None
        assert plan.predicted.accuracy is not None
        allowed = 1.96 * np.hypot(plan.predicted.accuracy.sd, realized.accuracy.sd)
        inside = abs(realized.accuracy.value - plan.predicted.accuracy.value) <= allowed
        assert fold.verdicts["accuracy"].inside == inside


def test_table_and_json_say_the_same_and_again_the_same(found: ttc.CrossValidation) -> None:
    said = json.loads(json.dumps(found.as_json()))
    first, second = said["folds"]
    assert (first["problems"], first["planned_on"]) == (second["planned_on"], second["problems"])
    rows = found.table.group_by("figure", maintain_order=True).agg(
        pl.col("promised", "realized").mean(), inside_share=pl.col("inside").mean()
    )
    assert {row.pop("figure"): row for row in rows.to_dicts()} == {
        name: pytest.approx(one) for name, one in said["overall"].items()
    }
    for row in found.table.to_dicts():
        figure = said["folds"][row["fold"] - 1]["figures"][row["figure"]]
        assert figure["promised"] == {"value": row["promised"], "low": row["low"], "high": row["high"]}
        assert figure["realized"]["value"] == row["realized"]
        assert figure["inside"] == row["inside"] == (row["low"] <= row["realized"] <= row["high"])
    lines: list[str] = []
    again = ttc.cross_validate(scenario_from_dict(small()), 2, lines.append)
    assert again.as_json() == found.as_json()
    assert all(re.match(r"cross-validating: [0-2] of 2 folds(; |$)", line) for line in lines)


def test_folds_of_few_problems_are_said_to_be_uncertain_of_their_intervals(found: ttc.CrossValidation) -> None:
    raw = small(targets={"minimize": "cost", "accuracy": 0.1})
    raw["workload"]["sources"] = {"contest": {"problem_set": "math", "subset": "aime24"}}
    arms = {"instruct": ("qwen2.5-14b-instruct", "mid"), "thinker": ("sky-t1-32b", "dear")}
    raw["arms"] = {name: {"profile": f"math/{one}", "deployment": at} for name, (one, at) in arms.items()}
    raw["search"] = {"bands": 2, "max_bands": 2}
    few = ttc.cross_validate(scenario_from_dict(raw), folds=4)
    (note,) = few.notes
    assert f"only {min(fold.problems for fold in few.folds)} task types" in note
    assert "contest" in note
    assert few.as_json()["notes"] == [note]
    assert found.notes == ()


def test_an_interruption_leaves_the_folds_that_are_finished(
    found: ttc.CrossValidation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop_in(fold: int) -> Callable[[str], None]:
        def stop(line: str) -> None:
            if line.startswith(f"cross-validating: {fold} of 2 folds; carrying"):
                raise KeyboardInterrupt

        return stop

    with pytest.raises(KeyboardInterrupt) as nothing:
        ttc.cross_validate(scenario_from_dict(small()), 2, stop_in(0))
    assert not isinstance(nothing.value, ttc.Interrupted)
    with pytest.raises(ttc.Interrupted) as left:
        ttc.cross_validate(scenario_from_dict(small()), 2, stop_in(1))
    finished = left.value.finished
    assert_frame_equal(finished.table, found.table.filter(pl.col("fold") == 1))
    assert finished.notes == ("interrupted: only 1 of 2 folds were finished, and are counted here", *found.notes)

    def interrupted(*given: Any) -> None:
        raise left.value

    monkeypatch.setattr(cross_validating, "cross_validate", interrupted)
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(small()))
    words = ["cross-validate", str(tmp_path / "s.yaml"), "--folds", "2", "--json", str(tmp_path / "c.json")]
    assert carry_out(typer.main.get_command(app), words) == 130
    assert capsys.readouterr().err.splitlines()[-1] == (
        "interrupted: 1 of 2 folds are finished; they are printed, and written to the files that were asked for"
    )
    said = json.loads((tmp_path / "c.json").read_text())
    assert (len(said["folds"]), said["notes"]) == (1, list(finished.notes))


def test_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(two_sources()))
    files = ["--json", str(tmp_path / "c.json"), "--table", str(tmp_path / "c.csv")]
    got = CliRunner().invoke(app, ["cross-validate", str(tmp_path / "s.yaml"), "--folds", "2", *files])
    assert got.exit_code == 0, got.output
    said = json.loads((tmp_path / "c.json").read_text())
    assert len(said["folds"]) == 2
    for fold in said["folds"]:
        assert set(fold["policy"]) == {"easy", "hard"}
    table = pl.read_csv(tmp_path / "c.csv")
    assert table["fold"].unique().to_list() == [1, 2]
    assert "Over all folds" in got.output
    for name, figure in said["overall"].items():
        line = next(line for line in reversed(got.output.splitlines()) if name in line)
        assert f"{figure['realized']:.4g}" in line
        assert f"{figure['inside_share']:.0%}" in line


@pytest.mark.parametrize("folds", [1, 0, -2, True, 2.0, "2"])
def test_fewer_than_two_folds_are_refused(folds: Any) -> None:
    with pytest.raises(InputError, match=r"folds: got .* at least 2"):
        ttc.cross_validate(scenario_from_dict(small()), folds)


def test_more_folds_than_task_types_and_a_scenario_without_targets_are_refused(tmp_path: Path) -> None:
    for folds in (39, 77, 10**12):  # of one task type alone nothing would seem uncertain
        with pytest.raises(InputError, match=r"folds: got \d+; .* source easy has 76") as caught:
            ttc.cross_validate(scenario_from_dict(small()), folds)
        assert "\n" not in str(caught.value)
    raw = small()
    raw.pop("targets")
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(raw))
    got = CliRunner().invoke(app, ["cross-validate", str(tmp_path / "s.yaml"), "--json", str(tmp_path / "c.json")])
    assert isinstance(got.exception, InputError)
    assert "targets: got None" in str(got.exception)
    assert not (tmp_path / "c.json").exists()


# ------------------------------------------------------------------------------------------------- dealing out


def problems_of(member: np.ndarray[Any, np.dtype[np.bool_]]) -> Population:
    """Two problems of each cluster for each source that has it."""
    cluster, source = (np.repeat(index, 2).astype(np.int64) for index in np.nonzero(member))
    names = tuple(f"s{k}" for k in range(member.shape[1]))
    population: Any = SimpleNamespace(cluster=cluster, source=source, sources=names)
    return population  # type: ignore[no-any-return]


@pytest.mark.parametrize("seed", range(60))
def test_parts_hold_whole_clusters_and_their_share_of_every_source(seed: int) -> None:
    u = uniforms(seed, "member", 30, 3)
    clusters, folds = 4 + int(u[0, 0] * 26), 2 + int(u[1, 0] * 3)
    member = u[:clusters, 1:] < 0.6
    member[~member.any(axis=1), 0] = True
    population = problems_of(member)
    lots = uniforms(seed, "lots", clusters)[:, 0]
    part = deal_out_by_source(population, folds, lots)
    of_cluster = np.zeros(clusters, dtype=np.int64)
    of_cluster[population.cluster] = part
    assert (part == of_cluster[population.cluster]).all()
    held = np.array([[member[of_cluster == k, s].sum() for k in range(folds)] for s in range(2)])
    for s in range(2):
        # As even as can be, but that a cluster of both sources cannot go to two parts.
        assert held[s].max() - held[s].min() <= 2
        assert held[s].min() >= 1 or member[:, s].sum() < folds
    short = dict(short_of_clusters(population, part, folds, inside=1, outside=2))
    expected = {s for s in range(2) if held[s].min() < 1 or member[:, s].sum() - held[s].max() < 2}
    assert short == {f"s{s}": int(member[:, s].sum()) for s in expected}


def test_a_source_of_one_task_type_cannot_be_planned_and_of_two_always_can() -> None:
    """Nothing of it can be kept from the choice; two that fell into one part ended in a traceback, too."""
    scenario = scenario_from_dict(two_sources())
    population = load_model(scenario).population
    assert population is not None
    easy = population.source == 0
    hard = np.unique(population.cluster[~easy])
    one = population.restricted(easy | (population.cluster == hard[0]))
    with pytest.raises(InputError, match=r"sources\.hard: got 'problems of 1 cluster'"):
        plan_model(load_model(scenario, one))
    for other in hard[1:]:
        two = population.restricted(easy | np.isin(population.cluster, [hard[0], other]))
        part = deal_out(two, FOLDS, uniforms(0, "folds", int(two.cluster.max()) + 1)[:, 0])
        if short_of_clusters(two, part, FOLDS, inside=0, outside=1):
            break
    else:
        pytest.fail("no two task types are dealt into one part: nothing is tested")
    plan = plan_model(load_model(scenario, two))
    assert set(plan.scenario.policy or {}) == {"easy", "hard"}
