"""Write a trained predictor as one ONNX graph of standard operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ttc_sim.draws import F64
from ttc_sim.predictor.features import BUCKETS
from ttc_sim.predictor.train import WORDS, Linear

OPSET = 17


def to_onnx(model: Linear, slope: F64) -> bytes:
    """The model as ONNX: inputs ``ids`` and ``values`` (n, k); output ``p`` (n, H).

    Weights are kept in half precision, which changes no probability by more than about 0.001. Needs the ``onnx`` package.
    """
    from onnx import TensorProto, checker, helper, numpy_helper

    def constant(name: str, value: NDArray[np.generic]) -> Any:
        return numpy_helper.from_array(np.ascontiguousarray(value), name)

    weight = (model.weight * slope).astype(np.float16)
    bias = (model.bias * slope).astype(np.float32)
    constants = [
        constant("weight", weight),
        constant("idf", model.idf),
        constant("base", model.base),
        constant("bias", bias),
        constant("words", np.array(WORDS, dtype=np.int32)),
        constant("zero", np.array(0.0, dtype=np.float32)),
        constant("tiny", np.array(1e-6, dtype=np.float32)),
        constant("last", np.array([1], dtype=np.int64)),
    ]
    steps: list[tuple[str, Sequence[str], str, dict[str, Any]]] = [
        ("Gather", ("idf", "ids"), "idf_here", {}),
        ("Mul", ("values", "idf_here"), "tfidf", {}),
        ("Less", ("ids", "words"), "is_word", {}),
        ("Where", ("is_word", "tfidf", "zero"), "word_part", {}),
        ("Where", ("is_word", "zero", "tfidf"), "byte_part", {}),
        ("ReduceL2", ("word_part",), "word_norm", {"axes": [1], "keepdims": 1}),
        ("ReduceL2", ("byte_part",), "byte_norm", {"axes": [1], "keepdims": 1}),
        ("Add", ("word_norm", "tiny"), "word_length", {}),
        ("Add", ("byte_norm", "tiny"), "byte_length", {}),
        ("Div", ("word_part", "word_length"), "word_unit", {}),
        ("Div", ("byte_part", "byte_length"), "byte_unit", {}),
        ("Add", ("word_unit", "byte_unit"), "scaled", {}),
        ("Gather", ("weight", "ids"), "weight_half", {}),
        ("Cast", ("weight_half",), "weight_here", {"to": TensorProto.FLOAT}),
        ("Unsqueeze", ("scaled", "last"), "scaled_row", {}),
        ("MatMul", ("scaled_row", "weight_here"), "product", {}),
        ("Squeeze", ("product", "last"), "heads", {}),
        ("Add", ("heads", "bias"), "added", {}),
        ("Add", ("added", "base"), "logit", {}),
        ("Sigmoid", ("logit",), "p", {}),
    ]
    graph = helper.make_graph(
        [helper.make_node(kind, list(inputs), [output], **extra) for kind, inputs, output, extra in steps],
        "ttc-sim difficulty predictor",
        [
            helper.make_tensor_value_info("ids", TensorProto.INT32, ["n", "k"]),
            helper.make_tensor_value_info("values", TensorProto.FLOAT, ["n", "k"]),
        ],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, ["n", len(model.heads)])],
        constants,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="ttc-sim")
    made.ir_version = 8
    helper.set_model_props(made, {"heads": "\n".join(model.heads), "buckets": str(BUCKETS)})
    checker.check_model(made)
    result: bytes = made.SerializeToString(deterministic=True)
    return result
