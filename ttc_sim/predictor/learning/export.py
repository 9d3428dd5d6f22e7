"""Write a trained predictor as one ONNX graph of standard operators."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag

from ttc_sim.predictor.learning.calibration import MOST_VARIANCE
from ttc_sim.predictor.learning.embedding import DIMENSIONS, WORDS
from ttc_sim.predictor.learning.encoding import FIGURE_LIMIT, LIMIT, STRANGE_MARGIN, Encoder
from ttc_sim.predictor.learning.graph import Graph
from ttc_sim.predictor.learning.network import LOG_SIGMA
from ttc_sim.predictor.learning.text_encoder import add_text_encoder
from ttc_sim.predictor.learning.train import Expert, Model
from ttc_sim.predictor.reading.features import BUCKETS
from ttc_sim.predictor.reading.surface import COUNT
from ttc_sim.predictor.running.providers import FORMAT, HALF, TEXT

OPSET = 17
NEARNESS = 0.05
"""Distances apart by this much weigh e to 1 when several training sets say how hard a prompt is."""
PER_HEAD = ("p", "tokens", "tokens_p50", "tokens_p90")


def to_onnx(model: Model) -> bytes:
    """The model as ONNX. Needs the ``onnx`` package.

    Inputs are those of :class:`~ttc_sim.predictor.reading.features.Features`; outputs ``p``, ``tokens``, ``tokens_p50``,
    ``tokens_p90`` (n, H), ``difficulty`` and ``novelty`` (n,). The names of the heads and their training rates are in the metadata.
    A model with a text encoder has an input ``text`` too, and its tokenizer in the metadata. Input ``half``, which may be left
    out, has networks and text encoder compute in 16 bits.
    """
    from onnx import TensorProto, checker, helper, numpy_helper

    graph, text = Graph(), model.encoder.text
    x, points, strange = _inputs(graph, model)
    usual = _strangeness(graph, model.experts, strange)
    distance = _distances(graph, model.experts, points)
    _heads(graph, model.experts, x, distance, usual)
    novelties = graph.add("Max", _scaled(graph, model.experts, distance), usual)
    graph.add("ReduceMin", novelties, axes=[1], keepdims=0, name="novelty")
    weight = graph.add("Softmax", graph.add("Div", distance, graph.constant(-NEARNESS)), axis=1)
    mean = block_diag(*(np.full((len(expert.heads), 1), 1 / len(expert.heads)) for expert in model.experts))
    share = graph.add("MatMul", "p", graph.constant(np.asarray(mean)))
    hard = graph.add("Mul", weight, _minus(graph, 1.0, share))
    graph.add("ReduceSum", hard, graph.whole(1), keepdims=0, name="difficulty")

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
                *([] if text is None else [value(TEXT, TensorProto.INT32, ["n", "t"])]),
                value(HALF, TensorProto.BOOL, []),
            ],
            [
                *(value(name, TensorProto.FLOAT, ["n", len(heads)]) for name in PER_HEAD),
                *(value(name, TensorProto.FLOAT, ["n"]) for name in ("difficulty", "novelty")),
            ],
            [*graph.constants, numpy_helper.from_array(np.array(False), HALF)],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="ttc-sim",
    )
    made.ir_version = 8
    meta = {"format": FORMAT, "buckets": str(BUCKETS), "heads": json.dumps(heads), "rates": json.dumps(rates)}
    if text is not None:
        meta["tokenizer"] = text.tokenizer
    helper.set_model_props(made, meta)
    checker.check_model(made)
    result: bytes = made.SerializeToString(deterministic=True)
    return result


def _minus(graph: Graph, value: float, name: str) -> str:
    return graph.add("Sub", graph.constant(value), name)


def _strangeness(graph: Graph, experts: Sequence[Expert], strange: Sequence[str]) -> str:
    """As :func:`ttc_sim.predictor.learning.train.strangeness`, (n, experts)."""
    found = []
    for k, (name, (begin, plain, relative)) in enumerate(zip(strange, STRANGE_MARGIN, strict=True)):
        usual = np.array([expert.usual[k] for expert in experts])
        over = graph.add("Sub", name, graph.constant(begin * usual))
        found.append(graph.add("Div", over, graph.constant(plain + relative * usual)))
    return graph.add("Clip", graph.add("Max", *found), graph.constant(0.0), graph.constant(1.0))


def _distances(graph: Graph, experts: Sequence[Expert], points: str) -> str:
    """Distance from each expert's training data, (n, experts)."""
    most = max(len(expert.centres) for expert in experts)
    # Every expert gets as many centres as the one with most; its first, again, fills the rest.
    centres = [np.concatenate([e.centres, np.repeat(e.centres[:1], most - len(e.centres), axis=0)]) for e in experts]
    likeness = graph.add("MatMul", points, graph.constant(np.concatenate(centres).T))
    shape = graph.whole(-1, len(experts), most)
    best = graph.add("ReduceMax", graph.add("Reshape", likeness, shape), axes=[2], keepdims=0)
    return _minus(graph, 1.0, graph.add("Clip", best, graph.constant(0.0), graph.constant(1.0)))


