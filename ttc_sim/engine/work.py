"""What an engine takes and gives: flat arrays, the same for both engines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba.extending import register_jitable
from numpy.typing import NDArray

from ttc_sim.base.arguments import finite
from ttc_sim.base.draws import F64, I64
from ttc_sim.base.errors import InputError
from ttc_sim.base.prefix_tree import PrefixTree
from ttc_sim.engine.fleet import IN_SERVICE, OFF, FleetLog
from ttc_sim.engine.spending import Spending
from ttc_sim.scenario import Api, GpuPool

I32 = NDArray[np.int32]

COMPLETED, REJECTED, TIMED_OUT, IN_FLIGHT, FAILED = 0, 1, 2, 3, 4
# What a server says of a stage that it can never serve; of the request it becomes REJECTED.
NEVER = 5
STATUS_NAMES = ("completed", "rejected", "timed_out", "in_flight", "failed")


@dataclass(frozen=True)
class Work:
    """All that the engines need to know of ``n`` requests: stages in order, each of parallel samples.

    A request's stages run one after another; the samples of a stage start together, share their prompt, and the
    stage ends when as many of them as it needs have ended.

    Attributes:
        arrival_s: (n,) seconds; not decreasing among the requests that follow no other.
        stage_start: (n + 1,) stages of request ``i`` are ``stage_start[i]:stage_start[i + 1]``.
        deployment: (stages,) index into the system's deployments.
        prompt_tokens: (stages,) tokens of the prompt, at least 1.
        prefix_id: (stages,) shared prefix, or -1: a node of ``prefixes``, where those are given.
        sample_start: (stages + 1,) samples of stage ``k`` are ``sample_start[k]:sample_start[k + 1]``.
        reasoning_tokens: (samples,) hidden output; visible_tokens: (samples,) the rest. Their sum is at least 1.
        first_token_s: (samples,) drawn time to first token, used by API endpoints only, which may be empty without them.
        per_token_s: (samples,) drawn time per further token, likewise.
        backoff: (n, retries) uniform draws for the jitter of the client's backoff.
        prefix_tokens: (stages,) leading tokens of prompt and output that requests with the same prefix have in common; the
            whole prompt if left out. More than the prompt: what is generated is part of a later prompt (a conversation).
        needed: (stages,) samples that must end before the stage does; the rest are then cancelled (at an API, if it stops). All
            if left out.
        priority: (n,) 0 is most urgent; for pools that schedule by priority. All 0 if left out.
        after: (n,) request whose end this one waits for, or -1: the next one of a closed loop's user, the next turns of a
            session. Its ``arrival_s`` is ignored, it arrives ``think_s`` later. Nobody waits if left out.
        think_s: (n,) seconds, at least 0; needed with ``after``.
        breaks: (stages, calls) whether the first, second, ... call of a stage that its API accepts ends in an error (1, else 0);
            further ones do not. None does if left out.
        again_s: (2, calls, samples) ``first_token_s`` and ``per_token_s`` of the second, third, ... call that its API accepts;
            further ones are as the last. As the first if left out.
        prefixes: what prefixes have in common; nothing if left out.
        session: (n,) that load balancers keep together, or -1; as the prefix if left out, or its branch of ``prefixes``.
        calls: (stages,) prompts that each stage's is made of, none of which may be longer than its server's context; one if left
            out.
    """

    arrival_s: F64
    stage_start: I64
    deployment: I64
    prompt_tokens: I64
    prefix_id: I64
    sample_start: I64
    reasoning_tokens: I64
    visible_tokens: I64
    first_token_s: F64
    per_token_s: F64
    backoff: F64
    prefix_tokens: I64 | None = None
    needed: I64 | None = None
    priority: I64 | None = None
    after: I64 | None = None
    think_s: F64 | None = None
    breaks: NDArray[np.int8] | None = None
    again_s: F64 | None = None
    prefixes: PrefixTree | None = None
    session: I64 | None = None
    calls: I64 | None = None

    @property
    def requests(self) -> int:
        """Number of requests."""
        return len(self.arrival_s)

    @property
    def samples(self) -> int:
        """Number of samples over all requests."""
        return len(self.reasoning_tokens)


def single_stage(
    arrival_s: F64, prompt_tokens: I64, output_tokens: I64, *, samples: int = 1, prefix_id: I64 | None = None
) -> Work:
    """Requests of one stage each on the first deployment, a GPU pool.

    Args:
        arrival_s: (n,) seconds, not decreasing.
        prompt_tokens: (n,).
        output_tokens: (n * samples,) visible tokens of each sample.
        samples: of each request.
        prefix_id: (n,) shared prefix; none if left out.

    >>> single_stage(np.zeros(2), np.array([10, 20]), np.array([5, 5])).requests
    2
    """
    n, none = len(arrival_s), np.zeros(0)
    index = np.arange(n + 1, dtype=np.int64)
    return Work(
        arrival_s=np.ascontiguousarray(arrival_s, dtype=np.float64),
        stage_start=index,
        deployment=np.zeros(n, dtype=np.int64),
        prompt_tokens=prompt_tokens,
        prefix_id=np.full(n, -1, dtype=np.int64) if prefix_id is None else prefix_id,
        sample_start=samples * index,
        reasoning_tokens=np.zeros(n * samples, dtype=np.int64),
        visible_tokens=output_tokens,
        first_token_s=none,
        per_token_s=none,
        backoff=np.zeros((n, 1)),
    )


@dataclass(frozen=True)
class Down:
    """When an API is down; sorted stretches that do not overlap.

    Attributes:
        from_s, until_s: (k,) seconds on the clock of the arrivals.
        known_until_s: up to when that is known; infinity if for good.
    """

    from_s: F64
    until_s: F64
    known_until_s: float = float("inf")


@dataclass(frozen=True)
class Attempts:
    """What became of attempts that were not answered, and what their clients did next.

    Attributes:
        first: (n,) the offered work that was carried out first; :attr:`EngineResult.arm` is the last.
        begun_s: (n,) when the last work was begun.
        errors: (n,) attempts that broke, or found their API down; outage_errors: (n,) those of them by an outage.
        error_retries, timeout_retries: (n,) attempts that were made again after an error, or after a timeout.
        fallbacks: (n,) how often a further work was begun.
        lost_generated: per offered work, (samples,) output tokens of attempts that were made again; lost_reasoning: those of them
            that are hidden.
        lost_prefilled, lost_cached: per offered work, (stages,) likewise prompt tokens; lost_attempts: attempts that had any.
        known: whether outages were known for as long as the run asked.
        lost_written: per offered work, (stages,) likewise tokens that a cache was made to keep; empty without any such.
    """

    first: I32
    begun_s: F64
    errors: I32
    outage_errors: I32
    error_retries: I32
    timeout_retries: I32
    fallbacks: I32
    lost_generated: tuple[I64, ...]
    lost_reasoning: tuple[I64, ...]
    lost_prefilled: tuple[I64, ...]
    lost_cached: tuple[I64, ...]
    lost_attempts: tuple[I64, ...]
    known: bool
    lost_written: tuple[I64, ...] = ()


@dataclass(frozen=True)
class EngineResult:
    """What happened, per request and per sample; times in seconds on the clock of ``arrival_s``, NaN = never.

    Attributes:
        status: (n,) ``COMPLETED``, ``REJECTED``, ``TIMED_OUT``, ``FAILED`` (what served it broke down) or ``IN_FLIGHT`` (the run
            was ended before it was).
        arm: (n,) which of the offered works was carried out; of several, as fallbacks have it, the last.
        arrival_s: (n,) when it arrives; NaN if the request that it follows has not been answered.
        started_s: (n,) first scheduled on a server or accepted by an endpoint.
        first_token_s: (n,) first generated token, reasoning included, of the attempt that was answered, or was the last.
        finished_s: (n,) last token, or the moment of rejection or timeout.
        retries: (n,) repeated calls after a 429, or to a pool whose queue was full.
        preemptions: (n,) times that a sequence of it lost its KV blocks to another.
        generated_tokens: per offered work, (samples,) output tokens that the server generated, so that are billed: of the last
            attempt, what was lost with those before it stands in ``attempts``.
        prefilled_tokens: per offered work, (stages,) prompt tokens that were taken in, so that are billed.
        cached_tokens: per offered work, (stages,) those of them found in the prefix cache, of a pool or of an API.
        written_tokens: per offered work, (stages,) those of them that an API's cache was made to keep; empty without any such.
        busy_s: (deployments,) seconds with at least one sequence in progress, summed over replicas; of ranks, their mean.
        prefill_busy_s: (deployments,) those of them that were spent by replicas that take prompts in, where these are others.
        end_s: clock at the end of the run.
        levels_s: (intervals, deployments, :data:`LEVELS`) what was there over each interval of the clock, times how long: sequences
            running and waiting (calls in progress, and those that wait to be made again), KV blocks in use, replicas with anything
            to do; ``None`` if that was not recorded.
        fleet: states of replicas over time, where a pool's may change; ``None`` otherwise.
        attempts: those that were not answered; ``None`` where nothing breaks and nobody asks again, but after a 429.
        spending: what budgets a day came to, and what they did to requests; ``None`` without any.
    """

    status: NDArray[np.int8]
    arm: I32
    arrival_s: F64
    started_s: F64
    first_token_s: F64
    finished_s: F64
    retries: I32
    preemptions: I32
    generated_tokens: tuple[I64, ...]
    prefilled_tokens: tuple[I64, ...]
    cached_tokens: tuple[I64, ...]
    busy_s: F64
    end_s: float
    levels_s: F64 | None = None
    fleet: FleetLog | None = None
    attempts: Attempts | None = None
    spending: Spending | None = None
    written_tokens: tuple[I64, ...] = ()
    prefill_busy_s: F64 | None = None


def prefill_busy_s(result: EngineResult, d: int) -> float:
    """Seconds that replicas which take prompts in for a pool had anything to do; 0 where its own do."""
    return 0.0 if result.prefill_busy_s is None else float(result.prefill_busy_s[d])


def may_break(deployments: Sequence[Api | GpuPool], following: I64 | None) -> bool:
    """Whether a run has anything to write down as :class:`Attempts`."""
    return following is not None or any(
        item.deadline_s is not None
        or (item.retry is not None and "timeout" in item.retry.reasons)
        or (item.errors is not None if isinstance(item, Api) else item.retry is not None or item.failures is not None)
        for item in deployments
    )


def has_api_cache(deployments: Sequence[Api | GpuPool]) -> bool:
    """Whether any endpoint keeps prompts."""
    return any(isinstance(item, Api) and item.cache is not None for item in deployments)


def listed_outages(item: Api | GpuPool) -> Down | None:
    """Of an API whose outages stand in the scenario; ``None`` of one that has none, or whose are drawn."""
    if not isinstance(item, Api) or item.errors is None or item.errors.outages is None:
        return None
    listed = item.errors.outages
    return Down(np.array([one.from_s for one in listed]), np.array([one.until_s for one in listed]))


def check_following(following: I64 | None, works: Sequence[Work]) -> None:
    """Refuse works that follow one another in a circle, or are not there.

    Raises:
        ValueError: either, or another shape than (n, works).
    """
    if following is None:
        return
    n, count = works[0].requests, len(works)
    if following.shape != (n, count) or (following >= count).any():
        raise ValueError(f"following must be ({n}, {count}) numbers of works, -1 for none")
    rows = np.arange(n)
    for begun in range(count):
        at = np.full(n, begun)
        for _ in range(count):
            at = np.where(at >= 0, following[rows, at], -1)
        if (at >= 0).any():
            raise ValueError("following: works that follow one another in a circle")


def check_clock(until_s: float | None) -> None:
    """Refuse a clock that stops before it starts.

    Raises:
        InputError: no seconds above 0.
    """
    if until_s is not None and not (finite(until_s) and until_s > 0):
        raise InputError("run", "until_s", until_s, "seconds above 0, or None to run to the end")


def check_work(work: Work) -> None:
    """Refuse work that no engine could carry out.

    Raises:
        ValueError: a time that is not a number, arrivals out of order, tokens below 1, a request that follows itself or a
            later one, prefixes that are no tree.
    """
    first = work.arrival_s if work.after is None else work.arrival_s[work.after < 0]
    for name, times in (("arrival_s", first), ("think_s", work.think_s)):
        if times is not None and not np.isfinite(times).all():
            raise ValueError(f"{name} has a time that is not a finite number")
    if len(first) and (np.diff(first) < 0).any():
        raise ValueError("arrival_s is out of order")
    if work.think_s is not None and (work.think_s < 0).any():
        raise ValueError("think_s is negative")
    if work.breaks is not None and len(work.breaks) != len(work.deployment):
        raise ValueError("breaks must have a row for each stage")
    if work.again_s is not None and (work.again_s.ndim, *work.again_s.shape[::2]) != (3, 2, work.samples):
        raise ValueError("again_s must have two times for each call and sample")
    if work.after is not None and (work.think_s is None or (work.after >= np.arange(work.requests)).any()):
        raise ValueError("after must name earlier requests, and needs think_s")
    if work.prefixes is not None:
        work.prefixes.check()
        if int(work.prefix_id.max(initial=-1)) >= len(work.prefixes):
            raise ValueError("prefix_id must be nodes of prefixes")
    if work.session is not None and len(work.session) != work.requests:
        raise ValueError("session must have one number for each request")
    for name, values, least in (
        ("prompt_tokens", work.prompt_tokens, 1),
        ("output tokens", work.reasoning_tokens + work.visible_tokens, 1),
        ("samples of a stage", np.diff(work.sample_start), 1),
    ):
        if len(values) and int(values.min()) < least:
            raise ValueError(f"{name}: {int(values.min())} where at least {least} was expected")


LEVELS = ("running", "waiting", "kv_blocks", "busy")
RUNNING, QUEUED, KV_BLOCKS, BUSY = range(4)
MOST_INTERVALS = 200_000


def check_intervals(interval_s: float | None, until_s: float | None) -> None:
    """Refuse intervals of no length, or of a clock that is stopped before what is there has ended.

    Raises:
        InputError: no seconds above 0.
        ValueError: both an interval and an end of the clock.
    """
    if interval_s is not None and not (finite(interval_s) and interval_s > 0):
        raise InputError("run", "interval_s", interval_s, "seconds above 0")
    if interval_s is not None and until_s is not None:
        raise ValueError("levels are recorded to the end of a run, and not up to until_s")


def check_count(intervals: int, interval_s: float) -> None:
    """Refuse more intervals than anybody looks at.

    Raises:
        InputError: too many.
    """
    if intervals > MOST_INTERVALS:
        raise InputError(
            "run", "interval_s", interval_s, f"so many seconds that a run has at most {MOST_INTERVALS:,} intervals"
        )


@register_jitable  # type: ignore[untyped-decorator]
def interval_of(at_s: float, interval_s: float) -> int:
    """Which interval of the clock a moment lies in, the first is 0; its end belongs to the next."""
    k = int(at_s / interval_s)
    while k * interval_s > at_s:
        k -= 1
    while (k + 1) * interval_s <= at_s:
        k += 1
    return k


def levels_over_time(changes: F64, interval_s: float) -> F64:
    """Levels times seconds, of each interval, from their changes: without intervals at the end in which nothing was there.

    Args:
        changes: (intervals, deployments, levels, 2) by how much each rose, and that times what was left of the interval.
    """
    before = np.cumsum(changes[..., 0], axis=0) - changes[..., 0]
    found = changes[..., 1] + interval_s * before
    some = np.flatnonzero(changes.any(axis=(1, 2, 3)))
    return np.asarray(found[: some[-1] + 1 if len(some) else 0])


def busy_replicas(levels_s: F64, deployments: Sequence[Api | GpuPool]) -> F64:
    """The same with the ranks that are busy as parts of their replicas; changes what it is given."""
    for d, item in enumerate(deployments):
        if isinstance(item, GpuPool) and item.data_parallel > 1:
            levels_s[:, d, BUSY] /= item.data_parallel
    return levels_s


def last_arrival(work: Work) -> float:
    """Of those requests whose time is known; 0 without any."""
    return float(np.nanmax(work.arrival_s if work.after is None else work.arrival_s[work.after < 0], initial=0.0))


def fleet_log(deployments: Sequence[Api | GpuPool], at_s: F64, replica: I64, state: I64) -> FleetLog | None:
    """Of changes of replicas' states: moment, replica among all, new state; ``None`` where no pool's may change."""
    pools = [(d, item) for d, item in enumerate(deployments) if isinstance(item, GpuPool)]
    if not any(pool.changes for _, pool in pools):
        return None
    # Of a replica with ranks, the first stands for it.
    first = [
        np.where(np.arange(pool.most_replicas * pool.data_parallel) % pool.data_parallel == 0, IN_SERVICE, OFF)
        if pool.data_parallel > 1
        else np.where(np.arange(pool.most_replicas) < pool.replicas, IN_SERVICE, OFF)
        for _, pool in pools
    ]
    return FleetLog(
        deployment=np.repeat([d for d, _ in pools], [len(one) for one in first]).astype(np.int64),
        first_state=np.concatenate(first).astype(np.int64),
        at_s=at_s,
        replica=replica,
        state=state,
    )


def end_of_run(finished_s: F64, until_s: float | None) -> float:
    """When the clock was stopped, or the last request had its answer."""
    if until_s is not None:
        return until_s
    return float(np.nanmax(finished_s, initial=0.0))


def tokens_when_answered(work: Work, deployments: Sequence[Api | GpuPool]) -> I64:
    """Output tokens (samples,) of API calls that are neither refused nor given up.

    All, but where a stage needs fewer samples than it has and the API stops a call that is no longer needed: what each has had
    when the last needed one ends. Of a pool, which cancels samples as its queue and batch have it, all are given.
    """
    tokens: I64 = work.reasoning_tokens + work.visible_tokens
    stops = np.array([isinstance(item, Api) and item.on_timeout == "stop" for item in deployments], dtype=np.bool_)
    if work.needed is None or not (stops[work.deployment] & (work.needed < np.diff(work.sample_start))).any():
        return tokens
    stage = np.repeat(np.arange(len(work.deployment)), np.diff(work.sample_start))
    took_s = work.first_token_s + (tokens - 1) * work.per_token_s
    last_s = took_s[np.lexsort((took_s, stage))][work.sample_start[:-1] + work.needed - 1][stage]
    cut = stops[work.deployment][stage] & (took_s > last_s)
    first_s, more_s, last_s = work.first_token_s[cut], work.per_token_s[cut], last_s[cut]
    had = np.floor((last_s - first_s) / np.maximum(more_s, 1e-300)) + 1
    # As :func:`ttc_sim.serving.api_limits.generated_by`, against rounding of the quotient.
    had += np.where(first_s + had * more_s <= last_s, 1, 0) - np.where(first_s + (had - 1) * more_s > last_s, 1, 0)
    tokens[cut] = np.maximum(had, 0).astype(np.int64)
    return tokens


def all_pools(deployments: Sequence[Api | GpuPool]) -> list[GpuPool]:
    """Of all deployments, and after them the replicas that take prompts in for others, as pools of their own."""
    pools = [item for item in deployments if isinstance(item, GpuPool)]
    return pools + [apart for pool in pools if (apart := pool.prefill_pool) is not None]


def kept_together(work: Work) -> I64:
    """(stages,) what load balancers by session send to one replica, -1 for none."""
    if work.session is not None:
        return np.repeat(work.session, np.diff(work.stage_start))
    if work.prefixes is None or not len(work.prefixes):
        return work.prefix_id
    return np.where(work.prefix_id < 0, -1, work.prefixes.branches(work.prefix_id)[work.prefix_id])


def followers(after: I64) -> tuple[I64, I64, int]:
    """Who waits for whom.

    Returns:
        (n,) the first request that waits for each one's answer, and (n,) the next that waits for the same answer as each, -1 for
        none; and how many wait for one answer at most.

    >>> first, beside, most = followers(np.array([-1, 0, 0, 1]))
    >>> first.tolist(), beside.tolist(), most
    ([1, 3, -1, -1], [-1, 2, -1, -1], 2)
    """
    first, beside = np.full(len(after), -1, dtype=np.int64), np.full(len(after), -1, dtype=np.int64)
    who = np.flatnonzero(after >= 0)
    who = who[np.argsort(after[who], kind="stable")]
    same = after[who[1:]] == after[who[:-1]]
    beside[who[:-1][same]] = who[1:][same]
    begins = np.flatnonzero(np.concatenate([[True], ~same])) if len(who) else who
    first[after[who[begins]]] = who[begins]
    return first, beside, int(np.diff(np.append(begins, len(who))).max(initial=0))


def capacity(deployment: Api | GpuPool) -> float:
    """Sequences or calls that a deployment has in progress at most."""
    if isinstance(deployment, GpuPool):
        return float(deployment.replicas * deployment.data_parallel * deployment.max_num_seqs)
    return float("inf") if deployment.concurrency is None else float(deployment.concurrency)


@register_jitable  # type: ignore[untyped-decorator]
def far_apart(fewest: int, most: int) -> bool:
    """Whether replicas' unfinished sequences are too unequal to go by what their caches hold, as SGLang's router has it."""
    return most - fewest > 64 and 2 * most > 3 * fewest


@register_jitable  # type: ignore[untyped-decorator]
def holds_enough(cached: int, prompt: int) -> bool:
    """Whether so many tokens of a prompt are worth going where they are: more than 30%, likewise."""
    return 10 * cached > 3 * prompt


@register_jitable  # type: ignore[untyped-decorator]
def pick_live(overflow: bool, limit: int, choices: int, at: I64, waiting: I64, in_progress: I64, most: F64) -> int:
    """Which of the choices, served at deployments ``at``, a :class:`LiveRule` takes; the rest is by deployment."""
    if overflow:
        for choice in range(choices - 1):
            if waiting[at[choice]] < limit and most[at[choice]] > 0:
                return choice
        return choices - 1
    best, least, fewest = 0, np.inf, np.inf
    for choice in range(choices):
        count = waiting[at[choice]] + in_progress[at[choice]]
        load = count / most[at[choice]] if most[at[choice]] > 0 else np.inf  # nobody is in service
        # Of endpoints that have no limit every share is 0.
        if load < least or (load == least and count < fewest):
            best, least, fewest = choice, load, count
    return best
