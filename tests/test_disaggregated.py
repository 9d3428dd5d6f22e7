"""Prefill and decode apart: both engines alike, closed forms for few requests, what moves, what it costs, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.random_scenarios import (
    TIMES,
    Case,
    Times,
    differences,
    failing_scenario,
    scenario,
    with_followers,
    with_prefill_apart,
    with_tree,
)
from tests.test_capacity import exhaustive
from ttc_sim import capacity, load_plan, simulate
from ttc_sim.base.errors import InputError
from ttc_sim.engine import compiled, reference
from ttc_sim.engine.kv_cache import blocks_for
from ttc_sim.engine.replica import Replica
from ttc_sim.engine.splitting import DecodeReplica
from ttc_sim.engine.work import COMPLETED, IN_FLIGHT, EngineResult, Work, prefill_busy_s, single_stage
from ttc_sim.optimizer.capacity.bounds import longest_of, needs_of, prices_of, shares_blocks
from ttc_sim.scenario import GpuPool, scenario_from_dict, with_changes
from ttc_sim.serving.pools import pool_table, with_memory
from ttc_sim.testing.engines import run_both
from ttc_sim.testing.examples import pool_of, work_of

# One prompt token takes 1 ms, a decode iteration 10 ms whatever it holds, and a block of 16 tokens 2 ms on its way.
STEP = {"base_s": 0.0, "per_prefill_token_s": 0.001, "per_sequence_s": 0.01, "per_kv_token_s": 0.0}
FLAT = {"base_s": 0.01, "per_prefill_token_s": 0.001, "per_sequence_s": 0.0, "per_kv_token_s": 0.0}
TRANSFER = {"gb_per_s": 8e-6, "latency_s": 0.005, "kv_bytes_per_token": 1.0}


def apart_of(prefill: dict[str, Any] | None = None, **changes: Any) -> GpuPool:
    given = {"step_time": STEP, "prefill": {"replicas": 1, **(prefill or {})}, "kv_transfer": TRANSFER, **changes}
    return pool_of(**given)


def run(work: Work, pool: GpuPool) -> EngineResult:
    return run_both([work], ["pool"], [pool])


# -------------------------------------------------------------------------------------------------- both engines alike


def cases(seed: int, times: Times) -> list[Case]:
    plain = scenario(seed, times)
    every = [plain, with_tree(plain, seed, times), with_followers(plain, seed, times), failing_scenario(seed, times)]
    return [with_prefill_apart(case, seed, times) for case in every]


@pytest.mark.parametrize("times", TIMES)
def test_engines_agree(times: Times) -> None:
    """To the last digit; and nothing is left waiting for what never comes."""
    done = 0
    for seed in range(16):
        for k, case in enumerate(cases(seed, times)):
            given = case.works, case.names, case.deployments, case.rule, case.until_s
            more = {"tables": case.tables, "following": case.following, "outages": case.outages}
            slow, fast = reference.run(*given, **more), compiled.run(*given, **more)  # type: ignore[arg-type]
            assert differences(slow, fast) == [], f"cases({seed}, {times!r})[{k}]"
            if case.until_s is None:
                assert not ((slow.status == IN_FLIGHT) & ~np.isnan(slow.arrival_s)).any(), (seed, times, k)
            done += int((slow.status == COMPLETED).sum())
    assert done > 300


def test_levels_of_both_sides_are_recorded_alike() -> None:
    for seed in range(25):
        case = with_prefill_apart(scenario(seed, "apart"), seed, "apart")
        given = case.works, case.names, case.deployments, case.rule, None
        slow, fast = (engine.run(*given, tables=case.tables, interval_s=0.37) for engine in (reference, compiled))
        assert slow.levels_s is not None
        assert fast.levels_s is not None
        np.testing.assert_allclose(slow.levels_s, fast.levels_s, rtol=1e-9, atol=1e-9)


def test_blocks_are_conserved_on_both_sides() -> None:
    """Free ones and those that are held are all that there are; none is held once the last request has its answer."""
    seen: dict[int, Replica] = {}

    def watch(replica: Replica) -> None:
        seen[replica.number] = replica
        assert sum(freed.blocks for freed in replica.kv.queue.values()) == replica.kv.free
        if isinstance(replica, DecodeReplica):
            held = [*replica.running, *replica.ready, *(one.stage.sequences[0] for one in replica.moving)]
            chains = {id(chain): chain for one in held for chain, _ in one.chains}
            blocks = sum(one.blocks - one.shared for one in held)
            assert blocks + sum(one.end - one.start for one in chains.values()) + replica.kv.free == replica.kv.total
            assert all(one.blocks == blocks_for(one.length) for one in replica.ready)

    for seed in range(40):
        seen.clear()
        case = with_prefill_apart(with_tree(scenario(seed, "quarters"), seed, "quarters"), seed, "quarters")
        reference.run(case.works, case.names, case.deployments, case.rule, watch=watch, tables=case.tables)
        assert all(replica.kv.free == replica.kv.total for replica in seen.values()), seed


# ------------------------------------------------------------------------------------------------------- closed forms


def test_a_request_alone_takes_its_prompt_its_way_and_its_answer() -> None:
    """100 tokens: 100 ms, seven blocks of 2 ms and 5 ms, the last token again (1 ms), nine iterations of 10 ms."""
    result = run(single_stage(np.zeros(1), np.array([100]), np.array([10])), apart_of())
    first_s = 0.1 + 7 * 0.002 + 0.005 + 0.001
    assert result.first_token_s[0] == pytest.approx(first_s)
    assert result.finished_s[0] == pytest.approx(first_s + 9 * 0.01)
    assert result.prefilled_tokens[0][0] == 100
    assert result.generated_tokens[0][0] == 10
    assert result.busy_s[0] == pytest.approx(0.1 + 0.001 + 0.09)
    assert result.prefill_busy_s is not None
    assert result.prefill_busy_s[0] == pytest.approx(0.1)


def test_an_answer_of_one_token_and_a_prompt_of_one_token_take_both_sides_too() -> None:
    result = run(single_stage(np.zeros(1), np.array([1]), np.array([1])), apart_of())
    assert result.first_token_s[0] == result.finished_s[0] == pytest.approx(0.001 + 0.002 + 0.005 + 0.001)
    assert result.generated_tokens[0][0] == 1


def test_prompts_move_one_after_another_on_each_link() -> None:
    """Two prompts of 64 tokens are taken in in one iteration; four blocks each."""
    work = single_stage(np.zeros(2), np.array([64, 64]), np.array([1, 1]))
    one_link = run(work, apart_of({"max_num_batched_tokens": 1000}))
    np.testing.assert_allclose(one_link.first_token_s, [0.128 + 0.008 + 0.006, 0.128 + 0.016 + 0.006])
    # Two that fetch from one that sends take as long; with two that send each has a link of its own.
    fetching = run(work, apart_of({"max_num_batched_tokens": 1000}, replicas=2, load_balancer="round_robin"))
    np.testing.assert_allclose(fetching.first_token_s, one_link.first_token_s)
    both = run(work, apart_of({"replicas": 2, "load_balancer": "round_robin"}, replicas=2, load_balancer="round_robin"))
    np.testing.assert_allclose(both.first_token_s, [0.064 + 0.008 + 0.006] * 2)


def test_decoding_goes_on_while_prompts_are_taken_in_and_move() -> None:
    """A long prompt that comes while another is answered does not keep its tokens: it does on one replica for both."""
    work = single_stage(np.array([0.0, 0.2]), np.array([16, 200]), np.array([100, 1]))
    together = run(work, pool_of(step_time=FLAT, replicas=1))
    apart = run(work, apart_of(step_time=FLAT))
    gaps = [(one.finished_s[0] - one.first_token_s[0]) / 99 for one in (together, apart)]
    # 200 ms of prompt, and the last token of it again.
    np.testing.assert_allclose(gaps, [0.01 + 0.2 / 99, 0.01 + 0.001 / 99])


def test_blocks_stay_with_prefill_until_decode_has_room() -> None:
    """Each side holds one of the three: the second is taken in early, and moves when the first has its answer."""
    work = single_stage(np.zeros(3), np.array([60, 60, 60]), np.array([20, 20, 20]))
    pool = apart_of({"kv_cache_tokens": 64}, kv_cache_tokens=96)
    result = run(work, pool)
    first_s, last_s = result.first_token_s, result.finished_s
    moved_s = 4 * 0.002 + 0.005
    assert first_s[0] == pytest.approx(0.06 + moved_s + 0.001)
    np.testing.assert_allclose(first_s[1:], last_s[:2] + moved_s + 0.001)
    np.testing.assert_allclose(result.started_s, [0.0, 0.06 + moved_s, last_s[0] + moved_s])


def test_what_decode_holds_already_does_not_move() -> None:
    """The same prompt again: prefill computes its last block, and that alone moves."""
    work = single_stage(
        np.array([0.0, 5.0]), np.array([128, 128]), np.array([2, 2]), prefix_id=np.zeros(2, dtype=np.int64)
    )
    result = run(work, apart_of())
    assert result.cached_tokens[0].tolist() == [0, 112]
    took = result.first_token_s - result.arrival_s
    np.testing.assert_allclose(took, [0.128 + 8 * 0.002 + 0.006, 0.016 + 0.002 + 0.006])
    cold = run(work, apart_of(prefix_caching=False))
    np.testing.assert_allclose(cold.first_token_s - cold.arrival_s, [took[0]] * 2)


def test_samples_share_one_prompt_that_moves_once() -> None:
    """Three samples of a prompt of 100 tokens: the first computes its last token again, the others the four after six blocks."""
    result = run(single_stage(np.zeros(1), np.array([100]), np.array([5, 5, 5]), samples=3), apart_of())
    assert result.first_token_s[0] == pytest.approx(0.1 + 0.014 + 0.005 + 0.001 + 2 * 0.004)
    assert result.prefilled_tokens[0][0] == 100
    assert result.generated_tokens[0].tolist() == [5, 5, 5]
    assert result.prefill_busy_s is not None
    assert result.prefill_busy_s[0] == pytest.approx(0.1)


def test_free_transfer_and_the_same_limits_lose_nothing() -> None:
    """A decode pool that is fed by a prefill pool serves all that the mixed one does, and no later than a slower link."""
    work = work_of(np.linspace(0.0, 8.0, 60), "apart")
    free = run(work, apart_of({"replicas": 2}, replicas=2, kv_transfer={**TRANSFER, "gb_per_s": 1e6, "latency_s": 0.0}))
    slow = run(work, apart_of({"replicas": 2}, replicas=2))
    mixed = run(work, pool_of(step_time=STEP, replicas=4))
    for one in (free, slow, mixed):
        assert (one.status == COMPLETED).all()
        assert (one.generated_tokens[0] == work.visible_tokens).all()
        assert (one.prefilled_tokens[0] == work.prompt_tokens).all()
    assert free.first_token_s.mean() < slow.first_token_s.mean()


def test_clients_give_up_wherever_their_prompt_is() -> None:
    """In the queue, in prefill's batch, held there, on its way, and here: blocks come back, and those behind are served."""
    work = single_stage(np.linspace(0.0, 6.0, 40), np.full(40, 60), np.full(40, 20))
    for timeout_s in (0.05, 0.07, 0.1, 0.3, 0.5):
        pool = apart_of({"kv_cache_tokens": 128}, kv_cache_tokens=160, timeout_s=timeout_s, prefix_caching=False)
        result = run(work, pool)
        took = result.finished_s - result.arrival_s
        assert (result.status != IN_FLIGHT).all()
        assert took.max() <= timeout_s + 1e-12
    assert (result.status == COMPLETED).sum() > 3


