"""Capacity: the plan beside exhaustive simulation, the bound beside every optimum, and what may be chosen, spent and lost."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

import ttc_sim as ttc
from tests.random_scenarios import TIMES, Dice
from tests.random_scenarios import scenario as random_case
from ttc_sim.base.errors import InputError
from ttc_sim.cli import app
from ttc_sim.engine import compiled
from ttc_sim.engine.work import COMPLETED
from ttc_sim.optimizer.capacity.bounds import Bounds, longest_of, needs_of, prices_of, shares_blocks
from ttc_sim.optimizer.capacity.hardware import choices_of
from ttc_sim.optimizer.capacity.sizing import capacity
from ttc_sim.optimizer.capacity.trying import Trials, target_holds
from ttc_sim.optimizer.dropping import may_drop, most_dropped
from ttc_sim.optimizer.plan import load_plan
from ttc_sim.scenario import GpuPool, Scenario, Targets, scenario_from_dict, with_changes
from ttc_sim.serving.pools import pool_table
from ttc_sim.serving.step_time import step_seconds
from ttc_sim.simulation.model import load_model
from ttc_sim.simulation.result import simulate


def step(base_s: float = 0.02, **more: float) -> dict[str, float]:
    return {"base_s": base_s, "per_prefill_token_s": 1e-4, "per_sequence_s": 5e-4, "per_kv_token_s": 0.0, **more}


def pool(**more: Any) -> dict[str, Any]:
    own = {"step_time": step(), "usd_per_replica_hour": 2.0, "max_num_seqs": 8, "max_num_batched_tokens": 256}
    return {"kind": "gpu_pool", "replicas": 1, **own, **more}


def plain(**changes: Any) -> dict[str, Any]:
    """One pool, plain lengths, one arm."""
    return {
        "name": "plain",
        "replications": 2,
        "workload": {
            "arrivals": {"process": "poisson", "rate_per_s": 8.0},
            "requests": 400,
            "lengths": {"prompt_tokens": {"median": 150, "p95": 400}, "output_tokens": {"median": 60, "p95": 200}},
        },
        "deployments": {"pool": pool()},
        "arms": {"one": {"deployment": "pool"}},
        "search": {"pools": {"pool": {"replicas": [1, 2, 3, 4, 5, 6]}}},
        "targets": {"latency_p95_s": 6.0},
        **changes,
    }


def of(raw: dict[str, Any], **changes: Any) -> Scenario:
    return scenario_from_dict({**raw, **changes})


def exhaustive(scenario: Scenario) -> dict[tuple[tuple[str, int], ...], tuple[float, bool]]:
    """Of every choice of hardware and numbers: dollars a day, and whether ``simulate`` says that the targets hold."""
    choices = {
        name: choices_of(scenario, name)[0] for name, item in scenario.deployments.items() if isinstance(item, GpuPool)
    }
    assert scenario.targets is not None
    policy = scenario.policy or f"Always({next(iter(scenario.arms))!r})"
    found = {}
    for kinds in product(*choices.values()):
        for counts in product(*(one.numbers for one in kinds)):
            gpus: dict[str, int] = {}
            pools = {}
            for name, one, n in zip(choices, kinds, counts, strict=True):
                pools[name] = one.pool.model_copy(update={"replicas": n})
                if one.gpu is not None:
                    gpus[one.gpu] = gpus.get(one.gpu, 0) + n * one.tensor_parallel
            if any(gpus.get(gpu, 0) > most for gpu, most in scenario.search.gpus.items()):
                continue
            there = scenario.model_copy(update={"deployments": {**scenario.deployments, **pools}, "policy": policy})
            summary = simulate(there).summary()
            held = True
            for target in scenario.targets.asked():
                figure = summary.quantity(target.name)
                held &= figure is not None and target_holds(target, figure.value)
            usd = sum(24 * item.hourly_usd * item.replicas for item in pools.values())
            found[tuple((one.name, n) for one, n in zip(kinds, counts, strict=True))] = (usd, held)
    return found


def random_scenario(seed: int) -> Scenario:
    """One or two pools, one to three kinds of hardware each, and targets of all kinds."""
    dice = Dice(seed, "apart")
    deployments: dict[str, Any] = {}
    searched: dict[str, Any] = {}
    names = ["a", "b"][: dice.of(1, 1, 2)]
    drops = dice.of(False, False, True)
    for name in names:
        batch = dice.of(4, 8, 32)
        limits = {"max_num_seqs": batch, "max_num_batched_tokens": batch + dice.of(64, 500)}
        options = {}
        for k in range(dice.of(0, 1, 2) if len(names) == 1 else dice.of(0, 1)):
            options[f"other{k}"] = {
                "step_time": step(dice.of(0.008, 0.015, 0.03), per_kv_token_s=dice.of(0.0, 2e-6)),
                "usd_per_replica_hour": dice.of(1.5, 2.6, 3.7),
                "gpu": dice.of("h200_sxm", "b200_sxm"),
            }
        more: dict[str, Any] = {"kv_cache_tokens": dice.of(2400, 4800)} if dice.of(False, False, True) else {}
        if drops:
            more |= {"timeout_s": dice.of(5.0, 20.0)} if dice.of(False, True) else {"queue_limit": dice.of(2, 20)}
        balancer = dice.of("round_robin", "least_outstanding", "least_kv")
        deployments[name] = pool(**limits, **more, load_balancer=balancer)
        searched[name] = {"replicas": {"from": 1, "to": 6 if len(names) == 1 else 4}}
        searched[name] |= {"options": options} if options else {}
    burst = {"process": "piecewise", "steps": [{"duration_s": 20, "rate_per_s": r} for r in (3, 18, 6)]}
    slow = {"process": "piecewise", "steps": [{"duration_s": 3000, "rate_per_s": r} for r in (0.01, 0.1)]}
    targets: dict[str, Any] = dice.of(
        {"latency_p95_s": dice.of(3.0, 5.0, 9.0)},
        {"latency_p50_s": dice.of(2.0, 4.0), "latency_p99_s": 15.0},
        {"ttft_p90_s": dice.of(0.2, 1.0), "tpot_p95_s": dice.of(0.03, 0.05)},
        {"ttft_p95_s": dice.of(0.3, 2.0)},
        {"goodput": dice.of(0.8, 0.95), "slo": dice.of({"latency_s": 6.0}, {"ttft_s": 1.0, "tpot_s": 0.04})},
        {"latency_p90_s": 5.0, "every_hour": True},
    )
    if drops:
        targets |= dice.of({"timeout_rate": 0.02}, {"rejected_rate": 0.05, "timed_out_rate": 0.01})
    arms = {f"arm-{name}": {"deployment": name} for name in names}
    split = "Banded(edges=[150], arms=['arm-a', 'arm-b'], score='prompt_tokens')"
    return of(
        plain(),
        seed=seed,
        workload={
            **plain()["workload"],
            "arrivals": dice.of({"process": "poisson", "rate_per_s": dice.of(5.0, 12.0)}, burst, slow),
            "requests": dice.of(40, 250),
        },
        deployments=deployments,
        arms=arms,
        search={"pools": searched, "gpus": dice.of({}, {"h200_sxm": 3}) if "h200" in str(searched) else {}},
        targets=targets,
        policy=split if len(names) == 2 else "Always('arm-a')",
    )


def check_against_exhaustive(scenario: Scenario) -> bool:
    """The plan is the cheapest of all that hold, and no bound is above the optimum of its hardware. Whether any holds."""
    every = exhaustive(scenario)
    holds = {config: usd for config, (usd, held) in every.items() if held}
    policy = scenario.parsed_policy()
    assert policy is not None
    pools = {n: choices_of(scenario, n)[0] for n, i in scenario.deployments.items() if isinstance(i, GpuPool)}
    trials = Trials(load_model(scenario), policy, pools, "simulate", scenario.replications, 1)
    bounds = Bounds(trials)
    for pool_at, (name, choices) in enumerate(pools.items()):
        for one, bound in zip(choices, bounds.fewest(name, choices), strict=True):
            enough = [config[pool_at][1] for config in holds if config[pool_at][0] == one.name]
            assert bound <= min(enough, default=math.inf), (name, one.name, bound)
    found = capacity(scenario, workers=1)
    chosen = tuple((one.option or name, one.replicas) for name, one in found.pools.items())
    if not holds:
        assert found.status == "not met"
        assert found.binding
        return False
    best = min(holds.values())
    assert found.usd_per_day >= found.lower_bound_usd_per_day - 1e-9
    # Fresh runs may refute what those of the search said; then it is dearer, and says that chance has a part in it.
    assert found.usd_per_day >= best - 1e-9
    if found.usd_per_day > best + 1e-9:
        assert found.status in ("not met", "unknown") or found.near_tie
    else:
        assert chosen in holds
    return True


@pytest.mark.parametrize("seed", range(12))
def test_equals_exhaustive_simulation(seed: int) -> None:
    """One and two pools, several kinds of hardware, budgets, dropped requests, bursts and slow days."""
    check_against_exhaustive(random_scenario(seed))


def test_some_random_scenarios_can_be_met_and_some_bounds_say_something() -> None:
    """Or the comparison above would compare nothing."""
    found = [capacity(random_scenario(seed), workers=1) for seed in (6, 36)]
    assert {one.status == "not met" for one in found} == {True, False}
    assert max(pool.lower_bound for one in found for pool in one.pools.values()) >= 2


# ------------------------------------------------------------------------------------------------------------ known answers

SEVENTY = "meta-llama/Llama-3.1-70B-Instruct"


def questions(target_s: float, **more: Any) -> Scenario:
    """A question-answering gateway on a 70B."""
    served = {"kind": "gpu_pool", "replicas": 1, "model": SEVENTY, "gpu": "h100_sxm", "tensor_parallel": 4, **more}
    return scenario_from_dict(
        {
            "name": "opt-day",
            "workload": {
                "arrivals": {"process": "poisson", "rate_per_s": 20.0},
                "requests": 5000,
                "sources": {"q": {"problem_set": "mmlu-pro"}},
            },
            "deployments": {"pool": served},
            "arms": {"a": {"profile": "mmlu-pro/llama-3.1-70b-instruct", "deployment": "pool"}},
            "search": {"replicas": {"pool": [1, 2, 3, 4, 5, 6, 7, 8, 12, 16]}},
            "targets": {"minimize": "cost", "accuracy": 0.6, "latency_p95_s": target_s},
        }
    )


def p95_by_replicas(limits: Mapping[str, Any]) -> dict[int, float]:
    """Each number of replicas, simulated."""
    found = {}
    for count in (1, 2, 3, 4):
        fixed = with_changes(questions(10.0, **limits), {"deployments.pool.replicas": count, "policy": "Always('a')"})
        found[count] = simulate(fixed).summary().latency_s["p95"].value
    return found


@pytest.mark.parametrize("limits", [{"max_num_seqs": 128, "max_num_batched_tokens": 2048}, {}])
def test_the_fewest_replicas_that_simulation_finds(limits: dict[str, Any]) -> None:
    """A target halfway between what two numbers of replicas come to takes the larger of them."""
    limits = {**limits, "precision": "bf16"}
    found = p95_by_replicas(limits)
    for count in (1, 2, 3):
        planned = capacity(questions(math.sqrt(found[count] * found[count + 1]), **limits))
        assert planned.pools["pool"].replicas == count + 1
        assert planned.status in ("met", "unknown")
        assert planned.binding == ("latency_p95_s",)
        assert planned.pools["pool"].usd_per_day == pytest.approx((count + 1) * 4 * 3.20 * 24)


def test_a_near_tie_is_said_to_be_one() -> None:
    """A target that three replicas keep by half a percent, by chance."""
    target_s = 1.005 * p95_by_replicas({"precision": "bf16"})[3]
    found = capacity(questions(target_s, precision="bf16"))
    assert found.pools["pool"].replicas == 3
    assert found.near_tie
    assert found.status == "unknown"


# ---------------------------------------------------------------------------------------------------------------- the bound


def test_a_bound_by_hand() -> None:
    """All at one instant: 100 requests of 100 prompt and 101 output tokens, batches of 8 at 0.02 + 8 * 0.0005 s an iteration.

    Decoding takes at least 100 * 100 / 8 * 0.024 = 30 s of a replica, and prompt tokens that come beside it 0.0001 s each: 1 s.
    Within 3.2 s of the arrivals for all but 10 requests, that is 9 / 10 of 31 s: 8.7 replicas, and without the prompts 8.4.
    """
    lengths = {"prompt_tokens": 100, "output_tokens": 101}
    arrivals = {"process": "poisson", "rate_per_s": 1e9}
    raw = plain(
        workload={"arrivals": arrivals, "requests": 100, "lengths": lengths},
        search={"pools": {"pool": {"replicas": {"from": 1, "to": 40}}}},
        targets={"latency_p90_s": 3.2},
    )
    found = capacity(of(raw))
    assert found.pools["pool"].lower_bound == 9
    assert found.pools["pool"].replicas >= 9


def test_no_iteration_costs_less_than_its_tokens() -> None:
    """Prices of tokens beside step times of random batches that fit, of every kind of table: linear, and of the catalogue."""
    catalogue = GpuPool(kind="gpu_pool", replicas=1, model=SEVENTY, gpu="h100_sxm", tensor_parallel=4, precision="bf16")
    linear = GpuPool(**pool(step_time=ttc.scenario.LinearStepTime(**step(per_kv_token_s=1e-6)), max_num_seqs=60))
    generator = np.random.default_rng(3)
    for one, limit in product((catalogue, linear), (None, 3000, 40_000)):
        made = scenario_from_dict(plain(deployments={"pool": one.model_dump(exclude_none=True)}))
        made = made.model_copy(update={"deployments": {"pool": one.model_copy(update={"kv_cache_tokens": limit})}})
        table = choices_of(made, "pool")[0][0].table
        held = choices_of(made, "pool")[0][0].pool
        found = prices_of(table, held, longest=2000, shared=False)
        assert found
        assert max(price.generated for price in found) > 0
        for _ in range(300):
            decoding = int(generator.integers(0, min(one.max_num_seqs, held.kv_cache_tokens or 10**9) + 1))
            room = one.max_num_batched_tokens - decoding
            prefill = int(generator.integers(0 if decoding else 1, room + 1)) if generator.random() < 0.7 else 0
            prefill = prefill or (0 if decoding else 1)
            most = min(2000.0, (held.kv_cache_tokens or math.inf) / max(decoding, 1))
            kv = int(decoding * generator.uniform(1, most)) if decoding else 0
            sampled = min(decoding + min(prefill, 1), one.max_num_seqs)
            seconds = step_seconds(table, prefill, prefill**2 / 2, decoding, kv, sampled)
            for price in found:
                least = price.prompt * prefill + price.generated * decoding + price.kv * kv
                assert least <= seconds * (1 + 1e-9), (price, prefill, decoding, kv)


def test_no_run_is_shorter_than_its_work() -> None:
    """Small random systems, many of them crowded: preemption, shared prefixes, votes decided early, stages, priorities. What the
    answered requests take at least is never more than the seconds in which the pool's replicas were at work."""
    preempted, nearest = 0, 0.0
    for times, seed in product(TIMES, (*range(30), 416)):
        case = random_case(seed, times)
        work = case.works[0]
        ran = compiled.run([work], case.names, case.deployments, tables=case.tables)
        preempted += int(ran.preemptions.sum() > 0)
        for d, item in enumerate(case.deployments):
            if not isinstance(item, GpuPool):
                continue
            needs, answered = needs_of(work, d, item), ran.status == COMPLETED
            tokens = [one[answered].sum() for one in (needs.prompt, needs.generated, needs.kv)]
            longest = max(int(longest_of(work, d).max()), 1)
            for price in prices_of(case.tables[d] or pool_table(item), item, longest, shares_blocks(work)):
                seconds = float(np.dot(tokens, [price.prompt, price.generated, price.kv]))
                assert seconds <= ran.busy_s[d] * (1 + 1e-9)
                nearest = max(nearest, seconds / max(ran.busy_s[d], 1e-9))
    assert preempted > 2
    assert nearest > 0.9


