"""Step times from microseconds per layer, measured on the GPU.

A folder holds ``meta.yaml`` (which model and GPU) and one folder ``tpN`` per degree of tensor parallelism with

* ``dense.csv`` (``layer, tokens, time_us``): matrix products, norms and the like, by tokens in the batch,
* ``attention.csv`` (``prefill_chunk, kv_prefill, n_decode, kv_decode, time_us``): attention of one layer over a mixed batch;
  ``kv_decode`` is KV tokens per decoding sequence,
* ``per_sequence.csv`` (``layer, sequences, time_us``): LM head and sampler, once per iteration,
* ``moe.csv`` (``tokens, activated_experts, time_us``) for a mixture of experts.

That is the layout in which LLMServingSim (MIT licence) publishes its profiles. What one GPU alone cannot show is added here:
all-reduces between GPUs, how many experts a batch activates, and the time that the host takes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from ttc_sim.base.draws import F64
from ttc_sim.base.errors import InputError, nearest
from ttc_sim.files.documents import read_yaml
from ttc_sim.files.opening import is_folder
from ttc_sim.files.tables import read_table
from ttc_sim.serving.physics import ARCHITECTURES, Architecture, activated_experts, on_busiest_gpu
from ttc_sim.serving.step_time import StepTable, flat_where_falling, step_table
from ttc_sim.serving.users_own import checked

US = 1e-6
HOST_S = 0.0
"""Seconds per iteration in which the GPU waits for the host. None with asynchronous scheduling, which schedules the next
iteration while the GPU computes: two servers measured so (vLLM 0.19) leave nothing to fit. Without it, about 2 ms (see
:class:`ttc_sim.serving.physics.Coefficients`)."""

_FAR = 131_072  # tokens of context: measured tables end at some ten thousand, and noise of their last segments grows beyond

LINK_BYTES_PER_S = 16.75e9
"""Bytes per second over each GPU's link in a large all-reduce through PCIe. Fitted, with the next, to the end-to-end times of two
runs together (two RTX PRO 6000, vLLM 0.19): Qwen3-32B over both GPUs, and Qwen3-30B-A3B as two ranks that share their experts."""

LINK_LATENCY_S = 34e-6
"""Seconds of such an all-reduce of nearly nothing."""

ONCE = ("embedding", "final_layernorm")
TWICE = ("layernorm", "qk_norm")
DENSE_LAYERS = ("embedding", "final_layernorm", "layernorm", "o_proj", "qkv_proj", "rotary_emb")
FFN_LAYERS = ("act_fn", "down_proj", "gate_up_proj")
SEQUENCE_LAYERS = ("lm_head", "sampler")
ATTENTION_AXES = ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode")


def load_gpu_profile(
    folder: str | Path,
    tensor_parallel: int,
    max_tokens: int,
    max_sequences: int,
    *,
    architecture: Architecture | None = None,
    layers: int | None = None,
    host_s: float = HOST_S,
    data_parallel: int = 1,
    link_bytes_per_s: float = LINK_BYTES_PER_S,
    link_latency_s: float = LINK_LATENCY_S,
) -> StepTable:
    """Step times of one server from a folder of measurements.

    Args:
        folder: with ``meta.yaml`` and ``tpN``.
        tensor_parallel: GPUs of the server; must have been profiled.
        max_tokens: most tokens in a batch.
        max_sequences: most sequences in a batch.
        architecture: of the model; by default looked up by the model's name in ``meta.yaml``.
        layers: transformer layers, if not the architecture's.
        host_s: seconds per iteration in which the GPU waits for the host.
        data_parallel: ranks of the server, each of ``tensor_parallel`` GPUs. Those of a mixture of experts step together: the
            experts are divided among all GPUs, and every layer's tokens are exchanged.
        link_bytes_per_s: bytes per second of an all-reduce, by its ring's traffic per GPU; matters above one GPU only.
        link_latency_s: seconds of the smallest all-reduce.

    Raises:
        InputError: a file, column, layer or degree is missing, a time is negative or not a number, or times fall with more tokens
            so that iterations beyond what was measured would take none.
    """
    folder = Path(folder)
    if not is_folder(folder):
        raise InputError(folder, "folder", str(folder), "an existing folder")
    for name, value in (
        ("max_tokens", max_tokens),
        ("max_sequences", max_sequences),
        ("data_parallel", data_parallel),
    ):
        if value < 1:
            raise InputError(folder, name, value, "at least 1")
    for name, seconds in (("host_s", host_s), ("link_latency_s", link_latency_s)):
        if not (math.isfinite(seconds) and seconds >= 0):
            raise InputError(folder, name, seconds, "seconds, 0 or more")
    if not (math.isfinite(link_bytes_per_s) and link_bytes_per_s > 0):
        raise InputError(folder, "link_bytes_per_s", link_bytes_per_s, "bytes per second above 0")
    degrees = profiled_degrees(folder)
    if tensor_parallel not in degrees:
        raise InputError(folder, "tensor_parallel", tensor_parallel, f"one that was profiled: {degrees}")
    shape = architecture or known_architecture(folder)
    depth = shape.layers if layers is None else layers
    if depth < 1:
        raise InputError(folder, "layers", depth, "at least 1")

    here = folder / f"tp{tensor_parallel}"
    tokens = np.arange(max_tokens + 1, dtype=np.float64)
    dense = _dense_seconds(here / "dense.csv", tokens, depth, shape)
    ranks = data_parallel if shape.experts else 1
    link = link_bytes_per_s, link_latency_s
    reduced, shared = 2 * depth, None
    if ranks > 1:
        together = np.arange(ranks * max_tokens + 1, dtype=np.float64)
        shared = exchange_seconds(together, shape.hidden, ranks, *link)
        shared += _moe_seconds(folder, 1, degrees, together, shape, tensor_parallel * ranks)
        shared *= shape.moe_layers(depth)
        shared[0] = 0.0
        reduced -= shape.moe_layers(depth)  # the exchange brings the experts' results to where they belong
    elif shape.experts:
        dense += shape.moe_layers(depth) * _moe_seconds(folder, tensor_parallel, degrees, tokens, shape)
    if tensor_parallel > 1:
        dense += reduced * all_reduce_seconds(tokens, shape.hidden, tensor_parallel, *link)
    dense[0] = 0.0
    made = step_table(
        max_tokens,
        max_sequences,
        base_s=host_s,
        dense_s=dense,
        sampled_s=_sequence_seconds(here / "per_sequence.csv", max_sequences),
        attention=flat_where_falling(_attention(here / "attention.csv", depth)),
        ranks=ranks,
        shared_s=shared,
    )
    return checked(made, max_tokens, max_sequences, str(here), _FAR)


def profiled_degrees(folder: str | Path) -> list[int]:
    """Degrees of tensor parallelism that a folder has measurements of, ascending."""
    names = [one.name[2:] for one in Path(folder).glob("tp*") if one.is_dir()]
    return sorted(int(name) for name in names if name.isdigit())


def all_reduce_seconds(tokens: F64, hidden: int, tensor_parallel: int, bytes_per_s: float, latency_s: float) -> F64:
    """Seconds of one all-reduce of 16-bit activations over a ring, which carries ``2 (n - 1) / n`` of them over each GPU's link."""
    size = tokens * hidden * 2
    seconds: F64 = latency_s + 2 * (tensor_parallel - 1) / tensor_parallel * size / bytes_per_s
    return seconds


