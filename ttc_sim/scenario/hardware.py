"""What a pool's replicas may run on, and how many there may be: what capacity is planned with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator, model_validator

from ttc_sim.base.errors import nearest
from ttc_sim.base.limits import MOST_GPUS, MOST_IN_BATCH, MOST_KV_TOKENS, MOST_REPLICAS
from ttc_sim.scenario.autoscaling_search import AutoscalingRule
from ttc_sim.scenario.base import OR_ONE, InSchema, Model, NonNegative
from ttc_sim.scenario.deployments import AnyStepTime, Precision
from ttc_sim.scenario.disaggregated import KvTransfer
from ttc_sim.scenario.fleet import StartUp
from ttc_sim.scenario.gpu_prices import GPU_PRICES, GPUS_WITHOUT_PRICE
from ttc_sim.scenario.speculative import MOST_DRAFTED

_RANGE = re.compile(r"(\d{1,9})\s*\.\.\s*(\d{1,9})")
_NUMBERS = "a list such as [1, 2, 4], [1..40], or {from: 1, to: 60}"


def _numbers(given: Any) -> Any:
    """``{from: 1, to: 60}`` and ``[1..40]`` as the numbers that they stand for."""
    if isinstance(given, dict):
        ends = given.get("from"), given.get("to")
        if set(given) != {"from", "to"} or not all(type(end) is int for end in ends):
            raise ValueError(_NUMBERS)
        return _between(*ends)
    if not isinstance(given, (list, tuple)):
        raise ValueError(_NUMBERS)
    found: list[Any] = []
    for one in given:
        written = _RANGE.fullmatch(one.strip()) if isinstance(one, str) else None
        found += [one] if written is None else _between(int(written[1]), int(written[2]))
    if all(type(one) is int for one in found) and any(b <= a for a, b in pairwise(found)):
        raise ValueError("numbers that increase")
    return found


def _between(first: Any, last: Any) -> list[int]:
    if not 1 <= first <= last <= MOST_REPLICAS:
        raise ValueError(f"numbers from 1 to {MOST_REPLICAS:,}, the first not above the last")
    return list(range(first, last + 1))


def _rules(given: Any) -> Any:
    """A rule alone is a list of one."""
    return [given] if isinstance(given, dict) else given


Replicas = Annotated[
    list[Annotated[int, Field(ge=1, le=MOST_REPLICAS)]],
    Field(min_length=1),
    BeforeValidator(_numbers),
    InSchema(
        lambda one: {
            "anyOf": [
                {**one, "items": {"anyOf": [one["items"], {"type": "string", "pattern": _RANGE.pattern}]}},
                {
                    "type": "object",
                    "properties": {"from": one["items"], "to": one["items"]},
                    "required": ["from", "to"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]
"""Numbers of replicas to choose from."""


def _known_gpu(gpu: str) -> None:
    known = {*GPU_PRICES, *GPUS_WITHOUT_PRICE}
    if gpu not in known:
        raise ValueError(nearest(gpu, known))


def _each_once(given: Sequence[object]) -> None:
    twice = next((one for k, one in enumerate(given) if one in given[:k]), None)
    if twice is not None:
        raise ValueError(f"each of them once; {twice} stands there twice")


class PoolOption(Model):
    """One thing that a pool's replicas may run on, said plainly: a pool's own keys instead of the catalogue's.

    Args:
        step_time: as of a pool.
        usd_per_replica_hour: price of one replica.
        gpu, tensor_parallel: what stands behind it, for ``search.gpus``.
        kv_cache_tokens, max_num_seqs, max_num_batched_tokens: instead of the pool's own.
    """

    step_time: AnyStepTime
    usd_per_replica_hour: NonNegative
    gpu: str | None = None
    tensor_parallel: Annotated[int, Field(ge=1, le=MOST_GPUS)] = 1
    kv_cache_tokens: Annotated[int, Field(ge=16, le=MOST_KV_TOKENS)] | None = None
    max_num_seqs: Annotated[int, Field(ge=1, le=MOST_IN_BATCH)] | None = None
    max_num_batched_tokens: Annotated[int, Field(ge=1, le=MOST_IN_BATCH)] | None = None

    @field_validator("gpu")
    @classmethod
    def _gpu_is_known(cls, gpu: str | None) -> str | None:
        if gpu is not None:
            _known_gpu(gpu)
        return gpu


class PoolSearch(Model):
    """What ``ttc-sim capacity`` may choose for a pool; of what is left out it keeps the pool's own.

    Args:
        gpu: GPUs of the catalogue; tensor_parallel: GPUs of a replica; precision: of the weights. All that go together are tried.
        options: instead of those, for pools with a ``step_time``: by a name, what else the replicas may run on; the pool as it
            stands is tried too.
        draft_tokens: of speculative decoding, each with whatever is chosen of the above: ``[0, 1, 2, 3, 4]``; 0 is plain
            decoding. The pool's ``speculative`` must say what is accepted of each number.
        replicas: numbers to choose from: ``[1, 2, 4]``, ``[1..40]`` or ``{from: 1, to: 60}``; from 1 on if left out.
        autoscaling: rules to choose from beside a fixed number; the pool's own if left out.
        start_up: how long a replica takes that one of them starts; the pool's own if left out.
        prefill: numbers of replicas that take prompts in apart to choose from, 0 for none; the pool's own if left out.
        kv_transfer: how a prompt's KV cache then gets to those that answer; the pool's own if left out.
    """

    gpu: Annotated[list[str], Field(min_length=1)] | None = None
    tensor_parallel: Annotated[list[Annotated[int, Field(ge=1, le=MOST_GPUS)]], Field(min_length=1)] | None = None
    precision: Annotated[list[Precision], Field(min_length=1)] | None = None
    options: Annotated[dict[str, PoolOption], Field(min_length=1)] | None = None
    draft_tokens: Annotated[list[Annotated[int, Field(ge=0, le=MOST_DRAFTED)]], Field(min_length=1)] | None = None
    replicas: Replicas | None = None
    autoscaling: Annotated[list[AutoscalingRule], Field(min_length=1), BeforeValidator(_rules), OR_ONE] | None = None
    start_up: StartUp | None = None
    prefill: Annotated[list[Annotated[int, Field(ge=0, le=MOST_REPLICAS)]], Field(min_length=1)] | None = None
    kv_transfer: KvTransfer | None = None

    @field_validator("gpu")
    @classmethod
    def _gpus_are_known(cls, gpus: list[str] | None) -> list[str] | None:
        for gpu in gpus or ():
            _known_gpu(gpu)
        return gpus

    @field_validator("gpu", "tensor_parallel", "precision", "draft_tokens", "prefill")
    @classmethod
    def _no_repetition(cls, given: list[object] | None) -> list[object] | None:
        _each_once(given or ())
        return given

    @model_validator(mode="after")
    def _one_way(self) -> PoolSearch:
        named = [key for key in ("gpu", "tensor_parallel", "precision") if getattr(self, key) is not None]
        if self.options is not None and named:
            raise ValueError(f"options and {named[0]} to exclude each other")
        if self.start_up is not None and self.autoscaling is None:
            raise ValueError("no start_up without autoscaling: it has no effect")
        if self.kv_transfer is not None and not any(self.prefill or ()):
            raise ValueError("no kv_transfer without numbers of prefill above 0: it has no effect")
        if self.prefill is not None and self.autoscaling is not None:
            raise ValueError("prefill and autoscaling to exclude each other")
        return self


Budget = Annotated[int, Field(ge=1, le=MOST_GPUS * MOST_REPLICAS)]
"""GPUs of a kind that there are."""
