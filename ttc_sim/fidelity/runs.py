"""Measured runs, simulated again: what the simulator says beside what was measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from ttc_sim.base.draws import F64, I64
from ttc_sim.base.errors import InputError
from ttc_sim.engine import compiled
from ttc_sim.engine.work import COMPLETED, EngineResult, single_stage
from ttc_sim.fidelity.beside import ANY_STEP, pair, read_json
from ttc_sim.scenario import GpuPool, LinearStepTime
from ttc_sim.serving.catalogue import Served
from ttc_sim.serving.corrections import corrections_for
from ttc_sim.serving.gpu_profile import load_gpu_profile
from ttc_sim.serving.operator_store import operator_times
from ttc_sim.serving.operators import operator_table
from ttc_sim.serving.step_time import StepTable, linear_table

FIGURES = ("mean", "p50", "p90", "p95", "p99")


@dataclass(frozen=True)
class MeasuredRun:
    """A vLLM run: ``requests.jsonl`` and ``meta.json`` of a folder. Arrays are (n,), in order of arrival.

    Attributes:
        arrival_s: seconds from the first arrival.
        prompt_tokens, output_tokens: of each request.
        ttft_s, e2e_s: measured, from arrival.
        model: name of the model; empty if not recorded.
        tensor_parallel: GPUs of the server.
        pool: one replica with the engine's limits; its step time is to be replaced.
    """

    path: Path
    arrival_s: F64
    prompt_tokens: I64
    output_tokens: I64
    ttft_s: F64
    e2e_s: F64
    model: str
    tensor_parallel: int
    pool: GpuPool


def load_run(folder: str | Path) -> MeasuredRun:
    """Read a measured run.

    The server's clock is not the client's; the request that waited the least before it was queued ties them together.

    Raises:
        InputError: a file that is missing or cannot be read, a field that is missing, times that are not numbers or go back.
    """
    folder = Path(folder)
    meta = read_json(folder / "meta.json")
    rows = []
    path = folder / "requests.jsonl"
    if not path.is_file():
        raise InputError(folder, "requests.jsonl", None, "a folder with requests.jsonl and meta.json")
    fields = ("arrival_time", "input_toks", "output_toks", "queued_ts", "first_token_ts", "last_token_ts")
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            values = [float(row[field]) for field in fields]
        except (json.JSONDecodeError, TypeError, ValueError) as error:
            raise InputError(path, f"line {number}", str(error), "a JSON object with numbers") from None
        except KeyError as error:
            raise InputError(path, f"line {number}", f"no {error}", "the fields " + ", ".join(fields)) from None
        if not np.isfinite(values).all():
            raise InputError(path, f"line {number}", line[:80], "finite numbers")
        if values[1] < 1 or values[2] < 1:
            raise InputError(path, f"line {number}", values[1:3], "at least one prompt and one output token")
        if not values[3] <= values[4] <= values[5]:
            raise InputError(path, f"line {number}", values[3:], "queued, first and last token in this order")
        rows.append(values)
    if not rows:
        raise InputError(path, "file", "no requests", "one JSON object per line")
    table = np.array(rows)
    table = table[np.argsort(table[:, 0], kind="stable")]
    arrival, prompt, output, queued, first, last = table.T
    offset = (queued - arrival).min()
    kwargs = _field(meta, "engine_kwargs", dict, folder / "meta.json")
    cache = meta.get("kv_cache") or {}
    blocks = cache.get("num_gpu_blocks")
    sequences, tokens = (
        _field(kwargs, name, int, folder / "meta.json") for name in ("max_num_seqs", "max_num_batched_tokens")
    )
    if not 1 <= sequences <= tokens:
        raise InputError(folder / "meta.json", "max_num_seqs", sequences, f"1 to max_num_batched_tokens, {tokens}")
    if blocks is not None and (not isinstance(blocks, int) or blocks < 2):
        raise InputError(folder / "meta.json", "kv_cache.num_gpu_blocks", blocks, "a whole number of at least 2")
    return MeasuredRun(
        path=folder,
        arrival_s=arrival - arrival[0],
        prompt_tokens=prompt.astype(np.int64),
        output_tokens=output.astype(np.int64),
        ttft_s=first - arrival - offset,
        e2e_s=last - arrival - offset,
        model=str(kwargs.get("model", "")),
        tensor_parallel=int(kwargs.get("tensor_parallel_size", 1)),
        pool=GpuPool(
            kind="gpu_pool",
            replicas=1,
            usd_per_replica_hour=0.0,
            step_time=ANY_STEP,
            max_num_seqs=sequences,
            max_num_batched_tokens=tokens,
            # vLLM keeps one block as a placeholder.
            kv_cache_tokens=None if blocks is None else (blocks - 1) * int(cache.get("block_size", 16)),
            prefix_caching=bool(cache.get("enable_prefix_caching", True)),
        ),
    )


def _field(raw: Any, name: str, kind: type, path: Path) -> Any:
    value = raw.get(name) if isinstance(raw, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InputError(path, name, value, f"a value of type {kind.__name__}")
    return value


def replay(run: MeasuredRun, table: StepTable) -> EngineResult:
    """Simulate the run's arrivals and lengths."""
    work = single_stage(run.arrival_s, run.prompt_tokens, run.output_tokens)
    return compiled.run([work], ["server"], [run.pool], tables=[table])


