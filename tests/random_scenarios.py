"""Small random scenarios for the engines, from a seed: as likely as not with many events at one instant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeVar

import numpy as np

from ttc_sim.base.draws import F64, I64, uniforms
from ttc_sim.base.prefix_tree import PrefixTree
from ttc_sim.engine.work import Down, EngineResult, Work
from ttc_sim.policies import LiveRule
from ttc_sim.scenario import Api, Errors, GpuPool, Latency, LinearStepTime, Outage, PoolRetry, Price, Retry, Slow
from ttc_sim.serving.step_time import StepTable, step_table

T = TypeVar("T")

# apart: no two times are alike but by what the engines do. quarters: all times are multiples of binary fractions of a second,
# so that sums are exact and events meet. tenths: multiples of a tenth, which meet but for rounding.
Times = Literal["apart", "quarters", "tenths"]
TIMES: tuple[Times, ...] = ("apart", "quarters", "tenths")


@dataclass(frozen=True)
class Case:
    works: list[Work]
    deployments: list[Api | GpuPool]
    rule: LiveRule | None
    until_s: float | None
    tables: list[StepTable | None]
    following: I64 | None = None
    outages: list[Down | None] | None = None

    @property
    def names(self) -> list[str]:
        return [str(i) for i in range(len(self.deployments))]


class Dice:
    """Draws one after another."""

    def __init__(self, seed: int, times: Times, stream: str = "dice") -> None:
        self.times: Times = times
        self.thrown: Iterator[float] = iter(uniforms(seed, f"{stream}/{times}", 1, 400)[0].tolist())

    def of(self, *options: T) -> T:
        return options[int(next(self.thrown) * len(options))]

    def whole(self, low: int, high: int) -> int:
        return low + int(next(self.thrown) * (high - low + 1))

    def when(self, apart: tuple[T, ...], quarters: tuple[T, ...], tenths: tuple[T, ...]) -> T:
        return self.of(*{"apart": apart, "quarters": quarters, "tenths": tenths}[self.times])

    def on_grid(self, seconds: F64, parts: int = 1) -> F64:
        """Times as they are, or rounded to the grid or parts of it."""
        if self.times == "apart":
            return seconds
        unit = (0.25 if self.times == "quarters" else 0.1) / parts
        rounded: F64 = np.round(seconds / unit) * unit
        return rounded


def _pool(dice: Dice, crowded: bool) -> GpuPool:
    batch = dice.of(5, 8, 16) if crowded else dice.of(1, 1, 2, 3, 5, 8, 16)
    base_s = dice.when((0.0, 0.0113, 0.031), (0.0, 0.25, 0.5), (0.0, 0.1, 0.3))
    prefill_s = dice.when((1.7e-4, 0.0031), (1 / 64, 0.25), (0.01, 0.1))
    step = LinearStepTime(
        base_s=base_s,
        per_prefill_token_s=prefill_s if base_s == 0 else dice.of(0.0, prefill_s),
        per_sequence_s=dice.when((0.0017, 0.0113), (0.25, 0.0625), (0.1, 0.02)) if base_s == 0 else dice.of(0.0, 0.125),
        per_kv_token_s=dice.when((0.0, 1.9e-5, 3.1e-4), (0.0, 0.0, 1 / 256), (0.0, 0.0, 0.001)),
    )
    return GpuPool(
        kind="gpu_pool",
        replicas=dice.of(1, 1, 2) if crowded else dice.of(1, 2, 2, 3),
        usd_per_replica_hour=1.0,
        step_time=step,
        max_num_seqs=batch,
        max_num_batched_tokens=batch + dice.of(0, 1, 7, 30, 200),
        kv_cache_tokens=dice.of(112, 160, 240) if crowded else dice.of(None, None, 96, 160, 320, 640),
        prefix_caching=dice.of(True, False),
        load_balancer=dice.of("round_robin", "least_outstanding", "least_outstanding", "least_kv", "session"),
        scheduling=dice.of("fcfs", "priority"),
        queue_limit=None if crowded else dice.of(None, None, 0, 3),
        timeout_s=dice.when(
            (None, 0.712345678, 4.039123456), (None, None, 0.5, 1.0, 2.5, 4.0), (None, None, 0.3, 0.7, 1.2, 4.0)
        ),
    )


def _api(dice: Dice) -> Api:
    given = {
        "kind": "api",
        "price": Price(input_usd_per_mtok=1.0, output_usd_per_mtok=1.0),
        "first_token": Latency(median_s=1.0),
        "per_token": Latency(median_s=0.1),
        "requests_per_minute": dice.of(None, None, 30.0, 60.0, 240.0, 400.0),
        "tokens_per_minute": dice.of(None, None, 600.0, 2400.0, 90000.0),
        "concurrency": dice.of(None, 1, 1, 2, 4),
        "timeout_s": dice.when(
            (None, 0.917345678, 5.137712345), (None, 0.5, 1.0, 1.5, 5.0), (None, 0.3, 0.6, 1.1, 5.0)
        ),
        "retry": Retry(retries=dice.whole(0, 4), base_s=dice.when((0.1371,), (0.25, 0.5), (0.1, 0.2)), max_s=1.0),
        "on_timeout": dice.of("stop", "stop", "finish"),
    }
    return Api.model_validate({name: value for name, value in given.items() if name in Api.model_fields})


def _table(dice: Dice, pool: GpuPool) -> StepTable | None:
    """Sometimes step times that bend with the KV tokens of a sequence, instead of the pool's own."""
    bends, knots = dice.of(False, False, False, True), dice.of((0, 8, 32), (0, 16, 64, 128))
    seconds = dice.on_grid(np.array([0.03 * dice.whole(0, 3) for _ in range(2 * len(knots))]), parts=4)
    base_s = dice.when((0.0113,), (0.25, 0.0625), (0.1, 0.05))
    if not bends:
        return None
    grid = np.array([0.0, 16.0])
    attention = np.broadcast_to(seconds.reshape(2, -1).cumsum(axis=1), (2, 2, 2, len(knots)))
    return step_table(
        pool.max_num_batched_tokens,
        pool.max_num_seqs,
        base_s=base_s,
        attention=(grid, grid, grid, np.array(knots, dtype=np.float64), attention),
    )


