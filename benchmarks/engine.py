"""Speed of the reference engine: ``python -m benchmarks.engine [--json FILE]``.

The canonical workload of peers: 500 prompt and 1,000 output tokens at 4 requests a second on one replica.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Generator
from pathlib import Path
from unittest import mock

import numpy as np
import simpy

from ttc_sim.draws import uniforms
from ttc_sim.engine import reference
from ttc_sim.engine.work import Work
from ttc_sim.scenario import GpuPool, LinearStepTime


def canonical(requests: int, rate_per_s: float = 4.0, prompt: int = 500, output: int = 1000) -> Work:
    index = np.arange(requests + 1, dtype=np.int64)
    return Work(
        arrival_s=np.cumsum(-np.log(uniforms(1, "bench", requests)[:, 0])) / rate_per_s,
        stage_start=index,
        deployment=np.zeros(requests, dtype=np.int64),
        prompt_tokens=np.full(requests, prompt, dtype=np.int64),
        prefix_id=np.full(requests, -1, dtype=np.int64),
        sample_start=index,
        reasoning_tokens=np.zeros(requests, dtype=np.int64),
        visible_tokens=np.full(requests, output, dtype=np.int64),
        first_token_s=np.zeros(requests),
        per_token_s=np.zeros(requests),
        backoff=np.zeros((requests, 1)),
    )


def bare_timeouts(count: int) -> float:
    """Seconds for so many SimPy timeouts and nothing else."""
    environment = simpy.Environment()

    def tick() -> Generator[simpy.Event, None, None]:
        for _ in range(count):
            yield environment.timeout(1.0)

    environment.process(tick())
    start = time.perf_counter()
    environment.run()
    return time.perf_counter() - start


def count_iterations(work: Work, pool: GpuPool) -> int:
    """Iterations of the server's loop in a run of its own, so that counting does not slow the timed one."""
    count = 0
    plain = Linear.seconds

    def counted(self: Linear, prefill_tokens: int, decode_sequences: int, kv_tokens: int) -> float:
        nonlocal count
        count += 1
        return plain(self, prefill_tokens, decode_sequences, kv_tokens)

    with mock.patch.object(Linear, "seconds", counted):
        reference.run([work], ["pool"], [pool])
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    file = parser.parse_args().json
    step = LinearStepTime(base_s=0.012, per_prefill_token_s=6e-5, per_sequence_s=4e-5, per_kv_token_s=7e-8)
    pool = GpuPool(kind="gpu_pool", replicas=1, usd_per_replica_hour=1.0, step_time=step)
    work = canonical(2000)
    start = time.perf_counter()
    reference.run([work], ["pool"], [pool])
    seconds = time.perf_counter() - start
    iterations = count_iterations(work, pool)
    bare = bare_timeouts(200_000) / 200_000
    figures = {
        "requests_per_s": work.requests / seconds,
        "iterations_per_s": iterations / seconds,
        "ratio_to_bare_simpy_timeouts": (iterations / seconds) * bare,
    }
    print(f"reference engine: {work.requests / seconds:,.0f} requests/s, {iterations / seconds:,.0f} iterations/s")
    print(f"{figures['ratio_to_bare_simpy_timeouts']:.2f} of the speed of bare SimPy timeouts in the same run")
    if file is not None:
        file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
