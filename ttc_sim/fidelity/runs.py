"""Measured runs, simulated again: what the simulator says beside what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from ttc_sim.base.draws import F64
from ttc_sim.base.errors import InputError
from ttc_sim.base.threads import one_thread
from ttc_sim.engine import compiled
from ttc_sim.engine.work import COMPLETED, EngineResult, single_stage
from ttc_sim.fidelity.beside import pair
from ttc_sim.fidelity.calibrating import check_profile, load_calibrations
from ttc_sim.fidelity.measured_run import MeasuredRun, load_run
from ttc_sim.fidelity.run_arguments import check_worked_out
from ttc_sim.scenario import LinearStepTime
from ttc_sim.serving.catalogue import Served, has_experts, known, said_base
from ttc_sim.serving.corrections import corrections_for
from ttc_sim.serving.gpu_profile import HOST_S, known_architecture, load_gpu_profile
from ttc_sim.serving.operator_store import operator_times
from ttc_sim.serving.operators import operator_table, with_front_end
from ttc_sim.serving.physics import behind_a_front_end
from ttc_sim.serving.step_time import StepTable, linear_table

Bools = NDArray[np.bool_]
FIGURES = ("mean", "p50", "p90", "p95", "p99")


def replay(run: MeasuredRun, table: StepTable) -> EngineResult:
    """Simulate the run's arrivals and lengths."""
    work = single_stage(run.arrival_s, run.prompt_tokens, run.output_tokens)
    return compiled.run([work], ["server"], [run.pool], tables=[table])


@one_thread()
def fit_linear(runs: Sequence[MeasuredRun]) -> LinearStepTime:
    """Linear step time under which replaying the runs comes closest to what was measured, by least squares.

    Args:
        runs: of one model on one kind of server. Requests that the replay rejects, or that took no time, are left out.

    Raises:
        InputError: nothing is left.
    """

    def model(x: F64) -> LinearStepTime:
        base, prefill, sequence, kv = np.exp(x).tolist()
        return LinearStepTime(base_s=base, per_prefill_token_s=prefill, per_sequence_s=sequence, per_kv_token_s=kv)

    def misses(x: F64) -> F64:
        out = []
        for run in runs:
            pool = run.pool
            got = replay(run, linear_table(model(x), pool.max_num_batched_tokens, pool.max_num_seqs))
            here = (got.status == COMPLETED) & (run.e2e_s > 0)
            out += [
                np.log(_e2e(got)[here] / run.e2e_s[here]),
                0.3 * np.log(((got.first_token_s - got.arrival_s)[here] + 0.1) / (run.ttft_s[here] + 0.1)),
            ]
        missed: F64 = np.nan_to_num(np.concatenate(out), nan=10.0)
        return missed

    step_s = _typical_step_s(runs)
    start = np.log([0.5 * step_s, 1e-4, 1e-3 * step_s, 2e-6 * step_s])
    if not len(misses(start)):
        raise _nothing_completed(runs[0])
    # Times jump where another request is admitted an iteration earlier: differences must be taken over more than rounding.
    best = least_squares(
        misses, start, bounds=(start - 7, start + 7), diff_step=np.full(4, 1e-2), x_scale=1.0, max_nfev=60
    )
    return model(best.x)


def _typical_step_s(runs: Sequence[MeasuredRun]) -> float:
    """Median time per further token or, of answers of a single token or all at once, end to end."""
    per_token_s = np.concatenate([(r.e2e_s - r.ttft_s) / np.maximum(r.output_tokens - 1, 1) for r in runs])
    for seconds in (per_token_s, np.concatenate([run.e2e_s for run in runs])):
        if (seconds > 0).any():
            return float(np.median(seconds)) or float(np.median(seconds[seconds > 0]))
    raise _no_time(runs[0])


def _no_time(run: MeasuredRun) -> InputError:
    path = run.path / "requests.jsonl"
    return InputError(path, "last_token_ts", "as queued_ts", "answers that took time, to fit step times to")


def _nothing_completed(run: MeasuredRun) -> InputError:
    need = int((run.prompt_tokens + run.output_tokens).min())
    expected = f"room for a request at least, of which the shortest takes {need:,} tokens"
    return InputError(run.path / "meta.json", "kv_cache", f"{run.pool.kv_cache_tokens:,} tokens", expected)