def scenario(seed: int, times: Times) -> Case:
    """A scenario of one to forty requests on one to three deployments."""
    dice = Dice(seed, times)
    # Many at a time in a small KV cache: preemption, prefixes found again and lost.
    crowded = dice.of(False, False, True)
    deployments = [_pool(dice, crowded) if dice.whole(1, 3) < 3 else _api(dice) for _ in range(dice.whole(1, 3))]
    tables = [_table(dice, item) if isinstance(item, GpuPool) else None for item in deployments]
    n = dice.of(dice.whole(10, 40) if crowded else dice.whole(1, 5), dice.whole(1, 40), dice.whole(1, 40))
    gap_s = dice.of(0.1, 0.017) if crowded else dice.of(1.4, 0.17, 0.017, 0.0 if times != "apart" else 0.1)
    u = uniforms(seed, "case", n, 3)
    arrival_s = dice.on_grid(np.cumsum(-np.log(u[:, 0])) * gap_s)
    users = dice.of(0, 0, 1, 4)
    after = think_s = None
    if 0 < users < n:
        after = np.concatenate([np.full(users, -1), np.arange(n - users)]).astype(np.int64)
        think_s = dice.on_grid(-np.log(u[:, 2]) * dice.of(gap_s, gap_s, 0.0))
    rule, arms = None, 1
    if dice.of(True, False) and len(deployments) > 1:
        arms = len(deployments)
        kind: Literal["overflow", "least_loaded"] = dice.of("overflow", "least_loaded")
        rule = LiveRule(kind, np.stack([np.arange(arms)] * n), limit=dice.whole(1, 3))
    priority = (u[:, 1] * 3).astype(np.int64) if dice.of(True, False) else None
    shape = _Shape(
        stages=dice.of(1, 1, 3),
        samples=dice.of(1, 1, 3),
        long=dice.of(20, 40) if crowded else dice.of(3, 12, 40, 200),
        prefixes=2 if crowded else dice.of(0, 2, 5),
        alike=times != "apart" and dice.of(True, False),
        needed=dice.of(True, False),
        conversation=dice.of(True, False),
    )
    backoff = uniforms(seed, "backoff", n, 5)
    common = {
        "arrival_s": arrival_s,
        "backoff": backoff if times == "apart" else np.floor(backoff * 4) / 4,
        "priority": priority,
        "after": after,
        "think_s": think_s,
    }
    works = [_work(dice, seed, arm, n, len(deployments), shape, rule is not None, common) for arm in range(arms)]
    until_s = dice.when((None, None, 1.7391, 6.1173), (None, None, None, 2.0, 6.25), (None, None, None, 2.0, 6.1))
    return Case(works, deployments, rule, until_s, tables)


