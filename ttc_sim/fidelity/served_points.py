"""Measured points of servers at work, as the ML.ENERGY benchmark records them, simulated again with the same load.

A row of the file says what was served on what, how many requests were in progress, how long answers were and which times between
tokens the clients saw; how long prompts and single answers were was not recorded, see :data:`LOADS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, log, sqrt
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtri

from ttc_sim.base.draws import F64, I64, uniforms
from ttc_sim.base.errors import InputError, nearest
from ttc_sim.base.limits import MOST_GPUS, MOST_IN_BATCH, MOST_TOKENS
from ttc_sim.base.progress import Progress, silent
from ttc_sim.base.threads import one_thread
from ttc_sim.engine import compiled
from ttc_sim.engine.work import EngineResult, Work, single_stage
from ttc_sim.fidelity.beside import ANY_STEP, by_server, may_be_fitted_to, no_room, pair
from ttc_sim.files.tables import read_table
from ttc_sim.scenario import GpuPool
from ttc_sim.serving.catalogue import Served, checked, gpus, has_experts, need, said_base
from ttc_sim.serving.corrections import DOUBTFUL_PERCENT, corrections_for, token_s
from ttc_sim.serving.host import handed_out
from ttc_sim.serving.operators import OperatorTimes, operator_table, state_tokens
from ttc_sim.serving.step_time import StepTable, step_seconds

MAX_NUM_BATCHED_TOKENS = 8192
"""Of a batch: what the benchmark tells its servers."""

API_SERVERS = 3
"""Of each server, likewise."""

MORE_REQUESTS = 1.15
"""Requests over those in progress, at least: the benchmark sends its prompts again until there are so many."""

COLUMNS = (
    *("task", "model_id", "gpu_model", "num_gpus", "tensor_parallel", "data_parallel", "expert_parallel"),
    *("weight_precision", "max_num_seqs", "avg_batch_size", "avg_output_len", "median_itl_ms"),
    "output_throughput_tokens_per_sec",
)
_PRECISIONS = {"bfloat16": "bf16", "float16": "bf16", "mxfp4": "fp4", "nvfp4": "fp4"}
_GPUS = {"A100": "a100_sxm", "H100": "h100_sxm", "H200": "h200_sxm", "B200": "b200_sxm", "B300": "b300_sxm"}
"""Names of boards; the catalogue's own names are taken as well."""


class Load(NamedTuple):
    """What is assumed of a task's requests.

    Attributes:
        prompt_tokens: of every prompt.
        spread: of the lengths of answers, standard deviation over mean; log-normal.
        prompts: of the benchmark's data set, sent once or several times.
    """

    prompt_tokens: int
    spread: float
    prompts: int


LOADS = {
    "gpqa": Load(250, 0.6, 198),
    "lm-arena-chat": Load(150, 0.8, 1024),
    "sourcegraph-fim": Load(1000, 0.8, 1024),
}
"""By task: the numbers of prompts are the benchmark's (``num_requests`` of its configuration), lengths are assumed."""
OTHER = Load(500, 0.7, 1024)
"""Of any other task."""


@dataclass(frozen=True)
class ServedPoint:
    """A measured point.

    Attributes:
        id: the row's own columns in a line; ``task``, ``model``: as the row names them.
        served: what served it; of a dense model one of the data-parallel servers, which are then apart.
        servers: data-parallel ones, which share the load.
        load: assumed of its requests.
        in_progress: requests at once, of all servers together.
        output_tokens: mean length of answers.
        itl_ms: measured median time between two tokens of an answer; mean_itl_ms: requests in progress over tokens per millisecond.
    """

    id: str
    task: str
    model: str
    served: Served
    servers: int
    load: Load
    in_progress: float
    output_tokens: float
    itl_ms: float
    mean_itl_ms: float

    @property
    def fitted_to(self) -> bool:
        """Whether anything may be fitted to it: those whose id's SHA-256 ends in an odd byte."""
        return may_be_fitted_to(self.id)

    @property
    def users(self) -> int:
        """Requests in progress at one server."""
        return max(round(self.in_progress / self.servers), 1)


class PredictedItl(NamedTuple):
    """Milliseconds between two tokens: the median over all tokens, and the mean of a request's in the mean over tokens."""

    median_ms: float
    mean_ms: float


Refused = dict[str, str]