# ------------------------------------------------------------------------------------------------------- hardware and budget


def choosing(options: dict[str, Any], **search: Any) -> dict[str, Any]:
    return plain(search={"pools": {"pool": {"replicas": {"from": 1, "to": 8}, "options": options}}, **search})


FAST = {"step_time": step(0.006), "usd_per_replica_hour": 3.0, "gpu": "h200_sxm", "tensor_parallel": 2}


def test_the_cheapest_hardware_is_chosen_and_a_budget_forbids_it() -> None:
    free = capacity(of(choosing({"fast": FAST})))
    assert (free.pools["pool"].option, free.pools["pool"].replicas, free.pools["pool"].gpus) == ("fast", 1, 2)
    bound = capacity(of(choosing({"fast": {**FAST, "usd_per_replica_hour": 9.0}})))
    assert (bound.pools["pool"].option, bound.pools["pool"].replicas) == (None, 3)
    poor = of(choosing({"fast": FAST}, gpus={"h200_sxm": 1}))
    refused = capacity(poor)
    assert refused.pools["pool"].option is None
    assert [(one.name, one.reason.split(" GPUs")[0]) for one in refused.refused] == [("fast", "the budget is 1")]


def test_pools_share_a_budget() -> None:
    """Each pool alone would take two replicas of four GPUs; there are twelve, so one of them gets by on fewer, or misses."""
    gpu = {"step_time": step(), "usd_per_replica_hour": 0.5, "gpu": "h200_sxm", "tensor_parallel": 4}
    raw = plain(
        deployments={"pool": pool(), "other": pool()},
        arms={"one": {"deployment": "pool"}, "two": {"deployment": "other"}},
        policy="Banded(edges=[150], arms=['one', 'two'], score='prompt_tokens')",
        search={
            "pools": {n: {"replicas": {"from": 1, "to": 4}, "options": {"h": gpu}} for n in ("pool", "other")},
            "gpus": {"h200_sxm": 12},
        },
    )
    scenario = of(raw)
    found = capacity(scenario)
    used = sum(one.gpus for one in found.pools.values() if one.gpu is not None)
    assert used <= 12
    assert found.usd_per_day == min(usd for usd, held in exhaustive(scenario).values() if held)


