"""What vLLM's server is told of each GPU pool of a plan: ``vllm serve MODEL --argument value ...``.

Arguments are those of vLLM 0.33 (``EngineArgs`` and ``FrontendArgs``). Those of 0.19 are the same but for two: it has no
``max-num-queued-reqs``, which is said of pools with a limit on their queue alone; and what makes weights in FP8 of others, which is
``fp8_per_tensor`` now, was ``fp8``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from ttc_sim.base.errors import InputError
from ttc_sim.deploying.endpoints import Endpoint
from ttc_sim.deploying.exports.bands import arms_in_use, deployments_in_use
from ttc_sim.deploying.exports.features import card_of
from ttc_sim.deploying.exports.labels import labels_of
from ttc_sim.optimizer.plan import SavedPlan
from ttc_sim.scenario.deployments import GpuPool, LayerStepTime, PhysicsStepTime
from ttc_sim.serving.catalogue import config_of, installed, own_precision
from ttc_sim.serving.model_context import context_of_pool
from ttc_sim.serving.operator_lookup import MEMORY_SHARE
from ttc_sim.serving.pools import with_memory

VERSION = "0.33.0"
"""Of vLLM, whose arguments these are."""
BLOCK = 16
"""Tokens of a block of KV cache, as the plan counts them."""
FIRST_PORT = 8000
NODE = 8
"""GPUs of one machine, at most."""

Value = str | int | float | bool


@dataclass(frozen=True)
class Server:
    """One pool's server.

    Attributes:
        name: of the deployment; label: the same as files and clusters take it.
        pool: as it was planned; gpus: of one replica.
        model: that it loads; port: that it listens on; key_env: environment variable with the key that it asks for.
        arguments: by name without the hyphens before it; ``True`` of one without a value.
        not_expressed: what of the pool they do not say.
    """

    name: str
    label: str
    pool: GpuPool
    gpus: int
    model: str
    port: int
    key_env: str | None
    arguments: Mapping[str, Value]
    not_expressed: tuple[str, ...]

    @property
    def words(self) -> list[str]:
        """After ``vllm serve``."""
        found = [self.model]
        for name, value in self.arguments.items():
            found += [f"--{name}"] if value is True else [f"--{name}", str(value)]
        return found


def servers_of(plan: SavedPlan, endpoints: Mapping[str, Endpoint], consumer: str) -> tuple[Server, ...]:
    """Servers of the pools that requests of the plan may come to.

    Raises:
        InputError: there are no such pools, or a model's name that a program would take for an option.
    """
    scenario, used = plan.scenario, deployments_in_use(plan)
    pools = {name: item for name, item in scenario.deployments.items() if isinstance(item, GpuPool) and name in used}
    if not pools:
        expected = f"a plan whose requests come to a GPU pool: {consumer} runs servers, and these are APIs of others"
        raise InputError(scenario.path, "deployments", ", ".join(used), expected)
    labels = labels_of(pools)
    taken = {port for name in pools if (port := _port(endpoints.get(name))) is not None}
    free = (port for port in range(FIRST_PORT, FIRST_PORT + len(pools) + len(taken)) if port not in taken)
    return tuple(
        _server(plan, name, pool, endpoints.get(name), labels[name], _port(endpoints.get(name)) or next(free))
        for name, pool in pools.items()
    )


def _port(endpoint: Endpoint | None) -> int | None:
    try:
        return None if endpoint is None else urlsplit(endpoint.url).port
    except ValueError:  # no number, or none of a port
        return None


def _server(plan: SavedPlan, name: str, pool: GpuPool, endpoint: Endpoint | None, label: str, port: int) -> Server:
    of = f"deployment {name}"
    unsaid: list[str] = []
    model = _model(pool)
    if model is None and endpoint is not None:
        model = endpoint.model
        unsaid.append(
            f"{of}: its step_time names no model; {model}, by which it is served, is taken to be what it loads"
        )
    if model is None:
        model = f"MODEL-OF-{label}"
        unsaid.append(f"{of}: its step_time names no model; {model} stands where the model's name belongs")
    served = None if endpoint is None or endpoint.model == model else endpoint.model
    for said in (model, served or ""):
        if said.startswith("-"):
            expected = "a name that does not begin with a hyphen: vllm would take it for an option"
            raise InputError(plan.scenario.path, f"deployments.{name}.model", said, expected)
    unsaid += _measured_on_another(plan, name, model)
    precision, about_precision = _precision(of, pool, model)
    gpus, about_gpus = _gpus(of, pool)
    if gpus > NODE:
        said = f"a replica of {gpus} GPUs takes more than one machine of {NODE}, which vLLM has to be told of on each"
        about_gpus = (*about_gpus, f"{of}: {said}")
    memory, about_memory = _memory(plan, name, pool)
    if pool.backend not in (None, "vllm"):
        unsaid.append(f"{of}: planned with the times of {pool.backend}, not of vLLM")
    arguments: dict[str, Value] = {} if served is None else {"served-model-name": served}
    arguments["port"] = port
    arguments["tensor-parallel-size"] = gpus // pool.data_parallel
    if pool.data_parallel > 1:
        arguments["data-parallel-size"] = pool.data_parallel
    if pool.expert_parallel:
        arguments["enable-expert-parallel"] = True
    arguments |= precision
    arguments |= {"max-num-seqs": pool.max_num_seqs, "max-num-batched-tokens": pool.max_num_batched_tokens}
    arguments |= memory
    # vLLM's file of settings did not know `false` before 0.20.
    arguments["enable-prefix-caching" if pool.prefix_caching else "no-enable-prefix-caching"] = True
    arguments["scheduling-policy"] = pool.scheduling
    arguments |= _prompts(plan, pool)
    if pool.queue_limit is not None:
        # It counts what runs too, and a request of n samples n times.
        arguments["max-num-queued-reqs"] = pool.data_parallel * (pool.max_num_seqs + pool.queue_limit)
    unsaid += [*about_gpus, *about_precision, *about_memory]
    key_env = None if endpoint is None else endpoint.key_env
    return Server(name, label, pool, gpus, model, port, key_env, arguments, tuple(unsaid))


def _prompts(plan: SavedPlan, pool: GpuPool) -> dict[str, Value]:
    """How long prompts may be, and how they are taken in, where that is not as vLLM does by itself; and how keys are kept."""
    found: dict[str, Value] = {}
    known = context_of_pool(pool, plan.scenario.folder)
    if pool.max_model_len is not None and (known is None or known[1] != pool.max_model_len):
        found["max-model-len"] = pool.max_model_len
    if not pool.chunked_prefill:
        found["no-enable-chunked-prefill"] = True
    if pool.long_prefill_token_threshold:
        found["long-prefill-token-threshold"] = pool.long_prefill_token_threshold
    kept = pool.step_time.kv_cache_dtype if isinstance(pool.step_time, PhysicsStepTime) else pool.kv_cache_dtype
    if kept not in (None, "auto"):
        found["kv-cache-dtype"] = {"bf16": "bfloat16"}.get(str(kept), str(kept))
    return found


def _model(pool: GpuPool) -> str | None:
    return pool.step_time.model if isinstance(pool.step_time, PhysicsStepTime) else pool.model


def _measured_on_another(plan: SavedPlan, name: str, model: str) -> Iterator[str]:
    """A pool may name a model of the same shape, for its times; what is promised is of the one that was measured."""
    arms = [arm for arm in arms_in_use(plan) if plan.scenario.arms[arm].deployment == name]
    cards = (card_of(plan, arm) for arm in arms)
    for measured in dict.fromkeys(card.model for card in cards if card is not None):
        if _plain(measured) != _plain(model):
            said = f"{model} is loaded, but attempts were measured on {measured}: write its name if it is another model"
            yield f"deployment {name}: {said}"


def _plain(model: str) -> str:
    return re.sub(r"[^a-z0-9]", "", model.rpartition("/")[2].lower())


def _gpus(of: str, pool: GpuPool) -> tuple[int, tuple[str, ...]]:
    if isinstance(pool.step_time, (LayerStepTime, PhysicsStepTime)):
        return pool.step_time.tensor_parallel * pool.data_parallel, ()
    if pool.step_time is None:
        return pool.gpus, ()
    said = f"{of}: its step_time does not say on how many GPUs a replica runs; 1 stands where their number belongs"
    return pool.data_parallel, (said,)


def _precision(of: str, pool: GpuPool, model: str) -> tuple[dict[str, Value], tuple[str, ...]]:
    """Of the weights: computed as vLLM loads them, or those of a checkpoint that must have them."""
    wanted = pool.step_time.precision.lower() if isinstance(pool.step_time, PhysicsStepTime) else pool.precision
    if wanted is None:
        return {}, ()
    own = _own(model)
    if wanted == "fp16":
        return {"dtype": "float16"}, ()
    if wanted == "bf16" and own in (None, "bf16"):
        return {"dtype": "bfloat16"}, ()
    if wanted == own:
        return {}, ()  # vLLM reads from the checkpoint how its weights are stored
    if wanted == "fp8" and own == "bf16":
        return {"quantization": "fp8_per_tensor"}, ()
    if own is None:
        made = "; --quantization fp8_per_tensor makes them of others" if wanted == "fp8" else ""
        return {}, (f"{of}: {model} must be a checkpoint whose weights are in {wanted}{made}",)
    return {}, (f"{of}: weights in {wanted} are those of another checkpoint of {model}, which must be named instead",)


def _own(model: str) -> str | None:
    """Precision of a checkpoint's weights, where the catalogue is installed and knows it."""
    known = installed() is not None and config_of(model) is not None
    return own_precision(model) if known else None