# -------------------------------------------------------------------------------------------------- scenarios and bills


def chat(**changes: Any) -> dict[str, Any]:
    pool = {
        "kind": "gpu_pool",
        "replicas": 3,
        "usd_per_replica_hour": 4.0,
        "step_time": {"model": "meta-llama/Llama-3.1-8B", "gpu": "H100", "tensor_parallel": 1},
        "max_num_batched_tokens": 4096,
        "prefill": {"replicas": 2, "usd_per_replica_hour": 7.0},
        "kv_transfer": {"gb_per_s": 50.0},
        **changes,
    }
    return {
        "name": "apart",
        "workload": {
            "arrivals": {"process": "poisson", "rate_per_s": 20.0},
            "requests": 300,
            "lengths": {"prompt_tokens": {"median": 900, "p95": 4000}, "output_tokens": {"median": 100, "p95": 400}},
        },
        "deployments": {"pool": {k: v for k, v in pool.items() if v is not None}},
        "arms": {"chat": {"deployment": "pool"}},
        "policy": "Always('chat')",
        "replications": 2,
    }


def test_both_sides_are_paid_for() -> None:
    """3 x $4 and 2 x $7 an hour, whoever is busy."""
    result = simulate(scenario_from_dict(chat()))
    for one in result.runs:
        assert one.cost_usd.sum() == pytest.approx((3 * 4 + 2 * 7) * one.paid_s / 3600)
        assert one.provisioned["pool"].provisioned_gpu_hours == pytest.approx(5 * one.paid_s / 3600)
        busy_s, taking_in_s = one.result.busy_s[0], one.result.prefill_busy_s[0]  # type: ignore[index]
        assert one.provisioned["pool"].busy_gpu_hours == pytest.approx(busy_s / 3600)
        assert 0 < taking_in_s < busy_s


