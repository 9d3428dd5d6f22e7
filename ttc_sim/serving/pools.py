"""The step times that a GPU pool of a scenario names."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from ttc_sim.base.errors import InputError
from ttc_sim.files.opening import is_file
from ttc_sim.scenario import GpuPool, LayerStepTime, LinearStepTime, PhysicsStepTime, Scenario, StepTime
from ttc_sim.scenario.host import Host
from ttc_sim.serving.catalogue import Served, checked, has_experts, installed, known, own_precision
from ttc_sim.serving.corrections import corrections_for, fitted
from ttc_sim.serving.gpu_profile import load_gpu_profile
from ttc_sim.serving.host import HostTimes, handed_out, host_times, with_host
from ttc_sim.serving.model_context import with_context
from ttc_sim.serving.operator_store import operator_times
from ttc_sim.serving.operators import (
    OperatorTimes,
    kv_bytes_of_a_token,
    kv_tokens,
    operator_table,
    state_tokens,
    with_front_end,
)
from ttc_sim.serving.physics import (
    ARCHITECTURES,
    behind_a_front_end,
    held_bytes,
    kv_bytes_per_token,
    load_architecture,
    physics_table,
)
from ttc_sim.serving.speculation import speculative_table
from ttc_sim.serving.step_time import StepTable, linear_table
from ttc_sim.serving.users_own import own_table


def pool_table(pool: GpuPool, folder: str | Path = ".") -> StepTable:
    """Step times of a pool's replicas, and by how much answers come later than those end.

    Args:
        pool: of the scenario.
        folder: that relative paths in the scenario start from.

    Raises:
        InputError: files that are missing or cannot be read, a name that is not known, or a user's own that failed or returned
            something else.
    """
    table, own = _loop_table(pool, folder), pool.host or Host()
    return table._replace(
        frontend_s=table.frontend_s if own.frontend_s is None else own.frontend_s,
        prompt_token_s=table.prompt_token_s if own.prompt_token_s is None else own.prompt_token_s,
        pipeline_steps=table.pipeline_steps if own.pipeline_steps is None else own.pipeline_steps,
    )


def _loop_table(pool: GpuPool, folder: str | Path) -> StepTable:
    apart = pool.prefill_pool
    if apart is not None:
        alone = pool.model_copy(update={"prefill": None, "kv_transfer": None})
        return pool_table(alone, folder)._replace(apart=pool_table(apart, folder))
    if pool.speculative is not None and pool.speculative.draft_tokens:
        return _speculative_table(pool, Path(folder))
    limits = pool.max_num_batched_tokens, pool.max_num_seqs
    if pool.step_time is None:
        return _catalogue_table(served_by(pool, folder), *limits, host_times(pool))
    if isinstance(pool.step_time, StepTime):
        table = _own_table(_Settings(pool.step_time.model_copy(deep=True)), *limits, Path(folder))
        if table.ranks not in (1, pool.data_parallel):
            expected = f"1, or {pool.data_parallel}, the pool's data_parallel"
            raise InputError(f"step_time {pool.step_time.kind}", "table: ranks", table.ranks, expected)
        return table
    if isinstance(pool.step_time, LayerStepTime):
        return _layers_table(pool.step_time, *limits, Path(folder), host_times(pool), pool.data_parallel)
    return _table(pool.step_time, *limits, Path(folder), pool.data_parallel)


def _speculative_table(pool: GpuPool, folder: Path) -> StepTable:
    assert pool.speculative is not None
    drafted, given = pool.speculative.draft_tokens, pool.step_time
    # How many tokens leave a server is known once it is known how many an iteration yields.
    changes = {
        "speculative": None,
        "max_num_seqs": pool.max_num_seqs * (drafted + 1),
        "host": (pool.host or Host()).model_copy(update={"token_s": 0.0}),
    }
    plain = pool_table(pool.model_copy(update=changes), folder)
    # Nothing there is of tokens in general: a draft token takes what a prompt token takes.
    per_draft_token_s = given.per_prefill_token_s if isinstance(given, LinearStepTime) else 0.0
    table = speculative_table(plain, pool.speculative, pool.max_num_seqs, per_draft_token_s)
    return handed_out(table, host_times(pool).token_s) if given is None or isinstance(given, LayerStepTime) else table


def served_by(pool: GpuPool, folder: str | Path = ".") -> Served:
    """What a pool that names a model and a GPU of the catalogue runs."""
    model = str(pool.model)
    own, tensor = Path(folder) / model, pool.tensor_parallel or 1
    served = Served(
        model=str(own) if is_file(own / "config.json") else model,
        gpu=str(pool.gpu),
        backend=pool.backend or "vllm",
        tensor_parallel=tensor,
        expert_parallel=tensor if pool.expert_parallel else 1,
        precision=pool.precision,
        kv_cache_dtype=None if pool.kv_cache_dtype == "auto" else pool.kv_cache_dtype,
    )
    if pool.data_parallel == 1 or not _shares_experts(served):
        return served
    gpus = tensor * pool.data_parallel
    return served._replace(data_parallel=pool.data_parallel, expert_parallel=gpus if pool.expert_parallel else 1)


def _shares_experts(served: Served) -> bool:
    """Whether ranks have anything in common: those of a dense model are servers of their own."""
    if installed() is None:
        return operator_times(served).moe
    try:
        return has_experts(known(served.model, "pool"))
    except InputError:
        return False  # said where its times are looked up


def note_on_kv(name: str, pool: GpuPool, folder: str | Path = ".") -> str | None:
    """That keys and values of a pool of the catalogue are taken to be kept in 8 bits, where it does not say so itself."""
    if pool.step_time is not None or pool.kv_cache_dtype not in (None, "auto") or installed() is None:
        return None
    served = served_by(pool, folder)
    named = checked(served, "pool")
    if named.kv_cache_dtype is not None or (named.precision or own_precision(named.model)) == "bf16":
        return None
    # Beside quantised weights either may be: only the catalogue knows.
    as_taken, in_16_bits = (operator_times(one) for one in (served, served._replace(kv_cache_dtype="bf16")))
    if kv_bytes_of_a_token(in_16_bits) < 1.5 * kv_bytes_of_a_token(as_taken):
        return None
    return f"{name} is taken to keep keys and values in 8 bits, as measured servers of such weights do; kv_cache_dtype: bf16 for 16"


def with_memory(scenario: Scenario) -> Scenario:
    """The scenario with the KV cache of each pool whose model and GPU the catalogue knows, the context of each whose model is
    known, and weights where a start-up loads them.

    Raises:
        InputError: a name that is not known, a model that does not fit into the GPUs, or a context that is longer than the model's.
    """
    found: dict[str, GpuPool] = {}
    for name, pool in scenario.deployments.items():
        if not isinstance(pool, GpuPool):
            continue
        field = f"deployments.{name}."
        pool = with_weights(pool, scenario.folder, scenario.path, field)
        pool = with_transfer(pool, scenario.folder, scenario.path, field)
        if pool.step_time is None:
            pool = _with_cache(pool, scenario.folder, scenario.path, field)
        pool = with_context(pool, scenario.folder, scenario.path, field)
        if pool is not scenario.deployments[name]:
            found[name] = pool
    return scenario.model_copy(update={"deployments": {**scenario.deployments, **found}}) if found else scenario


def with_transfer(pool: GpuPool, folder: str | Path, where: str | Path = "pool", field: str = "") -> GpuPool:
    """The pool with the KV bytes of a token and the KV cache of its prefill, if that is apart and its model is known.

    Of GPUs that hold the same heads each gets its own copy, so the bytes are those that a decode replica holds of a token.

    Raises:
        InputError: as :func:`pool_table`, or a model that does not fit into the GPUs of prefill.
    """
    apart, moved = pool.prefill_pool, pool.kv_transfer
    if apart is None or moved is None or not pool.knows_its_model:
        return pool
    assert pool.prefill is not None
    changes: dict[str, object] = {}
    if pool.step_time is None and apart.kv_cache_tokens is None:
        times = operator_times(served_by(apart, folder), where, f"{field}prefill.")
        held = _held(times, apart)
        _check_states(times, apart, held, where, f"{field}prefill.")
        if held < 16:
            raise InputError(where, f"{field}prefill.tensor_parallel", apart.gpus, "more GPUs: the weights do not fit")
        changes["prefill"] = pool.prefill.model_copy(update={"kv_cache_tokens": held})
    if moved.kv_bytes_per_token is None:
        if isinstance(pool.step_time, PhysicsStepTime):
            given = pool.step_time
            shape = ARCHITECTURES.get(given.model) or load_architecture(Path(folder) / given.model)
            token = kv_bytes_per_token(shape, given.tensor_parallel, given.kv_cache_dtype)
        else:
            times = operator_times(served_by(pool, folder), where, field)
            token = pool.gpus * kv_bytes_of_a_token(times)
        changes["kv_transfer"] = moved.model_copy(update={"kv_bytes_per_token": token})
    return pool.model_copy(update=changes) if changes else pool


def _held(times: OperatorTimes, pool: GpuPool) -> int:
    """KV tokens that fit into the share of the GPUs' memory that a pool's server uses, beside the states of a full batch."""
    share = pool.gpu_memory_utilization
    room = times.kv_tokens if share is None or share == times.memory_share else kv_tokens(times, share)
    return room - pool.max_num_seqs * state_tokens(times)


def _check_states(times: OperatorTimes, pool: GpuPool, held: int, where: str | Path, field: str) -> None:
    """Refuse a batch whose states leave no room for keys and values, where the weights do."""
    if held < 16 <= held + pool.max_num_seqs * state_tokens(times):
        mib = (pool.tensor_parallel or 1) * times.state_bytes / 2**20
        expected = (
            f"fewer, or more GPUs: each sequence holds {mib:.0f} MiB whatever its length, in layers that do not attend"
        )
        raise InputError(where, f"{field}max_num_seqs", pool.max_num_seqs, expected)


def _with_cache(pool: GpuPool, folder: str | Path, where: str | Path, field: str) -> GpuPool:
    """The pool with the KV cache that its GPUs leave beside the weights."""
    times = operator_times(served_by(pool, folder), where, field)
    share, gib, held = pool.gpu_memory_utilization, times.memory_bytes / 2**30, _held(times, pool)
    _check_states(times, pool, held, where, field)
    if held < 16 and share is not None and times.kv_tokens >= 16:
        expected = f"a larger share of {gib:.0f} GiB: weights leave no room for keys and values"
        raise InputError(where, f"{field}gpu_memory_utilization", share, expected)
    if held < 16:
        expected = f"more GPUs: of {gib:.0f} GiB each the weights take "
        expected += f"{times.weight_bytes / 2**30:.0f}; `ttc-sim gpus {pool.model}` says how many are needed"
        raise InputError(where, f"{field}tensor_parallel", pool.tensor_parallel or 1, expected)
    if pool.kv_cache_tokens is None:
        return pool.model_copy(update={"kv_cache_tokens": held})
    if share is not None and pool.kv_cache_tokens != held:
        expected = f"{held}, which gpu_memory_utilization {share:g} leaves, or no such key"
        raise InputError(where, f"{field}kv_cache_tokens", pool.kv_cache_tokens, expected)
    return pool


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
    corrections = corrections_for(times, served)
    if host.sequence_s is not None:
        corrections = replace(corrections, greedy_us=1e6 * host.sequence_s, sampled_us=1e6 * host.sequence_s)
    ranks = served.data_parallel
    table = operator_table(times, corrections, max_tokens, max_sequences, ranks, sampled=host.sampled)
    table = with_front_end(table, corrections)
    return with_host(table, host.step_s, 0.0, host.token_s)


@lru_cache(maxsize=64)
def _layers_table(
    given: LayerStepTime, max_tokens: int, max_sequences: int, folder: Path, host: HostTimes, ranks: int
) -> StepTable:
    table = load_gpu_profile(
        folder / given.gpu_profile,
        given.tensor_parallel,
        max_tokens,
        max_sequences,
        host_s=given.host_s,
        data_parallel=ranks,
    )
    corrections = fitted()["dense"]
    sequence_s = 1e-6 * (corrections.sampled_us - corrections.greedy_us) if host.sampled else 0.0
    table = behind_a_front_end(table)
    return with_host(table, host.step_s, sequence_s if host.sequence_s is None else host.sequence_s, host.token_s)


# An optimizer looks the same few up again and again.
@lru_cache(maxsize=64)
def _table(
    given: LinearStepTime | PhysicsStepTime, max_tokens: int, max_sequences: int, folder: Path, ranks: int
) -> StepTable:
    if isinstance(given, LinearStepTime):
        return linear_table(given, max_tokens, max_sequences)
    shape = ARCHITECTURES.get(given.model) or load_architecture(folder / given.model)
    limits = given.tensor_parallel, given.precision, max_tokens, max_sequences
    table = physics_table(shape, given.gpu, *limits, data_parallel=ranks, kv_cache_dtype=given.kv_cache_dtype)
    return behind_a_front_end(table)


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
