"""How compiled code reads and writes the state: as Python would, ``m.sequences[q].length``.

It gets one pointer, to the addresses of the arrays. Passing fifty arrays instead is what makes calls, and compiling, long; so do
the bounds, strides and negative indices of Numba's own arrays.
"""

from __future__ import annotations

import operator
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.imputils import lower_builtin, lower_getattr_generic
from numba.core.typing.templates import AbstractTemplate, AttributeTemplate, infer_getattr, infer_global, signature
from numba.extending import intrinsic, models, register_model

from ttc_sim.base.draws import I64
from ttc_sim.engine.compiled.state import CHAIN, DEPLOYMENT, EVENT, GROUP, KEPT, REPLICA, SEQUENCE, State
from ttc_sim.engine.fleet import FLEET


class _MemoryType(types.Type):
    def __init__(self) -> None:
        super().__init__("Memory")


class _Rows(types.Type):
    """An array of one dimension, whose length compiled code does not need to know."""

    def __init__(self, kind: Any) -> None:
        self.kind = numba.from_dtype(np.dtype(kind))
        super().__init__(f"Rows{_KINDS.index(kind)}")


_KINDS = [np.int64, np.float64, np.int32, np.int8, DEPLOYMENT, REPLICA, SEQUENCE, GROUP, CHAIN, EVENT, FLEET, KEPT]
_SCALARS = {"F64": np.float64, "I64": np.int64, "I32": np.int32, "NDArray[np.int8]": np.int8}
_RECORDS = {
    "deployments": DEPLOYMENT,
    "replicas": REPLICA,
    "sequences": SEQUENCE,
    "groups": GROUP,
    "chains": CHAIN,
    "events": EVENT,
    "fleets": FLEET,
    "kept": KEPT,
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
    "sampled_s": (9,),
    "knots": (8, 3),
    "counts": (8,),
    "attention_s": (4, 5, 6, 7),
    "decode_attention_s": (2, 7),
    "verified": (),
    "shared_s": (10,),
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