def fit_linear(runs: Sequence[MeasuredRun]) -> LinearStepTime:
    """Linear step time under which replaying the runs comes closest to what was measured, by least squares.

    Args:
        runs: of one model on one kind of server.
    """

    def model(x: F64) -> LinearStepTime:
        base, prefill, sequence, kv = np.exp(x).tolist()
        return LinearStepTime(base_s=base, per_prefill_token_s=prefill, per_sequence_s=sequence, per_kv_token_s=kv)

    def misses(x: F64) -> F64:
        out = []
        for run in runs:
            pool = run.pool
            got = replay(run, linear_table(model(x), pool.max_num_batched_tokens, pool.max_num_seqs))
            predicted = got.finished_s - got.arrival_s
            out += [
                np.log(predicted / run.e2e_s),
                0.3 * np.log((got.first_token_s - got.arrival_s + 0.1) / (run.ttft_s + 0.1)),
            ]
        missed: F64 = np.nan_to_num(np.concatenate(out), nan=10.0)
        return missed

    decode_s = np.median(np.concatenate([(r.e2e_s - r.ttft_s) / np.maximum(r.output_tokens - 1, 1) for r in runs]))
    start = np.log([0.5 * decode_s, 1e-4, 1e-3 * decode_s, 2e-6 * decode_s])
    # Times jump where another request is admitted an iteration earlier: differences must be taken over more than rounding.
    best = least_squares(
        misses, start, bounds=(start - 7, start + 7), diff_step=np.full(4, 1e-2), x_scale=1.0, max_nfev=60
    )
    return model(best.x)


def fit_host(runs: Sequence[MeasuredRun], gpu_profile: str | Path) -> float:
    """Host seconds per iteration, on top of a GPU profile, that bring the mean end-to-end time of the runs closest."""

    def miss(host_s: float) -> float:
        return sum(
            abs(float(np.mean(_e2e(replay(run, _profile(run, gpu_profile, host_s)))) / run.e2e_s.mean()) - 1)
            for run in runs
        )

    candidates = np.arange(0.0, 4.01e-3, 0.1e-3)
    return float(candidates[int(np.argmin([miss(float(one)) for one in candidates]))])


def _profile(run: MeasuredRun, gpu_profile: str | Path, host_s: float | None) -> StepTable:
    pool = run.pool
    limits = run.tensor_parallel, pool.max_num_batched_tokens, pool.max_num_seqs
    if host_s is None:
        return load_gpu_profile(gpu_profile, *limits)
    return load_gpu_profile(gpu_profile, *limits, host_s=host_s)


def _e2e(got: EngineResult) -> F64:
    e2e_s: F64 = got.finished_s - got.arrival_s
    return e2e_s