def exchange_seconds(tokens: F64, hidden: int, ranks: int, bytes_per_s: float, latency_s: float) -> F64:
    """Seconds in which the ranks' tokens come to the experts of every rank and their results back, in 16 bits.

    An all-gather of the tokens of all ranks and a reduce-scatter (vLLM's ``allgather_reducescatter``), each over a ring: a call of
    its own, with an all-reduce's latency and half of the bytes.
    """
    size = tokens * hidden * 2
    seconds: F64 = 2 * latency_s + 2 * (ranks - 1) / ranks * size / bytes_per_s
    return seconds


def known_architecture(folder: Path) -> Architecture:
    """Of the model that a folder's ``meta.yaml`` names.

    Raises:
        InputError: no such file, or a model whose architecture is not known.
    """
    path = folder / "meta.yaml"
    meta = read_yaml(path, expected="an existing file, or an architecture as argument")
    model = meta.get("model") if isinstance(meta, dict) else None
    if not isinstance(model, str) or model not in ARCHITECTURES:
        raise InputError(path, "model", model, nearest(str(model), ARCHITECTURES) + ", or an architecture as argument")
    return ARCHITECTURES[model]


def _read(path: Path, columns: Sequence[str]) -> pl.DataFrame:
    """Read a measured table and check its numbers."""
    table = read_table(path)
    for name in (*columns, "time_us"):
        if name not in table.columns:
            raise InputError(path, "column", ", ".join(table.columns), f"a column named {name}")
        if name == "layer":
            continue
        if not table[name].dtype.is_numeric():
            raise InputError(path, name, str(table[name].dtype), "numbers only")
        values = table[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
        bad = ~(np.isfinite(values) & (values >= 0))
        if bad.any():
            raise InputError(path, f"{name}, row {int(bad.argmax()) + 1}", float(values[bad][0]), "a number, 0 or more")
    return table


def _by_layer(path: Path, axis: str, needed: Sequence[str]) -> dict[str, tuple[F64, F64]]:
    """Measured points (axis, seconds) of each layer, ascending; repeated measurements are averaged."""
    table = _read(path, ("layer", axis))
    points = {}
    for (layer,), rows in table.group_by("layer", maintain_order=True):
        mean = rows.group_by(axis).agg(pl.col("time_us").cast(pl.Float64).mean()).sort(axis)
        points[str(layer)] = (mean[axis].cast(pl.Float64).to_numpy(), mean["time_us"].to_numpy() * US)
    for layer in needed:
        if layer not in points:
            raise InputError(path, "layer", ", ".join(points), f"rows of the layer {layer}")
    return points


def _line(at: F64, knots: F64, seconds: F64) -> F64:
    """Interpolate; below the first knot as at it, beyond the last along a line from the middle knot, so that noise of one
    point does not tilt it, and never falling."""
    values: F64 = np.interp(at, knots, seconds)
    if len(knots) > 1:
        half = len(knots) // 2 if len(knots) > 2 else 0
        slope = max((seconds[-1] - seconds[half]) / (knots[-1] - knots[half]), 0.0)
        values = values + slope * np.maximum(at - knots[-1], 0.0)
    return values


def _dense_seconds(path: Path, tokens: F64, depth: int, shape: Architecture) -> F64:
    """Seconds of all that depends on the number of tokens only, over all layers, but experts and communication."""
    ffn = () if shape.experts and shape.moe_layers(depth) == depth and not shape.shared_ffn else FFN_LAYERS
    points = _by_layer(path, "tokens", (*DENSE_LAYERS, *ffn))
    total = np.zeros_like(tokens)
    for layer, (knots, seconds) in points.items():
        times = 1 if layer in ONCE else 2 * depth if layer in TWICE else depth
        if layer in FFN_LAYERS and shape.experts and not shape.shared_ffn:
            times = depth - shape.moe_layers(depth)
        total += times * _line(tokens, knots, seconds)
    return total


def _sequence_seconds(path: Path, max_sequences: int) -> F64:
    """Seconds of LM head and sampler. They run for every scheduled sequence: an iteration without a token pays for one."""
    points = _by_layer(path, "sequences", SEQUENCE_LAYERS)
    sequences = np.maximum(np.arange(max_sequences + 1, dtype=np.float64), 1.0)
    total = np.zeros_like(sequences)
    for knots, seconds in points.values():
        total += _line(sequences, knots, seconds)
    return total


def _moe_seconds(
    folder: Path, tensor_parallel: int, degrees: Sequence[int], tokens: F64, shape: Architecture, among: int = 1
) -> F64:
    """Seconds of one layer's experts, for the experts that so many tokens activate; ``among``: GPUs that each have whole ones."""
    # Experts split over n GPUs do 1/n of the work each: a degree that was not measured is scaled from one that was.
    measured = [one for one in degrees if (folder / f"tp{one}" / "moe.csv").is_file()]
    source = tensor_parallel if tensor_parallel in measured or not measured else measured[0]
    path = folder / f"tp{source}" / "moe.csv"
    table = _read(path, ("tokens", "activated_experts"))
    curves = []
    for (count,), rows in table.group_by("tokens", maintain_order=True):
        mean = (
            rows.group_by("activated_experts").agg(pl.col("time_us").cast(pl.Float64).mean()).sort("activated_experts")
        )
        curves.append(
            (float(str(count)), mean["activated_experts"].cast(pl.Float64).to_numpy(), mean["time_us"].to_numpy())
        )
    curves.sort(key=lambda one: one[0])
    experts = activated_experts(tokens, shape)
    if among > 1:
        experts, tokens = on_busiest_gpu(tokens, shape, among)
    knots = np.array([one[0] for one in curves])
    at_knots = np.stack([_line(experts, one[1], one[2] * US) for one in curves])
    seconds = np.empty_like(tokens)
    for i, count in enumerate(tokens):
        seconds[i] = _line(np.array([count]), knots, np.ascontiguousarray(at_knots[:, i]))[0]
    return seconds * source / tensor_parallel


def _attention(path: Path, depth: int) -> tuple[F64, F64, F64, F64, F64]:
    """Knots, and seconds of all layers' attention on the full grid of them."""
    table = _read(path, ATTENTION_AXES)
    mean = table.group_by(ATTENTION_AXES).agg(pl.col("time_us").cast(pl.Float64).mean())
    knots = [np.unique(np.append(mean[axis].cast(pl.Float64).to_numpy(), 0.0)) for axis in ATTENTION_AXES]
    for axis, values in zip(ATTENTION_AXES, knots, strict=True):
        if len(values) < 2:
            raise InputError(path, axis, values.tolist(), "measurements at more than one value")
    places = [
        np.searchsorted(values, mean[axis].cast(pl.Float64).to_numpy())
        for axis, values in zip(ATTENTION_AXES, knots, strict=True)
    ]
    grid = np.full([len(values) for values in knots], np.nan)
    grid[tuple(places)] = mean["time_us"].to_numpy() * US
    # Without a chunk its context does not count, without decoding sequences their KV does not.
    grid[0, :, 0, :] = 0.0
    grid[0] = np.where(np.isnan(grid[0]), grid[0, :1], grid[0])
    grid[:, :, 0] = np.where(np.isnan(grid[:, :, 0]), grid[:, :, 0, :1], grid[:, :, 0])
    grid = fill(grid, knots)
    if np.isnan(grid).any():
        raise InputError(path, "rows", len(table), "prefill and decode each measured along every axis")
    return (*_four(knots), depth * grid)


def _four(knots: Sequence[F64]) -> tuple[F64, F64, F64, F64]:
    return knots[0], knots[1], knots[2], knots[3]


def fill(grid: F64, knots: Sequence[F64]) -> F64:
    """Fill points that were not measured.

    A point between two measured ones on an axis is interpolated, on several axes averaged. What is left lies beyond the
    measured range of every axis: there it follows the last two points of an axis, and does not fall below the nearest.
    """
    grid = grid.copy()
    for inside in (True, False):
        for _ in range(grid.ndim + 1):
            if not np.isnan(grid).any():
                return grid
            guesses = np.stack([_fill_axis(grid, values, axis, inside) for axis, values in enumerate(knots)])
            found = ~np.isnan(guesses)
            count = found.sum(axis=0)
            mean = np.where(found, guesses, 0.0).sum(axis=0) / np.maximum(count, 1)
            grid = np.where(np.isnan(grid) & (count > 0), mean, grid)
    return grid


def _fill_axis(grid: F64, values: F64, axis: int, inside: bool) -> F64:
    """Guesses along one axis; not a number where there is none."""
    lines = np.moveaxis(grid, axis, -1)
    out = np.full(lines.shape, np.nan)
    known = ~np.isnan(lines)
    for index in np.ndindex(*lines.shape[:-1]):
        there = known[index]
        if there.all() or there.sum() < 2:
            continue
        x, y = values[there], lines[index][there]
        if inside:
            between = ~there & (values > x[0]) & (values < x[-1])
            out[index][between] = np.interp(values[between], x, y)
        else:
            above, below = ~there & (values > x[-1]), ~there & (values < x[0])
            out[index][above] = y[-1] + max((y[-1] - y[-2]) / (x[-1] - x[-2]), 0.0) * (values[above] - x[-1])
            out[index][below] = y[0]
    filled: F64 = np.moveaxis(out, -1, axis)
    return filled