def test_hardware_of_the_catalogue() -> None:
    """What cannot be is named with its reason; replicas are paid by the GPU, at the scenario's price."""
    raw = questions(10.0, precision="bf16").model_dump(mode="json", exclude={"path"}, exclude_none=True)
    raw["search"] = {
        "pools": {"pool": {"gpu": ["h100_sxm"], "tensor_parallel": [3, 4], "replicas": [1, 2, 3, 4]}},
        "usd_per_gpu_hour": {"h100_sxm": 1.5},
    }
    del raw["deployments"]["pool"]["max_num_seqs"], raw["deployments"]["pool"]["max_num_batched_tokens"]
    found = capacity(scenario_from_dict(raw))
    assert [one.name for one in found.refused] == ["h100_sxm x3 bf16"]
    one = found.pools["pool"]
    assert (one.gpu, one.tensor_parallel, one.precision, one.replicas) == ("h100_sxm", 4, "bf16", 2)
    assert one.usd_per_day == pytest.approx(2 * 4 * 1.5 * 24)
    again = capacity(found.scenario)
    assert again.pools == found.pools


# ------------------------------------------------------------------------------------------------------ what it gives back


def test_headroom_by_hand() -> None:
    """With one replica fewer, figures are those that simulating one fewer gives on the same fresh runs."""
    scenario = of(plain(search={"pools": {"pool": {"replicas": [1, 4, 6]}}}))
    found = capacity(scenario)
    assert found.pools["pool"].replicas == 4
    room = found.headroom["pool"]
    assert [one.replicas for one in room.fewer] == [4 - k for k in range(1, len(room.fewer) + 1)]
    assert room.may_fail == len(room.fewer) - 1
    least = choices_of(scenario, "pool")[0]
    fresh = Trials(load_model(found.scenario), found.result.policy, {"pool": least}, "verify", 2, 1)
    for one in room.fewer:
        summary = fresh.result(((0, one.replicas),)).summary()
        assert one.figures["latency_p95_s"] == summary.latency_s["p95"].value
        assert bool(one.missed) == (summary.latency_s["p95"].value > 6.0)


