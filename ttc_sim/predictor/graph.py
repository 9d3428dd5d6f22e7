"""An ONNX graph in the making."""

from __future__ import annotations

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

    def __init__(self, prefix: str = "", constants: list[Any] | None = None) -> None:
        from onnx import helper, numpy_helper

        self._helper, self._numpy = helper, numpy_helper
        self.prefix = prefix
        self.nodes: list[Any] = []
        self.constants: list[Any] = [] if constants is None else constants

    def add(self, kind: str, *inputs: str, name: str | None = None, **extra: Any) -> str:
        """A node with one output; returns the output's name."""
        name = name or f"{self.prefix}{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(self._helper.make_node(kind, list(inputs), [name], **extra))
        return name

    def constant(self, value: NDArray[np.generic] | float) -> str:
        """An array, or a number as float32; float64 is brought to float32."""
        if isinstance(value, float):
            value = np.array(value, dtype=np.float32)
        array = np.ascontiguousarray(value).reshape(np.shape(value))
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        name = f"constant_{len(self.constants)}"
        self.constants.append(self._numpy.from_array(array, name))
        return name

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
            branch = Graph(f"{self.prefix}{side}_{len(self.nodes)}_", self.constants)
            # What a branch returns must be made inside it.
            out = branch.add("Identity", build(branch, kind))
            value = self._helper.make_tensor_value_info(out, TensorProto.FLOAT, None)
            branches[f"{side}_branch"] = self._helper.make_graph(branch.nodes, branch.prefix, [], [value])
        return self.add("If", condition, **branches)


__all__ = ["Graph"]
