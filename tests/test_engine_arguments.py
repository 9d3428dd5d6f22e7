"""A server's arguments: what each does to a simulation, or how it is refused; of pools, pasted commands and recorded runs."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ttc_sim as ttc
from ttc_sim.base.errors import InputError
from ttc_sim.engine import compiled, reference
from ttc_sim.engine.work import COMPLETED, REJECTED, EngineResult, Work, single_stage
from ttc_sim.fidelity.measured_run import load_run
from ttc_sim.fidelity.runs import backtest_run
from ttc_sim.policies import Always
from ttc_sim.scenario import GpuPool, scenario_from_dict
from ttc_sim.scenario.engine_arguments import MODELLED, NO_EFFECT, OF_STEP_TIME, REFUSED
from ttc_sim.serving.catalogue import installed
from ttc_sim.serving.model_context import context_in
from ttc_sim.serving.physics import physics_table
from ttc_sim.serving.pools import with_memory
from ttc_sim.simulation.carrying import carry
from ttc_sim.simulation.expectations import expect_arms
from ttc_sim.simulation.outside import Reached, outside_measured
from ttc_sim.strategies import BestOfN, BudgetForcing, MajorityVote, Single, Strategy
from ttc_sim.testing.examples import attempts_of, model_of, pool_of

from .conftest import ROOT

STEP = {"base_s": 1.0, "per_prefill_token_s": 0.0, "per_sequence_s": 0.0, "per_kv_token_s": 0.0}


def both(pool: GpuPool, work: Work) -> EngineResult:
    """What both engines say, which must be the same."""
    slow = reference.run([work], ["server"], [pool])
    fast = compiled.run([work], ["server"], [pool])
    for name in ("status", "started_s", "first_token_s", "finished_s", "preemptions"):
        np.testing.assert_array_equal(getattr(slow, name), getattr(fast, name))
    np.testing.assert_array_equal(slow.generated_tokens[0], fast.generated_tokens[0])
    return fast


def at_once(*requests: tuple[int, int]) -> Work:
    """Requests of so many prompt and output tokens, all at one instant."""
    prompt, output = np.array(requests, dtype=np.int64).T
    return single_stage(np.zeros(len(requests)), prompt.copy(), output.copy())


def seconds(pool: GpuPool, work: Work) -> list[float]:
    """Of first tokens, where every iteration takes a second."""
    return [float(one) for one in both(pool, work).first_token_s]


# ------------------------------------------------------------------------------------------------------------- prompts


def test_long_prompts_let_others_pass() -> None:
    plain = pool_of(step_time=STEP, max_num_batched_tokens=200)
    work = at_once((1000, 1), (50, 1))
    assert seconds(plain, work) == [5.0, 6.0]
    # 100 a second of the long one, and in the first of them all of the short one.
    assert seconds(plain.model_copy(update={"long_prefill_token_threshold": 100}), work) == [10.0, 1.0]
    # As much as an iteration holds is no limit of its own.
    assert seconds(plain.model_copy(update={"long_prefill_token_threshold": 200}), work) == [5.0, 6.0]
    # Three begun side by side share 200 a second: 80, 80 and what is left, until the first two are done.
    three = at_once((160, 1), (160, 1), (160, 1))
    assert seconds(plain.model_copy(update={"long_prefill_token_threshold": 80}), three) == [2.0, 2.0, 3.0]


def test_a_sequence_that_decodes_waits_where_prompts_before_it_fill_the_iteration() -> None:
    pool = pool_of(step_time=STEP, max_num_seqs=3, max_num_batched_tokens=20, long_prefill_token_threshold=10)
    # Two prompts of 100 take 10 each a second; the third comes in when the first is done, after 10, and goes on beside nobody.
    got = both(pool, at_once((100, 1), (100, 1), (5, 3)))
    assert got.first_token_s.tolist() == [10.0, 10.0, 11.0]
    # Admitted in the second iteration, behind the two, it gets no further token until they are done.
    late = replace(at_once((100, 1), (95, 1), (5, 3)), arrival_s=np.array([0.0, 0.0, 8.5]))
    got = both(pool, late)
    assert got.first_token_s.tolist() == [10.0, 10.0, 10.0]
    assert got.finished_s.tolist() == [10.0, 10.0, 12.0]


def test_without_chunks_a_prompt_waits_until_all_of_it_fits() -> None:
    pool = pool_of(step_time=STEP, max_num_batched_tokens=100, max_model_len=100)
    work = at_once((60, 1), (60, 2), (30, 1))
    assert seconds(pool, work) == [1.0, 2.0, 2.0]
    whole = pool.model_copy(update={"chunked_prefill": False})
    # 40 tokens of the second would have fitted, and all of the third, which does not overtake it.
    assert seconds(whole, work) == [1.0, 2.0, 2.0]
    got = both(whole, at_once((60, 1), (60, 2), (60, 1)))
    assert got.first_token_s.tolist() == [1.0, 2.0, 3.0]
    assert both(pool, at_once((60, 1), (60, 2), (60, 1))).first_token_s.tolist() == [1.0, 2.0, 2.0]
    # A sequence that decodes takes one of the 100: a prompt of 100 waits until it has ended.
    got = both(whole.model_copy(update={"max_model_len": 101}), at_once((1, 20), (100, 1)))
    assert got.first_token_s.tolist() == [1.0, 21.0]


def test_answers_end_at_the_context_and_prompts_that_leave_no_room_are_refused() -> None:
    pool = pool_of(step_time=STEP, max_model_len=30)
    got = both(pool, at_once((10, 100), (29, 100), (30, 1), (31, 5), (10, 20), (10, 19)))
    assert got.status.tolist() == [COMPLETED, COMPLETED, REJECTED, REJECTED, COMPLETED, COMPLETED]
    assert got.generated_tokens[0].tolist() == [20, 1, 0, 0, 20, 19]
    assert got.finished_s.tolist() == [20.0, 1.0, 0.0, 0.0, 20.0, 19.0]


# ------------------------------------------------------------------------------------------------------------ outcomes


def with_limit(pool: object, most: int) -> GpuPool:
    assert isinstance(pool, GpuPool)
    return pool.model_copy(update={"max_model_len": most})


@pytest.mark.parametrize(
    "strategy", [Single(), MajorityVote(n=3), BestOfN(n=2, auroc=0.8), BudgetForcing(min_tokens=150, extensions=2)]
)
def test_a_context_does_what_a_cap_does_where_all_prompts_are_as_long(strategy: Strategy) -> None:
    attempts = attempts_of("mine", [2, 4, 3, 1, 2])
    attempts = replace(attempts, prompt_tokens=np.full_like(attempts.prompt_tokens, 30))
    cut = 0
    for most in (5, 40, 120, 400):
        model, draws, _ = model_of(strategy, attempts, {})
        name = model.deployment_names[0]
        pool = with_limit(model.deployments[0], 30 + most)
        short = replace(model, scenario=model.scenario.model_copy(update={"deployments": {name: pool}}))
        nobody = np.zeros(len(draws), dtype=np.int64)
        ended, whole = carry(short, draws, nobody), carry(model, draws, nobody)
        if isinstance(strategy, BudgetForcing):  # whose cap forces an answer: each that is longer is wrong here
            tokens = whole.work.reasoning_tokens + whole.work.visible_tokens
            np.testing.assert_array_equal(ended.correct, whole.correct * (tokens <= most))
            np.testing.assert_array_equal(
                ended.work.reasoning_tokens + ended.work.visible_tokens, np.minimum(tokens, most)
            )
        else:
            capped = replace(model, arms=(replace(model.arms[0], strategy=strategy.with_cap(most)),))
            other = carry(capped, draws, nobody)
            np.testing.assert_array_equal(ended.correct, other.correct)
            np.testing.assert_array_equal(ended.work.visible_tokens, other.work.visible_tokens)
            for figure in ("correct", "reasoning", "visible", "gpu_s"):
                found, expected = getattr(expect_arms(short), figure), getattr(expect_arms(capped), figure)
                np.testing.assert_allclose(found, expected)
        cut += int((ended.correct < whole.correct).sum())
        result = both(pool, ended.work)
        assert (result.status == COMPLETED).all()
        tokens = ended.work.reasoning_tokens + ended.work.visible_tokens
        np.testing.assert_array_equal(result.generated_tokens[0], tokens)
    assert cut > 0


def test_a_prompt_that_leaves_no_room_is_never_right_and_never_served() -> None:
    attempts = attempts_of("mine", [2, 4, 3, 1, 2])
    attempts = replace(
        attempts, correct=np.ones_like(attempts.correct), visible_tokens=np.ones_like(attempts.count[attempts.owner])
    )
    attempts = replace(attempts, reasoning_tokens=np.zeros_like(attempts.reasoning_tokens))
    model, draws, _ = model_of(Single(), attempts, {})
    name = model.deployment_names[0]
    pool = with_limit(model.deployments[0], 50)
    short = replace(model, scenario=model.scenario.model_copy(update={"deployments": {name: pool}}))
    made = carry(short, draws, np.zeros(len(draws), dtype=np.int64))
    fits = made.work.prompt_tokens < 50
    assert 0 < fits.sum() < len(fits)
    np.testing.assert_array_equal(made.correct, fits)
    np.testing.assert_array_equal(both(pool, made.work).status == COMPLETED, fits)
    np.testing.assert_array_equal(expect_arms(short).correct[0], attempts.prompt_tokens[attempts.start[:-1]] < 50)


def test_a_verifier_reads_each_sample_by_itself() -> None:
    """All prompts of a stage together may be longer than a server's context, of which none is."""
    work = replace(at_once((1000, 3)), calls=np.array([10]))
    pool = pool_of(step_time=STEP, max_model_len=120)
    assert both(pool, work).status.tolist() == [COMPLETED]
    assert both(pool, replace(work, calls=np.array([8]))).status.tolist() == [REJECTED]