def test_figures_are_those_of_a_summary() -> None:
    """What decides in the search is what the tables say, for every kind of target at once."""
    targets = {
        "latency_p90_s": 5.0,
        "ttft_p95_s": 1.0,
        "tpot_p50_s": 0.02,
        "goodput": 0.9,
        "slo": {"ttft_s": 1.0, "tpot_s": 0.05, "latency_s": 8.0},
        "timeout_rate": 0.02,
        "timed_out_rate": 0.01,
        "rejected_rate": 0.01,
    }
    for hourly in (False, True):
        arrivals = {"process": "piecewise", "steps": [{"duration_s": 3600, "rate_per_s": r} for r in (0.05, 0.0, 0.3)]}
        workload = {**plain()["workload"], "arrivals": arrivals if hourly else plain()["workload"]["arrivals"]}
        scenario = of(
            plain(),
            workload=workload,
            deployments={"pool": pool(timeout_s=6.0, queue_limit=4)},
            targets={**targets, "every_hour": hourly},
        )
        policy = ttc.Always("one")
        trials = Trials(load_model(scenario), policy, {"pool": choices_of(scenario, "pool")[0]}, "simulate", 2, 1)
        there = with_changes(scenario, {"deployments.pool.replicas": 2})
        summary = simulate(there, policy).summary()
        for name, value in trials.values(((0, 2),)).items():
            assert value == summary.quantity(name).value, name  # type: ignore[union-attr]
        assert len(trials.asked) == 7


