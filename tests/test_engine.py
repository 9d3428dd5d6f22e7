"""The reference engine: by hand, against queueing theory, and with random scenarios."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttc_sim.base.draws import F64, uniforms
from ttc_sim.engine.reference import run
from ttc_sim.engine.work import COMPLETED, IN_FLIGHT, REJECTED, TIMED_OUT, Work, tokens_when_answered
from ttc_sim.policies import Load
from ttc_sim.scenario import Api, GpuPool, Latency, LinearStepTime, Price, Retry
from ttc_sim.serving.api_limits import TokenBucket


def work(
    arrival_s: list[float] | F64,
    prompt: list[int],
    output: list[list[int]],
    *,
    deployment: list[int] | None = None,
    first_s: float = 0.5,
    per_token_s: float = 0.1,
    backoff: float = 0.5,
) -> Work:
    n = len(arrival_s)
    flat = [tokens for samples in output for tokens in samples]
    return Work(
        arrival_s=np.asarray(arrival_s, dtype=np.float64),
        stage_start=np.arange(n + 1, dtype=np.int64),
        deployment=np.array(deployment or [0] * n, dtype=np.int64),
        prompt_tokens=np.array(prompt, dtype=np.int64),
        prefix_id=np.full(n, -1, dtype=np.int64),
        sample_start=np.concatenate([[0], np.cumsum([len(samples) for samples in output])]).astype(np.int64),
        reasoning_tokens=np.zeros(len(flat), dtype=np.int64),
        visible_tokens=np.array(flat, dtype=np.int64),
        first_token_s=np.full(len(flat), first_s),
        per_token_s=np.full(len(flat), per_token_s),
        backoff=np.full((n, 10), backoff),
    )


def pool(**changes: object) -> GpuPool:
    step = LinearStepTime(base_s=1.0, per_prefill_token_s=0.01, per_sequence_s=0.1, per_kv_token_s=0.001)
    given_ = {"kind": "gpu_pool", "replicas": 1, "usd_per_replica_hour": 1.0, "step_time": step}
    return GpuPool.model_validate({**given_, **changes})


def api(**changes: object) -> Api:
    given_ = {
        "kind": "api",
        "price": Price(input_usd_per_mtok=1.0, output_usd_per_mtok=1.0),
        "first_token": Latency(median_s=1.0),
        "per_token": Latency(median_s=0.1),
    }
    return Api.model_validate({**given_, **changes})


# ------------------------------------------------------------------------------------------------ by hand


def test_one_request_alone_on_a_pool() -> None:
    got = run([work([2.0], [100], [[3]])], ["p"], [pool()])
    # Prefill 1 + 100 * 0.01; then two decode steps with 101 and 102 KV tokens.
    first = 2.0 + 1.0 + 1.0
    assert got.first_token_s[0] == pytest.approx(first)
    assert got.finished_s[0] == pytest.approx(first + (1 + 0.1 + 0.101) + (1 + 0.1 + 0.102))
    assert got.generated_tokens[0].tolist() == [3]
    assert got.prefilled_tokens[0].tolist() == [100]
    assert got.busy_s[0] == pytest.approx(got.finished_s[0] - 2.0)


def test_running_sequences_go_first_and_prefill_is_chunked() -> None:
    got = run([work([0.0, 0.5], [10, 10], [[4], [1]])], ["p"], [pool(max_num_batched_tokens=6, max_num_seqs=4)])
    # Request 0 needs two chunks (6 + 4), request 1 joins in the second with 2, then 5 (one decodes), then 3.
    t = 1.06  # 6 tokens of request 0
    t += 1.0 + 0.06  # 4 of request 0, 2 of request 1
    assert got.first_token_s[0] == pytest.approx(t)
    t += 1.0 + 0.05 + 0.1 + 0.011  # one decode, 5 of request 1
    t += 1.0 + 0.03 + 0.1 + 0.012  # one decode, the last 3
    assert got.first_token_s[1] == pytest.approx(t)
    assert got.finished_s[1] == pytest.approx(t)
    assert got.finished_s[0] == pytest.approx(t + 1.0 + 0.1 + 0.013)


def test_samples_share_their_prompt() -> None:
    got = run([work([0.0, 0.0], [100, 100], [[2, 3], [1]])], ["p"], [pool(max_num_seqs=2)])
    # The second sample computes what the 6 full blocks of the first leave of the prompt: 4 tokens.
    assert got.first_token_s[0] == pytest.approx(2.04)
    # One slot frees when the shorter sample ends; request 1 is admitted then, in the next iteration.
    second = 2.04 + 1.0 + 0.2 + 0.202
    third = second + 1.0 + 0.1 + 1.0 + 0.102
    assert got.finished_s[0] == pytest.approx(third)
    assert got.finished_s[1] == pytest.approx(third)
    more_than_fit = run([work([0.0], [10], [[1, 1, 1]])], ["p"], [pool(max_num_seqs=2)])
    assert more_than_fit.finished_s[0] == pytest.approx(1.0 + 0.2 + 1.0 + 0.1)


def test_requests_go_to_the_replica_with_fewest_sequences() -> None:
    got = run([work([0.0, 0.0, 0.0], [100] * 3, [[50], [1], [1]])], ["p"], [pool(replicas=2)])
    assert got.first_token_s[1] == pytest.approx(2.0)  # alone on the second replica
    assert got.first_token_s[0] == pytest.approx(3.0)  # the third request joins the first replica


def test_a_pool_drops_what_timed_out_and_counts_what_it_generated() -> None:
    got = run([work([0.0, 0.0], [10, 10], [[100], [3]])], ["p"], [pool(timeout_s=5.0)])
    assert got.status.tolist() == [TIMED_OUT, COMPLETED]
    assert got.finished_s[0] == 5.0
    assert 0 < got.generated_tokens[0][0] < 100


def test_a_full_queue_rejects() -> None:
    got = run([work([0.0, 0.1, 0.2, 0.3], [10] * 4, [[5]] * 4)], ["p"], [pool(max_num_seqs=1, queue_limit=1)])
    assert got.status.tolist() == [COMPLETED, COMPLETED, REJECTED, REJECTED]


def test_an_api_call_alone_and_the_earliest_first_token() -> None:
    got = run([work([1.0], [10], [[11, 21]])], ["a"], [api()])
    assert got.first_token_s[0] == pytest.approx(1.5)
    assert got.finished_s[0] == pytest.approx(1.5 + 2.0)


def test_a_429_waits_and_calls_again() -> None:
    retry = Retry(retries=3, base_s=1.0, max_s=2.0)
    got = run([work([0.0, 0.0], [1, 1], [[11], [1]])], ["a"], [api(concurrency=1, retry=retry)])
    # The first call takes 1.5 s; the second is refused at 0 and 1 and accepted at 1 + 2 = 3 (jitter 0.5 + 0.5).
    assert got.retries.tolist() == [0, 2]
    assert got.started_s[1] == pytest.approx(3.0)
    none_left = run([work([0.0, 0.0], [1, 1], [[1000], [1]])], ["a"], [api(concurrency=1, retry=retry)])
    assert none_left.status.tolist() == [COMPLETED, REJECTED]
    assert none_left.generated_tokens[0].tolist() == [1000, 0]


@pytest.mark.parametrize(
    ("timeout_s", "on_timeout", "tokens"),
    [
        (2.0, "stop", 16),  # the first after 0.5 s, then one each 0.1 s; the one at the timeout is had
        (1.99, "stop", 15),
        (0.49, "stop", 0),
        (2.0, "finish", 100),
    ],
)
def test_a_timed_out_api_call_is_billed_for_what_it_had(timeout_s: float, on_timeout: str, tokens: int) -> None:
    got = run([work([0.0], [10], [[100]])], ["a"], [api(timeout_s=timeout_s, on_timeout=on_timeout)])
    assert got.status[0] == TIMED_OUT
    assert got.finished_s[0] == timeout_s
    assert got.generated_tokens[0][0] == tokens
    assert got.prefilled_tokens[0][0] == 10
    assert got.busy_s[0] == pytest.approx(timeout_s if on_timeout == "stop" else 10.4)


def test_a_stopped_call_leaves_its_place_but_has_counted_against_the_tokens() -> None:
    made = work([0.0, 2.5], [10, 10], [[100], [11]])
    retry = Retry(retries=0)
    for on_timeout, second in (("stop", COMPLETED), ("finish", REJECTED)):
        got = run([made], ["a"], [api(timeout_s=2.0, on_timeout=on_timeout, concurrency=1, retry=retry)])
        assert got.status.tolist() == [TIMED_OUT, second]
    # 110 tokens are gone when the first call is accepted; 2.5 s later 5 are there again.
    got = run([made], ["a"], [api(timeout_s=2.0, tokens_per_minute=120.0, retry=retry)])
    assert got.status.tolist() == [TIMED_OUT, REJECTED]


def test_a_decided_vote_stops_its_call() -> None:
    made = dataclasses.replace(work([0.0], [10], [[10, 20, 100]]), needed=np.array([2]))
    got = run([made], ["a"], [api()])
    assert got.finished_s[0] == pytest.approx(2.4)
    assert got.generated_tokens[0].tolist() == [10, 20, 20]
    assert tokens_when_answered(made, [api()]).tolist() == [10, 20, 20]
    on = api(on_timeout="finish")
    got = run([made], ["a"], [on])
    assert got.finished_s[0] == pytest.approx(2.4)
    assert got.generated_tokens[0].tolist() == tokens_when_answered(made, [on]).tolist() == [10, 20, 100]


def test_stopping_the_clock_counts_what_calls_have_had() -> None:
    for on_timeout in ("stop", "finish"):
        got = run([work([0.0, 3.0], [10, 10], [[100], [100]])], ["a"], [api(on_timeout=on_timeout)], until_s=3.25)
        assert got.status.tolist() == [IN_FLIGHT, IN_FLIGHT]
        assert got.generated_tokens[0].tolist() == [28, 0]
        assert got.first_token_s[0] == 0.5
        assert np.isnan(got.first_token_s[1])


def test_a_call_larger_than_the_bucket_is_rejected_at_once() -> None:
    got = run([work([0.0], [50], [[51]])], ["a"], [api(tokens_per_minute=100.0)])
    assert got.status[0] == REJECTED
    assert got.finished_s[0] == 0.0


def test_stages_run_one_after_another() -> None:
    two = Work(
        arrival_s=np.zeros(1),
        stage_start=np.array([0, 2]),
        deployment=np.array([1, 0]),
        prompt_tokens=np.array([10, 100]),
        prefix_id=np.array([-1, -1]),
        sample_start=np.array([0, 1, 2]),
        reasoning_tokens=np.array([0, 0]),
        visible_tokens=np.array([11, 1]),
        first_token_s=np.array([0.5, 0.0]),
        per_token_s=np.array([0.1, 0.0]),
        backoff=np.zeros((1, 10)),
    )
    got = run([two], ["p", "a"], [pool(), api()])
    assert got.first_token_s[0] == pytest.approx(0.5)
    assert got.finished_s[0] == pytest.approx(1.5 + 2.0)


def test_a_route_sees_live_load() -> None:
    seen: list[Load] = []

    def route(index: int, load: Load) -> int:
        seen.append(load)
        return 1 if load.in_progress["p"] + load.waiting["p"] >= 1 else 0

    arrivals = [0.0, 1.0, 100.0]
    works = [work(arrivals, [10] * 3, [[5]] * 3, deployment=[d] * 3) for d in (0, 1)]
    got = run(works, ["p", "a"], [pool(max_num_seqs=1), api()], route)
    assert got.arm.tolist() == [0, 1, 0]
    assert [load.now_s for load in seen] == arrivals
    assert got.generated_tokens[1].tolist() == [0, 5, 0]


def test_stopping_the_clock_leaves_requests_in_flight() -> None:
    got = run([work([0.0, 50.0], [10, 10], [[1000], [5]])], ["p"], [pool()], until_s=10.0)
    assert got.status.tolist() == [IN_FLIGHT, IN_FLIGHT]
    assert 0 < got.generated_tokens[0][0] < 1000


# ------------------------------------------------------------------------------------------------ theory


def poisson(count: int, rate: float, stream: str = "theory") -> F64:
    return np.cumsum(-np.log(uniforms(11, stream, count)[:, 0])) / rate


@pytest.mark.parametrize("law", ["deterministic", "geometric"])
def test_a_pool_of_one_slot_is_m_g_1(law: str) -> None:
    """Pollaczek-Khinchine: mean wait = rate * E[S^2] / (2 * (1 - load))."""
    n, rate, tau = 40_000, 0.7, 0.1
    u = uniforms(12, "lengths", n)[:, 0]
    tokens = np.full(n, 10) if law == "deterministic" else 1 + np.floor(np.log(u) / np.log(0.9)).astype(np.int64)
    # A decode step takes tau, and so does the prefill of the single prompt token.
    step = LinearStepTime(base_s=tau, per_prefill_token_s=0.0, per_sequence_s=0.0, per_kv_token_s=0.0)
    got = run(
        [work(poisson(n, rate), [1] * n, [[int(t)] for t in tokens])], ["p"], [pool(max_num_seqs=1, step_time=step)]
    )
    wait = got.started_s - got_arrivals(n, rate)
    service = tokens * tau
    expected = rate * float((service**2).mean()) / (2 * (1 - rate * float(service.mean())))
    batches = wait.reshape(40, -1).mean(axis=1)
    assert abs(wait.mean() - expected) < 4 * batches.std(ddof=1) / np.sqrt(40)


def got_arrivals(n: int, rate: float) -> F64:
    return poisson(n, rate)


def test_an_api_without_limits_is_m_g_infinity_and_littles_law_holds() -> None:
    """Nobody waits; the number in progress is Poisson with mean rate * E[S]."""
    n, rate = 30_000, 5.0
    tokens = 1 + (200 * uniforms(13, "lengths", n)[:, 0]).astype(np.int64)
    arrival_s = poisson(n, rate)
    got = run([work(arrival_s, [1] * n, [[int(t)] for t in tokens])], ["a"], [api()])
    service = got.finished_s - arrival_s
    assert service == pytest.approx(0.5 + (tokens - 1) * 0.1, abs=1e-6)
    at = np.linspace(100, arrival_s[-1] - 100, 4000)
    inside = np.searchsorted(arrival_s, at, side="right") - np.searchsorted(np.sort(got.finished_s), at, side="right")
    expected = rate * service.mean()
    assert inside.mean() == pytest.approx(expected, rel=0.05)
    assert inside.var() == pytest.approx(expected, rel=0.25)


def test_parallel_samples_end_with_the_longest() -> None:
    """The mean of the maximum of n exponentials is the harmonic number of n."""
    n, requests = 5, 8000
    tokens = 1 + np.round(-2000 * np.log(uniforms(14, "lengths", requests, n))).astype(np.int64)
    made = work(
        np.arange(requests, dtype=np.float64), [1] * requests, tokens.tolist(), first_s=0.0, per_token_s=1 / 2000
    )
    got = run([made], ["a"], [api()])
    harmonic = sum(1 / k for k in range(1, n + 1))
    assert (got.finished_s - np.arange(requests)).mean() == pytest.approx(harmonic, abs=4 * 1.21 / np.sqrt(requests))


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 40)), min_size=1, max_size=60), st.integers(20, 120))
@settings(max_examples=60, deadline=None)
def test_token_bucket_against_brute_force(calls: list[tuple[float, int]], per_minute: int) -> None:
    bucket = TokenBucket(per_minute)
    now, level = 0.0, float(per_minute)
    for gap, amount in calls:
        now += gap
        level = min(per_minute, level + gap * per_minute / 60)
        if abs(level - amount) > 1e-6:
            assert bucket.take(amount, now) == (level >= amount)
        elif not bucket.take(amount, now):
            continue
        level -= amount if level >= amount - 1e-6 else 0


# ------------------------------------------------------------------------------------------- conservation


@given(st.integers(0, 10_000))
@settings(max_examples=80, deadline=None)
def test_every_request_has_one_end_and_every_token_is_counted(seed: int) -> None:
    u = uniforms(seed, "scenario", 1, 40)[0]
    n = 5 + int(u[0] * 60)
    draw = uniforms(seed, "requests", n, 8)
    output = [[1 + int(x * 60) for x in row[3 : 4 + int(row[7] * 3)]] for row in draw]
    deployments: list[Api | GpuPool] = [
        pool(
            replicas=1 + int(u[1] * 3),
            max_num_seqs=2 + int(u[2] * 6),
            max_num_batched_tokens=8 + int(u[3] * 60),
            queue_limit=None if u[4] < 0.5 else int(u[5] * 6),
            timeout_s=None if u[6] < 0.4 else 5 + 60 * float(u[7]),
        ),
        api(
            requests_per_minute=None if u[8] < 0.4 else 1 + 60 * float(u[9]),
            tokens_per_minute=None if u[10] < 0.4 else 200 + 2000 * float(u[11]),
            concurrency=None if u[12] < 0.5 else 1 + int(u[13] * 4),
            timeout_s=None if u[14] < 0.5 else 1 + 20 * float(u[15]),
            retry=Retry(retries=int(u[16] * 5), base_s=0.2, max_s=5.0),
        ),
    ]
    made = work(
        np.cumsum(draw[:, 0] * 3),
        (1 + draw[:, 1] * 80).astype(int).tolist(),
        output,
        deployment=(draw[:, 2] < 0.5).astype(int).tolist(),
        backoff=float(u[17]),
    )
    until = None if u[18] < 0.7 else float(made.arrival_s[-1])
    got = run([made], ["p", "a"], deployments, until_s=until)
    planned = made.visible_tokens
    owner = np.repeat(np.arange(n), np.diff(made.sample_start))
    assert set(got.status.tolist()) <= {COMPLETED, REJECTED, TIMED_OUT, IN_FLIGHT}
    if until is None:
        assert IN_FLIGHT not in got.status
    done = got.status == COMPLETED
    assert (got.generated_tokens[0] <= planned).all()
    assert (got.generated_tokens[0][done[owner]] == planned[done[owner]]).all()
    assert (got.prefilled_tokens[0][done] == made.prompt_tokens[done]).all()
    assert (got.generated_tokens[0][(got.status == REJECTED)[owner]] == 0).all()
    for i in np.flatnonzero(done):
        times = [made.arrival_s[i], got.started_s[i], got.first_token_s[i], got.finished_s[i]]
        assert all(a <= b + 1e-9 for a, b in itertools.pairwise(times))
    again = run([made], ["p", "a"], deployments, until_s=until)
    assert again.finished_s.tobytes() == got.finished_s.tobytes()
