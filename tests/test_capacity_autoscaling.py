"""Autoscaling beside fixed numbers: the choice beside exhaustive simulation, savings by hand, and what one line says is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

import ttc_sim as ttc
from tests.test_capacity import of, plain, pool
from ttc_sim.base.errors import InputError
from ttc_sim.cli import app
from ttc_sim.engine.work import COMPLETED
from ttc_sim.optimizer.capacity.hourly import schedule_of
from ttc_sim.optimizer.capacity.result import Capacity
from ttc_sim.optimizer.capacity.rules import has_more, with_fewer
from ttc_sim.optimizer.capacity.sizing import capacity
from ttc_sim.optimizer.capacity.trying import Trials, target_holds
from ttc_sim.optimizer.plan import load_plan
from ttc_sim.scenario import Autoscaling, GpuPool, Scenario
from ttc_sim.simulation.model import load_model
from ttc_sim.simulation.result import simulate

RULES: list[dict[str, Any]] = [{"target_concurrency": [3, 6], "minimum": [1, 2], "maximum": 5}, {"schedule": "hourly"}]
NIGHT_AND_DAY = (0.4, 0.4, 6.0, 0.4)


def day(rates: tuple[float, ...] = NIGHT_AND_DAY, **pool_search: Any) -> dict[str, Any]:
    """Hours of different rates; a replica is busy with about 3 requests a second."""
    steps = [{"duration_s": 3600, "rate_per_s": rate} for rate in rates]
    searched = {"replicas": {"from": 1, "to": 6}, "start_up": {"seconds": 60}, "autoscaling": RULES, **pool_search}
    workload = {**plain()["workload"], "arrivals": {"process": "piecewise", "steps": steps}}
    del workload["requests"]
    return plain(
        replications=1,
        workload={**workload, "duration": f"{len(rates)} h"},
        search={"pools": {"pool": searched}},
        targets={"latency_p95_s": 6.0, "every_hour": True},
    )


def summary_of(scenario: Scenario, served: GpuPool) -> tuple[float, bool]:
    """Dollars a day as provided, and whether ``simulate`` says that the targets hold."""
    there = scenario.model_copy(update={"deployments": {"pool": served}, "policy": "Always('one')"})
    summary = simulate(there).summary()
    assert scenario.targets is not None
    held = all(
        (figure := summary.quantity(one.name)) is not None and target_holds(one, figure.value)
        for one in scenario.targets.asked()
    )
    return summary.provisioned["pool"].replicas * served.hourly_usd * 24, held


def scaled_pool(scenario: Scenario, scaled: dict[str, Any], replicas: int) -> GpuPool:
    raw = scenario.deployments["pool"].model_dump(exclude={"autoscaling", "start_up"})
    searched = scenario.search.pools["pool"]
    assert searched.start_up is not None
    return GpuPool(**{**raw, "replicas": replicas, "autoscaling": Autoscaling(**scaled), "start_up": searched.start_up})


# ------------------------------------------------------------------------------------------------- beside exhaustive simulation


@pytest.mark.parametrize(
    ("rates", "rules", "targets"),
    [
        ((0.5, 7.0, 2.0), [{"target_concurrency": [2, 4, 8], "minimum": [1, 3], "maximum": 5}], {"latency_p95_s": 6.0}),
        (
            (1.0, 6.0, 1.0),
            [
                {"target_queue": [1, 4], "minimum": 1, "maximum": [2, 4]},
                {"target_utilisation": [0.5, 0.8], "minimum": [1, 2], "maximum": 4, "every_s": 30},
            ],
            {"ttft_p90_s": 3.0, "every_hour": True},
        ),
        (
            (2.0, 0.2, 9.0),
            [
                {"target_ttft_s": [0.3, 1.0], "minimum": [1, 2], "maximum": 4},
                {"target_concurrency": 6, "minimum": 1, "maximum": 4},
            ],
            {"goodput": 0.93, "slo": {"latency_s": 8.0}},
        ),
    ],
)
def test_rules_equal_exhaustive_simulation(rates: tuple[float, ...], rules: list[Any], targets: dict[str, Any]) -> None:
    scenario = of({**day(rates, autoscaling=rules), "targets": targets})
    found = capacity(scenario, workers=1)
    saving = found.autoscaling
    assert saving is not None
    fixed = round(saving.fixed.replicas["pool"])
    every: dict[str, float] = {}
    for one in saving.candidates:
        scaled = one.autoscaling.model_dump(exclude_none=True)
        usd, held = summary_of(scenario, scaled_pool(scenario, scaled, one.replicas))
        assert one.least_usd_per_day <= usd
        if one.meets is not None:
            assert one.meets == held
            assert not held or one.usd_per_day == pytest.approx(usd)
        if held:
            every[json.dumps(scaled)] = usd
    cheapest = min(every, key=lambda key: every[key], default=None)
    if cheapest is None or every[cheapest] >= fixed * 48.0:
        assert not saving.chosen
        assert found.pools["pool"].autoscaling is None
    elif found.pools["pool"].autoscaling is None or not saving.chosen:
        pytest.fail("something is cheaper than the fixed number")
    else:
        chosen = json.dumps(found.pools["pool"].autoscaling.model_dump(exclude_none=True))
        # Fresh runs may refute the cheapest.
        assert chosen == cheapest or found.status == "unknown"
        assert every[chosen] < fixed * 48.0


def test_an_hourly_schedule_equals_exhaustive_simulation() -> None:
    """Of every schedule of three hours, with start-ups and all, the cheapest that holds."""
    scenario = of(day((0.4, 6.0, 2.5), autoscaling=[{"schedule": "hourly"}]))
    found = capacity(scenario, workers=1)
    saving = found.autoscaling
    assert saving is not None
    perfect = saving.perfect["pool"]
    fixed = perfect.fixed
    best: dict[tuple[int, ...], float] = {}
    for a in range(1, fixed + 1):
        for b in range(1, fixed + 1):
            for c in range(1, fixed + 1):
                if a + b + c > sum(perfect.replicas[:3]):
                    continue
                counts = (a, b, c, *perfect.replicas[3:])
                scaled = schedule_of(np.array(counts), 60.0).model_dump(exclude_none=True)
                usd, held = summary_of(scenario, scaled_pool(scenario, scaled, a))
                if held:
                    best[counts[:3]] = usd
    assert min(sum(one) for one in best) == sum(perfect.replicas[:3])
    assert perfect.replicas[:3] in best


# -------------------------------------------------------------------------------------------------------------------- by hand


def by_hand(rates: tuple[float, ...], **pool_search: Any) -> dict[str, Any]:
    """Ten prompt and a hundred generated tokens: a replica answers 8 / (100 * 0.024 s), 3.3 a second, an idle one in 2.1 s."""
    raw = day(rates, **pool_search)
    raw["workload"]["lengths"] = {"prompt_tokens": 10, "output_tokens": 100}
    return raw


def test_a_night_saves_its_hours() -> None:
    """Two replicas by day and one by night: 6 of 8 hours. The second is started 60 s before it is needed, and drains in seconds.

    Nothing is known of the hours that no run comes to: they have two, and the second is started again 60 s before the run's end.
    """
    found = capacity(of(by_hand((0.4, 5.0, 5.0, 0.4), autoscaling=[{"schedule": "hourly"}])))
    saving = found.autoscaling
    assert saving is not None
    assert saving.chosen
    perfect = saving.perfect["pool"]
    assert (perfect.replicas[:4], perfect.fixed, perfect.mean) == ((1, 2, 2, 1), 2, 1.5)
    assert (perfect.saves_share, perfect.saves_usd_per_day) == (0.25, 24.0)
    scaled = found.pools["pool"].autoscaling
    assert scaled is not None
    assert scaled.schedule is not None
    assert [(one.at, one.replicas) for one in scaled.schedule][:3] == [("00:00", 1), ("00:59", 2), ("03:00", 1)]
    assert [(one.at, one.replicas) for one in scaled.schedule][3:] == [("03:59", 2)]
    seconds = found.pools["pool"].provisioned_gpu_hours * 3600
    assert 6 * 3600 + 120 <= seconds <= 6 * 3600 + 120 + 5
    assert saving.saves_usd_per_day == pytest.approx(96.0 - seconds / 14_400 * 48.0)
    assert found.usd_per_day == pytest.approx(seconds / 14_400 * 48.0)
    assert (saving.fixed.provisioned_gpu_hours, saving.fixed.usd_per_day) == (8.0, 96.0)
    assert found.pools["pool"].busy_gpu_hours < seconds / 3600
    by_hour = [row["pools"]["pool"]["replicas"] for row in found.hours[:4]]  # type: ignore[index]
    assert by_hour == pytest.approx([1 + 60 / 3600, 2.0, 2.0, 1 + 60 / 3600], abs=5 / 3600)


def test_a_steady_load_saves_nothing() -> None:
    found = capacity(of(by_hand((5.0, 5.0, 5.0))))
    assert found.pools["pool"].autoscaling is None
    assert found.pools["pool"].replicas == 2
    saving = found.autoscaling
    assert saving is not None
    assert (saving.chosen, saving.saves_usd_per_day, saving.saves_share) == (False, 0.0, 0.0)
    assert saving.perfect["pool"].replicas[:3] == (2, 2, 2)


def test_between_n_and_n_replicas_is_n_replicas() -> None:
    """In its figures and its price; and a fixed number of as many is the simpler of equals."""
    rule = [{"target_concurrency": 5, "minimum": 2, "maximum": 2}]
    scaled = capacity(of(by_hand((0.4, 5.0), autoscaling=rule, replicas=[1, 3])))
    fixed = capacity(of(by_hand((0.4, 5.0), autoscaling=rule, replicas=[1, 2])))
    assert scaled.pools["pool"].autoscaling is not None
    assert fixed.pools["pool"].autoscaling is None
    assert scaled.usd_per_day == fixed.usd_per_day == 96.0
    assert scaled.summary.latency_s == fixed.summary.latency_s
    assert scaled.summary.cost_usd_per_request == fixed.summary.cost_usd_per_request


def test_what_takes_long_to_start_comes_too_late() -> None:
    """A rule that looks at load keeps the worst hour if replicas start at once, and misses it if they take ten minutes."""
    rule = [{"target_concurrency": 3, "minimum": 1, "maximum": 3}]
    met = {}
    for seconds in (0, 600):
        found = capacity(of(by_hand((0.4, 5.0, 0.4), autoscaling=rule, start_up={"seconds": seconds})))
        assert found.autoscaling is not None
        met[seconds] = [one.meets for one in found.autoscaling.candidates]
    assert met == {0: [True], 600: [False]}


def plan_with(rules: list[dict[str, Any]], **changes: Any) -> Capacity:
    found = capacity(of({**by_hand((0.4, 5.0, 5.0, 0.4), autoscaling=rules), **changes}))
    assert found.pools["pool"].autoscaling is not None
    return found


def test_headroom_of_a_schedule_has_one_fewer_at_any_time() -> None:
    """Figures are those that simulating the schedule with one fewer gives on the same fresh runs."""
    found = plan_with([{"schedule": "hourly"}])
    room = found.headroom["pool"].fewer[0]
    assert (room.failed, room.replicas) == (1, 1)
    left = with_fewer(found.pools["pool"].autoscaling, 1)  # type: ignore[arg-type]
    assert {one.replicas for one in left.schedule or ()} == {1}
    served = found.scenario.deployments["pool"]
    assert isinstance(served, GpuPool)
    there = found.scenario.model_copy(
        update={"deployments": {"pool": served.model_copy(update={"autoscaling": left, "replicas": 1})}}
    )
    fresh = Trials(load_model(there), found.result.policy, {}, "verify", 1, 1).values(())
    assert room.figures == fresh
    assert room.missed == ("latency_p95_s",)


def test_two_pools() -> None:
    """One has a night, and the other is steady and not searched: only the first autoscales."""
    raw = by_hand((0.4, 5.0, 0.4), autoscaling=[{"schedule": "hourly"}])
    raw |= {
        "deployments": {"pool": pool(), "other": pool()},
        "arms": {"one": {"deployment": "pool"}, "two": {"deployment": "other"}},
    }
    raw["workload"]["lengths"]["prompt_tokens"] = {"median": 100, "p95": 200}
    raw["policy"] = "Banded(edges=[140], arms=['one', 'two'], score='prompt_tokens')"
    found = capacity(of(raw))
    assert found.pools["other"].autoscaling is None
    assert found.autoscaling is not None
    usd = sum(one.usd_per_day for one in found.pools.values())
    assert found.usd_per_day == pytest.approx(usd) == pytest.approx(found.autoscaling.plan.usd_per_day)


def test_a_rule_of_the_pool_itself_is_looked_at_beside_fixed_numbers() -> None:
    raw = by_hand((0.4, 5.0, 0.4))
    raw["search"] = {"pools": {"pool": {"replicas": {"from": 1, "to": 6}}}}
    own = {"target_concurrency": 3, "minimum": 1, "maximum": 3}
    raw["deployments"] = {"pool": pool(autoscaling=own, start_up={"seconds": 0})}
    found = capacity(of(raw))
    assert found.autoscaling is not None
    assert [one.autoscaling.target_concurrency for one in found.autoscaling.candidates] == [3.0]
    assert found.autoscaling.fixed.usd_per_day == 96.0


def test_random_failures_are_those_of_simulate() -> None:
    """Replicas that fail do so in the search as in ``simulate``, run by run."""
    failing = pool(failures={"mtbf_h": 0.3, "mttr_h": 0.2}, start_up={"seconds": 30}, replicas=2)
    raw = {
        **by_hand((4.0,)),
        "deployments": {"pool": failing},
        "replications": 2,
        "targets": {"goodput": 0.5, "slo": {"latency_s": 9.0}},
    }
    scenario = of({**raw, "search": {}})
    trials = Trials(load_model(scenario), ttc.Always("one"), {}, "simulate", 2, 1)
    summary = simulate(scenario, ttc.Always("one")).summary()
    assert summary.goodput is not None
    assert trials.values(())["goodput"] == summary.goodput.value
    assert any((run.result.status != COMPLETED).any() for run in simulate(scenario, ttc.Always("one")).runs)


def test_a_replica_that_fails_need_not_be_there_at_any_hour() -> None:
    """Fixed numbers must have it, and one more for when it fails; a schedule puts another in its place, and has one by night."""
    raw = by_hand((0.4, 5.0, 0.4), autoscaling=[{"schedule": "hourly"}])
    at = [{"replica": 1, "at_s": 5000, "repair_s": 1200}]
    raw["deployments"] = {"pool": pool(replicas=2, failures={"at": at}, start_up={"seconds": 60})}
    found = capacity(of(raw))
    assert found.autoscaling is not None
    assert (found.pools["pool"].replicas, found.autoscaling.perfect["pool"].replicas[:3]) == (3, (1, 2, 1))
    assert found.autoscaling.fixed.replicas["pool"] == 3.0
    easy = capacity(of({**raw, "targets": {"latency_p95_s": 1e5}}))
    assert easy.autoscaling is not None
    assert easy.autoscaling.fixed.replicas["pool"] == 2.0  # number 1 must be there
    assert easy.pools["pool"].autoscaling is not None
    too_few = {"pools": {"pool": {"replicas": [1]}}}
    with pytest.raises(InputError, match=r"failures\.at\.replica: got 1; expected one of at most 1 replicas"):
        capacity(of({**raw, "search": too_few}))


def test_a_schedule_has_more_replicas_ready_on_the_hour() -> None:
    counts = np.array([3, 1, 1, *[2] * 20, 1])
    steps = schedule_of(counts, 90.2).schedule or []
    told = [(one.at, one.replicas) for one in steps]
    assert told == [("00:00", 3), ("01:00", 1), ("02:58:29", 2), ("23:00", 1), ("23:58:29", 3)]
    assert [(one.at, one.replicas) for one in schedule_of(counts, 0.0).schedule or []][-1] == ("23:00", 1)


def test_more_is_more() -> None:
    base = {"target_queue": 4.0, "minimum": 1, "maximum": 9}
    one = Autoscaling(**base)  # type: ignore[arg-type]
    for key, value in {"target_queue": 2.0, "minimum": 2, "maximum": 10}.items():
        other = Autoscaling(**{**base, key: value})  # type: ignore[arg-type]
        assert has_more(other, one)
        assert not has_more(one, other)
    assert not has_more(Autoscaling(target_concurrency=2, minimum=1, maximum=9), one)


# ----------------------------------------------------------------------------------------------------------- the command line


def test_command_writes_a_plan_with_its_autoscaling(tmp_path: Path) -> None:
    """``simulate`` takes it, and ``capacity`` finds the same again."""
    file, plan, figures = tmp_path / "s.yaml", tmp_path / "plan.yaml", tmp_path / "f.json"
    raw = by_hand((0.4, 5.0, 5.0, 0.4))
    raw["search"] = {"replicas": {"pool": [1, 2, 3]}, **raw["search"]}
    del raw["search"]["pools"]["pool"]["replicas"]
    file.write_text(yaml.safe_dump(raw | {"targets": {"goodput": 0.95, "slo": {"latency_s": 6.0}}}))
    done = CliRunner().invoke(app, ["capacity", str(file), "--plan", str(plan), "--json", str(figures)])
    assert done.exit_code == 0, done.output
    said = " ".join(done.output.split())
    assert "Autoscaling saves $" in said
    assert "takes foresight" in said
    found = json.loads(figures.read_text())
    chosen = found["pools"]["pool"]
    assert chosen["autoscaling"]["schedule"][0] == {"at": "00:00", "replicas": 1}
    assert chosen["provisioned_gpu_hours"] > chosen["busy_gpu_hours"] > 0
    assert {"saves_usd_per_day", "saves_share", "goodput_difference", "perfect_hourly_schedule"} <= set(
        found["autoscaling"]
    )
    simulated = CliRunner().invoke(app, ["simulate", str(plan), "--no-baselines"])
    assert simulated.exit_code == 0, simulated.output
    again = capacity(load_plan(plan))
    assert again.pools["pool"].as_json() == chosen
    assert capacity(load_plan(plan), workers=3).as_json() == again.as_json()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"autoscaling": [{"target_concurency": [8]}]}, ["autoscaling.0", "'target_concurrency' (nearest"]),
        ({"autoscaling": [{"target_queue": [8], "minimum": [1, 6], "maximum": 5}]}, ["minimum 6", "at most maximum 5"]),
        ({"autoscaling": [{"target_queue": [], "minimum": 1, "maximum": 5}]}, ["target_queue", "at least 1"]),
        ({"autoscaling": []}, ["autoscaling", "at least 1"]),
        ({"autoscaling": [{"target_queue": [2, 2], "minimum": 1, "maximum": 5}]}, ["target_queue once"]),
        ({"autoscaling": [{"minimum": 1, "maximum": 5}]}, ["exactly one of schedule, target_concurrency", "not none"]),
        ({"autoscaling": [{"target_queue": 2, "minimum": 1}]}, ["minimum and maximum to be given"]),
        ({"autoscaling": [{"schedule": "dayly"}]}, ["schedule", "'hourly'"]),
        ({"autoscaling": [{"schedule": "hourly", "minimum": 4, "maximum": 2}]}, ["minimum 4", "at most maximum 2"]),
        ({"autoscaling": [{"schedule": "hourly", "minimum": [1, 2]}]}, ["one minimum"]),
        ({"autoscaling": [{"schedule": "hourly", "every_s": 5}]}, ["no every_s beside schedule"]),
        ({"autoscaling": [{"schedule": [{"at": "08:00", "replicas": 2}]}]}, ["leaves a gap from 00:00 to 08:00"]),
        ({"start_up": None}, ["search.pools.pool.start_up", "how long"]),
        ({"start_up": {"boot_s": 60, "load_gb_per_s": 2}}, ["weights_gb"]),
        ({"start_up": {"seconds": 2400}}, ["1800 s", "hourly"]),
        ({"autoscaling": None}, ["no start_up without autoscaling"]),
    ],
)
def test_one_line_says_what_is_wrong(changes: dict[str, Any], words: list[str], tmp_path: Path) -> None:
    raw = by_hand((0.4, 5.0))
    searched = {**raw["search"]["pools"]["pool"], **changes}
    raw["search"]["pools"]["pool"] = {key: value for key, value in searched.items() if value is not None}
    file = tmp_path / "s.yaml"
    file.write_text(yaml.safe_dump(raw))
    with pytest.raises(InputError) as error:
        capacity(file)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value), str(error.value)


def test_what_cannot_have_a_schedule_or_saves_nothing_is_said() -> None:
    raw = by_hand((0.4, 5.0))
    idle = {**raw["search"]["pools"]["pool"]}
    raw |= {
        "deployments": {"pool": pool(), "idle": pool()},
        "arms": {"one": {"deployment": "pool"}, "two": {"deployment": "idle"}},
        "policy": "Always('one')",
    }
    with pytest.raises(InputError, match=r"search\.pools\.idle\.autoscaling: .*nothing is sent to idle"):
        capacity(of({**raw, "search": {"pools": {"idle": idle}}}))
    users = {"process": "closed_loop", "users": 20, "think_s": 1.0}
    closed = {**raw["workload"], "arrivals": users, "requests": 200}
    del closed["duration"]
    with pytest.raises(InputError, match=r"autoscaling\.schedule: got 'hourly'; expected another rule"):
        capacity(
            of({**raw, "workload": closed, "targets": {"latency_p95_s": 6.0}, "search": {"pools": {"pool": idle}}})
        )