@pytest.mark.parametrize("prefill", [{"replicas": 2, "usd_per_replica_hour": 7.0}, {"replicas": 2}])
def test_twice_the_prices_are_twice_the_bill(prefill: dict[str, Any]) -> None:
    given = scenario_from_dict(chat(prefill=prefill))
    pool = given.deployments["pool"]
    assert isinstance(pool, GpuPool)
    dearer = with_changes(given, {f"deployments.pool.{key}": 2 * usd for key, usd in pool.hourly_prices.items()})
    twice = dearer.deployments["pool"]
    assert isinstance(twice, GpuPool)
    assert twice.hourly_usd == pytest.approx(2 * pool.hourly_usd)


def test_bytes_follow_from_the_models_layers() -> None:
    """Llama 3.1 8B: keys and values of 32 layers, 8 heads of 128 numbers of two bytes."""
    pool = with_memory(scenario_from_dict(chat())).deployments["pool"]
    assert isinstance(pool, GpuPool)
    assert pool.kv_transfer is not None
    assert pool.kv_transfer.kv_bytes_per_token == 2 * 32 * 8 * 128 * 2
    assert float(pool.kv_transfer.seconds(np.array(4096.0))) == pytest.approx(4096 * 131072 / 50e9)
    # A faster link is a sooner first token, by what it saves; the tokens after it are as they were.
    near, far = (simulate(scenario_from_dict(chat(kv_transfer={"gb_per_s": gb}))).runs[0] for gb in (1e6, 1.0))
    assert float(np.mean(far.ttft_s) - np.mean(near.ttft_s)) > 0.1