MOST_HOST_S = 4e-3
"""Seconds of the host that a fit looks up to: twice what it takes without asynchronous scheduling."""


def fit_host(runs: Sequence[MeasuredRun], gpu_profiles: str | Path | Sequence[str | Path]) -> float:
    """Host seconds per iteration, on top of GPU profiles, that bring the mean end-to-end time of the runs closest.

    Args:
        runs: to fit to.
        gpu_profiles: of each run's own GPU, or one of all.

    Raises:
        InputError: a run whose answers took no time, or of which the replay completes none.
    """

    for run in runs:
        if not run.e2e_s.any():
            raise _no_time(run)
    profiles = [gpu_profiles] * len(runs) if isinstance(gpu_profiles, str | Path) else gpu_profiles
    tables = [_profile(run, profile, 0.0) for run, profile in zip(runs, profiles, strict=True)]

    def miss(host_s: float) -> float:
        out = 0.0
        for run, table in zip(runs, tables, strict=True):
            got = replay(run, table._replace(base_s=table.base_s + host_s))
            done = got.status == COMPLETED
            if not run.e2e_s[done].any():
                raise _no_time(run) if done.any() else _nothing_completed(run)
            out += abs(float(np.mean(_e2e(got)[done]) / run.e2e_s[done].mean()) - 1)
        return out

    candidates = np.linspace(0.0, MOST_HOST_S, 41)
    return float(candidates[int(np.argmin([miss(float(one)) for one in candidates]))])


def _profile(run: MeasuredRun, gpu_profile: str | Path, host_s: float | None) -> StepTable:
    pool = run.pool
    limits = run.tensor_parallel, pool.max_num_batched_tokens, pool.max_num_seqs
    check_worked_out(run.arguments, run.path / "meta.json", kv_cache=False)
    shape = known_architecture(Path(gpu_profile))
    if run.expert_parallel and not shape.experts:
        raise InputError(run.path / "meta.json", "enable_expert_parallel", True, "false: the profile's model is dense")
    return load_gpu_profile(
        gpu_profile,
        *limits,
        architecture=shape,
        host_s=HOST_S if host_s is None else host_s,
        data_parallel=pool.data_parallel,
    )


def _e2e(got: EngineResult) -> F64:
    e2e_s: F64 = got.finished_s - got.arrival_s
    return e2e_s


def _catalogue(run: MeasuredRun, gpu: str, precision: str | None) -> tuple[StepTable, str]:
    """Step times, and what they are."""
    pool, where = run.pool, run.path / "meta.json"
    check_worked_out(run.arguments, where, kv_cache=True)
    kept = "fp8" if str(run.arguments.get("kv_cache_dtype")).startswith("fp8") else None
    ranks = pool.data_parallel if has_experts(known(run.model, where, "engine_kwargs.")) else 1
    experts = run.tensor_parallel * ranks if run.expert_parallel else 1
    served = Served(run.model, gpu, "vllm", run.tensor_parallel, experts, ranks, precision, kept)
    times = operator_times(served, where, "engine_kwargs.")
    corrections = corrections_for(times, served)
    table = operator_table(times, corrections, pool.max_num_batched_tokens, pool.max_num_seqs, ranks)
    count, said = run.tensor_parallel * pool.data_parallel, said_base(run.model)
    rests_on = "" if said is None else f" ({said})"
    what = f"{run.model} on {count} {gpu}{rests_on}, {times.origin}, corrected as fitted to other servers"
    return with_front_end(table, corrections), what