def load_served_points(file: str | Path) -> tuple[list[ServedPoint], list[Refused]]:
    """Read a file of measured points.

    Args:
        file: CSV with the columns of ``COLUMNS``; others are left alone.

    Returns:
        Points, and rows refused with the reason.

    Raises:
        InputError: a file that cannot be read or has no rows, a column that is missing.
    """
    table = read_table(file)
    for name in COLUMNS:
        if name not in table.columns:
            raise InputError(file, "column", ", ".join(table.columns), f"a column named {name}")
    points: list[ServedPoint] = []
    refused: list[Refused] = []
    for number, row in enumerate(table.iter_rows(named=True), 2):
        try:
            points.append(_point(row, file))
        except InputError as error:
            reason = f"{error.field} is {error.value!r} where {error.expected} was expected"
            refused.append({"id": _id(row), "line": str(number), "reason": reason})
        except ValueError as error:
            refused.append({"id": _id(row), "line": str(number), "reason": str(error)})
    if not points and not refused:
        raise InputError(file, "rows", 0, "at least one")
    return points, refused


def _id(row: Mapping[str, Any]) -> str:
    return "|".join(str(row[name]) for name in COLUMNS[:9])


def _number(row: Mapping[str, Any], name: str, most: float, *, whole: bool = False) -> float:
    value = row[name]
    number = (
        isinstance(value, (int, float)) and not isinstance(value, bool) and np.isfinite(value) and 0 < value <= most
    )
    if not number or (whole and value != int(value)):
        what = "a whole number from 1" if whole else "a number above 0"
        raise ValueError(f"{name} is {value!r} where {what} to {most:,} was expected")
    return float(value)


def _point(row: Mapping[str, Any], file: str | Path) -> ServedPoint:
    """Raises ValueError with the reason for which a row cannot be simulated."""
    count, tp, dp, ep = (
        int(_number(row, name, MOST_GPUS, whole=True))
        for name in ("num_gpus", "tensor_parallel", "data_parallel", "expert_parallel")
    )
    gpu = str(row["gpu_model"])
    gpu = _GPUS.get(gpu.upper(), gpu.lower())
    if gpu not in gpus():
        raise ValueError(f"gpu_model is {row['gpu_model']!r} where {nearest(gpu, {*_GPUS, *gpus()})} was expected")
    # vLLM divides experts among all ranks of attention: the benchmark then counts those GPUs as expert_parallel alone.
    attention = count // dp if ep == count else tp
    if attention * dp != count or ep not in (1, count) or tp not in (1, attention):
        raise ValueError(
            f"num_gpus is {count} where tensor_parallel {tp} times data_parallel {dp} was expected, or expert_parallel {ep} of all"
        )
    precision = str(row["weight_precision"]).lower()
    served = Served(
        model=str(row["model_id"]),
        gpu=gpu,
        tensor_parallel=attention,
        expert_parallel=ep,
        data_parallel=dp,
        precision=_PRECISIONS.get(precision, precision),
    )
    known = checked(served, file)
    if not has_experts(known.model):
        known = known._replace(data_parallel=1)
    in_progress = _number(row, "avg_batch_size", MOST_IN_BATCH)
    most = _number(row, "max_num_seqs", MOST_IN_BATCH, whole=True)
    if in_progress > most * dp + 0.5:
        raise ValueError(f"avg_batch_size is {in_progress:g} where at most max_num_seqs {most:g} was expected")
    output_tokens = _number(row, "avg_output_len", MOST_TOKENS)
    if output_tokens < 2:
        raise ValueError(
            f"avg_output_len is {output_tokens:g} where at least 2 was expected: tokens to have time between"
        )
    throughput = _number(row, "output_throughput_tokens_per_sec", np.inf)
    task = str(row["task"])
    return ServedPoint(
        id=_id(row),
        task=task,
        model=served.model,
        served=known,
        servers=dp,
        load=LOADS.get(task, OTHER),
        in_progress=in_progress,
        output_tokens=output_tokens,
        itl_ms=_number(row, "median_itl_ms", np.inf),
        mean_itl_ms=1e3 * in_progress / throughput,
    )