def test_prefill_may_run_on_other_gpus_at_their_price() -> None:
    pool = GpuPool.model_validate(
        {
            "kind": "gpu_pool",
            "replicas": 2,
            "model": "meta-llama/Llama-3.1-8B",
            "gpu": "h100_sxm",
            "prefill": {"replicas": 3, "gpu": "l40s", "tensor_parallel": 2},
            "kv_transfer": {"gb_per_s": 25.0},
        }
    )
    apart = pool.prefill_pool
    assert apart is not None
    assert (apart.gpu, apart.gpus, apart.max_num_batched_tokens) == ("l40s", 2, 2048)
    assert pool.hourly_usd == pytest.approx(pool.own_hourly_usd + 3 * apart.hourly_usd / 2)
    assert apart.hourly_usd != pool.own_hourly_usd


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kv_transfer": None}, "kv_transfer to be given"),
        ({"prefill": None}, "no kv_transfer without prefill"),
        ({"prefill": {"replicas": 0}}, "prefill.replicas"),
        ({"prefill": {"replicas": 1, "replcias": 2}}, "replicas"),
        ({"kv_transfer": {"gb_per_s": 0}}, "gb_per_s"),
        ({"prefill": {"replicas": 1, "gpu": "h200_sxm"}}, "prefill.gpu and step_time"),
        ({"prefill": {"replicas": 1, "max_num_batched_tokens": 16}}, "prefill.max_num_batched_tokens 16"),
        ({"scheduling": "priority"}, "scheduling: priority"),
        (
            {"autoscaling": {"minimum": 1, "maximum": 4, "target_concurrency": 8}, "start_up": {"seconds": 30}},
            "autoscaling",
        ),
        ({"failures": {"mtbf_h": 100, "mttr_h": 1}, "start_up": {"seconds": 30}}, "failures"),
        ({"step_time": STEP}, "kv_bytes_per_token to be given"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        scenario_from_dict(chat(**changes))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_replicas_of_such_a_pool_are_searched_by_capacity_alone() -> None:
    given = chat()
    with pytest.raises(InputError, match=r"search\.pools\.pool"):
        scenario_from_dict({**given, "search": {"replicas": {"pool": [1, 2]}}})


# ------------------------------------------------------------------------------------------------------------ capacity


def searched(targets: dict[str, float], rate_per_s: float = 7.0, **pool: Any) -> dict[str, Any]:
    given = chat(step_time=FLAT, prefill=None, kv_transfer=None, replicas=1, max_num_batched_tokens=1024, **pool)
    given["workload"]["arrivals"]["rate_per_s"] = rate_per_s
    given["workload"]["requests"] = 100
    given["workload"]["lengths"] = {
        "prompt_tokens": {"median": 150, "p95": 400},
        "output_tokens": {"median": 20, "p95": 60},
    }
    transfer = {"gb_per_s": 1.0, "kv_bytes_per_token": 1e5}
    search = {"pools": {"pool": {"replicas": [1, 2, 3, 4], "prefill": [0, 1, 2], "kv_transfer": transfer}}}
    return {**given, "targets": targets, "search": search}


@pytest.mark.parametrize(
    ("targets", "pays"),
    [
        ({"ttft_p95_s": 2.0, "tpot_p95_s": 0.02}, True),
        ({"ttft_p95_s": 1.0}, False),
        ({"latency_p95_s": 2.5}, False),
    ],
)
def test_capacity_chooses_the_split_that_trying_all_finds(targets: dict[str, float], pays: bool) -> None:
    given = scenario_from_dict(searched(targets))
    every, found = exhaustive(given), capacity(given)
    held = {
        kind: [usd for config, (usd, holds) in every.items() if holds and ("prefill" in config[0][0]) == kind]
        for kind in (True, False)
    }
    assert found.usd_per_day == pytest.approx(min(held[True] + held[False]))
    apart = found.apart["pool"]
    for usd, kind in ((apart.usd_per_day, True), (apart.mixed_usd_per_day, False)):
        assert (usd is None) == (not held[kind])
        assert usd is None or usd == pytest.approx(min(held[kind]))
    assert apart.pays == pays
    # The same GPUs: as many as were chosen, whoever takes prompts in; the one that was chosen is among them and holds.
    chosen = found.pools["pool"]
    assert {one.prefill + one.replicas for one in apart.splits} == {chosen.prefill + chosen.replicas}
    assert (chosen.prefill, chosen.replicas) in {(one.prefill, one.replicas) for one in apart.splits if not one.missed}


def test_a_plan_of_capacity_is_what_was_found(tmp_path: Path) -> None:
    found = capacity(scenario_from_dict(searched({"ttft_p95_s": 2.0, "tpot_p95_s": 0.02})))
    found.save(tmp_path / "plan.yaml")
    pool = load_plan(tmp_path / "plan.yaml").scenario.deployments["pool"]
    assert isinstance(pool, GpuPool)
    assert pool.prefill is not None
    assert (pool.prefill.replicas, pool.replicas) == (found.pools["pool"].prefill, found.pools["pool"].replicas)
    assert 24 * pool.replicas * pool.hourly_usd == pytest.approx(found.usd_per_day)
    again = capacity(load_plan(tmp_path / "plan.yaml"))
    assert again.pools["pool"] == found.pools["pool"]
    # What the plan says of the link can be changed, and has an effect.
    slower = with_changes(load_plan(tmp_path / "plan.yaml").scenario, {"deployments.pool.kv_transfer.gb_per_s": 0.05})
    assert simulate(slower).summary().ttft_s["mean"].value > found.summary.ttft_s["mean"].value + 0.1


def test_no_decode_replica_works_less_than_its_bound() -> None:
    """What generated tokens take at least is never more than those that answer were busy; what prompts take is left out."""
    nearest = 0.0
    for seed in range(40):
        case = with_prefill_apart(scenario(seed, "apart"), seed, "apart")
        work = case.works[0]
        ran = compiled.run([work], case.names, case.deployments, tables=case.tables)
        for d, item in enumerate(case.deployments):
            if not isinstance(item, GpuPool) or item.prefill is None:
                continue
            needs, answered = needs_of(work, d, item), ran.status == COMPLETED
            longest = max(int(longest_of(work, d).max()), 1)
            for price in prices_of(case.tables[d] or pool_table(item), item, longest, shares_blocks(work)):
                seconds = float(needs.generated[answered].sum() * price.generated + needs.kv[answered].sum() * price.kv)
                busy_s = ran.busy_s[d] - prefill_busy_s(ran, d)
                assert seconds <= busy_s * (1 + 1e-9)
                nearest = max(nearest, seconds / max(busy_s, 1e-9))
    assert nearest > 0.8


def test_what_capacity_cannot_choose_is_refused() -> None:
    given = searched({"ttft_p95_s": 2.0})
    pool = given["search"]["pools"]["pool"]
    for changes, said in (
        ({"kv_transfer": None}, "search.pools.pool.kv_transfer"),
        ({"prefill": None}, "no kv_transfer without"),
        ({"prefill": [0]}, "no kv_transfer without"),
        ({"prefill": [1, 1]}, "each of them once"),
        ({"kv_transfer": {"gb_per_s": 1.0}}, "kv_bytes_per_token"),
    ):
        one = {key: value for key, value in {**pool, **changes}.items() if value is not None}
        with pytest.raises(InputError) as error:
            capacity(scenario_from_dict({**given, "search": {"pools": {"pool": one}}}))
        assert said in str(error.value)
