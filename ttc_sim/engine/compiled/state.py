"""Everything the compiled engine knows, as flat arrays of records, so that it can stop and go on at any event."""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.imputils import lower_builtin, lower_getattr_generic
from numba.core.typing.templates import AbstractTemplate, AttributeTemplate, infer_getattr, infer_global, signature
from numba.extending import intrinsic, models, register_model
from numpy.typing import NDArray

from ttc_sim.draws import F64, I64
from ttc_sim.engine.work import I32

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
# What is being done, and how often it has been, for those who measure where the time goes.
DOING, ARRIVED, HAPPENED, PLANS, STEPS, LEAPS = 21, 22, 23, 24, 25, 26
COUNTERS = 27


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
    table_shape: I64  # pools, tokens, sequences, longest knots, the four axes of attention, and their number


# Compiled code sees the state as one pointer, to the addresses of its arrays. Passing fifty arrays instead is what makes calls,
# and compiling, long. It reads ``m.sequences[q].length`` as Python would, without Numba's array type, whose bounds, strides and
# negative indices took a third of the compilation.
Memory = State


class _MemoryType(types.Type):
    def __init__(self) -> None:
        super().__init__("Memory")


class _Rows(types.Type):
    """An array of one dimension, whose length compiled code does not need to know."""

    def __init__(self, kind: Any) -> None:
        self.kind = numba.from_dtype(np.dtype(kind))
        super().__init__(f"Rows{_KINDS.index(kind)}")


_KINDS = [np.int64, np.float64, np.int32, np.int8, DEPLOYMENT, REPLICA, SEQUENCE, GROUP, CHAIN, EVENT]
_SCALARS = {"F64": np.float64, "I64": np.int64, "I32": np.int32, "NDArray[np.int8]": np.int8}
_RECORDS = {
    "deployments": DEPLOYMENT,
    "replicas": REPLICA,
    "sequences": SEQUENCE,
    "groups": GROUP,
    "chains": CHAIN,
    "events": EVENT,
}
_ROWS = {
    name: _Rows(_RECORDS[name] if name in _RECORDS else _SCALARS[str(kind.__forward_arg__)])
    for name, kind in State.__annotations__.items()
}
_MEMORY = _MemoryType()


@register_model(_MemoryType)
class _MemoryModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, of: Any) -> None:
        super().__init__(manager, of, ir.IntType(64).as_pointer())


@register_model(_Rows)
class _RowsModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, of: Any) -> None:
        super().__init__(manager, of, manager[of.kind].get_data_type().as_pointer())


@infer_getattr
class _MemoryAttributes(AttributeTemplate):  # type: ignore[misc]
    key = _MemoryType

    def generic_resolve(self, m: Any, name: str) -> Any:
        return _ROWS.get(name)


def _address(context: Any, builder: Any, m: Any, name: str) -> Any:
    address = builder.load(builder.gep(m, [context.get_constant(types.intp, State._fields.index(name))]))
    # The addresses do not change while compiled code runs, so there is no need to load them again after every store.
    address.set_metadata("invariant.load", builder.module.add_metadata([]))
    return address


@lower_getattr_generic(_MemoryType)  # type: ignore[untyped-decorator]
def _get_rows(context: Any, builder: Any, of: Any, m: Any, name: str) -> Any:
    return builder.inttoptr(_address(context, builder, m, name), context.get_value_type(_ROWS[name]))


@infer_global(operator.getitem)
class _GetRow(AbstractTemplate):  # type: ignore[misc]
    def generic(self, args: Any, kws: Any) -> Any:
        if isinstance(args[0], _Rows) and isinstance(args[1], types.Integer):
            return signature(args[0].kind, args[0], types.intp)
        return None


@infer_global(operator.setitem)
class _SetRow(AbstractTemplate):  # type: ignore[misc]
    def generic(self, args: Any, kws: Any) -> Any:
        if isinstance(args[0], _Rows) and isinstance(args[1], types.Integer):
            return signature(types.none, args[0], types.intp, args[0].kind)
        return None


