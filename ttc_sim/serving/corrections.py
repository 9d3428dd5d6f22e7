"""Corrections to the catalogue's operator times, and how well each model on each GPU is then predicted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from ttc_sim.serving.catalogue import Served, base_name, gpus, measured_as, named, own_precision
from ttc_sim.serving.measured_ranges import served_errors
from ttc_sim.serving.operators import Corrections, OperatorTimes

FILE = Path(__file__).with_name("gpu_corrections.json")
HOST_FILE = Path(__file__).with_name("host_times.json")
DOUBTFUL_PERCENT = 25.0
"""Median absolute error of the time per output token above which a model on a GPU is offered with a warning only."""


class Checked(NamedTuple):
    """What measured servers said about predictions for a model on a GPU.

    Attributes:
        rows: operating points measured, of those that nothing was fitted to.
        ttft_percent, tpot_percent: median absolute error.
    """

    rows: int
    ttft_percent: float
    tpot_percent: float


@cache
def _file() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return content


@cache
def measured_host() -> dict[str, Any]:
    """Microseconds that servers were measured to take beside the GPU, and their origin; see :mod:`ttc_sim.serving.host`."""
    content: dict[str, Any] = json.loads(HOST_FILE.read_text(encoding="utf-8"))
    return content


def host_corrections() -> dict[str, float]:
    """What each sequence of a batch takes beside the GPU: of dense models and mixtures of experts alike."""
    return {name: float(measured_host()[name]) for name in ("greedy_us", "sampled_us")}


def corrections_for(times: OperatorTimes, served: Served) -> Corrections:
    """Those of a deployment with such operators; ``served`` as its user named it, or by the catalogue's own names."""
    return of_kind(fitted(), times, served)


def of_kind(known: Mapping[str, Corrections], times: OperatorTimes, served: Served) -> Corrections:
    """Of several by kind, as :func:`fitted` gives them, a deployment's."""
    if not times.moe:
        return known["dense"]
    kernel = kernel_of(served)
    return known[kernel if kernel in known else "experts"]


def kernel_of(served: Served) -> str:
    """What multiplies the experts of a mixture of them, as :func:`fitted` names it.

    Four bits a weight are multiplied as such where a GPU can, and widened before elsewhere.
    """
    model, precision = named(served.model, served.precision, "catalogue")
    precision = precision or own_precision(model)
    widened = precision == "fp4" and "fp4_tc_flops" not in gpus()[served.gpu]["gpu"]
    return f"experts, {precision}{' widened' if widened else ''}"


@cache
def fitted() -> dict[str, Corrections]:
    """By :func:`kind_of`, and ``experts`` for those that were not measured; see the files for their origin."""
    return {kind: Corrections(**one, **host_corrections()) for kind, one in _file()["corrections"].items()}


def token_s() -> float:
    """Seconds of one API server for each token: no measured one handed out more tokens a second."""
    return 1e-6 * float(measured_host()["token_us"])


def checked_pairs() -> dict[tuple[str, str], Checked]:
    """By the catalogue's names of model and GPU, those that were measured."""
    return {
        (base_name(one["model"]), one["gpu"]): Checked(one["rows"], one["ttft"], one["tpot"])
        for one in _file()["pairs"]
    }


def doubt(model: str, gpu: str) -> str | None:
    """Why a prediction should not be relied on; ``None`` if nothing speaks against it."""
    pair = measured_as(model), gpu
    found, served = checked_pairs().get(pair), served_errors().get(pair)
    if found is not None and found.tpot_percent > DOUBTFUL_PERCENT:
        off, rows, what = found.tpot_percent, found.rows, "time per output token"
    elif served is not None and served.percent > DOUBTFUL_PERCENT:
        off, rows, what = served.percent, served.rows, "time between tokens of servers at work"
    else:
        return None
    return f"{model} on {gpu}: {what} was {off:.0f}% off (median of {rows} measured operating points)"