def traffic(pool: dict[str, Any], **lengths: Any) -> ttc.Scenario:
    return scenario_from_dict(
        {
            "name": "contexts",
            "workload": {
                "arrivals": {"process": "poisson", "rate_per_s": 2.0},
                "requests": 300,
                "lengths": {"prompt_tokens": 100, "output_tokens": {"median": 100, "p95": 400}, **lengths},
            },
            "deployments": {"pool": {**pool_of().model_dump(exclude_none=True), **pool}},
            "arms": {"own": {"deployment": "pool"}},
            "replications": 2,
        },
        "contexts",
    )


def test_answers_that_a_context_ends_are_counted_as_cut_off() -> None:
    own = Always("own")
    capped = traffic({})
    arm = capped.arms["own"].model_copy(update={"strategy": "Single(cap=150)"})
    capped = capped.model_copy(update={"arms": {"own": arm}})
    given = traffic({}), traffic({"max_model_len": 250}), capped, traffic({"max_model_len": 100})
    plain, short, by_cap, refused = (ttc.simulate(one, own) for one in given)
    rates = [found.value for one in (plain, short, by_cap) if (found := one.summary().cut_off_rate) is not None]
    assert rates[0] == 0
    assert 0.1 < rates[1] == rates[2] < 0.6
    np.testing.assert_array_equal(short.runs[0].result.finished_s, by_cap.runs[0].result.finished_s)
    assert refused.summary().rejected_rate.value == 1.0
    said = "600 of 600 requests that come to pool are rejected: their prompts leave no room for an answer in its context of 100"
    assert f"{said} tokens (max_model_len)" in refused.summary().notes
    assert not any("max_model_len" in note for note in short.summary().notes)


