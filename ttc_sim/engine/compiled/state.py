"""Everything the compiled engine knows, as flat arrays of records, so that it can stop and go on at any event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
from numba.core import types
from numba.extending import intrinsic
from numba.np import arrayobj
from numpy.typing import NDArray

from ttc_sim.draws import F64, I64
from ttc_sim.engine.compiled.jit import inlined
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


def _constants(count: int) -> tuple[int, ...]:
    # Plain Python integers would make Numba compile a function once for each that it is called with.
    return tuple(np.int64(i) for i in range(count))  # type: ignore[misc]


WAITING, PREFILL, DECODE = _constants(3)
BOUNDARY, PLAN = _constants(2)
TIMEOUT, RETRY, GIVE_UP, RELEASE, ANSWER, RELEASE_AND_ANSWER, FOLLOW = _constants(7)
NONE, ONE = _constants(2)
DONE, GROW, PAUSE = 0, 1, 2
# Counters: next request to arrive, events in the heap, number of the last event, free slots of sequences and groups, running
# replicas; below them sizes and switches that do not change during a run.
NEXT, EVENTS, STAMP, FREE_SEQUENCES, FREE_GROUPS, ACTIVE = 0, 1, 2, 3, 4, 5
LEVELS, OVERFLOW, LIMIT, REQUESTS, REPLICAS, DEPLOYMENTS, PREFIXES, CHOICES, BATCH, ROOM = (
    6,
    7,
    8,
    9,
    10,
    11,
    12,
    13,
    14,
    15,
)
RETRIES, HAS_AFTER, HAS_NEEDED, HAS_PREFIX_TOKENS, HAS_LEVEL = 16, 17, 18, 19, 20
COUNTERS = 21


class State(NamedTuple):
    """Inputs, results and everything between. Compiled code sees it as a :data:`Memory` and reads it by the views below."""

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
    backoff: F64  # (n * retries,)
    needed: I64
    level: I64
    next_of: I64
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
    due: I64  # (replicas * 16,) sequences that need a block, by iteration modulo 16
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
    table_shape: I64  # pools, tokens, sequences, longest knots, and the four axes of attention


# Addresses of the state's arrays, in order. Passing one array on instead of fifty is what keeps calls, and compiling, short.
Memory = I64


def memory(state: State) -> Memory:
    """Where the arrays are; they must be kept alive, and in their place, while compiled code uses it."""
    return np.array([values.ctypes.data for values in state], dtype=np.int64)


def _array_at(name: str, kind: Any, dimensions: int) -> Any:
    """Compiled code that finds one array of the state: no function, which would take longer to compile than what it does."""
    index = State._fields.index(name)
    array = types.Array(numba.from_dtype(np.dtype(kind)), dimensions, "C", aligned=np.dtype(kind).names is None)

    def make(context: Any, builder: Any, m_type: Any, m_value: Any, shape: list[Any]) -> Any:
        m = context.make_array(m_type)(context, builder, m_value)
        address = builder.load(builder.gep(m.data, [context.get_constant(types.intp, index)]))
        found = context.make_array(array)(context, builder)
        size = context.get_abi_sizeof(context.get_data_type(array.dtype))
        strides = [context.get_constant(types.intp, size)]
        for length in reversed(shape[1:]):
            strides.insert(0, builder.mul(strides[0], length))
        arrayobj.populate_array(
            found,
            data=builder.inttoptr(address, found.data.type),
            shape=shape,
            strides=strides,
            itemsize=context.get_constant(types.intp, size),
            meminfo=None,
        )
        return found._getvalue()

    return array, make


def _view(name: str, kind: Any) -> Callable[[Memory], Any]:
    """An array of one dimension, whose length compiled code does not need to know."""
    array, make = _array_at(name, kind, 1)

    @intrinsic  # type: ignore[untyped-decorator]
    def view(typing_context: Any, m: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            most = context.get_constant(types.intp, 1 << 40)
            return make(context, builder, signature.args[0], arguments[0], [most])

        return array(m), code

    return view  # type: ignore[no-any-return]


def _table(name: str, dimensions: int, kind: Any = np.float64) -> Callable[..., Any]:
    """An array of a given shape."""
    array, make = _array_at(f"table_{name}", kind, dimensions)

    @intrinsic  # type: ignore[untyped-decorator]
    def view(typing_context: Any, m: Any, shape: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            sizes = numba.core.cgutils.unpack_tuple(builder, arguments[1])
            return make(context, builder, signature.args[0], arguments[0], list(sizes))

        return array(m, types.containers.UniTuple(types.intp, dimensions)), code

    return view  # type: ignore[no-any-return]


arrival_s = _view("arrival_s", np.float64)
stage_start = _view("stage_start", np.int64)
deployment_of = _view("deployment_of", np.int64)
prompt_tokens = _view("prompt_tokens", np.int64)
prefix_id = _view("prefix_id", np.int64)
prefix_tokens = _view("prefix_tokens", np.int64)
sample_start = _view("sample_start", np.int64)
output_tokens = _view("output_tokens", np.int64)
first_token_draw_s = _view("first_token_draw_s", np.float64)
per_token_draw_s = _view("per_token_draw_s", np.float64)
backoff = _view("backoff", np.float64)
needed = _view("needed", np.int64)
level = _view("level", np.int64)
next_of = _view("next_of", np.int64)
think_s = _view("think_s", np.float64)
route = _view("route", np.int64)
status = _view("status", np.int8)
arm = _view("arm", np.int32)
arrived_s = _view("arrived_s", np.float64)
started_s = _view("started_s", np.float64)
first_token_s = _view("first_token_s", np.float64)
finished_s = _view("finished_s", np.float64)
retries = _view("retries", np.int32)
preemptions = _view("preemptions", np.int32)
generated = _view("generated", np.int32)
prefilled = _view("prefilled", np.int32)
cached = _view("cached", np.int32)
deployments = _view("deployments", DEPLOYMENT)
replicas = _view("replicas", REPLICA)
sequences = _view("sequences", SEQUENCE)
groups = _view("groups", GROUP)
chains = _view("chains", CHAIN)
events = _view("events", EVENT)
free_sequences = _view("free_sequences", np.int64)
free_groups = _view("free_groups", np.int64)
ends = _view("ends", np.int64)
due = _view("due", np.int64)
waiting_first = _view("waiting_first", np.int64)
waiting_last = _view("waiting_last", np.int64)
active = _view("active", np.int64)
stage = _view("stage", np.int32)
group = _view("group", np.int32)
finished = _view("finished", np.int64)
load_at = _view("load_at", np.int64)
load_waiting = _view("load_waiting", np.int64)
load_in_progress = _view("load_in_progress", np.int64)
most = _view("most", np.float64)
counters = _view("counters", np.int64)

_table_shape = _view("table_shape", np.int64)
_base_s, _per_kv_s, _per_pair_s = _table("base_s", 1), _table("per_kv_s", 1), _table("per_pair_s", 1)
_dense_s, _prefill_s = _table("dense_s", 2), _table("prefill_s", 2)
_decode_s, _sampled_s = _table("decode_s", 2), _table("sampled_s", 2)
_knots, _counts = _table("knots", 3), _table("counts", 2, np.int64)
_attention_s, _decode_attention_s = _table("attention_s", 5), _table("decode_attention_s", 3)


@inlined
def tables(m: Memory) -> StepTables:
    """Step times of the deployments."""
    shape = _table_shape(m)
    pools, tokens, sequences, longest = shape[0], shape[1], shape[2], shape[3]
    kv = shape[7]
    return StepTables(
        _base_s(m, (pools,)),
        _per_kv_s(m, (pools,)),
        _per_pair_s(m, (pools,)),
        _dense_s(m, (pools, tokens)),
        _prefill_s(m, (pools, tokens)),
        _decode_s(m, (pools, sequences)),
        _sampled_s(m, (pools, sequences)),
        _knots(m, (pools, 4, longest)),
        _counts(m, (pools, 4)),
        _attention_s(m, (pools, shape[4], shape[5], shape[6], kv)),
        _decode_attention_s(m, (pools, sequences, kv)),
    )