def with_lives(case: Case, seed: int, times: Times) -> Case:
    """The same with pools whose replicas come, go and fail: two thirds of them scaled, two thirds failing."""
    dice = Dice(seed, times, "lives")
    pools = [_with_lives(dice, item) if isinstance(item, GpuPool) else item for item in case.deployments]
    return replace(case, deployments=pools)


def with_arguments(case: Case, seed: int, times: Times) -> Case:
    """The same with pools of other engine arguments: contexts that end answers, and prompts taken in bit by bit or at once."""
    dice = Dice(seed, times, "arguments")
    pools = [_with_arguments(dice, item) if isinstance(item, GpuPool) else item for item in case.deployments]
    return replace(case, deployments=pools)


def _with_arguments(dice: Dice, pool: GpuPool) -> GpuPool:
    whole = dice.of(True, False, False)
    context = dice.of(None, None, 3, 17, 40, 100)
    if whole:
        context = min(context or 100, max(pool.max_num_batched_tokens, 2))
    return pool.model_copy(
        update={
            "chunked_prefill": not whole,
            "long_prefill_token_threshold": dice.of(0, 1, 3, 8, 16, 40),
            "max_model_len": context,
        }
    )


def _with_lives(dice: Dice, pool: GpuPool) -> GpuPool:
    autoscaling = _autoscaling(dice, pool.replicas) if dice.whole(1, 3) < 3 else None
    most = pool.replicas if autoscaling is None else int(autoscaling.get("maximum", 3))
    failures: dict[str, Any] = {}
    kind = dice.of("none", "none", "none", "at", "random", "both")
    if kind in ("at", "both"):
        failures["at"] = [
            {
                "replica": place,
                "at_s": dice.when((0.413, 1.7391), (0.25, 0.5, 1.0, 1.5), (0.1, 0.6, 1.2)) + 5 * again,
                "repair_s": dice.when((0.0, 0.3117, 2.713), (0.0, 0.25, 1.0, 2.5), (0.0, 0.3, 1.1)),
            }
            for again in range(dice.whole(1, 3))
            for place in range(most)
            if dice.of(True, True, False)
        ]
    if kind in ("random", "both"):
        failures |= {"mtbf_h": dice.of(1.0, 4.0, 16.0) / 3600, "mttr_h": dice.of(0.0, 0.2, 1.0) / 3600}
    changes = {"autoscaling": autoscaling, "failures": failures if any(failures.values()) else None}
    if not any(changes.values()):
        return pool
    delay_s = dice.when((0.0, 0.2713, 1.7391), (0.0, 0.25, 1.0, 2.0), (0.0, 0.2, 1.1))
    if autoscaling is not None and len(autoscaling.get("schedule", ())) > 1:
        delay_s = min(delay_s, min(step["duration_s"] for step in autoscaling["schedule"]))
    given = {"replicas": pool.replicas, "start_up": {"seconds": delay_s}, **changes}
    if autoscaling is not None and "schedule" in autoscaling:
        given["replicas"] = autoscaling["schedule"][0]["replicas"]
    return GpuPool.model_validate({**pool.model_dump(exclude={"start_up", "autoscaling", "failures"}), **given})


