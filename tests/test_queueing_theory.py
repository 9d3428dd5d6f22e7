"""The compiled engine against closed-form queueing theory, a million requests each.

A server of constant iteration time is a set of ``max_num_seqs`` exponential servers when outputs are exponentially long:
10,000 iterations make a second, so that rounding lengths to tokens and waiting for iterations changes means by less than the
intervals tested against.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from ttc_sim.base.draws import F64, uniforms
from ttc_sim.engine import compiled
from ttc_sim.engine.work import COMPLETED, REJECTED, EngineResult, Work, single_stage
from ttc_sim.scenario import GpuPool, LinearStepTime

N = 1_000_000
TICK_S = 1e-4


def exponential(stream: str, n: int = N) -> F64:
    draws: F64 = -np.log(uniforms(11, stream, n)[:, 0])
    return draws


def single(arrival_s: F64, service_s: F64, samples: int = 1) -> Work:
    output = np.maximum(np.round(service_s / TICK_S), 1).astype(np.int64)
    return single_stage(arrival_s, np.ones(len(arrival_s), dtype=np.int64), output, samples=samples)


def served(work: Work, batch: int, queue_limit: int | None = None, per_sequence_s: float = 0.0) -> EngineResult:
    step = LinearStepTime(
        base_s=0.0 if per_sequence_s else TICK_S,
        per_prefill_token_s=1e-9,
        per_sequence_s=per_sequence_s,
        per_kv_token_s=0.0,
    )
    pool = GpuPool(
        kind="gpu_pool",
        replicas=1,
        usd_per_replica_hour=0.0,
        step_time=step,
        max_num_seqs=batch,
        max_num_batched_tokens=batch + 1000,
        queue_limit=queue_limit,
    )
    got = compiled.run([work], ["server"], [pool])
    littles_law(got)
    return got


def littles_law(got: EngineResult) -> None:
    """Mean number in the system, by its own integral, is rate times mean time: on every run, whatever happened in it."""
    inside = got.status != REJECTED
    events = np.concatenate([got.arrival_s[inside], got.finished_s[inside]])
    order = np.argsort(events, kind="stable")
    number = np.cumsum(np.repeat([1.0, -1.0], inside.sum())[order])[:-1]
    area = float((number * np.diff(events[order])).sum())
    assert number.min() >= 0
    assert area == pytest.approx(float(in_system_s(got)[inside].sum()), rel=1e-9)


def near(values: F64, expected: float, batches: int = 50, slack: float = 0.002) -> None:
    """The mean of a correlated series within 4 standard errors, from batch means, and a little for rounding to iterations."""
    values = values[len(values) // 20 :]
    means = np.array([part.mean() for part in np.array_split(values, batches)])
    error = means.std(ddof=1) / math.sqrt(batches)
    assert abs(values.mean() - expected) < 4 * error + slack * expected, (values.mean(), expected, error)
    assert error < 0.1 * expected


def poisson(rate_per_s: float, n: int = N) -> F64:
    times: F64 = np.cumsum(exponential("gaps", n)) / rate_per_s
    return times


def in_system_s(got: EngineResult) -> F64:
    times: F64 = got.finished_s - got.arrival_s
    return times


def test_mm1() -> None:
    got = served(single(poisson(0.7), exponential("service")), 1)
    near(in_system_s(got), 1 / (1 - 0.7))


@pytest.mark.parametrize(("c", "rate"), [(3, 2.1), (16, 13.0)])
def test_mmc_is_erlang_c(c: int, rate: float) -> None:
    got = served(single(poisson(rate), exponential("service")), c)
    terms = [rate**k / math.factorial(k) for k in range(c)]
    last = rate**c / math.factorial(c) * c / (c - rate)
    waits = last / (sum(terms) + last)
    near(in_system_s(got), 1 + waits / (c - rate))


def test_mg1_is_pollaczek_khinchine() -> None:
    service_s = 0.2 + 1.6 * uniforms(11, "uniform", N)[:, 0]
    rate, mean = 0.6, 1.0
    second = 0.2**2 + 0.2 * 1.6 + 1.6**2 / 3
    got = served(single(poisson(rate), service_s), 1)
    near(in_system_s(got), mean + rate * second / (2 * (1 - rate * mean)))


def test_mg_infinity() -> None:
    service_s = 0.5 + uniforms(11, "uniform", N)[:, 0]
    got = served(single(poisson(20.0), service_s), 512)
    near(in_system_s(got), 1.0, slack=0.0005)


def test_mmck_loses_what_erlang_says() -> None:
    c, waiting, rate = 4, 3, 3.6
    got = served(single(poisson(rate), exponential("service")), c, queue_limit=waiting)
    weights = [rate**k / math.factorial(k) for k in range(c + 1)]
    weights += [weights[c] * (rate / c) ** k for k in range(1, waiting + 1)]
    near((got.status == REJECTED).astype(np.float64), weights[-1] / sum(weights))


def test_processor_sharing() -> None:
    # Iterations as long as there are sequences: each gets its share of the server.
    rate = 0.6
    got = served(single(poisson(rate), exponential("service")), 256, per_sequence_s=TICK_S)
    near(in_system_s(got), 1 / (1 - rate), slack=0.01)


def test_parallel_samples_end_with_the_slowest() -> None:
    samples = 4
    got = served(single(poisson(5.0), exponential("service", N * samples), samples), 512)
    near(in_system_s(got), sum(1 / k for k in range(1, samples + 1)))
    assert (got.status == COMPLETED).all()


def test_time_is_linear_in_requests_and_independent_of_output_length() -> None:
    # Counted in the engine's own events rather than in seconds, which other work on the machine would disturb.
    short = served(single(poisson(0.5, 2000), 0.01 * exponential("service", 2000)), 8)
    long = served(single(poisson(0.5, 2000) * 1000, 10 * exponential("service", 2000)), 8)
    assert (short.status == COMPLETED).all()
    assert (long.status == COMPLETED).all()
    assert long.generated_tokens[0].sum() > 900 * short.generated_tokens[0].sum()