@lower_builtin(operator.getitem, _Rows, types.Integer)  # type: ignore[untyped-decorator]
def _get_row(context: Any, builder: Any, called: Any, args: Any) -> Any:
    return context.unpack_value(builder, called.return_type, builder.gep(args[0], [args[1]]))


@lower_builtin(operator.setitem, _Rows, types.Integer, types.Any)  # type: ignore[untyped-decorator]
def _set_row(context: Any, builder: Any, called: Any, args: Any) -> Any:
    to, kind = builder.gep(args[0], [args[1]]), called.args[0].kind
    if isinstance(kind, types.Record):
        size = context.get_constant(types.intp, kind.size)
        numba.core.cgutils.raw_memcpy(builder, to, args[2], size, context.get_constant(types.intp, 1))
    else:
        context.pack_value(builder, kind, args[2], to)
    return context.get_dummy_value()


def memory(state: State) -> I64:
    """Where the arrays are; they must be kept alive, and in their place, while compiled code uses it."""
    return np.array([values.ctypes.data for values in state], dtype=np.int64)


@intrinsic  # type: ignore[untyped-decorator]
def memory_at(typing_context: Any, addresses: Any) -> Any:
    """The state, from the addresses that :func:`memory` gives."""

    def code(context: Any, builder: Any, called: Any, args: Any) -> Any:
        return context.make_array(called.args[0])(context, builder, args[0]).data

    return _MEMORY(addresses), code


# Axes of the tables after the first, as places in ``table_shape``.
_AXES = {
    "base_s": (),
    "per_kv_s": (),
    "per_pair_s": (),
    "dense_s": (1,),
    "prefill_s": (1,),
    "decode_s": (2,),
    "sampled_s": (2,),
    "knots": (8, 3),
    "counts": (8,),
    "attention_s": (4, 5, 6, 7),
    "decode_attention_s": (2, 7),
}


class _TablesType(types.Type):
    """All tables, or the one of that name; both are the pointer to the state."""

    def __init__(self, name: str = "") -> None:
        self.table = name
        super().__init__(f"StepTables{name}")


_TABLES = {name: _TablesType(name) for name in ("", *_AXES)}


@register_model(_TablesType)
class _TablesModel(_MemoryModel):
    pass


@infer_getattr
class _TablesAttributes(AttributeTemplate):  # type: ignore[misc]
    key = _TablesType

    def generic_resolve(self, of: Any, name: str) -> Any:
        return _TABLES.get(name)


@lower_getattr_generic(_TablesType)  # type: ignore[untyped-decorator]
def _get_table(context: Any, builder: Any, of: Any, m: Any, name: str) -> Any:
    return m


@infer_global(operator.getitem)
class _GetSeconds(AbstractTemplate):  # type: ignore[misc]
    def generic(self, args: Any, kws: Any) -> Any:
        if not isinstance(args[0], _TablesType):
            return None
        axes = 1 + len(_AXES[args[0].table])
        kind = _ROWS[f"table_{args[0].table}"].kind
        return signature(kind, args[0], types.intp if axes == 1 else types.containers.UniTuple(types.intp, axes))


@lower_builtin(operator.getitem, _TablesType, types.Any)  # type: ignore[untyped-decorator]
def _get_seconds(context: Any, builder: Any, called: Any, args: Any) -> Any:
    of, at = called.args
    index = [args[1]] if isinstance(at, types.Integer) else numba.core.cgutils.unpack_tuple(builder, args[1])
    shape = _get_rows(context, builder, _MEMORY, args[0], "table_shape")
    place = index[0]
    for axis, i in zip(_AXES[of.table], index[1:], strict=True):
        length = builder.load(builder.gep(shape, [context.get_constant(types.intp, axis)]))
        length.set_metadata("invariant.load", builder.module.add_metadata([]))
        place = builder.add(builder.mul(place, length), i)
    rows = _get_rows(context, builder, _MEMORY, args[0], f"table_{of.table}")
    return builder.load(builder.gep(rows, [place]))


@intrinsic  # type: ignore[untyped-decorator]
def tables(typing_context: Any, m: Any) -> Any:
    """Step times of the deployments, as :class:`ttc_sim.serving.step_time.StepTables`."""
    return _TABLES[""](m), lambda context, builder, called, args: args[0]
