"""Fit the corrections of ``ttc_sim/serving/gpu_corrections.json`` to measured servers; needs ``pip install 'ttc-sim[gpus]'``.

Fitted are odd rows only (by the last byte of the id's SHA-256) of vLLM servers in the catalogue's ``silicon_sample.csv``; errors
are written down for the even ones. Pairs of model and GPU whose plain estimate is off by more than ``FAR_OFF`` are left out:
there something else is wrong than what these corrections mean. Takes about ten minutes on one core.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import aiconfigurator_core
import numpy as np
from scipy.optimize import least_squares

from ttc_sim.base.draws import F64
from ttc_sim.fidelity.operating_points import Point, Predicted, by_model_gpu, load_points, predict
from ttc_sim.files.writing import write_atomically
from ttc_sim.serving.catalogue import has_experts, installed
from ttc_sim.serving.corrections import FILE, host_corrections
from ttc_sim.serving.operators import NONE, Corrections

FAR_OFF = 45.0  # percent
# What sequences take is known (scripts/fit_host.py), and not looked for again.
START = Corrections(layer_us=5.0, prefill_layer_us=200.0, matrix=1.1, first_token_ms=20.0, **host_corrections())
BOTH = ("layer_us", "prefill_layer_us", "matrix", "prefill", "link", "first_token_ms")
# Mixtures of experts attend with few heads to little: what rows say about it is what they say about other parts.
FREE = {"dense": (*BOTH, "attention"), "experts": (*BOTH, "experts", "pipeline_steps")}
UNITS = {"layer_us": 20.0, "prefill_layer_us": 200.0, "first_token_ms": 20.0, "pipeline_steps": 1.0}
BOUNDS = {
    "layer_us": (0.0, 200.0),
    "prefill_layer_us": (0.0, 1000.0),
    "first_token_ms": (0.0, 150.0),
    "pipeline_steps": (0.0, 4.0),
}
FACTOR = (0.6, 2.5)


def fit(points: Sequence[Point], names: Sequence[str], say: str, weight: float) -> Corrections:
    """Least squares of log errors, those of the first token at ``weight``, robust to rows that are far off."""
    units = np.array([UNITS.get(name, 1.0) for name in names])

    def made(x: F64) -> Corrections:
        return replace(START, **dict(zip(names, (x * units).tolist(), strict=True)))

    def misses(x: F64) -> F64:
        known = made(x)
        found = predict(points, {"dense": known, "experts": known}, workers=1)
        out = []
        for point, one in zip(points, found, strict=True):
            if isinstance(one, str):
                out += [0.0, 0.0]
            else:
                out += [np.log(one[1] / point.tpot_ms), weight * np.log(one[0] / point.ttft_ms)]
        missed = np.array(out)
        print(f"{say}: {np.sqrt(np.mean(missed**2)):.4f} {known}", flush=True)
        return missed

    low, high = np.array([BOUNDS.get(name, FACTOR) for name in names]).T
    start = np.array([getattr(START, name) for name in names])
    best = least_squares(
        misses,
        start / units,
        bounds=(low / units, high / units),
        loss="soft_l1",
        f_scale=0.08,
        diff_step=np.full(len(names), 0.03),
        max_nfev=8,
    )
    return made(best.x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", type=Path, default=None, help="rows; by default those of the installed package")
    parser.add_argument("--every", type=int, default=2, help="fit to every so many-th odd row")
    parser.add_argument("--only", choices=("dense", "experts"), help="fit these, and take the others from the file")
    args = parser.parse_args()
    file = args.file or Path(aiconfigurator_core.__file__).parent / "systems" / "silicon_sample.csv"
    points, _ = load_points(file, "vllm")
    plain = predict(points, {"dense": NONE, "experts": NONE}, print)
    kept = [(p, one) for p, one in zip(points, plain, strict=True) if not isinstance(one, str)]
    off = by_model_gpu([p for p, _ in kept], [one for _, one in kept])
    usable = {(o["model"], o["gpu"]) for o in off if o["median_absolute_error_percent"]["tpot"] <= FAR_OFF}
    odd = [p for p, _ in kept if p.fitted_to and (p.model, p.served.gpu) in usable]
    before = json.loads(FILE.read_text())["corrections"]
    known = {}
    for kind, moe in (("dense", False), ("experts", True)):
        mine = [p for p in odd if has_experts(p.served.model) == moe][:: args.every]
        if args.only in (None, kind):
            known[kind] = fit(mine, FREE[kind], f"{kind}, {len(mine)} rows", weight=0.5)
        else:
            known[kind] = Corrections(**before[kind], **host_corrections())
    write(points, known)


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
        f"aiconfigurator-core {installed()} (Apache-2.0, NVIDIA); pairs: median absolute error in percent of the even rows"
    )
    kept = {
        kind: {name: round(v, 3) for name, v in asdict(one).items() if name not in host_corrections()}
        for kind, one in known.items()
    }
    write_atomically(FILE, json.dumps({"origin": origin, "corrections": kept, "pairs": pairs}, indent=1) + "\n")
    print(FILE.read_text())


if __name__ == "__main__":
    main()