def _autoscaling(dice: Dice, replicas: int) -> dict[str, Any]:
    seconds = [dice.when((0.1371, 0.7123, 2.391), (0.25, 0.5, 1.0, 2.0), (0.1, 0.3, 0.7, 2.0)) for _ in range(6)]
    rules = ("target_concurrency", "target_utilisation", "target_queue", "target_ttft_s")
    rule = dice.of("schedule", "schedule", "schedule", *rules)
    if rule == "schedule":
        steps = [{"duration_s": s, "replicas": dice.of(1, 2, 4, 4)} for s in seconds[: dice.whole(1, 4)]]
        return {"maximum": 4, "schedule": steps}
    target = {
        "target_concurrency": dice.of(0.7, 1.0, 3.0),
        "target_utilisation": dice.of(0.3, 0.8),
        "target_queue": dice.of(0.5, 2.0),
        "target_ttft_s": dice.when((0.2, 0.7123), (0.25, 1.0), (0.1, 0.6)),
    }[rule]
    given: dict[str, Any] = {"minimum": dice.whole(1, replicas), "maximum": replicas + dice.whole(0, 3), rule: target}
    given |= {"every_s": seconds[0], "window_s": seconds[1], "tolerance": dice.of(0.0, 0.1, 0.5)}
    if rule == "target_ttft_s":
        given["percentile"] = dice.of(50, 95, 100)
    for way in ("scale_up", "scale_down"):
        held = {"stabilisation_s": dice.of(0.0, *seconds[2:4]), "cooldown_s": dice.of(0.0, *seconds[4:])}
        given[way] = {**held, "step": dice.of(1, 2, 10)}
    return given


@dataclass(frozen=True)
class _Shape:
    stages: int
    samples: int
    long: int
    prefixes: int
    alike: bool
    needed: bool
    conversation: bool


def _work(
    dice: Dice, seed: int, arm: int, n: int, deployments: int, shape: _Shape, routed: bool, common: dict[str, Any]
) -> Work:
    long = shape.long
    stages = 1 + (uniforms(seed, f"stages{arm}", n)[:, 0] * shape.stages).astype(np.int64)
    total = int(stages.sum())
    v = uniforms(seed, f"stage{arm}", total, 6)
    samples = 1 + (v[:, 0] * shape.samples).astype(np.int64)
    w = uniforms(seed, f"sample{arm}", int(samples.sum()), 4)
    prompt = 1 + (v[:, 1] ** 2 * long).astype(np.int64)
    reasoning, visible = (w[:, 0] ** 2 * long).astype(np.int64), 1 + (w[:, 1] * 9).astype(np.int64)
    if shape.alike:
        prompt[:], reasoning[:], visible[:] = prompt[0], reasoning[0], visible[0]
    stage_start = np.concatenate([[0], np.cumsum(stages)]).astype(np.int64)
    deployment = (v[:, 2] * deployments).astype(np.int64)
    if routed:
        deployment[stage_start[:-1]] = arm
    first_s, per_token_s = 0.1 + w[:, 2], 0.03 * w[:, 3]
    if dice.times != "apart":
        # Coarse, and sometimes no time at all.
        first_s = dice.on_grid(first_s * dice.of(0.0, 0.5, 1.0))
        per_token_s = dice.on_grid(per_token_s * dice.of(0.0, 1.0, 8.0), parts=4)
    prefix_id = np.full(total, -1)
    if shape.prefixes:
        prefix_id = (v[:, 3] * shape.prefixes).astype(np.int64) - (v[:, 3] < 0.2)
    return Work(
        stage_start=stage_start,
        deployment=deployment,
        prompt_tokens=prompt,
        prefix_id=prefix_id,
        sample_start=np.concatenate([[0], np.cumsum(samples)]).astype(np.int64),
        reasoning_tokens=reasoning,
        visible_tokens=visible,
        first_token_s=first_s,
        per_token_s=per_token_s,
        prefix_tokens=(v[:, 4] * 1.5 * long).astype(np.int64) if shape.conversation else None,
        needed=1 + (v[:, 5] * samples).astype(np.int64) if shape.needed else None,
        **common,
    )


