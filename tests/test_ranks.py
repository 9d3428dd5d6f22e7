"""Data-parallel ranks: both engines to the last digit, and what a group of them must be beside servers of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from tests.random_scenarios import (
    TIMES,
    Case,
    Dice,
    Times,
    differences,
    failing_scenario,
    scenario,
    with_lives,
    with_tree,
)
from tests.test_gpu_operators import small
from tests.test_speculation import speculating
from ttc_sim.base.draws import F64
from ttc_sim.engine import compiled, reference
from ttc_sim.engine.fleet import IN_SERVICE
from ttc_sim.engine.replica import Replica
from ttc_sim.engine.work import EngineResult, single_stage
from ttc_sim.fidelity.runs import backtest_run
from ttc_sim.optimizer.capacity.bounds import prices_of
from ttc_sim.scenario import Api, GpuPool, LinearStepTime
from ttc_sim.serving import pools
from ttc_sim.serving.catalogue import Served
from ttc_sim.serving.operators import NONE, OperatorTimes, operator_table
from ttc_sim.serving.physics import physics_table
from ttc_sim.serving.pools import pool_table
from ttc_sim.serving.step_time import StepTable, evenly_shared, seconds_at, stack_tables


def with_ranks(case: Case, seed: int, times: Times) -> Case:
    """The same with pools of several ranks, two thirds of which step together."""
    dice = Dice(seed, times, "ranks")
    items: list[Api | GpuPool] = []
    tables: list[StepTable | None] = []
    for item, table in zip(case.deployments, case.tables, strict=True):
        if not isinstance(item, GpuPool) or item.changes:
            items.append(item)
            tables.append(table)
            continue
        ranks, step_s = dice.of(1, 2, 2, 3, 4), dice.when((0.0007, 0.0031), (1 / 256, 1 / 64), (0.001, 0.01))
        balancer = dice.of(item.load_balancer, item.load_balancer, "prefix")
        items.append(item.model_copy(update={"data_parallel": ranks, "load_balancer": balancer}))
        together = dice.of(True, True, False) and ranks > 1
        shared_s = step_s * np.arange(ranks * item.max_num_batched_tokens + 1, dtype=np.float64)
        table = table or pool_table(item)
        tables.append(table._replace(ranks=ranks, shared_s=shared_s) if together else table)
    return replace(case, deployments=items, tables=tables)


def both(case: Case, interval_s: float | None = None) -> tuple[EngineResult, EngineResult]:
    given = (case.works, case.names, case.deployments, case.rule, None if interval_s else case.until_s)
    more = {"tables": case.tables, "following": case.following, "outages": case.outages, "interval_s": interval_s}
    return reference.run(*given, **more), compiled.run(*given, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("times", TIMES)
def test_engines_agree(times: Times) -> None:
    for seed in range(50):
        for made in (scenario, failing_scenario):
            case = with_ranks(with_tree(made(seed, times), seed, times), seed, times)
            assert differences(*both(case)) == [], f"with_ranks(with_tree({made.__name__}({seed}, {times!r})))"


@pytest.mark.parametrize("times", TIMES)
def test_engines_agree_where_ranks_speculate(times: Times) -> None:
    for seed in range(40):
        case = with_ranks(speculating(scenario(seed, times), seed, times), seed, times)
        assert differences(*both(case)) == [], f"with_ranks(speculating(scenario({seed}, {times!r})))"


@pytest.mark.parametrize("times", TIMES)
def test_engines_agree_where_other_pools_come_and_go(times: Times) -> None:
    """Replicas are numbered over all pools: those of one with ranks stand before and between others that fail."""
    for seed in range(60):
        case = with_ranks(with_lives(scenario(seed, times), seed, times), seed, times)
        slow, fast = both(case)
        assert differences(slow, fast) == [], f"with_ranks(with_lives(scenario({seed}, {times!r})))"
        if slow.fleet is None or fast.fleet is None:
            continue
        for d, item in enumerate(case.deployments):
            if isinstance(item, GpuPool) and not item.changes:
                assert slow.fleet.level(d, [IN_SERVICE])[1].tolist() == [item.replicas]


STEP = LinearStepTime(base_s=0.5, per_prefill_token_s=0.01, per_sequence_s=0.125, per_kv_token_s=0.001)


def pool(**changes: object) -> GpuPool:
    given = {"kind": "gpu_pool", "replicas": 1, "usd_per_replica_hour": 1.0, "step_time": STEP, "data_parallel": 2}
    return GpuPool.model_validate({**given, "prefix_caching": False, **changes})


def together(of: GpuPool, shared_s: F64 | None = None) -> StepTable:
    """Its ranks step together, and share a millisecond a token."""
    ranks = of.data_parallel
    tokens = np.arange(ranks * of.max_num_batched_tokens + 1, dtype=np.float64)
    return pool_table(of)._replace(ranks=ranks, shared_s=0.001 * tokens if shared_s is None else shared_s)


def run(of: GpuPool, table: StepTable | None, *requests: tuple[float, int, int]) -> EngineResult:
    """Requests as arrival, prompt and output tokens, by both engines."""
    arrival_s, prompt, output = (np.array(column) for column in zip(*requests, strict=True))
    work = single_stage(arrival_s.astype(np.float64), prompt, output)
    slow, fast = (by([work], ["pool"], [of], tables=[table]) for by in (reference.run, compiled.run))
    assert differences(slow, fast) == []
    return fast


def own_s(*batch: tuple[int, int]) -> float:
    """Seconds that a rank takes alone for an iteration: of each sequence the prompt tokens it takes in, or the KV it attends to."""
    prompts, held = [one for one, kv in batch if not kv], [kv for _, kv in batch if kv]
    return 0.5 + 0.01 * sum(prompts) + 0.125 * len(held) + 0.001 * sum(held)


def test_a_request_alone_pays_for_the_batch_of_the_idle_rank_too() -> None:
    of = pool(max_num_seqs=4, max_num_batched_tokens=64)
    got = run(of, together(of), (1.0, 20, 3))
    # 20 tokens are beyond the graphs of 8: the idle rank's one token comes on top; while decoding both batches have one.
    first_s = 1.0 + own_s((20, 0)) + 0.021
    assert got.first_token_s[0] == pytest.approx(first_s, abs=1e-12)
    assert got.finished_s[0] == pytest.approx(first_s + own_s((1, 21)) + own_s((1, 22)) + 2 * 0.002, abs=1e-12)


def test_an_iteration_takes_as_long_as_the_slowest_rank_and_what_all_share() -> None:
    """Request by request and iteration by iteration: one rank attends to much, the other, with more sequences, grows faster."""
    of = pool(max_num_seqs=64, max_num_batched_tokens=640)
    # In turn, as the front end hears of nothing within a tenth of a second: 0, 2, 4, ... on the first rank, 1, 3, ... on the other.
    prompts, outputs = [170, 20, 1, 21, 1, 22, 1, 23], [300, 290, 1, 280, 1, 270, 1, 260]
    got = run(of, together(of), *((0.0, *one) for one in zip(prompts, outputs, strict=True)))
    clock_s, had = 0.0, [0] * 8
    while any(had[k] < outputs[k] for k in range(8)):
        batches = [[k for k in range(8) if k % 2 == rank and had[k] < outputs[k]] for rank in (0, 1)]
        own = [
            own_s(*((0, prompts[k] + had[k]) if had[k] else (prompts[k], 0) for k in batch))
            for batch in batches
            if batch
        ]
        tokens = [sum(1 if had[k] else prompts[k] for k in batch) or 1 for batch in batches]
        padded = 2 * (max(tokens) if max(tokens) <= 2 else 4 if max(tokens) <= 4 else -(-max(tokens) // 8) * 8)
        clock_s += max(own) + 0.001 * (padded if max(tokens) <= 128 else sum(tokens))
        for k in (k for batch in batches for k in batch):
            had[k] += 1
            if had[k] == 1:
                assert got.first_token_s[k] == pytest.approx(clock_s, rel=1e-9)
            if had[k] == outputs[k]:
                assert got.finished_s[k] == pytest.approx(clock_s, rel=1e-9)


def test_one_that_comes_to_an_idle_rank_waits_for_the_end_of_the_others_iteration() -> None:
    of = pool(max_num_seqs=4, max_num_batched_tokens=64)
    got = run(of, together(of), (0.0, 20, 50), (3.0, 4, 1))
    ends_s, had = own_s((20, 0)) + 0.021, 1
    while ends_s < 3.0:
        ends_s, had = ends_s + own_s((1, 20 + had)) + 0.002, had + 1
    assert got.started_s[1] == pytest.approx(ends_s, abs=1e-9)
    apart = run(of, None, (0.0, 20, 50), (3.0, 4, 1))
    assert apart.started_s[1] == 3.0


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_that_share_nothing_are_replicas_in_turn(ranks: int) -> None:
    """Ranks of a dense model: as many replicas, and their seconds count as parts of one."""
    for seed in range(40):
        case = scenario(seed, "apart")
        mine = [one for one in case.deployments if isinstance(one, GpuPool)]
        several, one = (
            replace(
                case,
                deployments=[
                    item.model_copy(update={"load_balancer": "round_robin", **changes}) if item in mine else item
                    for item in case.deployments
                ],
            )
            for changes in ({"replicas": ranks}, {"replicas": 1, "data_parallel": ranks})
        )
        apart, ranked = (
            compiled.run(made.works, made.names, made.deployments, made.rule, made.until_s, made.tables)
            for made in (several, one)
        )
        shares = [ranks if item in mine else 1 for item in case.deployments]
        assert differences(apart, replace(ranked, busy_s=ranked.busy_s * shares), rtol=1e-12) == []


def test_the_front_end_counts_waiting_sequences_four_times_and_hears_of_them_every_tenth_of_a_second() -> None:
    of = pool(max_num_seqs=8, max_num_batched_tokens=64)
    # Heard at 0 and at 0.2: by then the first rank has two and the second one, so the next goes there, counts as waiting, and
    # the one after that goes to the first.
    got = run(of, together(of), (0.0, 8, 40), (0.01, 8, 40), (0.02, 8, 40), (2.2, 8, 1), (2.21, 60, 1))
    assert got.first_token_s[3] == got.first_token_s[4]
    slow = reference.Simulation(
        [single_stage(np.array([0.0]), np.array([1]), np.array([1]))], ["p"], [of], None, None, [together(of)]
    )
    group = slow.pools[0].groups[0]
    assert [group.all.index(group.choose(at_s, 1)) for at_s in (0.0, 0.01, 0.02, 0.03)] == [0, 1, 0, 1]
    assert group.all.index(group.choose(0.2, 3)) == 0  # nothing of that has come: heard of anew
    assert [group.all.index(group.choose(0.25, 1)) for _ in range(3)] == [1, 1, 1]


def test_all_ranks_end_their_iterations_together() -> None:
    of = pool(max_num_seqs=4, max_num_batched_tokens=64, data_parallel=3)
    ends: dict[float, set[int]] = {}

    def watch(rank: Replica) -> None:
        if not rank.batch:
            ends.setdefault(float(rank.recorder.env.now), set()).add(rank.number)

    work = single_stage(np.arange(9, dtype=np.float64) * 0.7, np.full(9, 30), np.full(9, 12))
    reference.run([work], ["pool"], [of], tables=[together(of)], watch=watch)
    assert sum(len(ranks) == 3 for ranks in ends.values()) > 10
    assert (np.diff(sorted(ends)) > 0.5).all()


def test_tables_of_ranks_add_up_to_those_of_servers() -> None:
    """A profile with experts that weigh nothing on one rank, and times that the catalogue looked up for as many tokens on each."""
    times = small(moe=True)
    alone, ranked = (operator_table(times, NONE, 1024, 64, ranks) for ranks in (1, 4))
    assert ranked.ranks == 4
    assert len(ranked.shared_s) == 4097
    np.testing.assert_allclose(evenly_shared(ranked).dense_s, alone.dense_s, rtol=1e-12)
    shape = "Qwen/Qwen3-30B-A3B-Instruct-2507"
    one, two, eight = (physics_table(shape, "H100", 1, "BF16", 512, 64, data_parallel=n) for n in (1, 2, 8))
    assert (one.ranks, two.ranks, eight.ranks) == (1, 2, 8)
    # What a batch of the same size on every rank takes: less than on one GPU that holds all experts, and never less than
    # reading its part of them.
    assert evenly_shared(two).dense_s[64] < one.dense_s[64]
    assert (np.diff(two.shared_s) >= 0).all()
    assert (eight.shared_s[1:513] < two.shared_s[1:513]).all()
    assert physics_table("Qwen/Qwen3-32B", "H100", 1, "BF16", 512, 64, data_parallel=2).ranks == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"autoscaling": {"target_queue": 3, "minimum": 1, "maximum": 2}, "start_up": {"seconds": 5}},
            "no autoscaling with",
        ),
        ({"failures": {"mtbf_h": 3, "mttr_h": 1}, "start_up": {"seconds": 5}}, "no failures with"),
        ({"data_parallel": 0}, "greater than or equal to 1"),
    ],
)
def test_what_ranks_cannot_do_is_refused_by_name(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        pool(**changes)


def test_the_gpus_of_all_ranks_are_paid_for() -> None:
    given = {"kind": "gpu_pool", "replicas": 1, "model": "Qwen/Qwen3-30B-A3B", "gpu": "h200_sxm"}
    one = GpuPool.model_validate(given)
    four = GpuPool.model_validate({**given, "data_parallel": 2, "tensor_parallel": 2})
    assert four.gpus == 4
    assert four.hourly_usd == 4 * one.hourly_usd


def test_the_run_with_ranks_is_predicted_from_its_layers(shared: Path) -> None:
    """The links' figures are fitted to it and a dense model's run together, how experts are used to another model's."""
    name = "qwen3-30b-a3b-instruct-2507"
    folders = shared / "vllm-runs" / f"rtxpro6000_{name}", shared / "gpu-profiles" / f"rtxpro6000_qwen_{name}"
    found = backtest_run(*folders)
    assert "2 data-parallel ranks that step together" in found["step_time"]
    assert all(abs(found["e2e_s"][name]["error_percent"]) < 2 for name in ("mean", "p50", "p90", "p99"))
    assert abs(found["tpot_s"]["p50"]["error_percent"]) < 2
    assert all(abs(found["ttft_s"][name]["error_percent"]) < 5 for name in ("mean", "p50", "p90", "p99"))


