"""Prefill and decode apart: a pool that takes prompts in on some replicas and answers them on others."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, field_validator

from ttc_sim.base.draws import F64
from ttc_sim.base.errors import nearest
from ttc_sim.base.limits import MOST_GPUS, MOST_IN_BATCH, MOST_KV_TOKENS, MOST_REPLICAS
from ttc_sim.scenario.base import Model, NonNegative, Positive
from ttc_sim.scenario.gpu_prices import GPU_PRICES, GPUS_WITHOUT_PRICE

# What cannot be said of a pool whose prefill is apart, and what each is when it is not said.
_NOT_APART = {"autoscaling": None, "failures": None, "speculative": None, "data_parallel": 1}


class KvTransfer(Model):
    """How the KV cache of a prompt gets from the replica that took it in to the one that answers it.

    Args:
        gb_per_s: billions of bytes per second that a replica sends or receives; one prompt after another.
        latency_s: seconds from the last byte to when the prompt can be answered, and to set the transfer up; others are under way.
        kv_bytes_per_token: of one token over all layers. Follows from the model's shape where the catalogue or the physics model
            knows it, and must be given otherwise.
    """

    gb_per_s: Positive
    latency_s: NonNegative = 0.0
    kv_bytes_per_token: Positive | None = None

    @property
    def seconds_per_block(self) -> float:
        """Seconds that 16 tokens take.

        Raises:
            ValueError: the bytes of a token are not known.
        """
        if self.kv_bytes_per_token is None:
            raise ValueError("kv_transfer: the KV bytes of a token are not known")
        return 16 * self.kv_bytes_per_token / (self.gb_per_s * 1e9)

    def seconds(self, prompt_tokens: F64) -> F64:
        """Seconds of prompts' ways, nobody else being on them; arrays of any shape."""
        return np.asarray(self.latency_s + np.ceil(prompt_tokens / 16) * self.seconds_per_block)


class PrefillKeys(Model):
    """Replicas that take prompts in for a pool whose own replicas then answer; of what is left out they have the pool's own.

    Args:
        replicas: how many.
        usd_per_replica_hour: price of one. With a ``gpu`` or ``tensor_parallel`` of its own, the list price unless given.
        gpu, tensor_parallel: of a pool with a model and a GPU of the catalogue.
        max_num_seqs, max_num_batched_tokens: most sequences, and most tokens, of a batch.
        kv_cache_tokens: that one replica's KV cache holds.
        load_balancer: which of them a prompt goes to.
    """

    replicas: Annotated[int, Field(ge=1, le=MOST_REPLICAS)]
    usd_per_replica_hour: NonNegative | None = None
    gpu: str | None = None
    tensor_parallel: Annotated[int, Field(ge=1, le=MOST_GPUS)] | None = None
    max_num_seqs: Annotated[int, Field(ge=1, le=MOST_IN_BATCH)] | None = None
    max_num_batched_tokens: Annotated[int, Field(ge=1, le=MOST_IN_BATCH)] | None = None
    kv_cache_tokens: Annotated[int, Field(ge=16, le=MOST_KV_TOKENS)] | None = None
    load_balancer: Literal["round_robin", "least_outstanding", "least_kv", "session", "prefix"] | None = None

    @field_validator("gpu")
    @classmethod
    def _known_gpu(cls, gpu: str | None) -> str | None:
        known = {*GPU_PRICES, *GPUS_WITHOUT_PRICE}
        if gpu is not None and gpu not in known:
            raise ValueError(nearest(gpu, known))
        return gpu


def check_apart(pool: Any) -> None:
    """Refuse what a GPU pool whose prefill is apart cannot be, or needs.

    Raises:
        ValueError: one key without the other, or with one that it cannot be combined with.
    """
    own, moved = pool.prefill, pool.kv_transfer
    if own is None or moved is None:
        if own is not None:
            raise ValueError("kv_transfer to be given: how a prompt's KV cache gets from prefill to decode")
        if moved is not None:
            raise ValueError("no kv_transfer without prefill: it has no effect")
        return
    for key, usual in _NOT_APART.items():
        if getattr(pool, key, usual) not in (usual, None):
            raise ValueError(f"prefill and {key} to exclude each other: the number and kind of both sides is fixed")
    if pool.scheduling == "priority":
        raise ValueError("prefill and scheduling: priority to exclude each other")
    for key in ("gpu", "tensor_parallel"):
        if getattr(own, key) is not None and pool.step_time is not None:
            raise ValueError(f"prefill.{key} and step_time to exclude each other")
    if own.step_time is not None and pool.step_time is None:
        raise ValueError("prefill.step_time and model to exclude each other: both sides run one model")
    apart = pool.prefill_pool
    if apart.max_num_batched_tokens < apart.max_num_seqs:
        raise ValueError(
            f"prefill.max_num_batched_tokens {apart.max_num_batched_tokens} must be at least max_num_seqs"
            f" {apart.max_num_seqs}"
        )
    if apart.usd_per_replica_hour is None and apart.gpu not in GPU_PRICES:
        raise ValueError(f"prefill.usd_per_replica_hour to be given: no list price of {apart.gpu} is known")
    if moved.kv_bytes_per_token is None and not pool.knows_its_model:
        raise ValueError("kv_transfer.kv_bytes_per_token to be given: step_time says nothing of the model's layers")


__all__ = ["KvTransfer", "PrefillKeys", "check_apart"]