def _scaled(graph: Graph, experts: Sequence[Expert], distance: str) -> str:
    """As :meth:`ttc_sim.predictor.learning.calibration.Raw.scaled_novelty` of a distance, (n, experts)."""
    edge, far = (np.array([getattr(expert, name) for expert in experts]) for name in ("edge", "far"))
    zero, one, half = graph.constant(0.0), graph.constant(1.0), graph.constant(0.5)
    beyond = graph.add("Div", graph.add("Sub", distance, graph.constant(edge)), graph.constant(far - edge))
    within = graph.add("Min", graph.add("Div", distance, graph.constant(edge)), one)
    return graph.add("Mul", graph.add("Add", within, graph.add("Clip", beyond, zero, one)), half)


def _inputs(graph: Graph, model: Model) -> tuple[str, str, tuple[str, str]]:
    """Standardised inputs (n, d), the unit vectors that distances are measured between, two kinds of strangeness (n, 1)."""
    encoder = model.encoder
    zero, tiny = graph.constant(0.0), graph.constant(1e-6)
    tfidf = graph.add("Mul", "values", graph.add("Gather", graph.constant(encoder.idf), "ids"))
    is_word = graph.add("Less", "ids", graph.constant(np.array(WORDS, dtype=np.int32)))
    parts = [_unit(graph, graph.add("Where", *inputs)) for inputs in ((is_word, tfidf, zero), (is_word, zero, tfidf))]
    row = graph.add("Unsqueeze", graph.add("Add", *parts), graph.whole(1))
    from onnx import TensorProto

    axis = graph.whole(1)
    weight = graph.add("ReduceSum", graph.add("Where", is_word, zero, "values"), axis, keepdims=1)
    total = graph.add("ReduceSum", graph.add("Where", is_word, zero, tfidf), axis, keepdims=1)
    rare = graph.add("Div", total, graph.add("Add", weight, tiny))

    directions = graph.add("Gather", graph.constant(encoder.vectors), "ids")
    product = graph.add("MatMul", row, graph.cast(directions, TensorProto.FLOAT))
    embedded = graph.add("Squeeze", product, graph.whole(1))
    vectors = _vectors(graph, encoder)
    meaning = [] if vectors is None else [graph.add("MatMul", vectors, graph.constant(encoder.axes))]
    joined = graph.add("Concat", "surface", *meaning, embedded, axis=1)
    centred = graph.add("Sub", joined, graph.constant(encoder.mean))
    standard = graph.add("Div", centred, graph.constant(encoder.spread))
    x = graph.add("Clip", standard, graph.constant(-LIMIT), graph.constant(LIMIT))
    width = len(encoder.mean)
    grams = graph.add("Slice", x, graph.whole(width - DIMENSIONS), graph.whole(width), graph.whole(1))
    points = _unit(graph, grams)
    if vectors is not None:
        meant = _unit(graph, graph.add("Sub", vectors, graph.constant(encoder.middle)))
        points = graph.add("Mul", graph.add("Concat", points, meant, axis=1), graph.constant(0.5**0.5))
    figures = graph.add("Slice", standard, graph.whole(0), graph.whole(COUNT), axis)
    kept = graph.add("Clip", figures, graph.constant(-FIGURE_LIMIT), graph.constant(FIGURE_LIMIT))
    unlike = graph.add("ReduceMean", graph.add("Mul", kept, kept), axes=[1], keepdims=1)
    return x, points, (rare, unlike)


def _unit(graph: Graph, points: str) -> str:
    length = graph.add("ReduceL2", points, axes=[1], keepdims=1)
    return graph.add("Div", points, graph.add("Add", length, graph.constant(1e-6)))


def _vectors(graph: Graph, encoder: Encoder) -> str | None:
    """The text encoder's vectors, if there is one."""
    text = encoder.text
    if text is None:
        return None
    return graph.in_16_bits_if(HALF, lambda branch, kind: add_text_encoder(branch, text, TEXT, kind))


