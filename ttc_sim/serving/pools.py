"""The step times that a GPU pool of a scenario names."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from ttc_sim.base.errors import InputError
from ttc_sim.files.opening import is_file
from ttc_sim.scenario import GpuPool, LayerStepTime, LinearStepTime, PhysicsStepTime, Scenario, StepTime
from ttc_sim.serving.catalogue import Served
from ttc_sim.serving.corrections import corrections_for, fitted
from ttc_sim.serving.gpu_profile import load_gpu_profile
from ttc_sim.serving.host import HostTimes, host_times, with_host
from ttc_sim.serving.operator_store import operator_times
from ttc_sim.serving.operators import operator_table
from ttc_sim.serving.physics import ARCHITECTURES, held_bytes, load_architecture, physics_table
from ttc_sim.serving.step_time import StepTable, linear_table
from ttc_sim.serving.users_own import own_table


def pool_table(pool: GpuPool, folder: str | Path = ".") -> StepTable:
    """Step times of a pool's replicas.

    Args:
        pool: of the scenario.
        folder: that relative paths in the scenario start from.

    Raises:
        InputError: files that are missing or cannot be read, a name that is not known, or a user's own that failed or returned
            something else.
    """
    limits = pool.max_num_batched_tokens, pool.max_num_seqs
    if pool.step_time is None:
        return _catalogue_table(served_by(pool, folder), *limits, host_times(pool))
    if isinstance(pool.step_time, StepTime):
        return _own_table(_Settings(pool.step_time.model_copy(deep=True)), *limits, Path(folder))
    if isinstance(pool.step_time, LayerStepTime):
        return _layers_table(pool.step_time, *limits, Path(folder), host_times(pool))
    return _table(pool.step_time, *limits, Path(folder))


def served_by(pool: GpuPool, folder: str | Path = ".") -> Served:
    """What a pool that names a model and a GPU of the catalogue runs."""
    model = str(pool.model)
    own = Path(folder) / model
    return Served(
        model=str(own) if is_file(own / "config.json") else model,
        gpu=str(pool.gpu),
        backend=pool.backend or "vllm",
        tensor_parallel=pool.gpus,
        expert_parallel=pool.gpus if pool.expert_parallel else 1,
        precision=pool.precision,
    )


def with_memory(scenario: Scenario) -> Scenario:
    """The scenario with the KV cache of each pool whose model and GPU the catalogue knows, and weights where a start-up loads them.

    Raises:
        InputError: a name that is not known, or a model that does not fit into the GPUs.
    """
    known: dict[str, GpuPool] = {}
    for name, pool in scenario.deployments.items():
        if not isinstance(pool, GpuPool):
            continue
        field = f"deployments.{name}."
        pool = with_weights(pool, scenario.folder, scenario.path, field)
        if pool is not scenario.deployments[name]:
            known[name] = pool
        if pool.step_time is not None:
            continue
        times = operator_times(served_by(pool, scenario.folder), scenario.path, field)
        if times.kv_tokens < 16:
            expected = f"more GPUs: of {times.memory_bytes / 2**30:.0f} GiB each the weights take "
            expected += f"{times.weight_bytes / 2**30:.0f}; `ttc-sim gpus {pool.model}` says how many are needed"
            raise InputError(scenario.path, f"{field}tensor_parallel", pool.gpus, expected)
        if pool.kv_cache_tokens is None:
            known[name] = pool.model_copy(update={"kv_cache_tokens": times.kv_tokens})
    return scenario.model_copy(update={"deployments": {**scenario.deployments, **known}}) if known else scenario


def with_weights(pool: GpuPool, folder: str | Path, where: str | Path = "pool", field: str = "") -> GpuPool:
    """The pool with the size of the weights that a replica loads as it starts, if its start-up depends on that.

    Raises:
        InputError: as :func:`pool_table`, and a start-up that takes too long.
    """
    if pool.start_up is None or pool.start_up.takes_s is not None:
        return pool
    if isinstance(pool.step_time, PhysicsStepTime):
        shape = ARCHITECTURES.get(pool.step_time.model) or load_architecture(Path(folder) / pool.step_time.model)
        held = held_bytes(shape, pool.step_time.precision)
    else:
        times = operator_times(served_by(pool, folder), where, field)
        held = pool.gpus * times.weight_bytes
    start_up = pool.start_up.model_copy(update={"weights_gb": held / 1e9})
    try:
        pool.check_start_up(start_up.takes_s)
    except ValueError as error:
        raise InputError(where, f"{field}start_up", start_up.takes_s, str(error)) from None
    return pool.model_copy(update={"start_up": start_up})


@lru_cache(maxsize=64)
def _catalogue_table(served: Served, max_tokens: int, max_sequences: int, host: HostTimes) -> StepTable:
    times = operator_times(served)
    known = corrections_for(times)
    if host.sequence_s is not None:
        known = replace(known, greedy_us=1e6 * host.sequence_s, sampled_us=1e6 * host.sequence_s)
    table = operator_table(times, known, max_tokens, max_sequences, sampled=host.sampled)
    return with_host(table, host.step_s, 0.0, host.token_s)


@lru_cache(maxsize=64)
def _layers_table(
    given: LayerStepTime, max_tokens: int, max_sequences: int, folder: Path, host: HostTimes
) -> StepTable:
    profile = folder / given.gpu_profile
    table = load_gpu_profile(profile, given.tensor_parallel, max_tokens, max_sequences, host_s=given.host_s)
    known = fitted()["dense"]
    sequence_s = 1e-6 * (known.sampled_us - known.greedy_us) if host.sampled else 0.0
    return with_host(table, host.step_s, sequence_s if host.sequence_s is None else host.sequence_s, host.token_s)


# An optimizer looks the same few up again and again.
@lru_cache(maxsize=64)
def _table(given: LinearStepTime | PhysicsStepTime, max_tokens: int, max_sequences: int, folder: Path) -> StepTable:
    if isinstance(given, LinearStepTime):
        return linear_table(given, max_tokens, max_sequences)
    shape = ARCHITECTURES.get(given.model) or load_architecture(folder / given.model)
    return physics_table(shape, given.gpu, given.tensor_parallel, given.precision, max_tokens, max_sequences)


class _Settings:
    """Settings of a user's own, equal where what they say is: those with lists cannot be hashed themselves."""

    def __init__(self, said: StepTime) -> None:
        self.said = said

    def __hash__(self) -> int:
        return hash(type(self.said))

    def __eq__(self, other: object) -> bool:
        try:
            return isinstance(other, _Settings) and bool(self.said == other.said)
        except Exception:  # of fields that cannot be compared, such as arrays: the table is then made anew
            return False


@lru_cache(maxsize=64)
def _own_table(settings: _Settings, max_tokens: int, max_sequences: int, folder: Path) -> StepTable:
    return own_table(settings.said, max_tokens, max_sequences, folder)
