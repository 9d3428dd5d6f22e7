"""What an iteration takes beside the operators on the GPU: in the server's loop, and behind it.

In the loop every sequence that yields a token takes its time, whatever the model and however many GPUs share it. Measured servers
that sample (top-p, top-k, penalties over the whole vocabulary) took as long of each beside a model of 8 billion parameters as
beside one of 70, with one API server or three; those that take the likeliest token, next to nothing. So it adds to the iteration.
What API servers do (detokenising, streaming) runs in processes of their own, which the loop does not wait for: it only bounds how
many tokens leave a server.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ttc_sim.scenario import GpuPool, LayerStepTime
from ttc_sim.serving.corrections import token_s
from ttc_sim.serving.step_time import StepTable


class HostTimes(NamedTuple):
    """Seconds beside the GPU.

    Attributes:
        step_s: of every iteration.
        sequence_s: of each sequence that yields a token; ``None`` for what was fitted to measured servers.
        sampled: whether tokens are sampled, rather than the likeliest taken.
        token_s: of a token of one rank, whose replica's API servers have those of all its ranks to hand out.
    """

    step_s: float
    sequence_s: float | None
    sampled: bool
    token_s: float


def host_times(pool: GpuPool) -> HostTimes:
    """Those of a pool: as it says, or as measured.

    A model of the catalogue is sampled unless the pool says otherwise, as vLLM does by a model's own ``generation_config.json``;
    what other backends then take was not measured, and a profile of layers has the sampler that it was measured with.
    """
    own = pool.host
    by_layers = isinstance(pool.step_time, LayerStepTime)
    usual = "greedy" if by_layers or pool.backend not in (None, "vllm") else "sampled"
    each_s = token_s() if own is None or own.token_s is None else own.token_s
    return HostTimes(
        step_s=0.0 if own is None or own.step_s is None else own.step_s,
        sequence_s=None if own is None else own.sequence_s,
        sampled=(pool.sampling or usual) == "sampled",
        token_s=each_s * pool.data_parallel / pool.api_servers,
    )


def with_host(table: StepTable, step_s: float, sequence_s: float, token_s: float) -> StepTable:
    """A table with seconds of every iteration and of each sequence that yields a token; none shorter than its tokens' way out.

    >>> from ttc_sim.serving.step_time import step_seconds, step_table
    >>> knots = np.array([0.0, 1.0])
    >>> plain = step_table(8, 8, base_s=0.01, attention=(knots, knots, knots, knots, np.zeros((2, 2, 2, 2))))
    >>> round(step_seconds(with_host(plain, 0.001, 0.002, 0.0), 0, 0.0, 4, 400, 4), 6)
    0.019
    >>> round(step_seconds(with_host(plain, 0.0, 0.0, 0.004), 0, 0.0, 4, 400, 4), 6)
    0.016
    """
    sequences = np.arange(len(table.sampled_s), dtype=np.float64)
    in_loop = table._replace(base_s=table.base_s + step_s, sampled_s=table.sampled_s + sequence_s * sequences)
    return handed_out(in_loop, token_s)


def handed_out(table: StepTable, token_s: float) -> StepTable:
    """A table whose decode iterations are none shorter than the way out of the tokens that they yield, drafts accepted among them.

    Where nothing is known of attention, nothing is bounded: such times are of whole iterations.
    """
    if table.attention_s.size == 1:
        return table
    sequences = np.arange(len(table.decode_s))
    tokens = table.verified * sequences
    rest_s = table.base_s + table.decode_s + table.sampled_s[tokens]
    rest_s = rest_s + table.dense_s[np.minimum(tokens, len(table.dense_s) - 1)]
    out_s = token_s * table.advance * sequences
    # Both are straight lines of KV tokens between two knots; so is what is made of them, a little above the longer of both.
    return table._replace(decode_attention_s=np.maximum(table.decode_attention_s, (out_s - rest_s)[:, None]))