def closed_loop(point: ServedPoint) -> Work:
    """The load of one of the point's servers: so many requests at once, the next of them sent when one is answered."""
    users, load = point.users, point.load
    count = max(load.prompts * ceil(MORE_REQUESTS * users * point.servers / load.prompts) // point.servers, users)
    sigma = sqrt(log(1 + load.spread**2))
    # Evenly spaced quantiles in an order of their own: their mean is the measured one, whatever is drawn.
    order = np.argsort(uniforms(1, f"points/{point.task}/{count}", count, 1)[:, 0])
    lengths = np.exp(sigma * ndtri((order + 0.5) / count))
    lengths *= point.output_tokens / lengths.mean()
    output = np.clip(np.rint(lengths), 1, MOST_TOKENS).astype(np.int64)
    work = single_stage(np.zeros(count), np.full(count, load.prompt_tokens, dtype=np.int64), output)
    after = np.arange(count, dtype=np.int64) - users
    return replace(work, after=np.maximum(after, -1), think_s=np.zeros(count))


def simulate_served_point(point: ServedPoint, table: StepTable, kv_tokens: int) -> PredictedItl:
    """Times between tokens of a point's load.

    Args:
        point: to simulate.
        table: step times of its server, of batches of as many sequences at least.
        kv_tokens: of its cache.
    """
    work = closed_loop(point)
    pool = GpuPool(
        kind="gpu_pool",
        replicas=1,
        usd_per_replica_hour=0.0,
        step_time=ANY_STEP,
        max_num_seqs=point.users,
        max_num_batched_tokens=MAX_NUM_BATCHED_TOKENS,
        kv_cache_tokens=kv_tokens,
        prefix_caching=False,
    )
    got = compiled.run([work], ["server"], [pool], tables=[table])
    steps_s, tokens = _steps(got, work.prompt_tokens, work.visible_tokens, table)
    order = np.argsort(steps_s)
    at = int(np.searchsorted(np.cumsum(tokens[order]), tokens.sum() / 2))
    several = work.visible_tokens > 1
    seconds = (got.finished_s - got.first_token_s)[several].sum()
    return PredictedItl(
        1e3 * float(steps_s[order][min(at, len(order) - 1)]),
        1e3 * float(seconds / (work.visible_tokens[several] - 1).sum()),
    )


def _steps(got: EngineResult, prompt: I64, output: I64, table: StepTable) -> tuple[F64, F64]:
    """Seconds of iterations, and how many tokens came with them that were no first ones.

    Iterations that took in a prompt begin and end with it; between them as many pass as fit, which only decode.
    """
    several = output > 1
    begun_s, ended_s = got.first_token_s[several], got.finished_s[several]
    rate = (output[several] - 1) / (ended_s - begun_s)

    def sums(values: F64, at_s: F64) -> F64:
        """Of requests that decode at a moment."""
        total = np.zeros(len(at_s))
        for ends_s, sign in ((begun_s, 1.0), (ended_s, -1.0)):
            order = np.argsort(ends_s)
            total += sign * np.concatenate([[0.0], np.cumsum(values[order])])[np.searchsorted(ends_s[order], at_s)]
        return total

    taken_in = np.unique(np.column_stack([got.started_s, got.first_token_s]), axis=0)
    taken_in = taken_in[np.argsort(taken_in[:, 1])]
    middle_s = taken_in.mean(axis=1)
    decoding = np.rint(sums(np.ones(len(rate)), middle_s))
    # Requests that began together, or over several iterations, are one stretch each.
    from_s = taken_in[:, 1]
    until_s = np.append(np.maximum(taken_in[1:, 0], from_s[:-1]), got.finished_s.max())
    # Over a long stretch sequences end and grow: it is looked at in parts.
    parts = 8
    edges = from_s[:, None] + (until_s - from_s)[:, None] * (np.arange(parts) + 0.5) / parts
    at_s, part_s = edges.ravel(), np.repeat((until_s - from_s) / parts, parts)
    running = np.rint(sums(np.ones(len(rate)), at_s))
    held = sums(prompt[several] - begun_s * rate, at_s) + at_s * sums(rate, at_s)
    there = (running > 0) & (part_s > 0)
    each_s = np.array(
        [
            step_seconds(table, 0, 0.0, int(n), max(round(kv), int(n)), int(n))
            for n, kv in zip(running[there], held[there], strict=True)
        ]
    )
    return (
        np.concatenate([taken_in[:, 1] - taken_in[:, 0], each_s]),
        np.concatenate([decoding, running[there] * part_s[there] / each_s]),
    )


def predict_served_points(
    points: Sequence[ServedPoint], progress: Progress = silent, workers: int = 2
) -> list[PredictedItl | str]:
    """Predictions for points in their order, or the reason why there is none.

    Args:
        points: to predict.
        progress: told what is being done.
        workers: threads; what comes out does not depend on them.
    """

    def at(served: Served, times: OperatorTimes, members: list[int]) -> Callable[[int], PredictedItl | str]:
        most = max(points[i].users for i in members)
        table = operator_table(times, corrections_for(times, served), MAX_NUM_BATCHED_TOKENS, most)
        table = handed_out(table, token_s() / API_SERVERS)

        def one(i: int) -> PredictedItl | str:
            longest = int(points[i].load.prompt_tokens + closed_loop(points[i]).visible_tokens.max())
            held = times.kv_tokens - points[i].users * state_tokens(times)
            if held < longest:
                return no_room(held, longest)
            return simulate_served_point(points[i], table, held)

        return one

    return by_server([point.served for point in points], at, progress, workers)


@one_thread()
def backtest_served_points(file: str | Path, progress: Progress = silent) -> dict[str, Any]:
    """Predicted beside measured times between tokens of every point of a file.

    Returns:
        ``rows`` (``itl_ms``: the median time between tokens; ``mean_itl_ms``: in the mean, which prompts taken in between make
        longer), ``by_model_gpu``, ``by_gpu_batch``, ``median_absolute_error_percent`` of ``itl`` and ``mean_itl`` (``None``
        without rows), ``held_out``: the same by GPU of the rows that nothing may be fitted to, ``refused``, and ``assumed``.

    Raises:
        InputError: the catalogue is not installed, or the file cannot be read.
    """
    need("backtest", "--operating-points", str(file))
    points, refused = load_served_points(file)
    rows, kept = [], []
    for point, found in zip(points, predict_served_points(points, progress), strict=True):
        if isinstance(found, str):
            refused.append({"id": point.id, "reason": found})
            continue
        kept.append(point)
        rows.append(
            {
                "id": point.id,
                "task": point.task,
                "model": point.model,
                "base": point.served.model,
                "gpu": point.served.gpu,
                "gpus": point.served.tensor_parallel * point.servers,
                "in_progress": point.in_progress,
                "held_out": not point.fitted_to,
                "itl_ms": pair(point.itl_ms, found.median_ms),
                "mean_itl_ms": pair(point.mean_itl_ms, found.mean_ms),
            }
        )
    held_out = [row for row in rows if row["held_out"]]
    return {
        "rows": rows,
        "by_model_gpu": [
            {"model": key[0], "gpu": key[1], **found, "doubtful": bool(found["itl"] > DOUBTFUL_PERCENT)}
            for key, found in _grouped(rows, lambda row: (row["model"], row["gpu"]))
        ],
        "by_gpu_batch": [
            {"gpu": key[0], "in_progress_from": key[1], **found}
            for key, found in _grouped(rows, lambda row: (row["gpu"], _from(row["in_progress"])))
        ],
        "median_absolute_error_percent": _medians(rows) if rows else None,
        "held_out": {key[0]: found for key, found in _grouped(held_out, lambda row: (row["gpu"],))},
        "refused": refused,
        "assumed": _assumed(kept),
        "bases": sorted({said for point in kept if (said := said_base(point.model)) is not None}),
    }


def _from(in_progress: float) -> int:
    """Lower end of a band of batches; each four times as wide as the one before."""
    return next(least for least in (512, 128, 32, 0) if in_progress >= least)


def _grouped(rows: Sequence[dict[str, Any]], key: Callable[[dict[str, Any]], tuple[Any, ...]]) -> list[tuple[Any, Any]]:
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return [(name, {"rows": len(here), **_medians(here)}) for name, here in sorted(groups.items())]


def _medians(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Median absolute errors of both times, and the median error of the median time: which way it is off."""
    itl = np.array([row["itl_ms"]["error_percent"] for row in rows])
    mean = np.array([row["mean_itl_ms"]["error_percent"] for row in rows])
    return {
        "itl": float(np.median(np.abs(itl))),
        "mean_itl": float(np.median(np.abs(mean))),
        "itl_median_error": float(np.median(itl)),
    }


def _assumed(points: Sequence[ServedPoint]) -> str:
    """What was not recorded."""
    loads = {point.task: point.load for point in points}
    each = ", ".join(
        f"{task}: prompts of {load.prompt_tokens} tokens and answers spread by {load.spread:g} of their mean"
        for task, load in sorted(loads.items())
    )
    return f"not recorded and assumed: {each}" if each else ""