def test_pools_that_name_a_model_with_experts_have_tables_of_their_ranks() -> None:
    given = {"kind": "gpu_pool", "replicas": 1, "usd_per_replica_hour": 1.0, "data_parallel": 4}
    names = {"Qwen/Qwen3-30B-A3B-Instruct-2507": 4, "Qwen/Qwen3-32B": 1}
    for model, ranks in names.items():
        of = GpuPool.model_validate({**given, "step_time": {"model": model, "gpu": "H100"}, "max_num_seqs": 64})
        table = pool_table(of)
        assert table.ranks == ranks
        assert len(table.shared_s) == (4 * 2048 + 1 if ranks > 1 else 1)


def test_pools_of_the_catalogue_have_the_times_of_their_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aiconfigurator_core")
    asked: list[Served] = []

    def times(served: Served) -> OperatorTimes:
        asked.append(served)
        return small(moe=True)

    monkeypatch.setattr(pools, "operator_times", times)
    pools._catalogue_table.cache_clear()
    given = {"step_time": None, "gpu": "h200_sxm", "data_parallel": 4, "expert_parallel": True, "tensor_parallel": 2}
    assert pool_table(pool(**given, model="Qwen/Qwen3-30B-A3B")).ranks == 4
    assert asked[-1] == Served("Qwen/Qwen3-30B-A3B", "h200_sxm", "vllm", 2, 8, 4)
    assert pool_table(pool(**given, model="Qwen/Qwen3-32B")).ranks == 1
    assert (asked[-1].tensor_parallel, asked[-1].data_parallel) == (2, 1)
    pools._catalogue_table.cache_clear()


