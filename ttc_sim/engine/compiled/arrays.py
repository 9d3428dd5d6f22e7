"""All arrays of the compiled engine: made from works and deployments, and made larger when something has to grow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.draws import F64, I64
from ttc_sim.base.prefix_tree import PrefixTree
from ttc_sim.engine.compiled.state import (
    BATCH,
    BROKEN,
    BUDGETS,
    CALLS_AGAIN,
    CALLS_BREAK,
    CHAIN,
    CHAINS_NEEDED,
    CHANGE,
    CHANGES,
    CHOICES,
    COUNTERS,
    DAY,
    DAYS,
    DEPLOYMENT,
    DEPLOYMENTS,
    DRAWN,
    EVENT,
    EVENTS,
    EVENTS_NEEDED,
    FREE_CHAINS,
    FREE_GROUPS,
    FREE_KEPT,
    FREE_SEQUENCES,
    FURTHER,
    GROUP,
    HAS_AFTER,
    HAS_LEVEL,
    HAS_NEEDED,
    HAS_PREFIX_TOKENS,
    HEARS,
    INTERVAL,
    INTERVALS,
    KEEPS_ATTEMPTS,
    KEPT,
    LATE,
    LEVELS,
    LIMIT,
    LOG_ROOM,
    MOST_KEPT,
    NODES,
    OVERFLOW,
    OWN,
    PLAN,
    PREFIXES,
    REFUSED,
    REPLICA,
    REPLICAS,
    REQUESTS,
    RETRIES,
    ROOM,
    SAMPLES,
    SEQUENCE,
    UNFINISHED,
    WORKS,
    State,
)
from ttc_sim.engine.compiled.stretches import joined_stretches
from ttc_sim.engine.fleet import (
    DECIDE,
    FAIL,
    IN_SERVICE,
    OFF,
    TTFT,
    Fleets,
    decides_at,
    fleets_of,
    order_of,
)
from ttc_sim.engine.kv_cache import BLOCK, UNLIMITED
from ttc_sim.engine.ranks import step_together
from ttc_sim.engine.speculation import PARTS, advance_of, check_table, drafts_of
from ttc_sim.engine.spending import QUEUE, Budgets, Spending, check_days, spending_of
from ttc_sim.engine.work import (
    IN_FLIGHT,
    Down,
    Work,
    capacity,
    check_count,
    followers,
    kept_together,
    last_arrival,
    levels_over_time,
    listed_outages,
    may_break,
)
from ttc_sim.engine.work import LEVELS as LEVELS_RECORDED
from ttc_sim.policies import LiveRule
from ttc_sim.scenario import Api, GpuPool
from ttc_sim.serving.api_limits import held_by
from ttc_sim.serving.pools import pool_table
from ttc_sim.serving.step_time import StepTable, no_steps, stack_tables

_BALANCERS = ("round_robin", "least_outstanding", "least_kv", "session", "prefix")
_COUNTS = ("first", "errors", "outage_errors", "error_retries", "timeout_retries", "fallbacks")
_NOBODY = (
    "place",
    "first",
    "last",
    "prefill",
    "partial",
    "coming_first",
    "coming_last",
    "ready_first",
    "ready_last",
)
_ERRORS_AFTER = ("at_once", "first_token", "midway")
_REASONS = {"rate_limit": int(REFUSED), "queue_full": int(REFUSED), "error": int(BROKEN), "timeout": int(LATE)}


def _joined(parts: Sequence[Any]) -> Any:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def begin(
    works: Sequence[Work],
    deployments: Sequence[Api | GpuPool],
    route: LiveRule | None,
    given: Sequence[StepTable | None] | None,
    drawn_s: F64,
    following: I64 | None,
    outages: Sequence[Down | None] | None,
    budgets: Budgets | None,
) -> State:
    first = works[0]
    n = first.requests
    # Replicas that take prompts in for a pool are a pool that comes after all others, and that no work names.
    aparts = [(d, pool) for d, item in enumerate(deployments) if (pool := _prefill_of(item)) is not None]
    given = list(given or [None] * len(deployments))
    given += [one.apart if (one := given[d]) is not None else None for d, _ in aparts]
    outages = None if outages is None else [*outages, *(None for _ in aparts)]
    deployments = [*deployments, *(pool for _, pool in aparts)]
    stages, samples = sum(len(work.deployment) for work in works), sum(work.samples for work in works)
    none_i, none_f = np.zeros(0, dtype=np.int64), np.zeros(0)

    def optional(name: str) -> I64:
        """Of all works, if any has it; the others get what leaving it out means."""
        values = [getattr(work, name) for work in works]
        if all(value is None for value in values):
            return none_i
        meant = [w.prompt_tokens if name == "prefix_tokens" else np.diff(w.sample_start) for w in works]
        return np.ascontiguousarray(_joined([m if v is None else v for m, v in zip(meant, values, strict=True)]))

    def shifted(name: str, offsets: Sequence[int]) -> I64:
        return np.ascontiguousarray(
            _joined([getattr(w, name) + o if o else getattr(w, name) for w, o in zip(works, offsets, strict=True)])
        )

    stage_offset = np.cumsum([0, *(len(work.deployment) for work in works)]).tolist()
    sample_offset = np.cumsum([0, *(work.samples for work in works)]).tolist()
    sample_start = _joined(
        [
            w.sample_start[:-1] + o if i + 1 < len(works) else w.sample_start + o
            for i, (w, o) in enumerate(zip(works, sample_offset, strict=False))
        ]
    )
    prefix_id = _joined([work.prefix_id for work in works])
    by_session = any(isinstance(item, GpuPool) and item.load_balancer == "session" for item in deployments)
    tree, goes = joined_stretches(works, _prefixes(works, deployments, prefix_id))
    level, levels = none_i, 1
    if first.priority is not None and len(first.priority):
        _, level = np.unique(first.priority, return_inverse=True)
        levels = int(level.max()) + 1
    next_of, beside, together = (none_i, none_i, 0) if first.after is None else followers(first.after)
    dep, rep = _servers(deployments)
    for number, (d, _) in enumerate(aparts, start=len(deployments) - len(aparts)):
        dep[d]["prefill"], dep[number]["owner"], dep[number]["takes_in"] = number, d, 1
    fleets = fleets_of(deployments, last_arrival(first))
    events, given_repair_s = _first_events(deployments, fleets, rep, drawn_s)
    most_seqs = int(dep["max_seqs"].max(initial=1))
    counters = np.zeros(COUNTERS, dtype=np.int64)
    counters[LEVELS] = levels
    if route is not None:
        counters[OVERFLOW], counters[LIMIT] = route.kind == "overflow", route.limit
    counters[REQUESTS], counters[REPLICAS], counters[DEPLOYMENTS] = n, len(rep), len(dep)
    counters[PREFIXES], counters[OWN] = len(tree), len(rep)
    deepest = tree.deepest()
    # The batch may be filled with sequences that all have a path of their own.
    counters[CHAINS_NEEDED] = len(tree) if aparts else min(most_seqs * deepest, len(tree))
    counters[CHOICES] = 0 if route is None else route.arms.shape[1]
    counters[BATCH], counters[RETRIES] = most_seqs, first.backoff.shape[1]
    counters[UNFINISHED], counters[DRAWN], counters[EVENTS] = n, drawn_s.shape[1], len(events)
    counters[FURTHER] = max(together - 1, 0)
    # All of a batch may end at once, and all that wait for them be told.
    counters[EVENTS_NEEDED] = most_seqs + 2 + min((most_seqs + 2) * counters[FURTHER], n)
    counters[HEARS] = (fleets.of["rule"] == TTFT).any()
    # Each attempt at each work has one at most.
    attempts = 1 + max((0 if item.retry is None else item.retry.retries for item in deployments), default=0)
    heard = n * attempts * (1 if following is None else len(works)) if counters[HEARS] else 0
    counters[HAS_AFTER], counters[HAS_LEVEL] = first.after is not None, first.priority is not None
    # Who has waited for a day to end has its time from then on.
    keeps = may_break(deployments, following) or (budgets is not None and bool((budgets.rule == QUEUE).any()))
    counters[KEEPS_ATTEMPTS], counters[WORKS] = keeps, 0 if following is None else len(works)
    counters[SAMPLES] = samples
    breaks, again_first_s, again_per_token_s = _further_calls(works)
    counters[CALLS_BREAK] = len(breaks) // max(stages, 1)
    counters[CALLS_AGAIN] = len(again_first_s) // max(samples, 1)
    prefix_tokens, needed = optional("prefix_tokens"), optional("needed")
    counters[HAS_PREFIX_TOKENS], counters[HAS_NEEDED] = len(prefix_tokens) > 0, len(needed) > 0
    chains = np.zeros(len(rep), dtype=CHAIN)
    for r in range(len(rep)):
        chains[r]["previous"] = chains[r]["following"] = r
        chains[r]["gap"] = rep[r]["total"]
    each = [
        own or (pool_table(item) if isinstance(item, GpuPool) else no_steps())
        for item, own in zip(deployments, given, strict=True)
    ]
    for row, item, table in zip(dep, deployments, each, strict=True):
        if isinstance(item, GpuPool):
            check_table(table, item)
            for name in ("frontend_s", "prompt_token_s", "pipeline_steps"):
                row[name] = getattr(table, name)
    tables = stack_tables(each)
    _set_ranks(deployments, each, dep, rep)
    arrival_s = first.arrival_s if first.after is None else np.where(first.after < 0, first.arrival_s, np.nan)
    return State(
        arrival_s=arrival_s,
        stage_start=shifted("stage_start", stage_offset[:-1]),
        deployment_of=_joined([work.deployment for work in works]),
        prompt_tokens=_joined([work.prompt_tokens for work in works]),
        prefix_id=prefix_id,
        stretch=np.where(prefix_id < 0, -1, goes[prefix_id]) if len(tree) else prefix_id,
        prefix_tokens=prefix_tokens,
        sample_start=np.ascontiguousarray(sample_start),
        output_tokens=_joined([work.reasoning_tokens + work.visible_tokens for work in works]),
        first_token_draw_s=_joined([work.first_token_s for work in works]),
        per_token_draw_s=_joined([work.per_token_s for work in works]),
        backoff=np.ascontiguousarray(first.backoff).reshape(-1),
        needed=needed,
        level=np.ascontiguousarray(level, dtype=np.int64),
        session=_joined([kept_together(work) if by_session else work.prefix_id for work in works]),
        next_of=next_of,
        beside=beside,
        think_s=none_f if first.think_s is None else first.think_s,
        route=none_i if route is None else np.ascontiguousarray(route.arms, dtype=np.int64).reshape(-1),
        status=np.full(n, IN_FLIGHT, dtype=np.int8),
        arm=np.zeros(n, dtype=np.int32),
        arrived_s=arrival_s if first.after is None else arrival_s.copy(),
        started_s=np.full(n, np.nan),
        first_token_s=np.full(n, np.nan),
        finished_s=np.full(n, np.nan),
        retries=np.zeros(n, dtype=np.int32),
        preemptions=np.zeros(n, dtype=np.int32),
        generated=np.zeros(samples, dtype=np.int64),
        prefilled=np.zeros(stages, dtype=np.int64),
        cached=np.zeros(stages, dtype=np.int64),
        deployments=dep,
        replicas=rep,
        sequences=np.zeros(0, dtype=SEQUENCE),
        groups=np.zeros(0, dtype=GROUP),
        chains=chains,
        events=events,
        **_caches(works, dep, counters),
        written=np.zeros(stages if counters[MOST_KEPT] else 0, dtype=np.int64),
        lost_written=np.zeros(stages if counters[MOST_KEPT] and keeps else 0, dtype=np.int64),
        free_sequences=none_i,
        free_groups=none_i,
        free_chains=none_i,
        ends=np.zeros(int(dep["max_seqs"] @ (dep["replicas"] * dep["ranks"])) or 1, dtype=np.int64),
        due=np.zeros(len(rep) * 16, dtype=np.int64),
        drafted_due=np.zeros(int(rep["due_period"].sum()) if len(rep) else 0, dtype=np.int64),
        waiting_first=np.full(len(rep) * levels, -1, dtype=np.int64),
        waiting_last=np.full(len(rep) * levels, -1, dtype=np.int64),
        active=np.zeros(max(len(rep), 1), dtype=np.int64),
        stage=np.zeros(n, dtype=np.int32),
        group=np.zeros(n, dtype=np.int32),
        finished=np.zeros(most_seqs, dtype=np.int64),
        attempt=np.zeros(n, dtype=np.int32),
        lost_calls=np.zeros(n, dtype=np.int32),
        begun_s=np.full(n, np.nan) if keeps else none_f,
        **{name: np.zeros(n if keeps else 0, dtype=np.int32) for name in _COUNTS},  # type: ignore[arg-type]
        following=none_i if following is None else np.ascontiguousarray(following, dtype=np.int64).reshape(-1),
        reasoning=_joined([work.reasoning_tokens for work in works]) if keeps or budgets is not None else none_i,
        breaks=breaks,
        again_first_s=again_first_s,
        again_per_token_s=again_per_token_s,
        lost_generated=np.zeros(samples if keeps else 0, dtype=np.int64),
        lost_reasoning=np.zeros(samples if keeps else 0, dtype=np.int64),
        lost_prefilled=np.zeros(stages if keeps else 0, dtype=np.int64),
        lost_cached=np.zeros(stages if keeps else 0, dtype=np.int64),
        lost_attempts=np.zeros(stages if keeps else 0, dtype=np.int64),
        **_stretches(deployments, dep, outages),  # type: ignore[arg-type]
        prefix_parent=tree.parent,
        prefix_start=tree.start // BLOCK,
        # Only what is used of it takes memory.
        chain_at=np.zeros(len(rep) * len(tree), dtype=np.int32),
        path=np.zeros(2 * deepest, dtype=np.int64),
        load_at=np.zeros(1 if route is None else route.arms.shape[1], dtype=np.int64),
        load_waiting=np.zeros(len(deployments), dtype=np.int64),
        load_in_progress=np.zeros(len(deployments), dtype=np.int64),
        most=np.array([capacity(item) for item in deployments]),
        counters=counters,
        clock=np.full(3, np.inf),
        changes=none_f,
        **_gateway(budgets, n, counters),
        fleets=fleets.of,
        step_s=fleets.step_s,
        step_replicas=fleets.step_replicas,
        looks_seen=fleets.counts,
        looks_wanted=fleets.wanted,
        given_repair_s=given_repair_s,
        fails_s=drawn_s.reshape(-1),
        log_s=none_f,
        log_replica=none_i,
        log_state=none_i,
        heard_at=np.zeros(heard, dtype=np.int64),
        heard_s=np.zeros(heard),
        heard_ttft_s=np.zeros(heard),
        seen_s=np.zeros(heard),
        **{f"table_{name}": values for name, values in tables._asdict().items()},
        table_shape=np.array(
            [
                *(*tables.dense_s.shape, tables.decode_s.shape[1], tables.knots.shape[2]),
                *(*tables.attention_s.shape[1:], 4, tables.sampled_s.shape[1], tables.shared_s.shape[1]),
            ]
        ),
    )


def _prefill_of(item: Api | GpuPool) -> GpuPool | None:
    return item.prefill_pool if isinstance(item, GpuPool) else None


def _prefixes(works: Sequence[Work], deployments: Sequence[Api | GpuPool], prefix_id: I64) -> PrefixTree:
    """What pools may find of prompts; nothing where none looks."""
    caching = any(isinstance(item, GpuPool) and item.prefix_caching for item in deployments)
    if not caching or not (prefix_id >= 0).any():
        return PrefixTree.of_roots(0)
    if works[0].prefixes is not None:
        return works[0].prefixes
    count = int(prefix_id.max()) + 1
    if count > 4 * len(np.unique(prefix_id)) + 1024:
        raise ValueError("prefix_id: ids must be numbered from 0 without large gaps")
    return PrefixTree.of_roots(count)


def _further_calls(works: Sequence[Work]) -> tuple[NDArray[np.int8], F64, F64]:
    """Of all works, as many calls of a stage as any has: which break, and the two times of those after the first."""
    breaking = max((work.breaks.shape[1] for work in works if work.breaks is not None), default=0)
    breaks = []
    for work in works:
        own = np.zeros((len(work.deployment), breaking), dtype=np.int8)
        if work.breaks is not None:
            own[:, : work.breaks.shape[1]] = work.breaks
        breaks.append(own.reshape(-1))
    again = max((work.again_s.shape[1] for work in works if work.again_s is not None), default=0)
    times = []
    for work in works:
        drawn = np.stack([work.first_token_s, work.per_token_s])[:, None]
        if not drawn.shape[2]:  # pools alone, which draw none
            drawn = np.zeros((2, 1, work.samples))
        if work.again_s is not None and work.again_s.shape[1]:
            drawn = work.again_s
        # Further calls are as the last that is given.
        times.append(drawn[:, np.minimum(np.arange(again), drawn.shape[1] - 1)])
    joined = np.concatenate(times, axis=2)
    return _joined(breaks), np.ascontiguousarray(joined[0]).reshape(-1), np.ascontiguousarray(joined[1]).reshape(-1)


def _stretches(
    deployments: Sequence[Api | GpuPool], dep: NDArray[Any], outages: Sequence[Down | None] | None
) -> dict[str, F64]:
    """When APIs are down, and slow, one deployment after another; where those of each are is written into its record."""
    found: dict[str, list[float]] = {name: [] for name in ("outage_from_s", "outage_until_s")}
    slow: dict[str, list[float]] = {name: [] for name in ("slow_from_s", "slow_until_s", "slow_factor")}
    for d, item in enumerate(deployments):
        down = (None if outages is None else outages[d]) or listed_outages(item)
        dep[d]["outage"], dep[d]["slow"] = len(found["outage_from_s"]), len(slow["slow_from_s"])
        dep[d]["known_until_s"] = np.inf if down is None else down.known_until_s
        if down is not None:
            found["outage_from_s"] += down.from_s.tolist()
            found["outage_until_s"] += down.until_s.tolist()
        for one in item.errors.slow or () if isinstance(item, Api) and item.errors is not None else ():
            slow["slow_from_s"].append(one.from_s)
            slow["slow_until_s"].append(one.until_s)
            slow["slow_factor"].append(one.factor)
        dep[d]["outages_end"], dep[d]["slows_end"] = len(found["outage_from_s"]), len(slow["slow_from_s"])
    return {name: np.array(values, dtype=np.float64) for name, values in {**found, **slow}.items()}


def _set_ranks(
    deployments: Sequence[Api | GpuPool], tables: Sequence[StepTable], dep: NDArray[Any], rep: NDArray[Any]
) -> None:
    """Say of each replica which are the ranks that step together with it, if there are any."""
    rep["seen_s"] = -np.inf
    for d, (item, table) in enumerate(zip(deployments, tables, strict=True)):
        if isinstance(item, GpuPool) and step_together(item, table):
            for first in range(item.most_replicas):
                begins = dep[d]["first_replica"] + first * table.ranks
                rep["ranks_from"][begins : begins + table.ranks] = begins
                rep["ranks_to"][begins : begins + table.ranks] = begins + table.ranks


def _servers(deployments: Sequence[Api | GpuPool]) -> tuple[NDArray[Any], NDArray[Any]]:
    dep = np.zeros(len(deployments), dtype=DEPLOYMENT)
    replicas: list[Any] = []
    ends_base = caches = due_base = 0
    for d, item in enumerate(deployments):
        row = dep[d]
        row["cache"] = row["prefill"] = -1
        row["owner"] = d
        row["timeout_s"] = np.inf if item.timeout_s is None else item.timeout_s
        row["capacity"] = capacity(item)
        row["deadline_s"] = np.inf if item.deadline_s is None else item.deadline_s
        if item.retry is not None:
            row["retries"], row["retry_on"] = (
                item.retry.retries,
                sum(1 << _REASONS[why] for why in set(item.retry.reasons)),
            )
            row["per_attempt"] = "timeout" in item.retry.reasons
            row["backoff_base_s"], row["backoff_max_s"] = item.retry.base_s, item.retry.max_s
        if isinstance(item, GpuPool):
            row["kind"], row["first_replica"], row["replicas"] = 1, len(replicas), item.most_replicas
            row["changes"], row["ranks"] = item.changes, item.data_parallel
            if item.kv_transfer is not None:
                row["per_block_s"], row["latency_s"] = item.kv_transfer.seconds_per_block, item.kv_transfer.latency_s
            row["max_seqs"], row["max_tokens"] = item.max_num_seqs, item.max_num_batched_tokens
            row["queue_limit"] = -1 if item.queue_limit is None else item.queue_limit
            row["balancer"] = _BALANCERS.index(item.load_balancer)
            row["by_priority"], row["caching"] = item.scheduling == "priority", item.prefix_caching
            row["whole"], row["chunk"] = not item.chunked_prefill, item.most_of_a_prompt
            for number in range(item.most_replicas * item.data_parallel):
                replica = np.zeros(1, dtype=REPLICA)[0]
                place = number // item.data_parallel
                replica["state"], replica["phase"] = IN_SERVICE if place < item.replicas else OFF, PLAN
                replica["deployment"], replica["ends_base"] = d, ends_base
                for name in _NOBODY:
                    replica[name] = -1
                replica["link_s"] = -np.inf
                blocks = UNLIMITED if item.kv_cache_tokens is None else item.kv_cache_tokens // BLOCK
                replica["free"] = replica["total"] = blocks
                drafts, advance = drafts_of(item), advance_of(item)
                replica["advance"] = replica["parts"] = 1
                if drafts:
                    replica["drafts"], replica["advance"], replica["parts"] = drafts, advance, PARTS
                    # After so many steps a sequence has whole blocks more.
                    replica["due_period"] = BLOCK * PARTS // math.gcd(advance, BLOCK * PARTS)
                    replica["due_base"], due_base = due_base, due_base + replica["due_period"]
                replicas.append(replica)
                ends_base += item.max_num_seqs
            continue
        row["concurrency"] = -1 if item.concurrency is None else item.concurrency
        row["stops"] = item.on_timeout == "stop"
        if item.errors is not None:
            row["error_after"] = _ERRORS_AFTER.index(item.errors.after or "at_once")
        for key, per_minute in item.rate_limits.items():
            name = key.split("_")[0]
            row[f"has_{name}"] = 1
            row[f"{name}_most"] = row[f"{name}_level"] = held_by(per_minute, item.limit_window_s)
            row[f"{name}_rate"] = per_minute / 60.0
        if (rules := item.cache_rules) is not None:
            row["cache"], caches = caches, caches + 1
            row["cache_marks"], row["cache_least"] = rules.breakpoints, rules.min_tokens
            row["cache_step"], row["cache_ttl_s"] = rules.step_tokens, rules.ttl_s
            row["cache_answers"], row["cache_uncounted"] = rules.keeps_output, not rules.reads_count
    return dep, np.array(replicas, dtype=REPLICA)


def _caches(works: Sequence[Work], dep: NDArray[Any], counters: I64) -> dict[str, NDArray[Any]]:
    """Prompt caches, empty, and the tree of what prompts have in common."""
    none, caches = np.zeros(0, dtype=np.int64), int(dep["cache"].max(initial=-1)) + 1
    names = ("node_parent", "node_start", "kept_first", "free_kept")
    if not caches:
        return {**dict.fromkeys(names, none), "kept": np.zeros(0, dtype=KEPT)}
    most = max((int(work.prefix_id.max(initial=-1)) for work in works), default=-1) + 1
    tree = works[0].prefixes or PrefixTree.of_roots(most)
    counters[NODES], counters[MOST_KEPT] = len(tree), tree.deepest() + 2
    return {
        "node_parent": np.ascontiguousarray(tree.parent, dtype=np.int64),
        "node_start": np.ascontiguousarray(tree.start, dtype=np.int64),
        "kept_first": np.full(caches * len(tree), -1, dtype=np.int64),
        "kept": np.zeros(0, dtype=KEPT),
        "free_kept": none,
    }


def _first_events(
    deployments: Sequence[Api | GpuPool], fleets: Fleets, rep: NDArray[Any], drawn_s: F64
) -> tuple[NDArray[Any], F64]:
    """What happens to replicas first, as a heap, and how long they are repaired after given failures."""
    found: list[tuple[float, int, int, int]] = []
    repair_s: list[float] = []
    of = fleets.of.view(np.recarray)
    for r in range(len(rep)):
        if rep[r]["state"] == IN_SERVICE and of[rep[r]["deployment"]].at_random:
            rep[r]["lives"] = 1
            found.append((float(drawn_s[r, 0, 0]), order_of(FAIL, r), r, 1))
    first = 0
    for d, item in enumerate(deployments):
        if not isinstance(item, GpuPool):
            continue
        for one in (item.failures.at or []) if item.failures is not None else []:
            repair_s.append(one.repair_s)
            found.append((one.at_s, order_of(FAIL, first + one.replica), first + one.replica, -len(repair_s)))
        at_s = float(decides_at(of[d], fleets.step_s))
        if at_s < np.inf:
            found.append((at_s, order_of(DECIDE, d), d, 0))
        first += item.most_replicas * item.data_parallel
    events = np.zeros(len(found), dtype=EVENT)
    for event, (at_s, order, number, extra) in zip(events, sorted(found), strict=True):
        event["at_s"], event["order"], event["kind"] = at_s, CHANGES + order, CHANGE
        event["request"], event["stage"], event["attempt"] = order, number, extra
    return events, np.array(repair_s, dtype=np.float64)


def _gateway(budgets: Budgets | None, n: int, counters: I64) -> dict[str, NDArray[Any]]:
    none_i, none_f = np.zeros(0, dtype=np.int64), np.zeros(0)
    if budgets is None:
        whole = ("budget_limit", "budget_rule", "budget_of", "budget_to", "gate_chosen", "spent", "spent_over")
        parts = ("budget_prices", "budget_prices_clock", "budget_clock", "gate_sent_s", "exhausted_s")
        bits = np.zeros(0, dtype=np.int8)
        return {
            **dict.fromkeys(whole, none_i),
            **dict.fromkeys(parts, none_f),
            "budget_spends": bits,
            "gate_done": bits,
        }
    counters[BUDGETS], counters[DAYS] = len(budgets.limit), 1
    return {
        "budget_limit": budgets.limit,
        "budget_rule": budgets.rule,
        "budget_of": np.ascontiguousarray(budgets.of).reshape(-1),
        "budget_to": np.ascontiguousarray(budgets.to).reshape(-1),
        "budget_spends": np.ascontiguousarray(budgets.spends, dtype=np.int8).reshape(-1),
        "budget_prices": np.concatenate(budgets.prices).reshape(-1),
        "budget_prices_clock": np.ascontiguousarray(budgets.clock, dtype=np.float64),
        "budget_clock": np.full(2, budgets.first_turn_s, dtype=np.float64),
        "gate_done": np.zeros(n, dtype=np.int8),
        "gate_sent_s": np.full(n, np.nan),
        "gate_chosen": np.zeros(n, dtype=np.int64),
        "spent": np.zeros(len(budgets.limit), dtype=np.int64),
        "exhausted_s": np.full(len(budgets.limit), np.nan),
        "spent_over": none_i,
    }


def more_days(arrays: State) -> State:
    """Twice the room for days, and enough for the one that the clock has come to."""
    now, count = int(arrays.counters[DAY]), int(arrays.counters[BUDGETS])
    check_days(now + 1)
    days = max(2 * int(arrays.counters[DAYS]), now + 1)
    exhausted_s = np.full(days * count, np.nan)
    exhausted_s[: len(arrays.exhausted_s)] = arrays.exhausted_s
    arrays.counters[DAYS] = days
    return arrays._replace(spent=_enlarged(arrays.spent, days * count), exhausted_s=exhausted_s)


def spending_found(arrays: State, interval_s: float | None) -> Spending:
    count = int(arrays.counters[BUDGETS])
    over = arrays.spent_over.reshape(-1, count)
    some = np.flatnonzero(over.any(axis=1))
    return spending_of(
        arrays.gate_done,
        arrays.gate_sent_s,
        arrays.gate_chosen,
        arrays.spent.reshape(-1, count),
        arrays.exhausted_s.reshape(-1, count),
        None if interval_s is None else over[: some[-1] + 1 if len(some) else 0],
    )


def _enlarged(values: NDArray[Any], size: int) -> NDArray[Any]:
    out = np.zeros(size, dtype=values.dtype)
    out[: len(values)] = values
    return out


def more(arrays: State, drawn_s: F64) -> State:
    """More room for what happens to replicas: events, changes of states, draws."""
    room = 2 * int(arrays.counters[LOG_ROOM]) + 1024 + 4 * len(arrays.replicas)
    events = 2 * len(arrays.events) + 1024
    arrays.counters[LOG_ROOM], arrays.counters[ROOM], arrays.counters[DRAWN] = room, events, drawn_s.shape[1]
    return arrays._replace(
        log_s=_enlarged(arrays.log_s, room),
        log_replica=_enlarged(arrays.log_replica, room),
        log_state=_enlarged(arrays.log_state, room),
        events=_enlarged(arrays.events, events),
        fails_s=drawn_s.reshape(-1),
    )


def longer(arrays: State, interval_s: float) -> State:
    """Twice the room for intervals, and enough for the one that the clock has come to."""
    now = int(arrays.counters[INTERVAL])
    check_count(now + 1, interval_s)
    intervals = max(2 * int(arrays.counters[INTERVALS]), now + 1, 64)
    each = len(arrays.deployments) * len(LEVELS_RECORDED) * 2
    changes = np.zeros(intervals * each)
    changes[: len(arrays.changes)] = arrays.changes
    arrays.counters[INTERVALS] = intervals
    spent_over = _enlarged(arrays.spent_over, intervals * int(arrays.counters[BUDGETS]))
    clock = np.array([interval_s, now * interval_s, (now + 1) * interval_s], dtype=np.float64)
    return arrays._replace(changes=changes, clock=clock, spent_over=spent_over)


def keep_more(arrays: State) -> State:
    """Twice the room for what prompt caches keep, and enough for another call."""
    now, free = len(arrays.kept), int(arrays.counters[FREE_KEPT])
    size = 2 * now + 1024 + int(arrays.counters[MOST_KEPT])
    fresh = np.arange(now, size, dtype=np.int64)
    arrays.counters[FREE_KEPT] = free + len(fresh)
    return arrays._replace(
        kept=_enlarged(arrays.kept, size),
        free_kept=_enlarged(np.concatenate([arrays.free_kept[:free], fresh]), size),
    )


def levels_of(arrays: State, interval_s: float) -> F64:
    shape = int(arrays.counters[INTERVALS]), len(arrays.deployments), len(LEVELS_RECORDED), 2
    changes, owner = arrays.changes.reshape(shape), arrays.deployments["owner"]
    own = np.arange(len(owner)) == owner
    for d in np.flatnonzero(~own):
        changes[:, owner[d]] += changes[:, d]
    return levels_over_time(changes[:, own], interval_s)


def more_chains(arrays: State) -> State:
    """Twice the room for chains of prefixes, which stand before all others."""
    own, free = int(arrays.counters[OWN]), int(arrays.counters[FREE_CHAINS])
    more = max(own - len(arrays.replicas), int(arrays.counters[CHAINS_NEEDED]))
    chains = np.zeros(len(arrays.chains) + more, dtype=CHAIN)
    chains[:own], chains[own + more :] = arrays.chains[:own], arrays.chains[own:]
    for name in ("previous", "following"):
        chains[name][chains[name] >= own] += more
    arrays.counters[OWN] += more
    arrays.counters[FREE_CHAINS] += more
    fresh = np.arange(own, own + more, dtype=np.int64)
    free_chains = _enlarged(np.concatenate([arrays.free_chains[:free], fresh]), own + more)
    return arrays._replace(chains=chains, free_chains=free_chains)


def grow(arrays: State, samples: int) -> State:
    """Twice the room for sequences, groups and events in flight."""
    slots = len(arrays.sequences)
    more = max(slots, 1024, samples)
    events = max(2 * len(arrays.events), 1024, len(arrays.events) + int(arrays.counters[EVENTS_NEEDED]))
    chains = np.zeros(2 * more, dtype=CHAIN)
    chains["following"] = -1

    fresh = np.arange(slots, slots + more, dtype=np.int64)
    free_sequences, free_groups = (
        _enlarged(np.concatenate([free[: arrays.counters[count]], fresh]), slots + more)
        for free, count in ((arrays.free_sequences, FREE_SEQUENCES), (arrays.free_groups, FREE_GROUPS))
    )
    arrays.counters[FREE_SEQUENCES] += more
    arrays.counters[FREE_GROUPS] += more
    arrays.counters[ROOM] = events
    return arrays._replace(
        sequences=_enlarged(arrays.sequences, slots + more),
        groups=_enlarged(arrays.groups, slots + more),
        chains=np.concatenate([arrays.chains, chains]),
        events=_enlarged(arrays.events, events),
        free_sequences=free_sequences,
        free_groups=free_groups,
    )