def test_workers_and_the_order_of_hardware_change_nothing() -> None:
    options = {f"o{k}": {**FAST, "step_time": step(0.004 * (k + 1)), "usd_per_replica_hour": 2.0 + k} for k in range(4)}
    one = capacity(of(choosing(options)), workers=1)
    assert capacity(of(choosing(options)), workers=3).as_json() == one.as_json()
    turned = capacity(of(choosing(dict(reversed(options.items())))), workers=2)
    assert (turned.pools, turned.headroom) == (one.pools, one.headroom)


def test_anything_and_nothing_meets_the_targets() -> None:
    easy = capacity(of(plain(targets={"latency_p95_s": 1e6}, search={})))
    assert (easy.pools["pool"].replicas, easy.binding, easy.near_tie) == (1, (), False)
    hard = capacity(of(plain(targets={"latency_p95_s": 0.01})))
    assert (hard.status, hard.binding) == ("not met", ("latency_p95_s",))
    dear = capacity(of(plain(targets={"latency_p95_s": 6.0, "cost_usd_per_day": 100.0})))
    assert (dear.pools["pool"].replicas, dear.status, dear.binding) == (3, "not met", ("cost_usd_per_day",))


def test_odd_traffic() -> None:
    workload = plain()["workload"]
    gap = {"process": "piecewise", "steps": [{"duration_s": 3600, "rate_per_s": r} for r in (0.05, 0.0, 0.05)]}
    hourly = capacity(
        of(
            plain(
                workload={**workload, "arrivals": gap, "requests": 360},
                targets={"latency_p95_s": 20.0, "every_hour": True},
                search={},
            )
        )
    )
    assert hourly.pools["pool"].replicas == 1
    assert [row["arrivals"] for row in hourly.hours][1] == 0
    assert hourly.hours[1]["latency_p99_s"] is None
    single = capacity(of(plain(workload={**workload, "requests": 1}, search={})))
    assert single.pools["pool"].replicas == 1
    closed = {"process": "closed_loop", "users": 40, "think_s": 0.2}
    looped = capacity(of(plain(workload={**workload, "arrivals": closed}, search={})))
    assert looped.pools["pool"].lower_bound == 1
    assert looped.pools["pool"].replicas > 1
    assert len(looped.hours) == 1


