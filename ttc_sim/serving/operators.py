"""Times of a model's operators on a GPU, and the step times that they add up to.

The numbers come from a catalogue of operators measured one by one (:mod:`ttc_sim.serving.operator_lookup`). What single operators
cannot show (the host, slower collectives between layers, experts used unevenly) is added by :class:`Corrections`.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from ttc_sim.base.draws import F64
from ttc_sim.serving.step_time import StepTable, flat_where_falling, step_table

KINDS = ("matrix", "experts", "link", "other")

# fmt: off
TOKENS = np.array(
    [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 160, 192, 256, 320, 384, 512, 640, 768, 1024, 1280, 1536, 2048,
     2560, 3072, 4096, 5120, 6144, 8192, 12288, 16384],
    dtype=np.float64,
)
# fmt: on
SEQUENCES = np.array([1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024], dtype=np.float64)
KV = np.array(
    [1, 128, 256, 512, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 32768, 65536, 131072],
    dtype=np.float64,
)
CHUNKS = np.array([1, 16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384], dtype=np.float64)
CONTEXTS = np.array([0, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072], dtype=np.float64)
MOST_DECODING = 512
"""Sequences up to which an iteration runs as decoding does (one recorded graph); above it, as prefill does."""


@dataclass(frozen=True)
class OperatorTimes:
    """Milliseconds of one iteration by kind of operator, and the memory of one GPU.

    Attributes:
        origin: which catalogue and version the numbers are from, and its licence.
        moe: the model has experts.
        layers: of the model.
        decode: per kind, (tokens up to ``MOST_DECODING``,) of a decode iteration, at the knots ``TOKENS``.
        prefill: per kind, (``TOKENS``,) of an iteration with prefill.
        head: (``SEQUENCES``,) of the LM head.
        decode_attention: (``SEQUENCES``, ``KV``) by KV tokens per sequence.
        prefill_attention: (``CHUNKS``, ``CONTEXTS``).
        memory_bytes: of one GPU.
        weight_bytes, activation_bytes, runtime_bytes: that it holds beside the KV cache; ``runtime_bytes`` with collectives'.
        kv_bytes_per_token: of the first token, on one GPU.
        memory_share: of the GPU's memory that the server uses.
        kv_tokens: that fit into what is left, 0 if nothing is.
        state_bytes: that each sequence holds there besides, on one GPU, whatever its length: of layers that do not attend.
    """

    origin: str
    moe: bool
    layers: int
    decode: dict[str, list[float]]
    prefill: dict[str, list[float]]
    head: list[float]
    decode_attention: list[list[float]]
    prefill_attention: list[list[float]]
    memory_bytes: float
    weight_bytes: float
    activation_bytes: float
    runtime_bytes: float
    kv_bytes_per_token: float
    memory_share: float
    kv_tokens: int
    state_bytes: float = 0.0


def state_tokens(times: OperatorTimes) -> int:
    """KV tokens that would take the room of what a sequence holds whatever its length."""
    return math.ceil(times.state_bytes / kv_bytes_of_a_token(times)) if times.state_bytes else 0


def kv_tokens(times: OperatorTimes, memory_share: float) -> int:
    """KV tokens that fit if the server uses another share of the GPU's memory."""
    fixed = times.weight_bytes + times.activation_bytes + times.runtime_bytes
    budget = times.memory_bytes * memory_share - fixed
    return max(int(budget / kv_bytes_of_a_token(times)), 0)


def kv_bytes_of_a_token(times: OperatorTimes) -> float:
    """Bytes of a token's keys and values over all layers, on one GPU."""
    fixed = times.weight_bytes + times.activation_bytes + times.runtime_bytes
    usual = times.memory_bytes * times.memory_share - fixed
    # With sliding windows a token takes less than the first one does, so what is known is scaled where something is.
    return usual / times.kv_tokens if times.kv_tokens else times.kv_bytes_per_token


@dataclass(frozen=True)
class Corrections:
    """What to change in the operators' times, fitted to measured servers by ``scripts/fit_gpu_corrections.py``.

    Attributes:
        layer_us: microseconds of every layer: small kernels and gaps between kernels that were not measured.
        prefill_layer_us: further microseconds of every layer of an iteration with prefill, launched kernel by kernel.
        matrix: factor on matrix products and norms while decoding.
        prefill: factor on everything that an iteration with prefill computes.
        link: factor on collectives between GPUs.
        experts: factor on the experts of a layer while decoding; prefill_experts: a further one of iterations with prefill.
        attention: factor on attention while decoding.
        first_token_ms: milliseconds of a first token outside of the server's loop (HTTP, client).
        prompt_token_us: microseconds of each token of the prompt there (tokeniser).
        pipeline_steps: iterations by which a first token comes later than its own iteration's end.
        greedy_us: microseconds of each sequence that yields a token, in the server's loop but in no operator of the model, where
            the likeliest token is taken; sampled_us: where tokens are sampled (top-p, top-k, penalties).
    """

    layer_us: float = 0.0
    prefill_layer_us: float = 0.0
    matrix: float = 1.0
    prefill: float = 1.0
    link: float = 1.0
    experts: float = 1.0
    prefill_experts: float = 1.0
    attention: float = 1.0
    first_token_ms: float = 0.0
    prompt_token_us: float = 0.0
    pipeline_steps: float = 0.0
    greedy_us: float = 0.0
    sampled_us: float = 0.0


NONE = Corrections()


