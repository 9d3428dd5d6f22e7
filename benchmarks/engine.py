"""Speed of the engines: ``python -m benchmarks.engine [--json FILE] [--requests N] [--ten-million]``.

* canonical: 500 prompt and 1,000 output tokens, 4 requests a second, one replica (the workload that peers report);
* long_outputs: the same with 5,000 output tokens;
* full: three pools of four replicas, prefix caching, preemption under pressure, four samples a request, timeouts.

Where the time goes is sampled: a second thread looks every half a millisecond at what the compiled engine is doing, and the engine
counts how often it does it. ``--ten-million`` also runs that many canonical requests in a process of their own, for its memory.

Ratios are to the reference engine and to bare SimPy timeouts on the same machine in the same run. Set
``NUMBA_NUM_THREADS=1`` or pin to one core for steadier figures; both engines use one.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np
import simpy
from rich.console import Console
from rich.table import Table

from ttc_sim.base.draws import I64, uniforms
from ttc_sim.engine import compiled, reference
from ttc_sim.engine.compiled.state import ARRIVED, DOING, HAPPENED, LEAPS, PLANS, STEPS
from ttc_sim.engine.work import Work, single_stage
from ttc_sim.files.writing import write_atomically
from ttc_sim.scenario import GpuPool, LinearStepTime

KINDS = {"arrivals": ARRIVED, "other events": HAPPENED, "plans": PLANS, "ends of steps": STEPS, "ends of leaps": LEAPS}
STEP = LinearStepTime(base_s=0.006, per_prefill_token_s=2e-5, per_sequence_s=1e-5, per_kv_token_s=4e-9)


def pool(**changes: object) -> GpuPool:
    plain = {"kind": "gpu_pool", "replicas": 1, "usd_per_replica_hour": 1.0, "step_time": STEP}
    return GpuPool.model_validate({**plain, "kv_cache_tokens": 1_000_000, **changes})


def canonical(requests: int, output: int = 1000) -> tuple[Work, list[GpuPool]]:
    arrival_s = np.cumsum(-np.log(uniforms(1, "bench", requests)[:, 0])) / 4.0
    prompt, tokens = (np.full(requests, size, dtype=np.int64) for size in (500, output))
    work = single_stage(arrival_s, prompt, tokens)
    return work, [pool(max_num_seqs=512)]


def full(requests: int) -> tuple[Work, list[GpuPool]]:
    u = uniforms(1, "full", requests, 4)
    index = np.arange(requests + 1, dtype=np.int64)
    samples = 4 * index
    none = np.zeros(0)
    output = (200 + 1600 * uniforms(1, "output", 4 * requests)[:, 0] ** 2).astype(np.int64)
    work = Work(
        arrival_s=np.cumsum(-np.log(u[:, 0])) / 20.0,
        stage_start=index,
        deployment=(u[:, 1] * 3).astype(np.int64),
        prompt_tokens=(100 + 900 * u[:, 2]).astype(np.int64),
        prefix_id=(u[:, 3] * 50).astype(np.int64),
        sample_start=samples,
        reasoning_tokens=np.zeros(4 * requests, dtype=np.int64),
        visible_tokens=output,
        first_token_s=none,
        per_token_s=none,
        backoff=np.zeros((requests, 1)),
        prefix_tokens=np.full(requests, 96, dtype=np.int64),
    )
    limits = {"replicas": 4, "max_num_seqs": 128, "kv_cache_tokens": 32_000, "timeout_s": 300.0}
    return work, [pool(**limits, load_balancer=kind) for kind in ("least_outstanding", "least_kv", "round_robin")]


def bare_timeouts(count: int) -> float:
    """SimPy timeouts a second, and nothing else."""
    environment = simpy.Environment()

    def tick() -> Generator[simpy.Event, None, None]:
        for _ in range(count):
            yield environment.timeout(1.0)

    environment.process(tick())
    start = time.perf_counter()
    environment.run()
    return count / (time.perf_counter() - start)


def best_rate(
    work: Work, pools: Sequence[GpuPool], repeats: int = 5, interval_s: float | None = None
) -> tuple[float, int, float]:
    """Requests a second, the best of five runs (the first asks for its memory); preemptions and share of timeouts."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        got = compiled.run([work], [str(i) for i in range(len(pools))], pools, interval_s=interval_s)
        seconds.append(time.perf_counter() - start)
    return work.requests / min(seconds), int(got.preemptions.sum()), float((got.status == 2).mean())


