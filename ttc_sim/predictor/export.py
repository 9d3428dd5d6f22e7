"""Write a trained predictor as one ONNX graph of standard operators."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ttc_sim.predictor.calibration import MOST_VARIANCE
from ttc_sim.predictor.embedding import WORDS
from ttc_sim.predictor.features import BUCKETS
from ttc_sim.predictor.network import LOG_SIGMA
from ttc_sim.predictor.surface import COUNT
from ttc_sim.predictor.train import FIGURE_LIMIT, LIMIT, STRANGE_MARGIN, Expert, Model

OPSET = 17
FORMAT = "2"
NEARNESS = 0.05
"""Distances apart by this much weigh e to 1 when several training sets say how hard a prompt is."""


class _Graph:
    """Nodes and constants in the making."""

    def __init__(self) -> None:
        from onnx import helper, numpy_helper

        self._helper, self._numpy = helper, numpy_helper
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, kind: str, *inputs: str, name: str | None = None, **extra: Any) -> str:
        name = name or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(self._helper.make_node(kind, list(inputs), [name], **extra))
        return name

    def constant(self, value: NDArray[np.generic] | float | Sequence[int]) -> str:
        if isinstance(value, float):
            value = np.array(value, dtype=np.float32)
        array = np.ascontiguousarray(value)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        name = f"constant_{len(self.constants)}"
        self.constants.append(self._numpy.from_array(array, name))
        return name


def to_onnx(model: Model) -> bytes:
    """The model as ONNX. Needs the ``onnx`` package.

    Inputs are those of :class:`~ttc_sim.predictor.features.Features`; outputs ``p``, ``tokens``, ``tokens_p50``, ``tokens_p90``
    (n, H), ``difficulty`` and ``novelty`` (n,). The names of the heads and their training rates are in the metadata.
    """
    from onnx import TensorProto, checker, helper

    graph = _Graph()
    x, points, strange = _inputs(graph, model)
    outputs: dict[str, list[str]] = {"p": [], "tokens": [], "tokens_p50": [], "tokens_p90": []}
    distances, novelties, hardness = [], [], []
    for expert in model.experts:
        usual = _strangeness(graph, expert, strange)
        distance = _expert(graph, expert, x, points, usual, outputs)
        hardness.append(_minus(graph, 1.0, graph.add("ReduceMean", outputs["p"][-1], axes=[1], keepdims=1)))
        distances.append(distance)
        novelties.append(graph.add("Max", graph.add("Div", distance, graph.constant(float(expert.far))), usual))
    for name, parts in outputs.items():
        graph.add("Concat", *parts, axis=1, name=name)
    nearest = graph.add("Min", *novelties, graph.constant(1.0))
    graph.add("Squeeze", nearest, graph.constant(np.array([1], dtype=np.int64)), name="novelty")
    near = graph.add("Div", graph.add("Concat", *distances, axis=1), graph.constant(-NEARNESS))
    weight = graph.add("Softmax", near, axis=1)
    hard = graph.add("Mul", weight, graph.add("Concat", *hardness, axis=1))
    graph.add("ReduceSum", hard, graph.constant(np.array([1], dtype=np.int64)), keepdims=0, name="difficulty")

    heads = [head for expert in model.experts for head in expert.heads]
    rates = [float(rate) for expert in model.experts for rate in expert.rate]
    value = helper.make_tensor_value_info
    made = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "ttc-sim difficulty predictor",
            [
                value("ids", TensorProto.INT32, ["n", "k"]),
                value("values", TensorProto.FLOAT, ["n", "k"]),
                value("surface", TensorProto.FLOAT, ["n", COUNT]),
            ],
            [
                *(value(name, TensorProto.FLOAT, ["n", len(heads)]) for name in outputs),
                *(value(name, TensorProto.FLOAT, ["n"]) for name in ("difficulty", "novelty")),
            ],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="ttc-sim",
    )
    made.ir_version = 8
    meta = {"format": FORMAT, "buckets": str(BUCKETS), "heads": json.dumps(heads), "rates": json.dumps(rates)}
    helper.set_model_props(made, meta)
    checker.check_model(made)
    result: bytes = made.SerializeToString(deterministic=True)
    return result


def _minus(graph: _Graph, value: float, name: str) -> str:
    return graph.add("Sub", graph.constant(value), name)


def _strangeness(graph: _Graph, expert: Expert, strange: Sequence[str]) -> str:
    """As :func:`ttc_sim.predictor.train.strangeness`, (n, 1)."""
    found = []
    for name, usual, (begin, plain, relative) in zip(strange, expert.usual, STRANGE_MARGIN, strict=True):
        over = graph.add("Sub", name, graph.constant(float(begin * usual)))
        found.append(graph.add("Div", over, graph.constant(float(plain + relative * usual))))
    return graph.add("Clip", graph.add("Max", *found), graph.constant(0.0), graph.constant(1.0))


def _inputs(graph: _Graph, model: Model) -> tuple[str, str, tuple[str, str]]:
    """Standardised inputs (n, d), the unit vectors that distances are measured between, two kinds of strangeness (n, 1)."""
    encoder = model.encoder
    zero, tiny = graph.constant(0.0), graph.constant(1e-6)
    tfidf = graph.add("Mul", "values", graph.add("Gather", graph.constant(encoder.idf), "ids"))
    is_word = graph.add("Less", "ids", graph.constant(np.array(WORDS, dtype=np.int32)))
    parts = []
    for inputs in ((is_word, tfidf, zero), (is_word, zero, tfidf)):
        part = graph.add("Where", *inputs)
        length = graph.add("Add", graph.add("ReduceL2", part, axes=[1], keepdims=1), tiny)
        parts.append(graph.add("Div", part, length))
    row = graph.add("Unsqueeze", graph.add("Add", *parts), graph.constant(np.array([1], dtype=np.int64)))
    from onnx import TensorProto

    axis = graph.constant(np.array([1], dtype=np.int64))
    weight = graph.add("ReduceSum", graph.add("Where", is_word, zero, "values"), axis, keepdims=1)
    total = graph.add("ReduceSum", graph.add("Where", is_word, zero, tfidf), axis, keepdims=1)
    rare = graph.add("Div", total, graph.add("Add", weight, tiny))

    vectors = graph.add("Gather", graph.constant(encoder.vectors), "ids")
    product = graph.add("MatMul", row, graph.add("Cast", vectors, to=TensorProto.FLOAT))
    embedded = graph.add("Squeeze", product, graph.constant(np.array([1], dtype=np.int64)))
    joined = graph.add("Concat", "surface", embedded, axis=1)
    centred = graph.add("Sub", joined, graph.constant(encoder.mean))
    standard = graph.add("Div", centred, graph.constant(encoder.spread))
    x = graph.add("Clip", standard, graph.constant(-LIMIT), graph.constant(LIMIT))
    start, end = (graph.constant(np.array([at], dtype=np.int64)) for at in (COUNT, len(encoder.mean)))
    points = graph.add("Slice", x, start, end, graph.constant(np.array([1], dtype=np.int64)))
    length = graph.add("Add", graph.add("ReduceL2", points, axes=[1], keepdims=1), tiny)
    figures = graph.add("Slice", standard, graph.constant(np.array([0], dtype=np.int64)), start, axis)
    kept = graph.add("Clip", figures, graph.constant(-FIGURE_LIMIT), graph.constant(FIGURE_LIMIT))
    unlike = graph.add("ReduceMean", graph.add("Mul", kept, kept), axes=[1], keepdims=1)
    return x, graph.add("Div", points, length), (rare, unlike)


def _expert(graph: _Graph, expert: Expert, x: str, points: str, strange: str, outputs: dict[str, list[str]]) -> str:
    """Append the expert's outputs; return the distance from its training data, (n, 1)."""
    calibration, shrink, heads = expert.calibration, expert.shrink, len(expert.heads)
    if calibration is None or shrink is None:
        raise ValueError("only a calibrated model can be written")
    zero, one = graph.constant(0.0), graph.constant(1.0)
    likeness = graph.add("MatMul", points, graph.constant(expert.centres.T))
    best = graph.add("Clip", graph.add("ReduceMax", likeness, axes=[1], keepdims=1), zero, one)
    distance = _minus(graph, 1.0, best)
    span = graph.constant(shrink.far - shrink.near)
    slack = graph.add("Sub", graph.constant(shrink.far[None]), distance)
    near = graph.add("Clip", graph.add("Div", slack, span), zero, one)
    trust = graph.add("Mul", graph.add("Mul", near, graph.constant(shrink.top)), graph.add("Sub", one, strange))

    network = expert.network
    inner = graph.add("Add", graph.add("MatMul", x, graph.constant(network.w1)), graph.constant(network.b1))
    # What calibration does to the outputs is folded into the last layer.
    log_spread = np.log(expert.spread)
    factor = np.concatenate([calibration.slope, expert.spread, np.ones(heads)])
    shift = np.concatenate([calibration.offset, expert.location, log_spread])
    last = graph.add("MatMul", graph.add("Relu", inner), graph.constant(network.w2 * factor))
    out = graph.add("Add", last, graph.constant(network.b2 * factor + shift))
    logit, location, log_sigma = (
        graph.add(
            "Slice",
            out,
            graph.constant(np.array([k * heads], dtype=np.int64)),
            graph.constant(np.array([(k + 1) * heads], dtype=np.int64)),
            graph.constant(np.array([1], dtype=np.int64)),
        )
        for k in range(3)
    )
    low, high = graph.constant(log_spread + LOG_SIGMA[0]), graph.constant(log_spread + LOG_SIGMA[1])
    log_sigma = graph.add("Min", graph.add("Max", log_sigma, low), high)

    def trusted(base: NDArray[np.float64], value: str) -> str:
        constant = graph.constant(base[None])
        return graph.add("Add", constant, graph.add("Mul", trust, graph.add("Sub", value, constant)))

    outputs["p"].append(trusted(expert.rate, graph.add("Sigmoid", logit)))
    place = trusted(expert.location, location)
    sigma = graph.add("Exp", trusted(log_spread, log_sigma))
    variance = graph.add("Min", graph.add("Mul", sigma, sigma), graph.constant(MOST_VARIANCE))
    half = graph.add("Mul", variance, graph.constant(0.5))
    mean = graph.add("Add", graph.add("Add", place, half), graph.constant(calibration.log_mean))
    outputs["tokens"].append(graph.add("Exp", mean))
    for name, quantile in (("tokens_p50", calibration.p50), ("tokens_p90", calibration.p90)):
        above = graph.add("Mul", sigma, graph.constant(quantile))
        outputs[name].append(graph.add("Exp", graph.add("Add", place, above)))
    return distance
