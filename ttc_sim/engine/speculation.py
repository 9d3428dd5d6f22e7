"""Speculative decoding in both engines: what a verification step yields.

The step verifies the draft tokens of each decoding sequence and yields ``acceptance_length`` tokens in the mean. Here it yields
that mean as evenly as whole tokens allow: after so many steps a sequence has ``floor(steps * acceptance_length)`` more. What is
measured are means; a law around them would be invented, while this one has their throughput and their mean times. Iterations
attend to the mean itself, with its fraction, so that decode iterations of the same sequences still lie on a line.

Blocks are those of vLLM (0.19, ``Scheduler.num_lookahead_tokens``): room for the tokens that a step computes, and for as many
more as the drafter writes ahead.
"""

from __future__ import annotations

from ttc_sim.engine.kv_cache import BLOCK
from ttc_sim.scenario import GpuPool
from ttc_sim.serving.step_time import StepTable

PARTS = 100
"""An acceptance length is counted in so many parts of a token."""


def drafts_of(pool: GpuPool) -> int:
    """Draft tokens that a pool verifies of each sequence in each step; 0 where it does not speculate."""
    return 0 if pool.speculative is None else pool.speculative.draft_tokens


def advance_of(pool: GpuPool) -> int:
    """Parts of a token that a decode step yields in the mean."""
    return PARTS if pool.speculative is None else round(PARTS * pool.speculative.length)


def most_held(prompt: int, output: int, drafts: int) -> int:
    """Tokens that there must be room for: the last one is never computed, but draft tokens are."""
    return prompt + output - 1 + (2 * drafts if output > 1 else 0)


def longest_held(pool: GpuPool) -> int | None:
    """Tokens of the longest sequence that a replica's KV cache can ever hold, but for its last; ``None`` without limit."""
    if pool.kv_cache_tokens is None:
        return None
    return pool.kv_cache_tokens // BLOCK * BLOCK - 2 * drafts_of(pool)


def check_table(table: StepTable, pool: GpuPool) -> None:
    """Refuse step times that were not made for what the pool verifies.

    Raises:
        ValueError: they were made for other draft tokens.
    """
    if table.verified != drafts_of(pool) + 1:
        made = f"a table for {table.verified} tokens a sequence and decode step"
        raise ValueError(f"{made}, where {drafts_of(pool) + 1} are verified: see pools.pool_table")
