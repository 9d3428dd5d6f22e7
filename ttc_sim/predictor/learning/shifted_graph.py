"""Write shifts into a predictor's ONNX graph: behind what it says, and nothing before that is touched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.errors import InputError
from ttc_sim.predictor.learning.graph import Graph
from ttc_sim.predictor.learning.shifting import COMMON, GATE, Part, Shift
from ttc_sim.predictor.reading.features import BUCKETS

ADAPTED = "adapted"
"""Metadata: how often examples were taken into account; and the beginning of the names of what that added."""
TOKENS = ("tokens", "tokens_p50", "tokens_p90")
IDS = "ids"
_NEAREST = "_nearest"
_EXPECTED = (
    "a predictor that `ttc-sim predictor train` or `adapt` wrote: one search for the nearest training prompt, one projection of "
    "n-grams, and one table of their inverse document frequencies"
)


@dataclass(frozen=True)
class Landmarks:
    """Names inside a graph.

    Attributes:
        points: unit vectors of the prompts, (n, w); known: (n, sets) likeness of each training set's nearest centre.
        words: (n, 1, k) TF-IDF of the n-grams ``ids``; idf: (BUCKETS,) inverse document frequencies, the array itself.
        times: how often examples were taken into account before.
    """

    points: str
    known: str
    words: str
    idf: NDArray[np.float32]
    times: int

    @property
    def earlier(self) -> list[str]:
        """Likeness to the nearest example of each type, of each earlier time."""
        return [nearest_name(time + 1) for time in range(self.times)]


def landmarks(made: Any, path: Path) -> Landmarks:
    """Find where a predictor reads n-grams, and where it measures novelty: the largest entry, over centres, of a product.

    Args:
        made: the ONNX model; path: its file, for errors.

    Raises:
        InputError: another graph.
    """
    from onnx import numpy_helper

    by_output = {name: node for node in made.graph.node for name in node.output}
    meta = {item.key: item.value for item in made.metadata_props}
    near, words, idf = [], [], []
    tables = {one.name: one for one in made.graph.initializer if list(one.dims) == [BUCKETS]}
    for node in made.graph.node:
        if node.output[0].startswith(ADAPTED):
            continue
        before = [by_output.get(name) for name in node.input]
        if node.op_type == "ReduceMax" and before[0] is not None and before[0].op_type == "Reshape":
            product = by_output.get(before[0].input[0])
            if product is not None and product.op_type == "MatMul":
                near.append((product.input[0], node.output[0]))
        elif node.op_type == "MatMul" and before[1] is not None and before[1].op_type == "Cast":
            gathered = by_output.get(before[1].input[0])
            if gathered is not None and gathered.op_type == "Gather" and gathered.input[1] == IDS:
                words.append(node.input[0])
        elif node.op_type == "Gather" and node.input[1] == IDS and node.input[0] in tables:
            idf.append(numpy_helper.to_array(tables[node.input[0]]))
    times = meta.get(ADAPTED, "0")
    lacks = [name for name in ("p", *TOKENS) if name not in by_output]
    if (len(near), len(words), len(idf)) != (1, 1, 1) or lacks:
        raise InputError(path, "model", f"{len(near)}, {len(words)} and {len(idf)} of them", _EXPECTED)
    added = sum(name.startswith(ADAPTED) and name.endswith(_NEAREST) for name in by_output)
    if times != str(added):
        raise InputError(path, f"metadata {ADAPTED}", times, f"{added}: so often were examples added to the graph")
    return Landmarks(*near[0], words[0], idf[0], int(times))


def nearest_name(time: int) -> str:
    """Name, inside the graph, of the likeness to the nearest example of each type (n, T), added the first, second ... time."""
    return f"{ADAPTED}_{time}{_NEAREST}"


def with_outputs(made: Any, names: Sequence[str]) -> bytes:
    """The same model, which also says what stands under these names."""
    from onnx import ModelProto, TensorProto, helper

    copy = ModelProto()
    copy.CopyFrom(made)
    copy.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    written: bytes = copy.SerializeToString()
    return written


def shifted(made: Any, at: Landmarks, shifts: Sequence[Shift]) -> bytes:
    """The model with its log-odds and tokens shifted. Needs the ``onnx`` package.

    With one type t, log-odds move by ``gate_t * shift_t``; where gates of several types open further than 1 together, each counts
    by its part. Where all gates are shut, every output has the bits that it had.
    """
    from onnx import ModelProto, checker, helper, numpy_helper

    copy = ModelProto()
    copy.CopyFrom(made)
    name = f"{ADAPTED}_{at.times + 1}_"
    graph = Graph(name)
    likeness, gates = _gates(graph, at, shifts)
    chance, tokens = ([getattr(shift, kind) for shift in shifts] for kind in ("chance", "tokens"))
    timed = any(part.graded.any() for part in tokens)
    inside = _inside(graph, likeness, gates, [chance, tokens] if timed else [chance])
    before = {output: f"{name}{output}_before" for output in ("p", *(TOKENS if timed else ()))}
    factors = [
        graph.add("Exp", graph.add("MatMul", inside, graph.constant(by))) for by in _by_model(chance, tokens, timed)
    ]
    # p w / (1 + p w - p) is the chance at w times the odds, and p to the last bit where w is 1.
    more, one = graph.add("Mul", before["p"], factors[0]), graph.constant(1.0)
    least = graph.add("Add", one, graph.add("Sub", more, before["p"]))
    graph.add("Clip", graph.add("Div", more, least), graph.constant(0.0), one, name="p")
    chances = len(graph.nodes)
    for output in TOKENS if timed else ():
        graph.add("Mul", before[output], factors[1], name=output)
    nodes = list(copy.graph.node)
    for node in nodes:
        for k, output in enumerate(node.output):
            node.output[k] = before.get(output, output)
    # Difficulty, which follows from p, is made of the new one: that stands right behind the old.
    place = 1 + next(k for k, node in enumerate(nodes) if before["p"] in node.output)
    place = max(place, *(1 + k for k, node in enumerate(nodes) if {at.points, at.known, at.words} & set(node.output)))
    renamed = {constant.name: f"{name}{constant.name}" for constant in graph.constants}
    for constant in graph.constants:
        copy.graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(constant), renamed[constant.name]))
    for node in graph.nodes:
        for k, used in enumerate(node.input):
            node.input[k] = renamed.get(used, used)
    del copy.graph.node[:]
    copy.graph.node.extend([*nodes[:place], *graph.nodes[:chances], *nodes[place:], *graph.nodes[chances:]])
    meta = {item.key: item.value for item in copy.metadata_props}
    helper.set_model_props(copy, {**meta, ADAPTED: str(at.times + 1)})
    checker.check_model(copy)
    written: bytes = copy.SerializeToString(deterministic=True)
    return written


def _gates(graph: Graph, at: Landmarks, shifts: Sequence[Shift]) -> tuple[str, str]:
    """Likeness to every example (n, T * most), and ``GATE`` times the gates of the T types (n, T)."""
    most = max(len(shift.points) for shift in shifts)
    # Every type gets as many examples as the one with most; its first, again, fills the rest.
    points = [np.concatenate([one.points, np.repeat(one.points[:1], most - len(one.points), axis=0)]) for one in shifts]
    likeness = graph.add("MatMul", at.points, graph.constant(np.concatenate(points).T))
    name = nearest_name(at.times + 1)
    if len(shifts) == 1:
        nearest = graph.add("ReduceMax", likeness, axes=[1], keepdims=1, name=name)
    else:
        apart = graph.add("Reshape", likeness, graph.whole(-1, len(shifts), most))
        nearest = graph.add("ReduceMax", apart, axes=[2], keepdims=0, name=name)
    over = graph.add("Sub", nearest, graph.add("ReduceMax", at.known, axes=[1], keepdims=1))
    limit = graph.constant(GATE)
    gates = graph.add("Clip", graph.add("Min", over, _common(graph, at, shifts)), graph.constant(0.0), limit)
    if len(shifts) > 1:
        together = graph.add("ReduceSum", gates, graph.whole(1), keepdims=1)
        gates = graph.add("Mul", graph.add("Div", gates, graph.add("Max", together, limit)), limit)
    return likeness, gates


def _common(graph: Graph, at: Landmarks, shifts: Sequence[Shift]) -> str:
    """``GATE`` times how far a text has enough in common with each type's examples, (n, T)."""
    usual = np.array([shift.usual for shift in shifts])
    begin, end = (part * usual for part in COMMON)
    scale = GATE / (end - begin)
    words = np.stack([shift.words for shift in shifts], axis=1) * scale
    there = graph.add("Gather", graph.constant(words), IDS)
    common = graph.add("Squeeze", graph.add("MatMul", at.words, there), graph.whole(1))
    return graph.add("Sub", common, graph.constant(begin * scale))