def test_what_a_context_keeps_out_is_not_outside_of_what_was_measured() -> None:
    step = {"gpu": "H100", "model": "Qwen/Qwen3-32B", "tensor_parallel": 2}
    for keys, found in (({}, ["context"]), ({"max_model_len": 2000}, [])):
        pool = pool_of(step_time=step, **keys)
        outside = outside_measured("own", pool, None, [Reached(4, 10**6)], Path())
        assert [one.what for one in outside] == found


# ----------------------------------------------------------------------------------------------- what a context follows from


def test_a_context_follows_from_a_model_that_is_known() -> None:
    step = {"gpu": "H100", "model": "01-ai/Yi-34B", "tensor_parallel": 2}
    pool = with_memory(traffic({"step_time": step})).deployments["pool"]
    assert isinstance(pool, GpuPool)
    assert pool.max_model_len == 4096
    shorter = with_memory(traffic({"step_time": step, "max_model_len": 1000})).deployments["pool"]
    assert isinstance(shorter, GpuPool)
    assert shorter.max_model_len == 1000
    with pytest.raises(
        InputError, match=r"pool\.max_model_len: got 5000; expected at most 4096, which 01-ai/Yi-34B was"
    ):
        with_memory(traffic({"step_time": step, "max_model_len": 5000}))
    with pytest.raises(InputError, match="must be at least max_model_len 4096 without chunked_prefill"):
        with_memory(traffic({"step_time": step, "chunked_prefill": False, "max_model_len": 4096}))