def _catalogue(run: MeasuredRun, gpu: str, precision: str | None) -> tuple[StepTable, str]:
    served = Served(run.model, gpu, "vllm", run.tensor_parallel, precision=precision)
    times = operator_times(served, run.path / "meta.json", "engine_kwargs.")
    pool = run.pool
    table = operator_table(times, corrections_for(times), pool.max_num_batched_tokens, pool.max_num_seqs)
    return table, f"{run.model} on {served.gpus} {gpu}, {times.origin}, corrected as fitted to other servers"


def backtest_run(
    folder: str | Path,
    gpu_profile: str | Path | None = None,
    calibrate_on: Sequence[str | Path] = (),
    *,
    gpu: str | None = None,
    precision: str | None = None,
) -> dict[str, Any]:
    """Predicted beside measured times of a run.

    Args:
        folder: of the run.
        gpu_profile: folder of per-layer measurements; without one, step times are linear and fitted.
        gpu: that the run was on, by its name in the catalogue of GPU operators, whose step times are taken instead.
        precision: of the weights with ``gpu``; the model's own if left out.
        calibrate_on: runs to fit to; without any (and no profile) the run itself, which is no test and is said so.

    Returns:
        ``step_time``, ``fitted_step_time`` (as a scenario takes it; ``None`` with a profile), ``ttft_s``, ``tpot_s`` and
        ``e2e_s`` with figures, ``per_request_median_error_percent``, ``preemptions`` and ``per_request`` times.
    """
    run = load_run(folder)
    others = [load_run(other) for other in calibrate_on]
    linear: LinearStepTime | None = None
    if gpu is not None:
        table, said = _catalogue(run, gpu, precision)
    elif gpu_profile is not None:
        host_s = fit_host(others, gpu_profile) if others else None
        table = _profile(run, gpu_profile, host_s)
        said = f"per-layer profile {Path(gpu_profile).name}"
        said += (
            "" if host_s is None else f", host {1e3 * host_s:.1f} ms per iteration fitted to {len(others)} other run(s)"
        )
    else:
        linear = fit_linear(others or [run])
        table = linear_table(linear, run.pool.max_num_batched_tokens, run.pool.max_num_seqs)
        said = "linear, fitted to " + (f"{len(others)} other run(s)" if others else "this very run, so this is no test")
    got = replay(run, table)
    done = got.status == COMPLETED
    ttft_s, e2e_s = (got.first_token_s - got.arrival_s)[done], _e2e(got)[done]
    rest = np.maximum(run.output_tokens[done] - 1, 1)
    several = run.output_tokens[done] > 1
    measured = {"ttft_s": run.ttft_s[done], "e2e_s": run.e2e_s[done]}
    measured["tpot_s"] = ((measured["e2e_s"] - measured["ttft_s"]) / rest)[several]
    predicted = {"ttft_s": ttft_s, "e2e_s": e2e_s, "tpot_s": ((e2e_s - ttft_s) / rest)[several]}
    return {
        "run": run.path.name,
        "step_time": said,
        "fitted_step_time": None if linear is None else linear.model_dump(),
        "requests": int(done.sum()),
        "rejected": int((~done).sum()),
        **{name: _beside(measured[name], predicted[name]) for name in ("ttft_s", "tpot_s", "e2e_s")},
        "per_request_median_error_percent": float(np.median(np.abs(e2e_s / measured["e2e_s"] - 1)) * 100),
        "preemptions": int(got.preemptions.sum()),
        "per_request": {"measured_e2e_s": measured["e2e_s"].tolist(), "predicted_e2e_s": e2e_s.tolist()},
    }


def _beside(measured: F64, predicted: F64) -> dict[str, dict[str, float]]:
    return {name: pair(_figure(measured, name), _figure(predicted, name)) for name in FIGURES}


def _figure(values: F64, name: str) -> float:
    return float(np.mean(values) if name == "mean" else np.quantile(values, int(name[1:]) / 100))