def with_prefill_apart(case: Case, seed: int, times: Times) -> Case:
    """The same with prefill and decode of most pools apart."""
    dice = Dice(seed, times, "apart")
    pools = [_apart(dice, item) if isinstance(item, GpuPool) else item for item in case.deployments]
    return replace(case, deployments=pools)


def _apart(dice: Dice, pool: GpuPool) -> GpuPool:
    if dice.whole(1, 4) == 1:
        return pool
    batch = dice.of(1, 2, pool.max_num_seqs)
    prefill = {
        "replicas": dice.of(1, 1, 2, 3),
        "max_num_seqs": batch,
        "max_num_batched_tokens": batch + dice.of(0, 7, 30, 200),
        "kv_cache_tokens": dice.of(None, 64, 96, 160),
        "load_balancer": dice.of(None, "round_robin", "least_outstanding", "least_kv", "session", "prefix"),
    }
    # A block takes no time to speak of, a quarter of a second, a tenth.
    bytes_per_s = dice.when((1e12, 613.7), (1e12, 64.0, 1024.0), (1e12, 160.0, 320.0))
    transfer = {
        "gb_per_s": bytes_per_s / 1e9,
        "latency_s": dice.when((0.0, 0.0217), (0.0, 0.25), (0.0, 0.1)),
        "kv_bytes_per_token": 1.0,
    }
    given = {**pool.model_dump(), "scheduling": "fcfs", "prefill": prefill, "kv_transfer": transfer}
    return GpuPool.model_validate(given)


def with_tree(case: Case, seed: int, times: Times) -> Case:
    """The same where prompts branch off one another; some are longer than their path, some end within it."""
    dice = Dice(seed, times, "tree")
    parent, start = [-1], [0]
    for node in range(1, dice.whole(1, 9)):
        parent.append(dice.whole(-1, node - 1))
        start.append(0 if parent[-1] < 0 else start[parent[-1]] + dice.of(0, 5, 16, 16, 27, 32))
    tree = PrefixTree(np.array(parent), np.array(start))
    longer, follow = dice.of(True, True, False), dice.of("prompt", "answer", "any")
    works = []
    for arm, work in enumerate(case.works):
        u = uniforms(seed, f"tree{arm}", len(work.deployment), 3)
        at_node: I64 = (u[:, 0] * len(tree)).astype(np.int64) - (u[:, 0] < 0.1)
        at = np.where(at_node < 0, 0, tree.start[at_node])
        prompt = work.prompt_tokens + at if longer else work.prompt_tokens
        tokens = {"prompt": None, "answer": prompt + 100, "any": (u[:, 1] * 1.5 * prompt).astype(np.int64)}[follow]
        works.append(replace(work, prompt_tokens=prompt, prefix_id=at_node, prefix_tokens=tokens, prefixes=tree))
    session = None
    if dice.of(True, False):
        u = uniforms(seed, "sessions", works[0].requests)
        session = (u[:, 0] * 5).astype(np.int64) - (u[:, 0] < 0.2)
    deployments = [
        item.model_copy(
            update={
                "prefix_caching": dice.of(True, True, True, False),
                "load_balancer": dice.of(item.load_balancer, "prefix"),
            }
        )
        if isinstance(item, GpuPool)
        else item
        for item in case.deployments
    ]
    return replace(case, works=[replace(work, session=session) for work in works], deployments=deployments)


