"""Fit the times of ``ttc_sim/serving/host_times.json``, what a server takes beside its GPU; needs ``pip install 'ttc-sim[gpus]'``.

Fitted are odd rows only (by the last byte of the id's SHA-256): vLLM servers of the catalogue's ``silicon_sample.csv``, and H100
servers of ``../shared/data/operating-points``. A mean time per token is taken apart into what each kind of operator, the host and
the sequences of a batch put into it, in closed form; what they are multiplied by is then least squares, the host's times common to
dense models and mixtures of experts, and everything else free to be what fits best beside them. Takes a minute.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import aiconfigurator_core
import numpy as np
from scipy.optimize import OptimizeResult, least_squares

from ttc_sim.base.draws import F64
from ttc_sim.base.errors import InputError
from ttc_sim.fidelity.operating_points import MAX_NUM_BATCHED_TOKENS, MAX_NUM_SEQS, Point, load_points
from ttc_sim.fidelity.served_points import ServedPoint, load_served_points
from ttc_sim.files.writing import write_atomically
from ttc_sim.serving.catalogue import Served, installed
from ttc_sim.serving.corrections import HOST_FILE
from ttc_sim.serving.operator_store import operator_times
from ttc_sim.serving.operators import Corrections, OperatorTimes, kv_tokens, operator_table
from ttc_sim.serving.step_time import StepTable, step_seconds

POINTS = Path(__file__).resolve().parents[2] / "shared" / "data" / "operating-points" / "ml-energy.csv"
MEMORY_SHARE = 0.95
MOST_IN_PROGRESS = 1024  # beyond, one client that reads so many streams is what was measured
FAR_OFF = 30.0  # percent of a plain estimate at few sequences: there operators are what is wrong
FEW = 32
BEYOND_REASON = 0.6  # of what the operators alone take: such a time per token was not measured of a full batch
NOTHING = {"matrix": 0.0, "prefill": 0.0, "link": 0.0, "experts": 0.0, "attention": 0.0}
PARTS = ("matrix", "prefill", "link", "experts", "attention", "layer_us", "prefill_layer_us")
HOST = ("greedy_us", "sampled_us")
LEAST = {"layer_us": 0.0, "prefill_layer_us": 0.0}
MOST = {"layer_us": 200.0, "prefill_layer_us": 1000.0}
FACTOR = (0.6, 2.5)


class Row(NamedTuple):
    """A measured mean or median time per token, and the parts of it in milliseconds, of each at a factor of one."""

    source: str
    moe: bool
    odd: bool
    sequences: float
    measured_ms: float
    parts: tuple[float, ...]
    sampled: bool


@cache
def tables(served: Served) -> tuple[OperatorTimes, list[StepTable]]:
    """Step times of each part alone."""
    times = operator_times(served)
    alone = [Corrections(**{**NOTHING, name: 1.0}) for name in PARTS]
    return times, [operator_table(times, one, MAX_NUM_BATCHED_TOKENS, MAX_NUM_SEQS, sampled=False) for one in alone]


def parts(served: Served, users: float, prompt: float, output: float, held: float, prompts: float) -> tuple[float, ...]:
    """Milliseconds per token of so many users; ``prompts`` are taken in with each iteration in the mean."""
    n, chunk = max(round(users), 1), int(min(prompt, MAX_NUM_BATCHED_TOKENS - users))
    out = []
    for name, table in zip(PARTS, tables(served)[1], strict=True):
        decode = step_seconds(table, 0, 0.0, n, int(n * held), n)
        both = step_seconds(table, chunk, chunk**2 / 2, n, int(n * held), n) if prompts else decode
        out.append(1e3 * (decode + (both - decode) * (min(prompts, 1.0) if name.endswith("_us") else prompts)))
    return tuple(out)


def silicon(points: Sequence[Point]) -> list[Row]:
    """Rows of closed loops whose requests all fit into memory."""
    rows = []
    for point in points:
        mean = (1 + point.shortest) / 2
        prompt, output = point.prompt_tokens * mean, point.output_tokens * mean
        users = point.concurrency / point.served.data_parallel
        try:
            times = tables(point.served)[0]
        except InputError:
            continue
        if users > MAX_NUM_SEQS or users * (prompt + output) > kv_tokens(times, MEMORY_SHARE):
            continue
        found = parts(point.served, users, prompt, output, prompt + output / 2, users / output)
        source = f"{point.model} on {point.served.gpu}"
        rows.append(Row(source, times.moe, point.fitted_to, users, point.tpot_ms, found, point.sampled))
    return rows


def served(points: Sequence[ServedPoint]) -> list[Row]:
    """Rows of medians, which are of iterations that only decode."""
    rows = []
    for point in points:
        load, users = point.load, point.users
        if point.served.gpu != "h100_sxm" or users > MOST_IN_PROGRESS:
            continue
        try:
            times = tables(point.served)[0]
        except InputError:
            continue
        held = load.prompt_tokens + point.output_tokens * (1 + load.spread**2) / 2
        found = parts(point.served, users, load.prompt_tokens, point.output_tokens, held, 0.0)
        source = f"{point.model} on {point.served.gpu}, ML.ENERGY"
        rows.append(Row(source, times.moe, point.fitted_to, users, point.itl_ms, found, True))
    return rows


def usable(rows: Sequence[Row]) -> list[Row]:
    """Those of models and GPUs whose operators, summed, come near what few sequences take."""
    off: dict[str, list[float]] = {}
    for row in rows:
        if row.sequences <= FEW:
            off.setdefault(row.source, []).append(100 * abs(sum(row.parts[:5]) / row.measured_ms - 1))
    near = {source for source, errors in off.items() if np.median(errors) <= FAR_OFF}
    return [row for row in rows if row.source in near and row.measured_ms > BEYOND_REASON * sum(row.parts[:5])]


def columns(rows: Sequence[Row]) -> F64:
    """What each unknown is multiplied by: parts of dense models, of mixtures of experts, and what sequences take."""
    moe = np.array([row.moe for row in rows])
    each = np.array([row.parts for row in rows])
    n = 1e-3 * np.array([row.sequences for row in rows])
    sampled = np.array([row.sampled for row in rows])
    return np.hstack([each * ~moe[:, None], each * moe[:, None], np.column_stack([n * ~sampled, n * sampled])])


def solved(rows: Sequence[Row], weights: F64) -> OptimizeResult:
    """Least squares of log errors, robust to rows that are far off."""
    names = (*PARTS, *PARTS, *HOST)
    low = np.array([LEAST.get(name, 0.0 if name in HOST else FACTOR[0]) for name in names])
    high = np.array([MOST.get(name, 100.0 if name in HOST else FACTOR[1]) for name in names])
    measured, known = np.array([row.measured_ms for row in rows]), columns(rows)
    start = np.clip(np.where(high > FACTOR[1], 10.0, 1.0), low, high)

    def misses(x: F64) -> F64:
        missed: F64 = weights * np.log(np.maximum(known @ x, 1e-9) / measured)
        return missed

    return least_squares(
        misses,
        start,
        bounds=(low, high),
        loss="soft_l1",
        f_scale=0.08,
        x_scale=np.maximum(start, 0.1),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", type=Path, default=None, help="rows; by default those of the installed package")
    parser.add_argument("--points", type=Path, default=POINTS, help="measured points of H100 servers")
    args = parser.parse_args()
    file = args.file or Path(aiconfigurator_core.__file__).parent / "systems" / "silicon_sample.csv"
    every = load_points(file, "vllm")[0]
    rows = usable([*silicon(every), *served(load_served_points(args.points)[0])])
    odd, even = [row for row in rows if row.odd], [row for row in rows if not row.odd]
    # As much is to be learnt of the few servers that sample as of the many that do not.
    share = np.mean([row.sampled for row in odd])
    weights = np.array([np.sqrt((0.5 / share) if row.sampled else 0.5 / (1 - share)) for row in odd])
    best = solved(odd, weights)
    # Each source left out once: the spread of what is found says more than the errors of one fit.
    found = []
    for source in sorted({row.source for row in odd}):
        kept = np.array([row.source != source for row in odd])
        found.append(solved([row for row in odd if row.source != source], weights[kept]).x[-2:])
    jackknife = np.sqrt((len(found) - 1) * np.var(found, axis=0))
    rate = max(1e3 * row.sequences / row.measured_ms for row in odd if not row.sampled)
    errors = 100 * (columns(even) @ best.x / np.array([row.measured_ms for row in even]) - 1)
    origin = (
        f"fitted by scripts/fit_host.py to {len(odd)} odd rows: vLLM servers of systems/silicon_sample.csv of aiconfigurator-core "
        f"{installed()} (Apache-2.0, NVIDIA), and H100 servers measured by the ML.ENERGY benchmark (vLLM 0.11.1; none of its rows "
        "is shipped); standard errors by leaving out each model and GPU"
    )
    content = {
        "origin": origin,
        **dict(zip(HOST, np.round(best.x[-2:], 1).tolist(), strict=True)),
        "standard_errors": dict(zip(HOST, np.round(jackknife, 1).tolist(), strict=True)),
        "token_us": round(1e6 / rate, 1),
    }
    write_atomically(HOST_FILE, json.dumps(content, indent=1) + "\n")
    print(json.dumps(content, indent=1))
    print(dict(zip(PARTS, np.round(best.x[:7], 3).tolist(), strict=True)))
    print(dict(zip(PARTS, np.round(best.x[7:14], 3).tolist(), strict=True)))
    for kind in sorted({(row.moe, row.sampled) for row in even}):
        here = np.array([(row.moe, row.sampled) == kind for row in even])
        print(
            f"experts {kind[0]}, sampled {kind[1]}: {here.sum()} even rows, {np.median(np.abs(errors[here])):.1f}% off"
        )


if __name__ == "__main__":
    main()