def with_front_end(table: StepTable, corrections: Corrections) -> StepTable:
    """The table with what is outside of the server's loop."""
    return table._replace(
        frontend_s=1e-3 * corrections.first_token_ms,
        prompt_token_s=1e-6 * corrections.prompt_token_us,
        pipeline_steps=corrections.pipeline_steps,
    )


def operator_table(
    times: OperatorTimes,
    known: Corrections,
    max_tokens: int,
    max_sequences: int,
    ranks: int = 1,
    *,
    sampled: bool = True,
) -> StepTable:
    """Step times of one server: linear in KV tokens between the knots.

    Args:
        times: of the operators.
        known: corrections; ``NONE`` for the operators' plain sum.
        max_tokens: most tokens in a batch.
        max_sequences: most sequences in a batch.
        ranks: of a mixture of experts, that the times were looked up for (``Served.data_parallel``): they step together, and
            share what the experts and the links take.
        sampled: tokens are sampled, rather than the likeliest taken.
    """
    tokens = np.arange(max_tokens + 1, dtype=np.float64)
    decoding = TOKENS[: len(times.decode["matrix"])]
    decode = known.matrix * (_known(times.decode["matrix"]) + _known(times.decode["other"]))
    decode_shared = known.link * _known(times.decode["link"])
    experts = known.experts * _known(times.decode["experts"])
    prefill_shared = known.link * _known(times.prefill["link"])
    prefill = known.prefill * (_known(times.prefill["matrix"]) + _known(times.prefill["other"]))
    prefill_experts = known.prefill * known.prefill_experts * _known(times.prefill["experts"])
    shared = None
    if ranks > 1:
        # The catalogue's times are of as many tokens on every rank.
        each = np.arange(ranks * max_tokens + 1, dtype=np.float64) / ranks
        shared = 1e-3 * np.where(
            each <= MOST_DECODING,
            _line(each, decoding, decode_shared + experts),
            _line(each, TOKENS, prefill_shared + prefill_experts),
        )
        shared[0] = 0.0
    else:
        decode = decode + decode_shared + experts
        prefill = prefill + prefill_experts + prefill_shared
    dense = np.where(tokens <= MOST_DECODING, _line(tokens, decoding, decode), _line(tokens, TOKENS, prefill))
    dense[0] = 0.0
    served = np.arange(max_sequences + 1, dtype=np.float64)
    sequences = np.concatenate([[0.0], SEQUENCES])
    attending = known.attention * np.vstack([np.zeros(len(KV)), np.array(times.decode_attention)])
    chunks = np.concatenate([[0.0], CHUNKS])
    taking_in = known.prefill * np.vstack([np.zeros(len(CONTEXTS)), np.array(times.prefill_attention)])
    kv = np.concatenate([[0.0], KV])
    attending = np.hstack([attending[:, :1], attending])
    sequence_us = known.sampled_us if sampled else known.greedy_us
    return step_table(
        max_tokens,
        max_sequences,
        base_s=1e-6 * known.layer_us * times.layers,
        dense_s=1e-3 * dense,
        prefill_s=np.where(tokens > 0, 1e-6 * known.prefill_layer_us * times.layers, 0.0),
        sampled_s=1e-3 * known.matrix * _line(served, SEQUENCES, np.array(times.head)) + 1e-6 * sequence_us * served,
        attention=flat_where_falling(
            (chunks, CONTEXTS, sequences, kv, 1e-3 * (taking_in[:, :, None, None] + attending[None, None]))
        ),
        ranks=ranks,
        shared_s=shared,
    )


def _known(values: list[float]) -> F64:
    return np.array(values, dtype=np.float64)


def _line(at: F64, knots: F64, values: F64) -> F64:
    """Interpolated, along the last segment beyond it, and never more than for a larger batch: a batch can be padded."""
    falling = np.minimum.accumulate(values[::-1])[::-1]
    inside: F64 = np.interp(at, knots, falling)
    slope = (falling[-1] - falling[-2]) / (knots[-1] - knots[-2])
    line: F64 = inside + slope * np.maximum(at - knots[-1], 0.0)
    return line


def as_json(times: OperatorTimes) -> str:
    """Numbers with five digits, more than any of them was measured with."""

    def short(value: Any) -> Any:
        if isinstance(value, list):
            return [short(one) if isinstance(one, list) else float(f"{one:.5g}") for one in value]
        return {key: short(one) for key, one in value.items()} if isinstance(value, dict) else value

    return json.dumps(short(asdict(times)))


def from_json(text: str) -> OperatorTimes:
    """Read what :func:`as_json` wrote.

    Raises:
        ValueError: not JSON, another layout, or a number that is negative or not finite.
    """
    raw = json.loads(text)
    if not isinstance(raw, dict) or {*raw, "state_bytes"} != {field.name for field in fields(OperatorTimes)}:
        raise ValueError("not a table of operator times")
    times = OperatorTimes(**raw)
    parts: list[tuple[Any, tuple[int, ...]]] = [
        (times.head, SEQUENCES.shape),
        (times.decode_attention, (len(SEQUENCES), len(KV))),
        (times.prefill_attention, (len(CHUNKS), len(CONTEXTS))),
        *((times.prefill[kind], TOKENS.shape) for kind in KINDS),
        *((times.decode[kind], TOKENS[TOKENS <= MOST_DECODING].shape) for kind in KINDS),
    ]
    for values, shape in parts:
        array = np.array(values, dtype=np.float64)
        if array.shape != shape or not (np.isfinite(array).all() and (array >= 0).all()):
            raise ValueError("a table of operator times of another layout")
    return times