def with_followers(case: Case, seed: int, times: Times) -> Case:
    """The same where several requests may wait for one answer, some of them to come at once."""
    dice = Dice(seed, times, "followers")
    n = case.works[0].requests
    u = uniforms(seed, "followers", n, 3)
    # Those before it that it may wait for: the first, a few, any.
    reach = dice.of(1, 3, n)
    after = np.where(u[:, 0] < dice.of(0.2, 0.5), -1, (u[:, 1] * np.minimum(np.arange(n), reach)).astype(np.int64))
    after[0] = -1
    think_s = dice.on_grid(-np.log(u[:, 2]) * dice.of(0.3, 0.1, 0.0))
    return replace(case, works=[replace(work, after=after, think_s=think_s) for work in case.works])


def failing_scenario(seed: int, times: Times) -> Case:
    """The same, where calls break, endpoints go down and slow, and clients ask again and fall back."""
    case, dice = scenario(seed, times), Dice(seed, times, "failing")
    deployments = [_failing(dice, item) for item in case.deployments]
    works, n = case.works, case.works[0].requests
    count = len(works)
    if case.rule is None:
        # The same requests with other stages, as other arms would have them.
        work = works[0]
        others = [shuffled(work, k) for k in range(1, dice.of(1, 2, 3))]
        works = [work, *others]
        count = len(works)
    works = [_with_errors(dice, seed, arm, work) for arm, work in enumerate(works)]
    following = None
    if dice.of(True, True, False):
        u = uniforms(seed, "following", n, count)
        after = np.minimum(np.arange(count) + 1 + (u * 2).astype(np.int64), count)
        following = np.where((after == count) | (u > 0.8), -1, after)
    outages = None
    if dice.of(True, False):
        outages = [_down(dice) if isinstance(item, Api) else None for item in deployments]
    return replace(case, deployments=deployments, works=works, following=following, outages=outages)


def _failing(dice: Dice, item: Api | GpuPool) -> Api | GpuPool:
    timeout = ["timeout"] if item.timeout_s is not None and dice.of(True, True, False) else []
    wait = {"retries": dice.whole(0, 4), "base_s": dice.when((0.1371,), (0.25, 0.5), (0.1, 0.2)), "max_s": 1.0}
    late = dice.of(None, None, 1.0, 2.5, 7.0)
    deadline_s = late if late is None or item.timeout_s is None else max(late, item.timeout_s)
    if isinstance(item, GpuPool):
        on = [*dice.of(["queue_full"], ["queue_full", "error"], []), *timeout]
        retry = dice.of(
            None, PoolRetry.model_validate({**wait, "on": on}), PoolRetry.model_validate({**wait, "on": on})
        )
        return item.model_copy(update={"retry": retry, "deadline_s": deadline_s})
    on = [*dice.of(["rate_limit"], ["error"], ["rate_limit", "error"], ["rate_limit", "error"]), *timeout]
    from_s, long_s = dice.of(0.0, 0.5, 2.0), dice.of(0.25, 0.5, 3.0)
    slow = [Slow(from_s=from_s, until_s=from_s + long_s, factor=dice.of(2.0, 0.5, 3.0))]
    outages = [Outage(from_s=dice.of(0.0, 0.5, 1.0), duration_s=dice.of(0.25, 0.5))]
    errors = Errors(
        rate=0.3,
        after=dice.of("at_once", "first_token", "midway"),
        slow=dice.of(None, slow),
        outages=dice.of(None, outages),
    )
    retry_api = Retry.model_validate({**wait, "on": on})
    return item.model_copy(update={"retry": retry_api, "deadline_s": deadline_s, "errors": errors})


def _down(dice: Dice) -> Down | None:
    steps = dice.on_grid(np.array([dice.of(0.0, 0.3, 0.5, 2.0) for _ in range(4)]))
    edges = np.cumsum(steps + (0.0 if dice.times == "apart" else 0.25))
    return dice.of(None, Down(edges[::2], edges[1::2]), Down(edges[::2], edges[1::2], dice.of(1.0, 4.0)))