def _heads(graph: Graph, experts: Sequence[Expert], x: str, distance: str, strange: str) -> None:
    """The outputs of all heads at once: small operations cost as much for one expert as for all."""
    calibrations, shrinks = [e.calibration for e in experts], [e.shrink for e in experts]
    if None in calibrations or None in shrinks:
        raise ValueError("only a calibrated model can be written")
    slope, offset, p50, p90, log_mean = (
        np.concatenate([getattr(one, name) for one in calibrations])
        for name in ("slope", "offset", "p50", "p90", "log_mean")
    )
    near, far, floor = (np.concatenate([getattr(one, name) for one in shrinks]) for name in ("near", "far", "floor"))
    end = np.concatenate([np.full(len(e.heads), e.shrink.end) for e in experts if e.shrink])
    rate, location, spread = (
        np.concatenate([getattr(e, name) for e in experts]) for name in ("rate", "location", "spread")
    )
    zero, one = graph.constant(0.0), graph.constant(1.0)

    owner = graph.constant(np.repeat(np.arange(len(experts)), [len(e.heads) for e in experts]))
    away = graph.add("Gather", distance, owner, axis=1)
    slack = graph.add("Div", graph.add("Sub", graph.constant(far), away), graph.constant(far - near))
    falling = graph.add("Clip", slack, zero, one)
    close = graph.add("Add", graph.add("Mul", falling, graph.constant(1 - floor)), graph.constant(floor))
    over = graph.add("Div", graph.add("Sub", graph.constant(1.2 * end + 0.01), away), graph.constant(0.2 * end + 0.01))
    known = graph.add("Clip", over, zero, one)
    plain = graph.add("Sub", one, graph.add("Gather", strange, owner, axis=1))
    trust = graph.add("Mul", graph.add("Mul", close, known), plain)

    raw = _networks(graph, experts, x, slope, offset, location, spread)
    logit, place, log_sigma = (
        graph.add(
            "Slice",
            raw,
            graph.whole(k * len(rate)),
            graph.whole((k + 1) * len(rate)),
            graph.whole(1),
        )
        for k in range(3)
    )
    log_spread = np.log(spread)
    low, high = graph.constant(log_spread + LOG_SIGMA[0]), graph.constant(log_spread + LOG_SIGMA[1])
    log_sigma = graph.add("Min", graph.add("Max", log_sigma, low), high)

    def trusted(base: NDArray[np.float64], value: str, name: str | None = None) -> str:
        constant = graph.constant(base)
        return graph.add("Add", constant, graph.add("Mul", trust, graph.add("Sub", value, constant)), name=name)

    trusted(rate, graph.add("Sigmoid", logit), "p")
    place = trusted(location, place)
    sigma = graph.add("Exp", trusted(log_spread, log_sigma))
    variance = graph.add("Min", graph.add("Mul", sigma, sigma), graph.constant(MOST_VARIANCE))
    half = graph.add("Add", graph.add("Mul", variance, graph.constant(0.5)), graph.constant(log_mean))
    graph.add("Exp", graph.add("Add", place, half), name="tokens")
    for name, quantile in (("tokens_p50", p50), ("tokens_p90", p90)):
        above = graph.add("Mul", sigma, graph.constant(quantile))
        graph.add("Exp", graph.add("Add", place, above), name=name)


def _networks(
    graph: Graph,
    experts: Sequence[Expert],
    x: str,
    slope: NDArray[np.float64],
    offset: NDArray[np.float64],
    location: NDArray[np.float64],
    spread: NDArray[np.float64],
) -> str:
    """All experts' networks side by side: logits, places and log spreads of all heads, (n, 3 H)."""
    from onnx import TensorProto

    nets = [expert.network for expert in experts]
    w1, b1 = np.concatenate([net.w1 for net in nets], axis=1), np.concatenate([net.b1 for net in nets])
    # Of each kind of output, all experts' heads come one after the other.
    w2 = np.concatenate(
        [np.asarray(block_diag(*(np.split(net.w2, 3, axis=1)[k] for net in nets))) for k in range(3)], axis=1
    )
    b2 = np.concatenate([np.split(net.b2, 3)[k] for k in range(3) for net in nets])
    # What calibration does to the outputs is folded into the last layer.
    factor = np.concatenate([slope, spread, np.ones(len(slope))])
    shift = np.concatenate([offset, location, np.log(spread)])
    weights = [graph.constant(value) for value in (w1, b1, w2 * factor, b2 * factor + shift)]

    def layers(branch: Graph, kind: int) -> str:
        used = [branch.cast(name, kind) for name in (x, *weights)]
        inner = branch.add("Relu", branch.add("Gemm", *used[:3]))
        return branch.cast(branch.add("Gemm", inner, *used[3:]), TensorProto.FLOAT)

    return graph.in_16_bits_if(HALF, layers)
