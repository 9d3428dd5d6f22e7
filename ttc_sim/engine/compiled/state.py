"""Everything the compiled engine knows, as flat arrays of records, so that it can stop and go on at any event."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ttc_sim.draws import F64, I64
from ttc_sim.engine.work import I32
from ttc_sim.serving.step_time import StepTables

Records = NDArray[Any]


def _record(integers: str, floats: str = "") -> np.dtype[np.void]:
    fields = [(name, np.int64) for name in integers.split()] + [(name, np.float64) for name in floats.split()]
    return np.dtype(fields)


# kind: 0 API, 1 GPU pool. Buckets hold tokens and requests of an API's rate limits.
DEPLOYMENT = _record(
    "kind first_replica replicas max_seqs max_tokens queue_limit balancer by_priority caching turn running waiting"
    " concurrency in_progress retries has_requests has_tokens",
    "timeout_s capacity busy_s busy_since_s backoff_base_s backoff_max_s"
    " requests_most requests_level requests_rate requests_at tokens_most tokens_level tokens_rate tokens_at",
)
# first, last, running: the batch in order of admission. prefill: first sequence of it that takes in prompt in this iteration.
# partial: the one whose prompt did not fit. leap: decode iterations that the next event ends, 0 for one planned step.
REPLICA = _record(
    "deployment phase place first last running waiting waiting_blocks prefill partial leap iteration decoding kv scheduled"
    " free total ends ends_base submitted drops",
    "at_s begun_s first_step_s more_s busy_s",
)
# A sequence that decodes grows with its replica's iterations: its length is offset + iteration.
SEQUENCE = _record(
    "group sample order level prompt output offset length computed blocks shared chunk end place previous next sibling state"
    " dropped prefilled stamp"
)
GROUP = _record("request arm stage replica unfinished needed ended first prefix limit own_limit first_sample")
# Blocks start to end of a prompt that can be found again. While free they stand in their replica's queue of free blocks,
# after ``gap`` blocks of no chain; following < 0: not in the queue.
CHAIN = _record("start end users previous following count gap")
EVENT = _record("order kind request stage attempt", "at_s")

WAITING, PREFILL, DECODE = 0, 1, 2
BOUNDARY, PLAN = 0, 1
TIMEOUT, RETRY, GIVE_UP, RELEASE, ANSWER, RELEASE_AND_ANSWER, FOLLOW = 0, 1, 2, 3, 4, 5, 6
DONE, GROW, PAUSE = 0, 1, 2
# Counters: next request to arrive, events in the heap, number of the last event, free slots of sequences and groups, running
# replicas.
NEXT, EVENTS, STAMP, FREE_SEQUENCES, FREE_GROUPS, ACTIVE, LEVELS, OVERFLOW, LIMIT = 0, 1, 2, 3, 4, 5, 6, 7, 8


class State(NamedTuple):
    """Inputs, results and everything between. ``route`` (n, choices) is of width 0 where the arm is given."""

    arrival_s: F64
    stage_start: I64
    deployment_of: I64
    prompt_tokens: I64
    prefix_id: I64
    prefix_tokens: I64
    sample_start: I64
    output_tokens: I64
    first_token_draw_s: F64
    per_token_draw_s: F64
    backoff: F64
    needed: I64
    level: I64
    next_of: I64
    think_s: F64
    route: I64
    prefixes: int
    tables: StepTables

    status: NDArray[np.int8]
    arm: I32
    arrived_s: F64
    started_s: F64
    first_token_s: F64
    finished_s: F64
    retries: I32
    preemptions: I32
    generated: I32
    prefilled: I32
    cached: I32

    deployments: Records
    replicas: Records
    sequences: Records
    groups: Records
    chains: Records
    events: Records
    free_sequences: I64
    free_groups: I64
    ends: I64
    due: I64  # (replicas, 16): sequences that need a block, by iteration modulo 16
    waiting_first: I64
    waiting_last: I64
    active: I64  # heap of replicas with something to do
    stage: I32  # current stage of each request
    group: I32  # and its group on a replica
    finished: I64  # stages that ended at this boundary, as requests
    load: I64  # scratch: waiting and in progress by deployment
    most: F64
    counters: I64
