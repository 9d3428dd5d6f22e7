"""An ONNX graph in the making."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Graph:
    """Nodes and constants, in the order that they are added. Needs the ``onnx`` package.

    Attributes:
        prefix: of names, so that those of branches differ.
        constants: shared by a graph and its branches.
    """

    def __init__(self, prefix: str = "", root: Graph | None = None) -> None:
        from onnx import helper, numpy_helper

        self._helper, self._numpy = helper, numpy_helper
        self.prefix = prefix
        self.nodes: list[Any] = []
        self.constants: list[Any] = [] if root is None else root.constants
        self._names: dict[tuple[Any, ...], str] = {} if root is None else root._names

    def add(self, kind: str, *inputs: str, name: str | None = None, **extra: Any) -> str:
        """A node with one output; returns the output's name."""
        name = name or f"{self.prefix}{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(self._helper.make_node(kind, list(inputs), [name], **extra))
        return name

    def constant(self, value: NDArray[np.generic] | float) -> str:
        """An array, or a number as float32; float64 is brought to float32. Equal ones are kept once."""
        if isinstance(value, float):
            value = np.array(value, dtype=np.float32)
        array = np.ascontiguousarray(value).reshape(np.shape(value))
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        key = array.dtype.str, array.shape, hashlib.sha256(array.tobytes()).digest()
        if key not in self._names:
            self._names[key] = f"constant_{len(self._names)}"
            self.constants.append(self._numpy.from_array(array, self._names[key]))
        return self._names[key]

    def whole(self, *values: int) -> str:
        """A list of whole numbers: axes, shapes, ends."""
        return self.constant(np.array(values, dtype=np.int64))

    def cast(self, name: str, kind: int) -> str:
        """The same values in another type."""
        return self.add("Cast", name, to=kind)

    def in_16_bits_if(self, condition: str, build: Callable[[Graph, int], str]) -> str:
        """What ``build`` adds, in 16 bits or in 32 as a boolean input says.

        Args:
            build: told a branch and the type to compute in; returns a name of float32.
        """
        from onnx import TensorProto

        branches = {}
        for side, kind in (("then", TensorProto.FLOAT16), ("else", TensorProto.FLOAT)):
            branch = Graph(f"{self.prefix}{side}_{len(self.nodes)}_", self)
            # What a branch returns must be made inside it.
            out = branch.add("Identity", build(branch, kind))
            value = self._helper.make_tensor_value_info(out, TensorProto.FLOAT, None)
            branches[f"{side}_branch"] = self._helper.make_graph(branch.nodes, branch.prefix, [], [value])
        return self.add("If", condition, **branches)


__all__ = ["Graph"]