def _inside(graph: Graph, likeness: str, gates: str, kinds: Sequence[Sequence[Part]]) -> str:
    """Of each kind of shift, each type's shared part times its gate; and the gates: (n, kinds * T + T)."""
    types, most = len(kinds[0]), max(len(part.local) for part in kinds[0])
    local = np.zeros((types * most, len(kinds) * types))
    for k, part in enumerate(part for parts in kinds for part in parts):
        row = k % types * most
        local[row : row + len(part.local), k] = part.local
    constant = graph.constant(np.array([part.constant for parts in kinds for part in parts]))
    shared = graph.add("Add", graph.add("MatMul", likeness, graph.constant(local)), constant)
    by = gates if types == 1 or len(kinds) == 1 else graph.add("Concat", *[gates] * len(kinds), axis=1)
    return graph.add("Concat", graph.add("Mul", shared, by), gates, axis=1)


def _by_model(chance: Sequence[Part], tokens: Sequence[Part], timed: bool) -> list[NDArray[np.float64]]:
    """Of each kind, what of :func:`_inside` goes to which model, (kinds * T + T, H)."""
    none = np.zeros((len(chance), len(chance[0].own)))
    kinds = [chance, tokens] if timed else [chance]
    graded = [np.stack([part.graded for part in parts]) for parts in kinds]
    return [
        np.concatenate(
            [*(one if j == k else none for j, one in enumerate(graded)), np.stack([part.own for part in parts])]
        )
        / GATE
        for k, parts in enumerate(kinds)
    ]


__all__ = ["ADAPTED", "TOKENS", "Landmarks", "landmarks", "nearest_name", "shifted", "with_outputs"]
