"""Everything the compiled engine knows, as flat arrays of records, so that it can stop and go on at any event."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.draws import F64, I64
from ttc_sim.engine.work import I32

Records = NDArray[Any]


def _record(integers: str, floats: str = "") -> np.dtype[np.void]:
    fields = [(name, np.int64) for name in integers.split()] + [(name, np.float64) for name in floats.split()]
    return np.dtype(fields)


# kind: 0 API, 1 GPU pool. Buckets hold tokens and requests of an API's rate limits. retry_on: a bit for each reason to ask again.
# A replica is so many ranks, each an entry of its own among the replicas, from first_replica on.
# outage, slow: the first such stretch of time that is not over, among those of all deployments. unknown: whether outages were
# not known for long enough. whole: prompts are taken in at once; chunk: most tokens of one that an iteration takes in. cache:
# number of an API's prompt cache, -1 of one that has none; cache_marks, ...: its rules. prefill: the replicas that take prompts in
# for a pool, as one that comes after all others, -1 of others; takes_in: whether it is such; owner: the pool that it is for, or
# itself. per_block_s, latency_s: of a prompt's way. frontend_s, prompt_token_s, pipeline_steps: of an answer's way.
DEPLOYMENT = _record(
    "kind first_replica replicas ranks max_seqs max_tokens queue_limit balancer by_priority caching turn running waiting"
    " concurrency in_progress retries stops has_requests has_tokens noted_running noted_waiting changes"
    " retry_on per_attempt error_after outage outages_end slow slows_end unknown has_input has_output"
    " cache cache_marks cache_least cache_step cache_answers cache_uncounted prefill takes_in owner whole chunk",
    "timeout_s until_s capacity busy_s busy_since_s backoff_base_s backoff_max_s"
    " requests_most requests_level requests_rate requests_at tokens_most tokens_level tokens_rate tokens_at"
    " input_most input_level input_rate input_at output_most output_level output_rate output_at"
    " deadline_s known_until_s cache_ttl_s per_block_s latency_s frontend_s prompt_token_s pipeline_steps",
)
# first, last, running: the batch in order of admission. prefill: first sequence of it that takes in prompt in this iteration.
# partial: the first whose prompt did not fit. leap: decode iterations that the next event ends, 0 for one planned step.
# Decode iterations of the same sequences lie on a line that began at begun_s; passed: those of it that have ended, most: those
# that it has, 0 if the next iteration cannot go on with it. settled: blocks of a leap that have been taken before its end.
# drafts, advance, parts: draft tokens, and what a step yields, in so many parts of a token; kv is counted in those. due_base,
# due_period, due_once: see speculation.py. noted: what was there when that was last written down. state, and how often it has begun
# to start and come into service: see engine/fleet.py. The replicas from ranks_from to ranks_to are ranks of one server that step
# together (ranks_to is 0 of others); what the batch of each has got for the next iteration is kept until all have theirs, see
# ranks.py. on_line: of the first, how many of them the line is of. seen_running, ...: what a front end of the ranks has last heard
# of each, and when. coming: groups that wait for blocks for their prompts, ready: sequences whose prompts are here; handed:
# sequences of both, and of groups whose prompts are on their way; link_s: until when it sends or fetches.
REPLICA = _record(
    "deployment phase place first last running waiting waiting_blocks prefill partial leap iteration decoding kv scheduled"
    " free total ends ends_base submitted drops passed most settled noted_running noted_waiting noted_used noted_awake"
    " state starts lives drafts advance parts due_base due_period due_once"
    " ranks_from ranks_to goes_on taken step_prefill step_kv step_sampled on_line seen_running seen_waiting turn"
    " coming_first coming_last ready_first ready_last handed",
    "at_s begun_s first_step_s more_s woke_s busy_s ready_s step_pairs own_s own_more_s seen_s link_s",
)
# A sequence that decodes grows with its replica's iterations: its length is offset + iteration, or see speculation.py. began,
# began_s: the iteration after which it began to, and when that was.
SEQUENCE = _record(
    "group sample order level prompt output offset length computed blocks shared chunk end place previous next sibling state"
    " dropped prefilled stamp began",
    "began_s",
)
# lost: prompt tokens that count as lost, once its client has asked again; -1 before. kv: where its prompt is, of a pool whose
# prefill is apart; source: the group that took it in; before, after: of those that wait for blocks.
GROUP = _record(
    "request arm stage replica unfinished needed ended first prefix limit own_limit first_sample lost kv source before after"
)
# Blocks start to end of a prompt that can be found again. While free they stand in their replica's queue of free blocks,
# after ``gap`` blocks of no chain; following < 0: not in the queue. place: in ``chain_at``, of one that belongs to a prefix.
CHAIN = _record("start end users previous following count gap place")
# Of a prompt cache: tokens from the first on, to ``end`` within a node; when they were there, and last used.
KEPT = _record("end following", "from_s used_s")
EVENT = _record("order kind request stage attempt", "at_s")


def _constants(count: int) -> tuple[int, ...]:
    # Plain Python integers would make Numba compile a function once for each that it is called with.
    return tuple(np.int64(i) for i in range(count))  # type: ignore[misc]


WAITING, PREFILL, DECODE, READY = _constants(4)
# Where a group's prompt is: here, taken in and kept, waited for, on its way, and on its way to nobody.
HERE, TAKEN_IN, COMING, MOVING, GONE = _constants(5)
BOUNDARY, PLAN = _constants(2)
# Of events at one instant those of servers come first, then what happens to replicas, then those of clients that give up, from
# TIMEOUT on, then those of clients that act, from RETRY on; of each the lowest request. See docs/engine-order.md.
(
    RELEASE,
    ANSWER,
    RELEASE_AND_ANSWER,
    BREAK,
    LANDED,
    CHANGE,
    TIMEOUT,
    GIVE_UP,
    LEAVE,
    LEAVE_AND_RELEASE,
    RETRY,
    NEXT_STAGE,
    FALLBACK,
    FOLLOW,
    SEND_ON,
    HAND_OVER,
) = _constants(16)
# Why an attempt was not answered: the server turned it away, broke, or was too late; or it could never be.
REFUSED, BROKEN, LATE, NEVER = _constants(4)
# Order of an event: its kind's place among the four, and then the request, or what happens to which replica.
LANDS: int = np.int64(1 << 39)  # type: ignore[assignment]
CHANGES: int = np.int64(1 << 40)  # type: ignore[assignment]
GIVES_UP: int = np.int64(2 << 40)  # type: ignore[assignment]
ACTS: int = np.int64(3 << 40)  # type: ignore[assignment]
(NONE,) = _constants(1)
DONE, GROW, PAUSE, LONGER, MORE, MORE_DAYS, MORE_CHAINS, KEEP_MORE = 0, 1, 2, 3, 4, 5, 6, 7
# Counters: next request to arrive, events in the heap, free slots of sequences and groups, running replicas; below them sizes
# and switches that do not change during a run.
NEXT, EVENTS, FREE_SEQUENCES, FREE_GROUPS, ACTIVE = 0, 1, 2, 3, 4
LEVELS, OVERFLOW, LIMIT, REQUESTS, REPLICAS, DEPLOYMENTS, PREFIXES, CHOICES, BATCH, ROOM = (
    5,
    6,
    7,
    8,
    9,
    10,
    11,
    12,
    13,
    14,
)
RETRIES, HAS_AFTER, HAS_NEEDED, HAS_PREFIX_TOKENS, HAS_LEVEL = 15, 16, 17, 18, 19
# What is being done, and how often it has been, for those who measure where the time goes.
DOING, ARRIVED, HAPPENED, PLANS, STEPS, LEAPS = 20, 21, 22, 23, 24, 25
# Intervals that there is room for, none where nobody wants to know, and the one that the clock is in.
INTERVALS, INTERVAL = 26, 27
# Requests that have not ended; of replicas' changes how many are written down, and room for them; draws for each of how long it
# serves; and first tokens that were heard of, if anybody listens.
UNFINISHED, LOGGED, LOG_ROOM, DRAWN, HEARD, HEARS = 28, 29, 30, 31, 32, 33
# Whether attempts that are not answered are written down; works offered, if one may follow another; samples of all works; calls of
# a stage that errors, and times after the first, are drawn for.
KEEPS_ATTEMPTS, WORKS, SAMPLES, CALLS_BREAK, CALLS_AGAIN = 34, 35, 36, 37, 38
# Budgets, none where nobody has any; the day that the clock is in, and days that there is room for.
BUDGETS, DAY, DAYS = 39, 40, 41
# Where the chains begin that are not of prefixes; free ones of those that are, and how many of them one event may need.
OWN, FREE_CHAINS, CHAINS_NEEDED = 42, 43, 44
# How many may wait for one answer beside the first, and events that one of the loop's rounds may push.
FURTHER, EVENTS_NEEDED = 45, 46
# Of prompt caches: nodes of the tree, free slots, and how many one call takes at most, none where there is no such cache.
NODES, FREE_KEPT, MOST_KEPT = 47, 48, 49
# Of prompts that move from prefill to decode: transfers begun so far, and groups that wait for blocks.
TRANSFERS, WAITED_FOR = 50, 51
COUNTERS = 52
# Of the clock: how long an interval is, and when the one that it is in begins and ends.
LENGTH, BEGINS, ENDS = 0, 1, 2
# Of budgets' days: when the one that the clock is in ends, and when the first does.
TURNS, FIRST_TURN = 0, 1


class State(NamedTuple):
    """Inputs, results and everything between. Compiled code sees it as a :data:`Memory` and reads it by the views below."""

    arrival_s: F64
    stage_start: I64
    deployment_of: I64
    prompt_tokens: I64
    prefix_id: I64
    stretch: I64  # the node that pools have of it, see stretches.py
    prefix_tokens: I64
    sample_start: I64
    output_tokens: I64
    first_token_draw_s: F64
    per_token_draw_s: F64
    backoff: F64  # (n * retries,)
    needed: I64
    level: I64
    session: I64  # by stage, what load balancers keep together
    next_of: I64  # the first that waits for its answer
    beside: I64  # the next that waits for the same answer
    think_s: F64
    route: I64  # (n * choices,)

    status: NDArray[np.int8]
    arm: I32
    arrived_s: F64
    started_s: F64
    first_token_s: F64
    finished_s: F64
    retries: I32
    preemptions: I32
    generated: I64
    prefilled: I64
    cached: I64

    deployments: Records
    replicas: Records
    sequences: Records
    groups: Records
    chains: Records
    events: Records
    # Prompt caches, and the tree that their prompts are of.
    node_parent: I64
    node_start: I64
    kept_first: I64  # (caches * nodes,)
    kept: Records
    free_kept: I64
    written: I64
    lost_written: I64
    free_sequences: I64
    free_groups: I64
    free_chains: I64
    ends: I64
    due: I64  # (replicas * 16,) sequences that need a block, by iteration modulo 16
    drafted_due: I64  # the same of replicas that speculate, by iteration modulo their period
    waiting_first: I64
    waiting_last: I64
    active: I64  # heap of replicas with something to do
    stage: I32  # current stage of each request
    group: I32  # and its group on a replica
    finished: I64  # stages that ended at this boundary, as requests
    load_at: I64  # scratch, by choice
    load_waiting: I64  # scratch, by deployment
    load_in_progress: I64
    most: F64
    counters: I64
    # Of prefixes, nodes of a tree: the one before it, and its first block. Chains that hold them, by replica and node; 0 for none.
    prefix_parent: I64
    prefix_start: I64
    chain_at: I32
    path: I64  # scratch: nodes, and where they end
    # Of the stage that a request is at: attempts made again so far, and those that were taken in and lost.
    attempt: I32
    lost_calls: I32
    # The rest is there where attempts that are not answered are written down.
    begun_s: F64  # when the arm got the request
    first: I32
    errors: I32
    outage_errors: I32
    error_retries: I32
    timeout_retries: I32
    fallbacks: I32
    following: I64  # (n * works,)
    reasoning: I64
    breaks: NDArray[np.int8]  # (stages * calls,)
    again_first_s: F64  # (calls * samples,)
    again_per_token_s: F64
    lost_generated: I64
    lost_reasoning: I64
    lost_prefilled: I64
    lost_cached: I64
    lost_attempts: I64
    outage_from_s: F64
    outage_until_s: F64
    slow_from_s: F64
    slow_until_s: F64
    slow_factor: F64
    # Recorded where somebody wants to know how many were there over time.
    clock: F64
    changes: F64  # (intervals * deployments * levels * 2,)

    # What budgets a day have come to; as of Budgets and Spending, with a budget's number last.
    budget_limit: I64
    budget_rule: I64
    budget_of: I64  # (n * 2,)
    budget_to: I64  # (n * 2,)
    budget_spends: NDArray[np.int8]  # (works * n,)
    budget_prices: F64  # (stages * prices * parts,)
    budget_prices_clock: F64
    budget_clock: F64
    gate_done: NDArray[np.int8]
    gate_sent_s: F64
    gate_chosen: I64
    spent: I64  # (days * budgets,)
    exhausted_s: F64
    spent_over: I64  # (intervals * budgets,)

    # Replicas' lives.
    fleets: Records  # by deployment
    step_s: F64
    step_replicas: I64
    looks_seen: I64
    looks_wanted: I64
    given_repair_s: F64
    fails_s: F64  # (replicas * drawn * 2,) seconds in service, and then under repair
    log_s: F64
    log_replica: I64
    log_state: I64
    heard_at: I64  # of first tokens in order: deployment, moment, and how long the request had waited for it
    heard_s: F64
    heard_ttft_s: F64
    seen_s: F64  # scratch

    table_base_s: F64
    table_per_kv_s: F64
    table_per_pair_s: F64
    table_dense_s: F64
    table_prefill_s: F64
    table_decode_s: F64
    table_sampled_s: F64
    table_knots: F64
    table_counts: I64
    table_attention_s: F64
    table_decode_attention_s: F64
    table_verified: I64
    table_shared_s: F64
    # Pools, tokens, sequences, longest knots, the four axes of attention, their number, tokens of the LM head, and tokens shared.
    table_shape: I64


# What compiled code gets of it, see :mod:`ttc_sim.engine.compiled.memory`.
Memory = State