def _memory(plan: SavedPlan, name: str, pool: GpuPool) -> tuple[dict[str, Value], tuple[str, ...]]:
    """Of the KV cache: what fits, where that is what the plan says, and so many blocks otherwise."""
    tokens = pool.kv_cache_tokens
    if pool.model is not None and tokens in (None, _fits(plan, name, pool)):
        return {"gpu-memory-utilization": pool.gpu_memory_utilization or MEMORY_SHARE}, ()
    if tokens is None:
        said = f"deployment {name}: planned with a KV cache without limit; vLLM's is what fits beside the weights"
        return {}, (said,)
    said = f"deployment {name}: {tokens // BLOCK:,} blocks of KV cache, whether or not they fit the GPU's memory"
    return {"block-size": BLOCK, "num-gpu-blocks-override": tokens // BLOCK}, (said,)


def _fits(plan: SavedPlan, name: str, pool: GpuPool) -> int | None:
    """Tokens of KV cache beside the weights of a model of the catalogue; ``None`` where nothing is known of it."""
    free = pool.model_copy(update={"kv_cache_tokens": None, "max_model_len": None})
    try:
        found = with_memory(plan.scenario.model_copy(update={"deployments": {name: free}})).deployments[name]
    except InputError:
        return None
    return found.kv_cache_tokens if isinstance(found, GpuPool) else None


__all__ = ["BLOCK", "VERSION", "Server", "servers_of"]