def test_a_pool_that_nothing_is_sent_to_needs_nothing() -> None:
    raw = plain(
        deployments={"pool": pool(), "idle": pool()},
        arms={"one": {"deployment": "pool"}, "two": {"deployment": "idle"}},
        policy="Always('one')",
    )
    found = capacity(of(raw))
    assert (list(found.pools), found.unused) == (["pool"], ("idle",))


def test_live_load_decides_between_pools() -> None:
    raw = plain(
        deployments={"pool": pool(), "other": pool(usd_per_replica_hour=3.0)},
        arms={"one": {"deployment": "pool"}, "two": {"deployment": "other"}},
        policy="LeastLoaded(['one', 'two'])",
        search={"pools": {name: {"replicas": [1, 2, 3]} for name in ("pool", "other")}},
    )
    scenario = of(raw)
    best = min(usd for usd, held in exhaustive(scenario).values() if held)
    found = capacity(scenario)
    assert found.usd_per_day == best or found.near_tie


# ---------------------------------------------------------------------------------------------------------- the command line


def command(*words: str) -> Any:
    return CliRunner().invoke(app, ["capacity", *words])


def test_command_writes_a_plan_that_simulate_takes(tmp_path: Path) -> None:
    file, plan, figures = tmp_path / "s.yaml", tmp_path / "plan.yaml", tmp_path / "f.json"
    file.write_text(yaml.safe_dump(choosing({"fast": FAST}) | {"targets": {"goodput": 0.9, "slo": {"latency_s": 6.0}}}))
    done = command(str(file), "--hours", "--plan", str(plan), "--json", str(figures))
    assert done.exit_code == 0, done.output
    assert "By hour" in done.output
    found = json.loads(figures.read_text())
    chosen = found["pools"]["pool"]
    assert {"gpu", "tensor_parallel", "precision", "replicas", "lower_bound", "usd_per_day"} <= set(chosen)
    assert (chosen["gpu"], found["binding"]) == ("h200_sxm", [])
    assert isinstance(found["hours"], list)
    assert found["hours"][0]["goodput"] >= 0.9
    assert found["status"] in ("met", "unknown")
    saved = load_plan(plan)
    promised = saved.promised["goodput"].value
    assert promised == found["goodput"]["value"]
    simulated = CliRunner().invoke(app, ["simulate", str(plan), "--no-baselines"])
    assert simulated.exit_code == 0, simulated.output
    again = command(str(plan))
    assert again.exit_code == 0, again.output


