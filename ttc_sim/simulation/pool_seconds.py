"""How many sequences share a replica: what the seconds that a request takes of it depend on."""

from __future__ import annotations

import numpy as np

from ttc_sim.base.draws import F64
from ttc_sim.scenario import GpuPool
from ttc_sim.serving.step_time import StepTable, decode_seconds, prefill_seconds


def full_batch(pool: GpuPool, prompt: F64, output: F64) -> int:
    """Sequences in a replica's batch when it is as full as its limits and its KV cache allow."""
    if pool.kv_cache_tokens is None or not len(output):
        return pool.max_num_seqs
    held = max(float(np.mean(prompt + output / 2)), 1.0)
    return min(pool.max_num_seqs, max(int(pool.kv_cache_tokens / held), 1))


def typical_batch(pool: GpuPool, table: StepTable, prompt: F64, cached: F64, output: F64, busy_s: float) -> int:
    """Sequences in a replica's batch in the mean: so many that what was taken in and generated took the time it was busy.

    Args:
        prompt, cached: (stages,) tokens that each took in, and those of them that the prefix cache held.
        output: (samples,) tokens that each generated.
        busy_s: seconds that replicas, or ranks of them, had anything to do, summed over them; of those that take no prompts in,
            only to generate.
    """
    if not len(output):
        return 1
    takes, found, yields = (np.array([float(np.mean(values))]) for values in (prompt, cached, output))

    def fits(batch: int) -> bool:
        prefill_s = 0.0 if table.apart is not None else len(prompt) * prefill_seconds(table, takes, found, batch)
        return bool(prefill_s + len(output) * decode_seconds(table, takes, yields, batch) <= busy_s)

    least, most = 1, pool.max_num_seqs
    while least < most:
        middle = (least + most) // 2
        least, most = (least, middle) if fits(middle) else (middle + 1, most)
    return least
