"""Data-parallel ranks of one server, as both engines have them: who gets a request, and how long an iteration of all takes.

A replica of a pool with ``data_parallel`` is so many ranks, each with a scheduler, a batch and a KV cache of its own. Its front
end sends each request to one of them, as vLLM's internal load balancer does (``vllm/v1/engine/core_client.py``, vLLM 0.19,
Apache-2.0):

* Ranks of a dense model have nothing to do with each other. vLLM runs each as a server of its own, of which the front end hears
  no counts, so requests go to them in turn.
* Ranks of a mixture of experts hold each a part of the experts, and step together (``DPEngineCoreProc``): while any of them has
  something to do, those that have not compute a batch of one token (``execute_dummy_batch``). An iteration takes as long as the
  slowest rank's own part (attention, matrix products, LM head) and then what the experts and the exchange of tokens take for the
  tokens of all ranks (:func:`tokens_together`). The front end adds up 4 times the waiting and the running sequences of each rank
  and takes the lowest sum; it hears of them every tenth of a second, and counts what it has sent since as waiting.

Two simplifications: all samples of a request go to the same rank, and ranks are idle as soon as none has anything to do.
"""

from __future__ import annotations

from numba.extending import register_jitable

from ttc_sim.scenario import GpuPool
from ttc_sim.serving.step_time import StepTable

HEARD_EVERY_S = 0.1
"""Seconds after which the front end hears of the ranks' counts again (``min_stats_update_interval_ms`` of ``DPCoordinator``)."""

WAITING_COUNTS = 4
"""Running sequences that a waiting one counts for."""

MOST_PADDED = 512
"""Tokens up to which batches are computed as a recorded graph, all ranks' as large as the largest: twice ``max_num_seqs``, and
at most so many (``max_cudagraph_capture_size``)."""


def step_together(pool: GpuPool, table: StepTable) -> bool:
    """Whether a replica's ranks step together by this table.

    Raises:
        ValueError: a table of another number of ranks.
    """
    if table.ranks not in (1, pool.data_parallel):
        raise ValueError(f"a table of {table.ranks} ranks, for a pool of data_parallel {pool.data_parallel}")
    return table.ranks > 1


@register_jitable  # type: ignore[untyped-decorator]
def tokens_together(most: int, total: int, idle: int, ranks: int, max_seqs: int, max_tokens: int) -> int:
    """Tokens that the experts compute in an iteration, of the largest batch of a rank, all batches, and ranks that have none.

    Graphs are recorded for 1, 2 and 4 tokens, multiples of 8 and, beyond 256, multiples of 16 (``cudagraph_capture_sizes``).

    >>> tokens_together(100, 130, 1, 3, 256, 2048), tokens_together(600, 630, 1, 3, 256, 2048)
    (312, 631)
    """
    if most > min(MOST_PADDED, 2 * max_seqs):
        return total + idle
    size = most
    if most > 2:
        size = 4 if most <= 4 else (most + 7) // 8 * 8 if most <= 256 else (most + 15) // 16 * 16
    return ranks * min(size, max_tokens)


@register_jitable  # type: ignore[untyped-decorator]
def iterations_slowest(first_s: float, more_s: float, other_s: float, other_more_s: float) -> int:
    """Iterations for which a rank stays the slower of two: its iterations take ``first_s``, and each ``more_s`` more.

    >>> iterations_slowest(1.0, 0.25, 0.5, 0.5), iterations_slowest(1.0, 0.25, 0.5, 0.25) > 1 << 50
    (3, True)
    """
    if other_more_s <= more_s:
        return 1 << 60
    count = (first_s - other_s) / (other_more_s - more_s)
    return 1 << 60 if count > 1e15 else int(count) + 1