@one_thread()
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
        calibrate_on: runs to fit to; without any (and no profile) the run itself, which is no test and is said so. With a profile
            each is ``RUN=PROFILE``, with the profile of its own GPU, or a run of the same model and GPU.

    Returns:
        ``step_time``, ``fitted_step_time`` (as a scenario takes it; ``None`` with a profile), ``ttft_s``, ``tpot_s`` and
        ``e2e_s`` with figures (none where there is nothing to measure: time per further token of answers of a single token),
        ``per_request_median_error_percent`` (``None`` likewise), ``preemptions``, ``per_request`` times, what was ``assumed`` of
        the server, and ``notes`` on what is not there.

    Raises:
        InputError: a run that cannot be read or fitted to, a profile of another model or GPU than its run.
    """
    run = load_run(folder)
    others = [] if gpu is not None else load_calibrations(calibrate_on, run, gpu_profile)
    fitting: list[str] = []
    linear: LinearStepTime | None = None
    if gpu is not None:
        table, said = _catalogue(run, gpu, precision)
    elif gpu_profile is not None:
        check_worked_out(run.arguments, run.path / "meta.json", kv_cache=False)
        check_profile(run, gpu_profile, "--gpu-profile", "the profile of the run's own")
        own = [one.profile or gpu_profile for one in others]
        host_s = fit_host([one.run for one in others], own) if others else None
        if host_s is not None and host_s >= MOST_HOST_S:
            fitting.append(
                f"the fit of the host's time ended at its bound of {1e3 * MOST_HOST_S:g} ms: what makes the runs slower than their "
                "profiles is something else"
            )
        table = _profile(run, gpu_profile, host_s)
        if host_s is None:  # or else what runs took behind the loop is in what was fitted to them
            table = behind_a_front_end(table)
        said = f"per-layer profile {Path(gpu_profile).name}"
        said += (
            "" if host_s is None else f", host {1e3 * host_s:.1f} ms per iteration fitted to {len(others)} other run(s)"
        )
    else:
        linear = fit_linear([one.run for one in others] or [run])
        table = linear_table(linear, run.pool.max_num_batched_tokens, run.pool.max_num_seqs)
        said = "linear, fitted to " + (f"{len(others)} other run(s)" if others else "this very run, so this is no test")
    if run.pool.data_parallel > 1:
        how = "that step together" if table.ranks > 1 else "that have nothing to do with each other"
        said += f"; {run.pool.data_parallel} data-parallel ranks {how}"
    got = replay(run, table)
    done = got.status == COMPLETED
    ttft_s, e2e_s = (got.first_token_s - got.arrival_s)[done], _e2e(got)[done]
    several = run.output_tokens[done] > 1
    rest = run.output_tokens[done][several] - 1
    measured = {"ttft_s": run.ttft_s[done], "e2e_s": run.e2e_s[done]}
    measured["tpot_s"] = (measured["e2e_s"] - measured["ttft_s"])[several] / rest
    predicted = {"ttft_s": ttft_s, "e2e_s": e2e_s, "tpot_s": (e2e_s - ttft_s)[several] / rest}
    timed = measured["e2e_s"] > 0
    errors = np.abs(e2e_s[timed] / measured["e2e_s"][timed] - 1) * 100
    return {
        "run": run.path.name,
        "step_time": said,
        "fitted_step_time": None if linear is None else linear.model_dump(),
        "requests": int(done.sum()),
        "rejected": int((~done).sum()),
        **{name: _beside(measured[name], predicted[name]) for name in ("ttft_s", "tpot_s", "e2e_s")},
        "per_request_median_error_percent": float(np.median(errors)) if len(errors) else None,
        "preemptions": int(got.preemptions.sum()),
        "per_request": {"measured_e2e_s": measured["e2e_s"].tolist(), "predicted_e2e_s": e2e_s.tolist()},
        "assumed": _assumed(run),
        "notes": [*fitting, *_notes(run, done, several, timed)],
    }


def _assumed(run: MeasuredRun) -> list[str]:
    """What the run does not say of its server."""
    if run.pool.kv_cache_tokens is not None:
        return []
    return ["the KV cache is taken to hold any number of tokens: meta.json has no kv_cache.num_gpu_blocks"]


def _notes(run: MeasuredRun, done: Bools, several: Bools, timed: Bools) -> list[str]:
    """Why figures are not there."""
    if not done.any():
        return [f"no request was completed: {_nothing_completed(run)}"]
    said = []
    if not several.any():
        said.append("no time per further token: every answer is a single token")
    if not timed.all():
        count = int((~timed).sum())
        said.append(f"no error of {count} request{'s' if count > 1 else ''} that took no time as measured")
    return said


def _beside(measured: F64, predicted: F64) -> dict[str, dict[str, float | None]]:
    if not len(measured):
        return {}
    return {name: pair(_figure(measured, name), _figure(predicted, name)) for name in FIGURES}


def _figure(values: F64, name: str) -> float:
    return float(np.mean(values) if name == "mean" else np.quantile(values, int(name[1:]) / 100))
