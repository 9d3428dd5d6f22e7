"""Fit the corrections of ``ttc_sim/serving/gpu_corrections.json`` to measured servers; needs ``pip install 'ttc-sim[gpus]'``.

Fitted are odd rows only (by the last byte of the id's SHA-256) of vLLM servers in the catalogue's ``silicon_sample.csv`` and, of
mixtures of experts, where it is beside the checkout, of H100 servers in ``../shared/data/operating-points``; errors are written
down for the catalogue's even rows. Models whose plain estimate is off by more than ``FAR_OFF`` on a GPU are left out: there
something else is wrong than what these corrections mean. Takes about ten minutes on one core.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import aiconfigurator_core
import numpy as np
from scipy.optimize import least_squares

from ttc_sim.base.draws import F64
from ttc_sim.fidelity.operating_points import (
    MAX_NUM_BATCHED_TOKENS,
    Point,
    Predicted,
    by_model_gpu,
    load_points,
    predict,
)
from ttc_sim.fidelity.operating_points import closed_loop as loop_of
from ttc_sim.fidelity.served_points import ServedPoint, closed_loop, load_served_points, simulate_served_point
from ttc_sim.files.writing import write_atomically
from ttc_sim.serving.catalogue import has_experts, installed
from ttc_sim.serving.corrections import FILE, host_corrections, kernel_of
from ttc_sim.serving.operator_store import operator_times
from ttc_sim.serving.operators import NONE, Corrections, operator_table

POINTS = Path(__file__).resolve().parents[2] / "shared" / "data" / "operating-points" / "ml-energy.csv"
MOST_IN_PROGRESS = 1024  # beyond, one client that reads so many streams is what was measured
POINTS_FAR_OFF = 25.0  # percent
FAR_OFF = 45.0  # percent
# What sequences take is known (scripts/fit_host.py), and not looked for again.
START = Corrections(layer_us=5.0, prefill_layer_us=200.0, matrix=1.1, first_token_ms=15.0, **host_corrections())
DENSE = ("layer_us", "prefill_layer_us", "matrix", "prefill", "link", "first_token_ms", "attention")
# Mixtures of experts attend with few heads to little: what rows say about it is what they say about other parts.
COMMON = ("layer_us", "matrix", "prefill", "link", "first_token_ms", "pipeline_steps")
BY_KERNEL = ("experts", "prefill_experts", "prefill_layer_us")
UNITS = {"layer_us": 10.0, "prefill_layer_us": 200.0, "first_token_ms": 15.0, "pipeline_steps": 1.0}
BOUNDS = {
    "layer_us": (0.0, 200.0),
    "prefill_layer_us": (0.0, 1000.0),
    "first_token_ms": (0.0, 150.0),
    "pipeline_steps": (0.0, 4.0),
    "prefill_experts": (0.3, 1.5),
}
FACTOR = (0.6, 2.5)
FIRST_TOKEN = 0.5  # weight of a first token's error beside that of the others
FAR = 0.08  # log error beyond which a row's pull grows no more
FIRMLY = 0.02  # weight of ``START`` beside a row, for what rows hardly show

Unknown = tuple[str, str]  # kind of deployment or "", for all kinds; name of a correction


def fit(
    points: Sequence[Point],
    served: Sequence[ServedPoint],
    unknown: Sequence[Unknown],
    known: Mapping[str, Corrections],
    turns: int,
    say: str,
) -> dict[str, Corrections]:
    """Least squares of log errors, robust to rows that are far off, by kind of deployment.

    Times are nearly straight lines of corrections: they are differentiated around what was ``known`` before, and again around
    what fits best on those lines.
    """
    kinds = sorted({of for of, _ in unknown} - {""})
    units = np.array([UNITS.get(name, 0.3) for _, name in unknown])
    low, high = np.array([BOUNDS.get(name, FACTOR) for _, name in unknown]).T / units
    usual = np.array([getattr(START, name) for _, name in unknown]) / units
    measured = np.array(
        [ms for one in points for ms in (one.tpot_ms, one.ttft_ms)] + [one.itl_ms for one in served], dtype=np.float64
    )
    weights = np.array([1.0, FIRST_TOKEN] * len(points) + [1.0] * len(served))

    def made(x: F64) -> dict[str, Corrections]:
        values = dict(zip(unknown, (x * units).tolist(), strict=True))
        mine = {kind: {name: value for (of, name), value in values.items() if of in ("", kind)} for kind in kinds}
        return {kind: replace(START, **one) for kind, one in mine.items()}

    def times(x: F64) -> F64:
        tried = made(x)
        pairs = [(np.nan, np.nan) if isinstance(one, str) else one[::-1] for one in predict(points, tried)]
        return np.array([ms for pair in pairs for ms in pair] + times_between_tokens(served, tried))

    def misses(y: F64, x: F64, base: F64, slopes: F64) -> F64:
        off = weights * np.log(np.maximum(base + slopes @ (y - x), 0.05 * base) / measured) / FAR
        off = off[np.isfinite(off)]
        bounded = np.sign(off) * FAR * np.sqrt(2 * (np.sqrt(1 + off**2) - 1))
        return np.concatenate([bounded, FIRMLY * (y - usual)])

    before = [known.get(of or "experts", START) for of, _ in unknown]
    x = np.clip(
        np.array([getattr(one, name) for one, (_, name) in zip(before, unknown, strict=True)]) / units, low, high
    )
    for turn in range(1, turns + 1):
        base = times(x)
        slopes = np.zeros((len(base), len(x)))
        for i in range(len(x)):
            step = np.zeros(len(x))
            step[i] = 0.25 if x[i] + 0.25 < high[i] else -0.25
            slopes[:, i] = (times(x + step) - base) / step[i]
            print(f"{say}: {turn} of {turns}, {i + 1} of {len(x)} {unknown[i]}", flush=True)
        start = np.clip(x, low + 1e-9, high - 1e-9)
        x = least_squares(misses, start, bounds=(low, high), args=(x, base, slopes)).x
        print(f"{say}: {made(x)}", flush=True)
    return made(x)


def fit_first_tokens(points: Sequence[Point], known: Mapping[str, Corrections]) -> dict[str, Corrections]:
    """What first tokens take outside of the loop, everything else as known.

    HTTP and tokeniser are the same whatever the model; iterations of the pipeline are of dense models, and of all others.
    """
    nothing = {"first_token_ms": 0.0, "prompt_token_us": 0.0, "pipeline_steps": 0.0}
    found = predict(points, {kind: replace(one, **nothing) for kind, one in known.items()}, print)
    here = [(p, f) for p, f in zip(points, found, strict=True) if not isinstance(f, str)]
    in_loop_ms, step_ms = np.array([f for _, f in here], dtype=np.float64).T
    prompt = np.array([float(np.mean(loop_of(p).prompt_tokens)) for p, _ in here])
    moe = np.array([has_experts(p.served.model) for p, _ in here])
    measured_ms = np.array([p.ttft_ms for p, _ in here], dtype=np.float64)

    def misses(x: F64) -> F64:
        off: F64 = np.log(
            (in_loop_ms + x[0] + 1e-3 * x[1] * prompt + np.where(moe, x[3], x[2]) * step_ms) / measured_ms
        )
        return off

    frontend, token, dense, experts = least_squares(
        misses, np.array([5.0, 2.0, 1.0, 1.0]), bounds=(0.0, 150.0), loss="soft_l1", f_scale=FAR
    ).x.tolist()
    print(
        f"first tokens, {len(here)} rows: {frontend:.3g} ms, {token:.3g} us a prompt token, {dense:.3g}, {experts:.3g} iterations"
    )
    steps = {kind: dense if kind == "dense" else experts for kind in known}
    return {
        kind: replace(one, first_token_ms=frontend, prompt_token_us=token, pipeline_steps=steps[kind])
        for kind, one in known.items()
    }


def times_between_tokens(points: Sequence[ServedPoint], known: Mapping[str, Corrections]) -> list[float]:
    """Median milliseconds between tokens of measured points."""

    def one(point: ServedPoint) -> float:
        times = operator_times(point.served)
        table = operator_table(times, known[kernel_of(point.served)], MAX_NUM_BATCHED_TOKENS, point.users)
        return simulate_served_point(point, table, times.kv_tokens).median_ms

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, points))


def measured_points(file: Path) -> list[ServedPoint]:
    """Odd ones of mixtures of experts on H100 servers, of models that are not far off to begin with; none without the file."""
    if not file.is_file():
        return []
    points = [
        p
        for p in load_served_points(file)[0]
        if p.fitted_to
        and has_experts(p.served.model)
        and p.served.gpu == "h100_sxm"
        and p.in_progress <= MOST_IN_PROGRESS
    ]
    longest = [p.load.prompt_tokens + int(closed_loop(p).visible_tokens.max()) for p in points]
    points = [p for p, most in zip(points, longest, strict=True) if operator_times(p.served).kv_tokens >= most]
    found = times_between_tokens(points, {kernel_of(p.served): START for p in points})
    off: dict[str, list[float]] = {}
    for point, found_ms in zip(points, found, strict=True):
        off.setdefault(point.model, []).append(100 * abs(found_ms / point.itl_ms - 1))
    return [p for p in points if np.median(off[p.model]) <= POINTS_FAR_OFF]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", type=Path, default=None, help="rows; by default those of the installed package")
    parser.add_argument("--points", type=Path, default=POINTS, help="measured points of H100 servers")
    parser.add_argument("--every", type=int, default=3, help="fit to every so many-th odd row")
    parser.add_argument("--turns", type=int, default=3, help="how often times are differentiated")
    parser.add_argument(
        "--only", choices=("dense", "experts", "first-tokens"), help="fit these, and take the others from the file"
    )
    args = parser.parse_args()
    file = args.file or Path(aiconfigurator_core.__file__).parent / "systems" / "silicon_sample.csv"
    points, _ = load_points(file, "vllm")
    plain = predict(points, {"dense": NONE, "experts": NONE}, print)
    kept = [(p, one) for p, one in zip(points, plain, strict=True) if not isinstance(one, str)]
    off = by_model_gpu([p for p, _ in kept], [one for _, one in kept])
    usable = {(o["model"], o["gpu"]) for o in off if o["median_absolute_error_percent"]["tpot"] <= FAR_OFF}
    odd = [p for p, _ in kept if p.fitted_to and (p.model, p.served.gpu) in usable]
    dense, experts = ([p for p in odd if has_experts(p.served.model) == moe][:: args.every] for moe in (False, True))
    known = {
        kind: Corrections(**one, **host_corrections())
        for kind, one in json.loads(FILE.read_text())["corrections"].items()
    }
    if args.only in (None, "dense"):
        known["dense"] = fit(
            dense, [], [("dense", name) for name in DENSE], known, args.turns, f"dense, {len(dense)} rows"
        )["dense"]
    if args.only in (None, "experts"):
        more = measured_points(args.points)
        kernels = sorted({kernel_of(served) for served in [p.served for p in experts] + [p.served for p in more]})
        unknown = [("", name) for name in COMMON] + [(kernel, name) for kernel in kernels for name in BY_KERNEL]
        found = fit(experts, more, unknown, known, args.turns, f"experts, {len(experts)} rows and {len(more)} points")
        middle = {name: float(np.median([getattr(one, name) for one in found.values()])) for name in BY_KERNEL}
        known = {"dense": known["dense"], "experts": replace(found[kernels[0]], **middle), **found}
    write(points, fit_first_tokens(odd, known))


def write(points: Sequence[Point], known: dict[str, Corrections]) -> None:
    """Errors of the even rows, and the file."""
    even = [p for p in points if not p.fitted_to]
    found = predict(even, known, print)
    here: list[tuple[Point, Predicted]] = [(p, f) for p, f in zip(even, found, strict=True) if not isinstance(f, str)]
    pairs = [
        {
            "model": one["model"],
            "gpu": one["gpu"],
            "rows": one["rows"],
            **{name: round(value, 1) for name, value in one["median_absolute_error_percent"].items()},
        }
        for one in by_model_gpu([p for p, _ in here], [f for _, f in here])
    ]
    origin = (
        f"fitted by scripts/fit_gpu_corrections.py to the odd rows of systems/silicon_sample.csv (vLLM, aggregated) of "
        f"aiconfigurator-core {installed()} (Apache-2.0, NVIDIA), those of experts also to odd operating points of H100 servers "
        "measured by the ML.ENERGY benchmark (none of its rows is shipped); pairs: median absolute error in percent of even rows"
    )
    kept = {
        kind: {name: round(v, 3) for name, v in asdict(one).items() if name not in host_corrections()}
        for kind, one in known.items()
    }
    write_atomically(FILE, json.dumps({"origin": origin, "corrections": kept, "pairs": pairs}, indent=1) + "\n")
    print(FILE.read_text())


if __name__ == "__main__":
    main()