def shuffled(work: Work, by: int) -> Work:
    """The work with every request's stages those of another request."""
    order = np.roll(np.arange(work.requests), by)
    size = np.diff(work.stage_start)[order]
    stages = np.concatenate([np.arange(work.stage_start[i], work.stage_start[i + 1]) for i in order])
    width = np.diff(work.sample_start)[stages]
    samples = np.concatenate([np.arange(work.sample_start[k], work.sample_start[k + 1]) for k in stages])
    return replace(
        work,
        stage_start=np.concatenate([[0], np.cumsum(size)]).astype(np.int64),
        sample_start=np.concatenate([[0], np.cumsum(width)]).astype(np.int64),
        **{name: getattr(work, name)[stages] for name in ("deployment", "prompt_tokens", "prefix_id")},
        **{
            name: getattr(work, name)[samples]
            for name in ("reasoning_tokens", "visible_tokens", "first_token_s", "per_token_s")
        },
        prefix_tokens=None if work.prefix_tokens is None else work.prefix_tokens[stages],
        needed=None if work.needed is None else work.needed[stages],
    )


def _with_errors(dice: Dice, seed: int, arm: int, work: Work) -> Work:
    calls, stages = dice.whole(0, 3), len(work.deployment)
    again = uniforms(seed, f"again{arm}", 2 * calls, work.samples).reshape(2, calls, work.samples)
    first_s, per_token_s = again[0] * dice.of(0.0, 1.0), 0.03 * again[1]
    if dice.times != "apart":
        first_s, per_token_s = dice.on_grid(first_s), dice.on_grid(per_token_s * dice.of(0.0, 8.0), parts=4)
    breaks = (uniforms(seed, f"breaks{arm}", stages, 3) < dice.of(0.2, 0.6)).astype(np.int8)
    return replace(
        work,
        breaks=dice.of(breaks, breaks, breaks[:, :1], None),
        again_s=dice.of(np.stack([first_s, per_token_s]), None),
    )


def differences(a: EngineResult, b: EngineResult, rtol: float = 0.0) -> list[str]:
    """Names of what the engines do not agree on; times may differ by ``rtol``."""
    found = [
        name for name in ("status", "arm", "preemptions", "retries") if (getattr(a, name) != getattr(b, name)).any()
    ]
    for name in ("generated_tokens", "prefilled_tokens", "cached_tokens", "written_tokens"):
        pairs = zip(getattr(a, name), getattr(b, name), strict=True)
        found += [name] if any((one != other).any() for one, other in pairs) else []
    for name in ("arrival_s", "started_s", "first_token_s", "finished_s", "busy_s", "end_s"):
        one, other = np.asarray(getattr(a, name)), np.asarray(getattr(b, name))
        if not np.allclose(one, other, rtol=rtol, atol=1e-3 * rtol, equal_nan=True):
            found.append(name)
    if a.fleet is not None and b.fleet is not None:
        logs = [(one.fleet.at_s, one.fleet.replica, one.fleet.state) for one in (a, b) if one.fleet is not None]
        if any(len(x) != len(y) or (x != y).any() for x, y in zip(*logs, strict=True)):
            found.append("fleet")
    elif a.fleet is not b.fleet:
        found.append("fleet")
    if a.attempts is None or b.attempts is None:
        return found if a.attempts is b.attempts else [*found, "attempts"]
    for field in fields(a.attempts):
        ones, others = getattr(a.attempts, field.name), getattr(b.attempts, field.name)
        same = [np.array_equal(*pair) for pair in zip(ones, others, strict=True)] if isinstance(ones, tuple) else []
        found += (
            []
            if all(same)
            and (isinstance(ones, tuple) or np.array_equal(ones, others, equal_nan=field.name == "begun_s"))
            else [field.name]
        )
    return found