def test_command_says_what_cannot_be_met(tmp_path: Path) -> None:
    """Of exit status 2, as a plan that misses its targets."""
    file, plan = tmp_path / "s.yaml", tmp_path / "plan.yaml"
    file.write_text(yaml.safe_dump(plain(targets={"latency_p95_s": 0.01})))
    done = command(str(file), "--plan", str(plan))
    assert done.exit_code == 2
    assert "Binding: latency_p95_s" in done.output
    assert load_plan(plan).status == "nearest"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"targets": None}, ["targets", "latency_p95_s"]),
        ({"targets": {"minimize": "cost"}}, ["targets", "minimize", "must meet"]),
        ({"search": {"pools": {"pol": {"replicas": [1]}}}}, ["search.pools", "'pol'", "'pool'"]),
        ({"search": {"pools": {"pool": {"replicas": []}}}}, ["search.pools.pool.replicas", "at least 1"]),
        ({"search": {"pools": {"pool": {"replicas": [4, 2]}}}}, ["search.pools.pool.replicas", "increase"]),
        ({"search": {"pools": {"pool": {"replicas": [0, 2]}}}}, ["search.pools.pool.replicas", "0"]),
        ({"search": {"pools": {"pool": {"replicas": {"from": 3, "to": 2}}}}}, ["replicas", "from 1 to 10,000"]),
        ({"search": {"pools": {"pool": {"replicas": {"from": 3}}}}}, ["replicas", "from: 1, to: 60"]),
        ({"search": {"pools": {"pool": {"replicas": 3}}}}, ["replicas", "from: 1, to: 60"]),
        ({"search": {"pools": {"pool": {"gpu": ["h100"]}}}}, ["search.pools.pool.gpu", "h100_sxm"]),
        ({"search": {"pools": {"pool": {"gpu": ["h100_sxm"]}}}}, ["search.pools.pool.gpu", "step_time", "options"]),
        ({"search": {"pools": {"pool": {"options": {}}}}}, ["search.pools.pool.options", "at least 1"]),
        ({"search": {"gpus": {"h100_sxm": 0}}}, ["search.gpus.h100_sxm", "0"]),
        ({"search": {"gpus": {"h100_sxm": 4}}}, ["search.gpus", "h100_sxm"]),
        ({"targets": {"sources": {"chat": {"latency_p95_s": 3.0}}}}, ["targets.sources.chat"]),
        ({"deployments": {"pool": pool(queue_limit=3)}}, ["targets.rejected_rate", "queue_limit", "fewest replicas"]),
        ({"deployments": {"pool": pool(timeout_s=3.0)}}, ["targets.timed_out_rate", "timeout_s"]),
        ({"deployments": {"pool": pool(deadline_s=3.0)}}, ["targets.timed_out_rate", "deadline_s"]),
        (
            {"deployments": {"pool": pool(kv_cache_tokens=160)}},
            ["deployments.pool", "longest request", "rejected_rate"],
        ),
        (
            {"arms": {"one": {"deployment": "pool"}, "two": {"deployment": "pool"}}},
            ["policy", "one, two", "ttc-sim optimize --plan"],
        ),
    ],
)
def test_one_line_says_what_is_wrong(changes: dict[str, Any], words: list[str], tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(yaml.safe_dump(plain(**changes)))
    with pytest.raises(InputError) as error:
        capacity(file)
    said = str(error.value)
    assert "\n" not in said
    for word in words:
        assert word in said, said


def test_a_range_of_replicas_is_its_numbers() -> None:
    for said in ({"from": 2, "to": 4}, ["2..4"], [2, "3..4"]):
        made = of(plain(search={"pools": {"pool": {"replicas": said}}}))
        assert made.search.pools["pool"].replicas == [2, 3, 4]


def test_without_hardware_that_fits_there_is_one_line() -> None:
    raw = questions(10.0, precision="bf16").model_dump(mode="json", exclude={"path"}, exclude_none=True)
    raw["search"] = {"pools": {"pool": {"tensor_parallel": [3, 5], "replicas": [1, 2]}}}
    with pytest.raises(InputError, match=r"search\.pools\.pool: got 'h100_sxm x3 bf16'; expected other hardware: "):
        capacity(scenario_from_dict(raw))


def test_users_are_served_for_a_duration_by_the_fewest_that_simulation_finds() -> None:
    """How many they send depends on the replicas, so that every choice has requests of its own."""
    raw = plain(
        workload={
            "duration": "5 min",
            "sources": {
                "users": {
                    "arrivals": {"process": "closed_loop", "users": 20, "think_s": 1.0},
                    "lengths": {"prompt_tokens": 150, "output_tokens": {"median": 60, "p95": 200}},
                },
                "steady": {
                    "arrivals": {"process": "poisson", "rate_per_s": 1.0},
                    "lengths": {"prompt_tokens": 150, "output_tokens": 60},
                },
            },
        },
        targets={"latency_p95_s": 6.0, "sources": {"steady": {"latency_p90_s": 2.0}}},
    )
    held = [counts[0][1] for counts, (_, holds) in exhaustive(of(raw)).items() if holds]
    found = capacity(of(raw))
    assert found.pools["pool"].replicas == min(held) > 1


def test_what_may_fail_is_not_bound_to_be_served() -> None:
    """A target on the other ways to lose requests says nothing of those that fail."""
    failing = pool(timeout_s=9.0, failures={"mtbf_h": 1, "mttr_h": 1}, start_up={"seconds": 9})
    ways = may_drop({"pool": GpuPool.model_validate(failing)})
    assert set(ways) == {"timed_out_rate", "failed_rate"}
    assert most_dropped(Targets(timed_out_rate=0.01, rejected_rate=0.02), ways) == 1.0
    assert most_dropped(Targets(timed_out_rate=0.01, failed_rate=0.02), ways) == pytest.approx(0.03)
    assert most_dropped(Targets(timeout_rate=0.02), ways) == 0.02
    assert most_dropped(Targets.model_validate({"latency_p95_s": 1.0}), {}) == 0.0