def test_pools_with_a_profile_of_experts_have_tables_of_their_ranks(shared: Path) -> None:
    profile = str(shared / "gpu-profiles" / "rtxpro6000_qwen_qwen3-30b-a3b-instruct-2507")
    of = pool(step_time={"gpu_profile": profile}, max_num_seqs=128)
    assert pool_table(of).ranks == 2


def test_no_iteration_of_ranks_undercuts_the_prices_that_bound_their_number() -> None:
    table = physics_table("Qwen/Qwen3-30B-A3B-Instruct-2507", "H100", 1, "BF16", 256, 32, data_parallel=2)
    of = pool(max_num_seqs=32, max_num_batched_tokens=256)
    tables = stack_tables([table])
    for prices in prices_of(table, of, 4000, False):
        for prefill, decoding, kv in [(0, 1, 1), (0, 32, 4000), (1, 0, 0), (256, 0, 0), (224, 32, 500), (7, 3, 2000)]:
            own = seconds_at(tables, 0, prefill, prefill**2 / 2, decoding, kv * decoding, decoding)
            seconds = own + table.shared_s[prefill + decoding]  # the other rank has nothing at all
            least = prices.prompt * prefill + prices.generated * decoding + prices.kv * decoding * kv
            assert seconds >= least * (1 - 1e-9)