def test_position_embeddings_that_are_stretched_make_a_context_longer() -> None:
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    assert context_in({"max_position_embeddings": 40960, "rope_scaling": yarn}, "config.json") == 131072
    assert context_in({"max_position_embeddings": 8192, "rope_scaling": {"type": "llama3", "factor": 8.0}}, "c") == 8192
    assert context_in({"text_config": {"max_position_embeddings": 77}}, "config.json") == 77
    assert context_in({"hidden_size": 5}, "config.json") is None
    with pytest.raises(InputError, match="max_position_embeddings: got '4k'"):
        context_in({"max_position_embeddings": "4k"}, "config.json")


def test_heads_that_gpus_cannot_share_are_refused() -> None:
    for gpus in (3, 7, 16):
        with pytest.raises(
            InputError, match=rf"tensor_parallel: got {gpus}; expected GPUs that share 56 attention heads"
        ):
            physics_table("01-ai/Yi-34B", "H100", gpus, "BF16", 64, 8)
    physics_table("01-ai/Yi-34B", "H100", 56, "BF16", 64, 8)


def test_a_kv_cache_of_8_bits_is_read_in_half_the_time() -> None:
    plain, half = (
        physics_table("Qwen/Qwen3-32B", "H100", 2, "BF16", 64, 8, kv_cache_dtype=kept) for kept in ("auto", "fp8")
    )
    assert half.per_kv_s == pytest.approx(plain.per_kv_s / 2)
    np.testing.assert_array_equal(plain.dense_s, half.dense_s)


@pytest.mark.skipif(installed() is None, reason="the catalogue of GPU operators is not installed")
def test_a_catalogue_pool_holds_more_with_keys_of_8_bits_and_with_more_memory() -> None:
    def held(**keys: Any) -> int:
        given = {"model": "Qwen/Qwen3-32B", "gpu": "h100_sxm", "tensor_parallel": 2, "step_time": None, **keys}
        pool = with_memory(traffic(given)).deployments["pool"]
        assert isinstance(pool, GpuPool)
        assert pool.max_model_len == keys.get("max_model_len", 40960)
        assert pool.kv_cache_tokens is not None
        return pool.kv_cache_tokens

    plain = held()
    assert held(kv_cache_dtype="fp8") == 2 * plain
    assert held(gpu_memory_utilization=0.9) == plain
    # 5% of 80 GB a GPU, at 128 KB a token and GPU.
    assert held(gpu_memory_utilization=0.95) - plain == pytest.approx(0.05 * 80 * 2**30 / 131072, rel=0.1)
    with pytest.raises(InputError, match=r"gpu_memory_utilization: got 0\.2; expected a larger share"):
        held(gpu_memory_utilization=0.2)
    with pytest.raises(InputError, match=r"max_model_len 40000 must be at most what the KV cache holds"):
        held(gpu_memory_utilization=0.5, max_model_len=40000)


