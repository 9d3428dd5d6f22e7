"""What each pool's replicas may run on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from pydantic import ValidationError

from ttc_sim.base.errors import InputError, from_validation
from ttc_sim.base.limits import MOST_REPLICAS
from ttc_sim.engine.speculation import drafts_of
from ttc_sim.optimizer.capacity.prefill import Variant, with_prefill
from ttc_sim.scenario import Autoscaling, GpuPool, PoolOption, PoolSearch, Scenario
from ttc_sim.scenario.deployments import LARGE_GPU_LIMITS, limits_of
from ttc_sim.scenario.gpu_prices import GPU_PRICES
from ttc_sim.serving.pools import pool_table, with_memory, with_weights
from ttc_sim.serving.step_time import StepTable

_OF_THE_CATALOGUE = ("gpu", "tensor_parallel", "precision")


@dataclass(frozen=True)
class Choice:
    """One thing that a pool's replicas may run on.

    Attributes:
        name: as tables have it.
        pool: with the memory that follows, and whatever number of replicas.
        table: its step times.
        gpu, tensor_parallel, precision, option: what it is, as far as that is said.
        numbers: of replicas to choose from, smallest first.
        written: the pool as a scenario has it, without what follows from its GPUs.
    """

    name: str
    pool: GpuPool
    written: GpuPool
    table: StepTable
    gpu: str | None
    tensor_parallel: int
    precision: str | None
    option: str | None
    numbers: Sequence[int]

    @property
    def usd_per_day(self) -> float:
        """Of one replica."""
        return 24 * self.pool.own_hourly_usd

    @property
    def fixed_usd_per_day(self) -> float:
        """Of those that take prompts in apart, however many answer."""
        return 24 * self.pool.prefill_usd_per_hour

    @property
    def prefill(self) -> int:
        """Replicas that take prompts in apart."""
        return self.pool.servers - self.pool.replicas

    @property
    def fixed_gpus(self) -> dict[str, int]:
        """GPUs of each kind that these have, as far as their kind is said."""
        apart = self.pool.prefill_pool
        gpu = None if apart is None else self.gpu if self.pool.prefill_like_pool else apart.gpu
        if apart is None or gpu is None:
            return {}
        return {gpu: apart.replicas * (self.tensor_parallel if self.pool.prefill_like_pool else apart.gpus)}

    @property
    def draft_tokens(self) -> int:
        """Verified of each sequence in each step; 0 for plain decoding."""
        return drafts_of(self.pool)

    @property
    def gpus(self) -> int:
        """Of one replica, all of its ranks."""
        return self.tensor_parallel * self.pool.data_parallel

    @property
    def autoscaling(self) -> Autoscaling | None:
        """How the number of replicas changes, if it does."""
        return self.pool.autoscaling


@dataclass(frozen=True)
class Refused:
    """What was not tried, and why."""

    pool: str
    name: str
    reason: str


def choices_of(scenario: Scenario, name: str) -> tuple[list[Choice], list[Refused]]:
    """What a pool may run on.

    Args:
        name: of the pool.

    Returns:
        What can be tried; and what cannot, with the reason.

    Raises:
        InputError: nothing can, or a price or a KV cache that is said for one GPU while several are to be tried.
    """
    own = scenario.deployments[name]
    assert isinstance(own, GpuPool)
    if own.autoscaling is not None:  # what it is beside a fixed number is looked at later
        own = own.model_copy(update={"autoscaling": None, "start_up": own.start_up if own.failures else None})
    searched = scenario.search.pools.get(name, PoolSearch())
    if own.data_parallel > 1 and searched.autoscaling is not None:
        expected = f"none: the ranks of {name} (data_parallel {own.data_parallel}) cannot come and go"
        raise InputError(scenario.path, f"search.pools.{name}.autoscaling", "given", expected)
    numbers = scenario.search.replicas.get(name)
    numbers = sorted(set(numbers)) if numbers is not None else searched.replicas
    if own.step_time is None:
        variants = _of_the_catalogue(scenario, name, own, searched)
    else:
        own_gpu = (None, own.tensor_parallel or 1, None, None)
        variants = {name: (own, *own_gpu)}
        variants |= {key: _optional(scenario, name, own, key, one) for key, one in (searched.options or {}).items()}
    if searched.draft_tokens is not None:
        variants = _drafting(scenario, name, variants, searched.draft_tokens)
    variants = with_prefill(scenario, name, own, searched, variants)
    found, refused = [], []
    for label, variant in variants.items():
        if isinstance(variant, str):
            refused.append(Refused(name, label, variant))
            continue
        pool, gpu, parallel, precision, option = variant
        try:
            written, pool = pool, _with_memory(scenario, name, pool)
            table = pool_table(pool, scenario.folder)
        except InputError as error:
            if len(variants) == 1:
                raise
            refused.append(Refused(name, label, error.expected))
            continue
        gpus = parallel * own.data_parallel
        beside = Choice(label, pool, written, table, gpu, parallel, precision, option, ()).fixed_gpus
        short = next((kind for kind, n in beside.items() if n >= scenario.search.gpus.get(kind, n + 1)), None)
        allowed = () if short else _within_budget(scenario, gpu, gpus, numbers, beside.get(str(gpu), 0))
        if not allowed:
            gpu = short or gpu
            budget = scenario.search.gpus[str(gpu)]
            least = gpus * (numbers[0] if numbers is not None else 1) + beside.get(str(gpu), 0)
            refused.append(
                Refused(name, label, f"the budget is {budget} GPUs, and {least} are the fewest that it takes")
            )
            continue
        allowed = _that_may_fail(scenario, name, pool, allowed)
        written = written.model_copy(update={"expert_parallel": pool.expert_parallel})
        found.append(Choice(label, pool, written, table, gpu, parallel, precision, option, allowed))
    if not found:
        first = refused[0]
        others = f"; none of {len(refused)} can be tried" if len(refused) > 1 else ""
        field = f"search.pools.{name}" if name in scenario.search.pools else f"deployments.{name}"
        raise InputError(scenario.path, field, first.name, f"other hardware: {first.reason}{others}")
    return found, refused


def _that_may_fail(scenario: Scenario, name: str, pool: GpuPool, numbers: Sequence[int]) -> Sequence[int]:
    """Numbers with which every replica is there that is said to fail."""
    fewest = fewest_that_fail(pool)
    if fewest <= numbers[0]:
        return numbers
    if fewest > numbers[-1]:
        expected = f"one of at most {numbers[-1]} replicas that may be chosen, from 0"
        raise InputError(scenario.path, f"deployments.{name}.failures.at.replica", fewest - 1, expected)
    return tuple(n for n in numbers if n >= fewest)


def fewest_that_fail(pool: GpuPool) -> int:
    """Replicas that there must be at some time, for those to be there that are said to fail."""
    given = (pool.failures.at if pool.failures is not None else None) or []
    return 1 + max((one.replica for one in given), default=0)


def with_autoscaling(scenario: Scenario, name: str, base: Choice, scaled: Autoscaling, replicas: int) -> Choice:
    """The same replicas, as many as autoscaling has it.

    Args:
        base: what they run on; replicas: at the start.

    Raises:
        InputError: a start-up that is not known, or takes too long for it, or a failure of a replica that is never there.
    """
    own = scenario.deployments[name]
    assert isinstance(own, GpuPool)
    searched = scenario.search.pools.get(name, PoolSearch())
    raw: dict[str, Any] = base.written.model_dump(exclude_none=True, exclude={"step_time"})
    raw |= {"replicas": replicas, "autoscaling": scaled, "start_up": searched.start_up or own.start_up}
    if base.written.step_time is not None:
        raw["step_time"] = base.written.step_time
    try:
        written = GpuPool.model_validate(raw)
    except ValidationError as error:
        raise from_validation(scenario.path, error, f"search.pools.{name}.autoscaling") from None
    field = f"search.pools.{name}.autoscaling."
    loaded = with_weights(written, scenario.folder, scenario.path, field)
    pool = base.pool.model_copy(update={"replicas": replicas, "autoscaling": scaled, "start_up": loaded.start_up})
    return replace(base, pool=pool, written=written, numbers=(replicas,))


def _of_the_catalogue(scenario: Scenario, name: str, own: GpuPool, searched: PoolSearch) -> dict[str, Variant | str]:
    """Every GPU with every parallelism and precision, by its name; the reason of those that have no price."""
    lists = {key: getattr(searched, key) or [getattr(own, key)] for key in _OF_THE_CATALOGUE}
    together = [dict(zip(lists, values, strict=True)) for values in product(*lists.values())]
    prices = scenario.search.usd_per_gpu_hour
    several = len({(one["gpu"], one["tensor_parallel"] or 1) for one in together}) > 1
    said = None if own.gpu not in prices else own.gpus * prices[own.gpu]
    if own.usd_per_replica_hour is not None and own.usd_per_replica_hour != said and (several or said is not None):
        expected = "none where replicas differ in GPUs: search.usd_per_gpu_hour has a price for each kind"
        raise InputError(scenario.path, f"deployments.{name}.usd_per_replica_hour", own.usd_per_replica_hour, expected)
    if own.kv_cache_tokens is not None and len(together) > 1:
        own = _without_what_follows(scenario, name, own)
    if own.kv_cache_tokens is not None and len(together) > 1:
        expected = "none where other hardware is to be tried: what fits follows from each"
        raise InputError(scenario.path, f"deployments.{name}.kv_cache_tokens", own.kv_cache_tokens, expected)
    variants: dict[str, Variant | str] = {}
    for one in together:
        gpu, parallel = str(one["gpu"]), one["tensor_parallel"] or 1
        label = f"{gpu} x{parallel}" + (f" {one['precision']}" if one["precision"] is not None else "")
        raw: dict[str, Any] = {**own.model_dump(exclude_none=True), **{k: v for k, v in one.items() if v is not None}}
        for limit, usual in (limits_of(str(own.gpu)) if own.gpu else LARGE_GPU_LIMITS).items():
            if raw[limit] == usual:  # as in the file, where they do not stand
                del raw[limit]
        if said is not None:
            raw.pop("usd_per_replica_hour", None)
        if gpu in prices:
            raw["usd_per_replica_hour"] = parallel * own.data_parallel * prices[gpu]
        elif (said is not None or own.usd_per_replica_hour is None) and gpu not in GPU_PRICES:
            variants[label] = f"no list price of {gpu} is known: search.usd_per_gpu_hour can name one"
            continue
        variants[label] = (_checked(scenario, name, raw), gpu, parallel, one["precision"], None)
    return variants


def _without_what_follows(scenario: Scenario, name: str, own: GpuPool) -> GpuPool:
    """The pool without a KV cache, and a context, that are no more than what its own GPUs leave, as plans write them down."""
    free = own.model_copy(update={"kv_cache_tokens": None, "max_model_len": None})
    try:
        follows = _with_memory(scenario, name, free)
    except InputError:
        return own
    if follows.kv_cache_tokens != own.kv_cache_tokens:
        return own
    return (
        free
        if follows.max_model_len == own.max_model_len
        else free.model_copy(update={"max_model_len": own.max_model_len})
    )


def _optional(scenario: Scenario, name: str, own: GpuPool, key: str, option: PoolOption) -> Variant:
    """A pool with what an option says in place of its own."""
    said = option.model_dump(exclude_none=True, exclude={"gpu", "tensor_parallel"})
    kept = {k: v for k, v in own.model_dump(exclude_none=True).items() if k != "step_time"}
    raw = {**kept, **said, "step_time": option.step_time}
    return _checked(scenario, f"{name}.options.{key}", raw), option.gpu, option.tensor_parallel, None, key


def _drafting(
    scenario: Scenario, name: str, variants: Mapping[str, Variant | str], draft_tokens: Sequence[int]
) -> dict[str, Variant | str]:
    """Each of them with every number of draft tokens; the reason of those that do not fit into an iteration."""
    own = scenario.deployments[name]
    assert isinstance(own, GpuPool)
    assert own.speculative is not None
    found: dict[str, Variant | str] = {}
    for drafted in draft_tokens:
        speculative = own.speculative.with_draft_tokens(drafted)
        for label, variant in variants.items():
            named = f"{label}, {drafted} draft token{'s' if drafted != 1 else ''}"
            if isinstance(variant, str):
                found[named] = variant
                continue
            pool = variant[0]
            raw = pool.model_dump(exclude_none=True, exclude={"step_time", "speculative"})
            try:
                pool = GpuPool.model_validate({**raw, "step_time": pool.step_time, "speculative": speculative})
            except ValidationError as error:
                found[named] = from_validation(scenario.path, error, f"deployments.{name}").expected
                continue
            found[named] = (pool, *variant[1:])
    return found


def _checked(scenario: Scenario, name: str, raw: Mapping[str, Any]) -> GpuPool:
    try:
        return GpuPool.model_validate(raw)
    except ValidationError as error:
        raise from_validation(scenario.path, error, f"search.pools.{name}") from None


def _with_memory(scenario: Scenario, name: str, pool: GpuPool) -> GpuPool:
    """The pool with the KV cache that its GPUs leave; experts are divided whole where they cannot be cut.

    Raises:
        InputError: as :func:`ttc_sim.serving.pools.with_memory`.
    """
    alone = scenario.model_copy(update={"deployments": {name: pool}})
    try:
        found = with_memory(alone).deployments[name]
    except InputError as error:
        if pool.expert_parallel is not None or not error.field.endswith("expert_parallel"):
            raise
        whole = pool.model_copy(update={"expert_parallel": True})
        found = with_memory(scenario.model_copy(update={"deployments": {name: whole}})).deployments[name]
    assert isinstance(found, GpuPool)
    return found


def _within_budget(
    scenario: Scenario, gpu: str | None, gpus: int, numbers: Sequence[int] | None, beside: int = 0
) -> Sequence[int]:
    most = MOST_REPLICAS
    if gpu is not None and gpu in scenario.search.gpus:
        most = min(most, (scenario.search.gpus[gpu] - beside) // gpus)
    return range(1, most + 1) if numbers is None else tuple(n for n in numbers if n <= most)