def where_time_goes(work: Work, pools: Sequence[GpuPool]) -> dict[str, dict[str, float]]:
    """Times that the engine does each kind of thing, and nanoseconds spent on it, per request."""
    samples: Counter[int] = Counter()
    counters, start = np.zeros(0, dtype=np.int64), 0.0
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.0005):
            samples[int(counters[DOING])] += 1

    looking = threading.Thread(target=look)

    def watch(found: I64) -> None:
        nonlocal counters, start
        counters, start = found, time.perf_counter()
        looking.start()

    compiled.run([work], [str(i) for i in range(len(pools))], pools, watch=watch)
    over.set()
    nanoseconds = (time.perf_counter() - start) * 1e9 / work.requests
    looking.join()
    seen = sum(samples.values())
    return {
        name: {"times": float(counters[kind]) / work.requests, "ns": samples[kind] / seen * nanoseconds}
        for name, kind in KINDS.items()
    }


def ten_million() -> dict[str, float]:
    """In a process of its own: inputs, engine and results together."""
    code = (
        "import json, resource; from benchmarks import engine; engine.compiled.warm_up();"
        "rate, _, _ = engine.best_rate(*engine.canonical(10_000_000), repeats=1);"
        "peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "print(json.dumps({'requests_per_s': rate, 'peak_memory_mb': peak / 1024}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--ten-million", action="store_true")
    given = parser.parse_args()
    n = given.requests
    start = time.perf_counter()
    compiled.warm_up()
    ready_s = time.perf_counter() - start
    table = Table(title="requests simulated a second, one core, after compilation")
    for column in ("workload", "requests", "requests/s", "by hour too", "preemptions", "timed out"):
        table.add_column(column, justify="left" if column == "workload" else "right")
    figures: dict[str, object] = {"seconds_to_compile_or_load": ready_s}
    workloads = {"canonical": canonical(n), "long_outputs": canonical(n, 5000), "full": full(max(n // 5, 1))}
    for name, (work, pools) in workloads.items():
        rate, preemptions, timed_out = best_rate(work, pools)
        by_hour, _, _ = best_rate(work, pools, interval_s=3600.0)
        figures[name] = {"requests": work.requests, "requests_per_s": rate, "preemptions": preemptions}
        figures[f"{name}_by_hour"] = {"requests_per_s": by_hour, "ratio": by_hour / rate}
        cells = (f"{work.requests:,}", f"{rate:,.0f}", f"{by_hour:,.0f}", f"{preemptions:,}", f"{timed_out:.1%}")
        table.add_row(name, *cells)
    profile = Table(title="what the engine does: times a request, and nanoseconds a request (sampled)")
    for column in ("workload", *KINDS):
        profile.add_column(column, justify="left" if column == "workload" else "right")
    figures["where_time_goes"] = found = {name: where_time_goes(*workload) for name, workload in workloads.items()}
    for name, kinds in found.items():
        profile.add_row(name, *(f"{kind['times']:.2f} / {kind['ns']:,.0f}" for kind in kinds.values()))
    shorter, _, _ = best_rate(*canonical(max(n // 10, 1)))
    work, pools = canonical(1000)
    start = time.perf_counter()
    reference.run([work], ["pool"], pools)
    simpy_rate = work.requests / (time.perf_counter() - start)
    rate = figures["canonical"]["requests_per_s"]  # type: ignore[index]
    figures |= {
        "canonical_tenth": {"requests": max(n // 10, 1), "requests_per_s": shorter},
        "reference_requests_per_s": simpy_rate,
        "ratio_to_simpy_engine": rate / simpy_rate,
        "ratio_to_bare_simpy_events": rate / bare_timeouts(500_000),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    if given.ten_million:
        figures["ten_million"] = ten_million()
    Console().print(table)
    Console(width=110).print(profile)
    print(f"ready (compiled or loaded) in {ready_s:.1f} s; peak memory {figures['peak_memory_mb']:,.0f} MB")
    print(f"reference engine: {simpy_rate:,.0f} requests/s, {figures['ratio_to_simpy_engine']:,.0f} times slower")
    print(f"requests simulated per bare SimPy timeout in the same time: {figures['ratio_to_bare_simpy_events']:.2f}")
    if given.ten_million:
        print(f"ten million canonical requests: {figures['ten_million']}")
    if given.json is not None:
        write_atomically(given.json, json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