# ------------------------------------------------------------------------------------------------------------ commands

COMMAND = """vllm serve Qwen/Qwen3-32B --tensor-parallel-size 2 \\
    --max-num-seqs 128 --max-num-batched-tokens=4k --max-model-len 16K --no-enable-prefix-caching -q awq \\
    --long_prefill_token_threshold 512 --scheduling-policy priority --kv-cache-dtype fp8_e4m3 \\
    --port 8000 --served-model-name a b --trust-remote-code --limit-mm-per-prompt '{"image": 0}' -O3"""
SAID = {
    "model": "Qwen/Qwen3-32B",
    "tensor_parallel": 2,
    "max_num_seqs": 128,
    "max_num_batched_tokens": 4000,
    "max_model_len": 16384,
    "prefix_caching": False,
    "precision": "int4",
    "long_prefill_token_threshold": 512,
    "scheduling": "priority",
    "kv_cache_dtype": "fp8",
}
PLAIN = {"kind": "gpu_pool", "replicas": 1}


def test_a_pasted_command_is_the_pool_that_its_keys_are() -> None:
    on = {**PLAIN, "gpu": "h100_sxm"}
    said = GpuPool.model_validate({**on, **SAID})
    assert GpuPool.model_validate({**on, "engine_args": COMMAND}) == said
    folded = " ".join(COMMAND.split())  # as YAML's ">" makes of it
    assert GpuPool.model_validate({**on, "engine_args": folded}) == said
    started = "python3 -m vllm.entrypoints.openai.api_server --model" + COMMAND.removeprefix("vllm serve")
    assert GpuPool.model_validate({**on, "engine_args": started}) == said
    named = {"tensor-parallel-size": 2, "max_num_seqs": 128, "model": "Qwen/Qwen3-32B", "enable_prefix_caching": False}
    given = GpuPool.model_validate({**on, "engine_args": named, "replicas": 3})
    assert (given.tensor_parallel, given.max_num_seqs, given.prefix_caching, given.replicas) == (2, 128, False, 3)
    # vLLM starts as many front ends as there are ranks, unless it is told otherwise.
    for arguments, found in (("-dp 2 -ep", 2), ("--data-parallel-size 2 --api-server-count 1", 1), ("-asc 3", 3)):
        ranks = GpuPool.model_validate({**on, "engine_args": f"vllm serve Qwen/Qwen3-30B-A3B {arguments}"})
        assert ranks.api_servers == found
        assert ranks.data_parallel == (2 if "2" in arguments else 1)
    # What is read once is written by its keys, and can be read again.
    assert GpuPool.model_validate(said.model_dump()) == said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--pipeline-parallel-size 2", r"engine_args\.pipeline_parallel_size: got 2; expected 1: layers"),
        ("-pp 2", r"engine_args\.pipeline_parallel_size: got 2; expected 1: layers"),
        ("--num-scheduler-steps 8", r"num_scheduler_steps: got 8; expected 1: several iterations"),
        ("--cpu-offload-gb 10", r"cpu_offload_gb: got 10; expected 0: weights in the host's memory"),
        ("--kv-offloading-size 10", r"kv_offloading_size: got 10; expected 0: a KV cache in the host's memory"),
        ("--swap-space 16", r"swap_space: got 16; expected 0 or 4"),
        ("--max-num-partial-prefills 4", r"max_num_partial_prefills: got 4; expected 1: vLLM 0\.19 takes no other"),
        ("--block-size 32", r"block_size: got 32; expected 16"),
        ("--kv-cache-dtype int8", r"kv_cache_dtype: got 'int8'; expected auto, bfloat16, float16 or fp8"),
        ("--dtype float32", r"dtype: got 'float32'; expected 16 bits"),
        ("--enable-lora", r"enable_lora: got True; expected false: adapters"),
        (
            '--speculative-config \'{"method": "ngram"}\'',
            r"speculative_config: got \{'method': 'ngram'\}; expected it left",
        ),
        ("--hf-overrides.rope_theta 5", r"hf_overrides: got \{'rope_theta': 5\}; expected it left out"),
        ("--enforce-eager", r"enforce_eager: got True; expected false: step times were worked out"),
        ("--no-async-scheduling", r"async_scheduling: got False; expected true: step times were worked out"),
        ("--max-num-sequences 8", r"max_num_sequences: got 8; expected 'max_num_seqs'"),
        ("--max-num-seqs", r"max_num_seqs: got '--max-num-seqs'; expected a value after it"),
        ("--max-num-seqs 8 --max-num-seqs 9", r"max_num_seqs: got '--max-num-seqs'; expected each argument once"),
        ("--max-num-seqs eight", r"max_num_seqs: got 'eight'; expected a whole number"),
        ("--max-num-seqs 8 9", r"engine_args: got '9'; expected an argument that begins with --"),
        ("--tensor-parallel-size 2 'x", r"expected a command line whose quotes are closed"),
        ("--config my.yaml", r"config: got 'my\.yaml'; expected it left out: the arguments that stand in that file"),
    ],
)
def test_a_command_with_what_is_not_modelled_is_refused_by_name(arguments: str, says: str) -> None:
    deployments = {"pool": {**PLAIN, "gpu": "h100_sxm", "engine_args": f"vllm serve Qwen/Qwen3-32B {arguments}"}}
    raw = {"name": "x", "deployments": deployments, "arms": {"own": {"deployment": "pool"}}}
    raw["workload"] = {
        "arrivals": {"process": "poisson", "rate_per_s": 1.0},
        "requests": 5,
        "lengths": {"prompt_tokens": 9, "output_tokens": 9},
    }
    with pytest.raises(InputError, match=r"^x\.yaml: deployments\.pool\.(engine_args)?.*" + says.lstrip("^")) as error:
        scenario_from_dict(raw, "x.yaml")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"max_num_seqs": 9, "engine_args": "--max-num-seqs 8"}, "max_num_seqs: got 9; expected 8, as engine_args say"),
        ({"engine_args": "X=1 vllm serve m"}, "what environment variables change is not modelled"),
        ({"engine_args": "python serve.py"}, "a command that begins with vllm serve"),
        ({"engine_args": 5}, "engine_args: got 5; expected a command"),
        (
            {"engine_args": "--gpu-memory-utilization 0.8"},
            "kv_cache_tokens of the pool: step_time says nothing of memory",
        ),
        ({"kv_cache_dtype": "fp8"}, "step_time and kv_cache_dtype to exclude each other"),
        ({"chunked_prefill": False}, "max_model_len to be given"),
        (
            {"chunked_prefill": False, "max_model_len": 4096},
            "max_num_batched_tokens 256 must be at least max_model_len 4096",
        ),
        (
            {
                "long_prefill_token_threshold": 8,
                "speculative": {"draft_tokens": 1, "acceptance_length": 1.5, "draft_s": 0},
            },
            "speculative and long_prefill_token_threshold to exclude each other",
        ),
        ({"kv_cache_tokens": 160, "max_model_len": 4096}, "max_model_len 4096 must be at most what the KV cache holds"),
        ({"max_model_len": 1}, "max_model_len: got 1"),
        ({"long_prefill_token_threshold": -1}, "long_prefill_token_threshold: got -1"),
    ],
)
def test_keys_that_cannot_be_together_are_refused(keys: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        traffic(keys)


def test_step_times_measured_on_a_server_have_in_them_what_changes_those_alone() -> None:
    given = traffic({"engine_args": "vllm serve any/model --enforce-eager --max-model-len 300 -tp 4"}).deployments[
        "pool"
    ]
    assert isinstance(given, GpuPool)
    assert (given.max_model_len, given.model) == (300, None)
    worked_out = {"step_time": {"gpu": "H100", "model": "01-ai/Yi-34B", "tensor_parallel": 2}}
    for arguments, says in (
        ("-tp 4", r"tensor_parallel_size: got 4; expected 2, which the pool's step_time is of"),
        ("--model other/model", r"model: got 'other/model'; expected 01-ai/Yi-34B, whose step_time the pool has"),
        ("--kv-cache-dtype fp8", r"kv_cache_dtype: got 'fp8'; expected auto, which the pool's step_time is of"),
    ):
        with pytest.raises(InputError, match=says):
            traffic({**worked_out, "engine_args": arguments})


# ---------------------------------------------------------------------------------------------------------------- runs


def write_run(folder: Path, kwargs: dict[str, Any], meta: dict[str, Any] | None = None) -> Path:
    rows = [(0.5 * k, 50, 20, 0.03, 0.63) for k in range(12)]
    names = ("arrival_time", "input_toks", "output_toks", "queued_ts", "first_token_ts", "last_token_ts")
    lines = [json.dumps(dict(zip(names, (a, p, o, a, a + f, a + e), strict=True))) for a, p, o, f, e in rows]
    folder.mkdir(exist_ok=True)
    (folder / "requests.jsonl").write_text("\n".join(lines))
    engine = {"max_num_seqs": 8, "max_num_batched_tokens": 64, **kwargs}
    (folder / "meta.json").write_text(json.dumps({"engine_kwargs": engine, **(meta or {})}))
    return folder


@pytest.mark.parametrize(
    ("kwargs", "meta", "says"),
    [
        ({"pipeline_parallel_size": 2}, {}, r"engine_kwargs\.pipeline_parallel_size: got 2; expected 1: layers"),
        ({"num_scheduler_steps": 4}, {}, r"engine_kwargs\.num_scheduler_steps: got 4"),
        ({"cpu_offload_gb": 4}, {}, r"engine_kwargs\.cpu_offload_gb: got 4"),
        ({"speculative_config": {"method": "eagle"}}, {}, "how many of the drafted tokens were accepted"),
        ({"max_num_seq": 4}, {}, r"engine_kwargs\.max_num_seq: got 4; expected 'max_num_seqs'"),
        ({"block_size": 32}, {}, r"engine_kwargs\.block_size: got 32; expected 16"),
        ({}, {"kv_cache": {"num_gpu_blocks": 100, "block_size": 32}}, r"kv_cache\.block_size: got 32; expected 16"),
        ({"gpu_memory_utilization": 0.5}, {}, r"gpu_memory_utilization: got 0\.5; expected kv_cache\.num_gpu_blocks"),
        (
            {"max_model_len": 69},
            {},
            r"max_model_len: got 69; expected at least 70, the tokens of a prompt and its answer",
        ),
        ({"max_model_len": 5000, "model": "01-ai/Yi-34B"}, {}, r"max_model_len: got 5000; expected at most 4,096"),
        ({"max_model_len": 200, "enable_chunked_prefill": False}, {}, "max_num_batched_tokens 64 must be at least"),
        (
            {"max_model_len": 200},
            {"kv_cache": {"num_gpu_blocks": 9}},
            r"max_model_len: got 200; expected at most the 144",
        ),
        (
            {"tensor_parallel_size": 7, "model": "01-ai/Yi-34B"},
            {},
            "tensor_parallel_size: got 7; expected GPUs that share",
        ),
        ({"tensor_parallel_size": 4}, {"hardware": {"device_count": 2}}, r"4 GPUs'; expected at most the 2 GPUs"),
        (
            {"enable_expert_parallel": True, "model": "01-ai/Yi-34B"},
            {},
            "enable_expert_parallel: got True; expected false",
        ),
        (
            {},
            {"resolved_config": {"parallel_config": {"pipeline_parallel_size": 2}}},
            r"resolved_config\.parallel_config\.p",
        ),
        ({}, {"resolved_config": {"lora_config": {"max_loras": 1}}}, r"resolved_config\.lora_config"),
        (
            {},
            {"resolved_config": {"kv_transfer_config": {"kv_role": "kv_both"}}},
            r"resolved_config\.kv_transfer_config",
        ),
        ({}, {"resolved_config": "all"}, r"resolved_config: got 'all'"),
    ],
)
def test_a_run_with_what_is_not_modelled_is_refused_by_name(
    tmp_path: Path, kwargs: dict[str, Any], meta: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=rf"meta\.json: .*{says}") as error:
        load_run(write_run(tmp_path, kwargs, meta))
    assert "\n" not in str(error.value)


def test_a_run_is_replayed_with_the_arguments_that_its_engine_took(tmp_path: Path) -> None:
    asked = {
        "max_num_seqs": None,
        "max_model_len": None,
        "seed": 3,
        "swap_space": 4,
        "cpu_offload_gb": 0.0,
        "dtype": "bfloat16",
    }
    took = {"scheduler_config": {"max_num_seqs": 5, "max_num_batched_tokens": 80, "long_prefill_token_threshold": 16}}
    took |= {"model_config": {"max_model_len": 75}, "cache_config": {"enable_prefix_caching": False, "block_size": 16}}
    took["scheduler_config"] |= {"enable_chunked_prefill": False, "policy": "fcfs"}  # type: ignore[dict-item]
    pool = load_run(write_run(tmp_path, asked, {"resolved_config": took})).pool
    assert (pool.max_num_seqs, pool.max_num_batched_tokens, pool.max_model_len) == (5, 80, 75)
    assert (pool.chunked_prefill, pool.long_prefill_token_threshold, pool.prefix_caching) == (False, 16, False)
    ranks = load_run(write_run(tmp_path, {"data_parallel_size": 2}, {"hardware": {"device_count": 2}})).pool
    assert ranks.data_parallel == 2


def test_what_changes_step_times_alone_is_in_those_that_are_fitted_and_in_no_others(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {"enforce_eager": True, "model": "Qwen/Qwen3-32B"})
    assert backtest_run(run)["requests"] == 12
    with pytest.raises(InputError, match=r"engine_kwargs\.enforce_eager: got True; expected false"):
        backtest_run(run, tmp_path)
    with pytest.raises(InputError, match=r"engine_kwargs\.enforce_eager: got True; expected false"):
        backtest_run(run, gpu="h100_sxm")
    run = write_run(tmp_path / "run", {"kv_cache_dtype": "fp8", "model": "Qwen/Qwen3-32B"})
    with pytest.raises(InputError, match=r"engine_kwargs\.kv_cache_dtype: got 'fp8'; expected auto: the profile"):
        backtest_run(run, tmp_path)
    assert "meta.json has no kv_cache.num_gpu_blocks" in backtest_run(run)["assumed"][0]


def test_the_page_on_arguments_says_of_each_what_is_made_of_it() -> None:
    page = (ROOT / "docs" / "engine-arguments.md").read_text(encoding="utf-8")
    parts = dict(zip(("modelled", "steps", "refused", "rest"), page.split("\n### ")[1:], strict=True))
    for part, names in (
        ("modelled", MODELLED),
        ("steps", OF_STEP_TIME),
        ("refused", REFUSED),
        ("rest", NO_EFFECT),
    ):
        listed = re.findall(r"^\| `(\w+)` \|" if part != "rest" else r"`(\w+)`", parts[part], re.MULTILINE)
        assert sorted(listed) == sorted(names)
    for name, (_, why) in REFUSED.items():
        assert f"| {why} |" in page, name
    every = [*MODELLED, *OF_STEP_TIME, *REFUSED, *NO_EFFECT]
    assert len(every) == len(set(every))
