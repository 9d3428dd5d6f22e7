"""Measured operating points of servers, simulated again with the load that they were measured under.

The file is that of ``aiconfigurator-core``, ``systems/silicon_sample.csv``: one row per model, GPU, precision, parallelism,
prompt and output length and concurrency, with the mean time to first token and per output token that was measured.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ttc_sim.base.draws import uniforms
from ttc_sim.base.errors import InputError, nearest
from ttc_sim.base.limits import MOST_TOKENS
from ttc_sim.base.progress import Progress, silent, within
from ttc_sim.base.threads import one_thread
from ttc_sim.engine import compiled
from ttc_sim.engine.work import Work, single_stage
from ttc_sim.fidelity.beside import ANY_STEP, by_server, may_be_fitted_to, no_room, pair
from ttc_sim.files.tables import read_table
from ttc_sim.scenario import GpuPool
from ttc_sim.serving.catalogue import BACKENDS, Served, base_name, cuttable, has_experts, need
from ttc_sim.serving.corrections import DOUBTFUL_PERCENT, fitted, of_kind
from ttc_sim.serving.operators import NONE, Corrections, OperatorTimes, kv_tokens, operator_table, state_tokens
from ttc_sim.serving.step_time import StepTable

REQUESTS_PER_USER = 10
"""Requests of a measurement over its concurrency, all of the first at once (InferenceMAX, from which most rows come)."""

SHORTEST = 0.8
"""Lengths are drawn evenly from this share of the nominal length up to it (InferenceMAX)."""

SHORTEST_NOMINAL = 0.95
"""The same for rows of another benchmark, which sends the nominal lengths: the little that lengths differ here stands for all
that keeps real requests from marching in step."""

MEMORY_SHARE = 0.95
"""Of the GPU's memory: the rows' servers held weights and KV that do not fit into vLLM's usual 0.9."""

MAX_NUM_SEQS = 1024
MAX_NUM_BATCHED_TOKENS = 8192
COLUMNS = (
    *("id", "silicon_data_source", "backend", "model_path", "system", "precision", "mode", "isl", "osl", "batch_size"),
    *("tp_size", "pp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size", "silicon_ttft_ms", "silicon_tpot_ms"),
)


@dataclass(frozen=True)
class Point:
    """A measured operating point.

    Attributes:
        id: of the row.
        model: as the row names it.
        served: what served it.
        prompt_tokens, output_tokens: nominal lengths.
        concurrency: requests in progress.
        shortest: prompts and outputs are drawn evenly from this share of the nominal lengths up to them.
        ttft_ms, tpot_ms: measured means.
        sampled: tokens were sampled as the model's own ``generation_config.json`` says, rather than the likeliest taken.
    """

    id: str
    model: str
    served: Served
    prompt_tokens: int
    output_tokens: int
    concurrency: int
    shortest: float
    ttft_ms: float
    tpot_ms: float
    sampled: bool = False

    @property
    def fitted_to(self) -> bool:
        """Whether corrections may be fitted to it: those whose id's SHA-256 ends in an odd byte."""
        return may_be_fitted_to(self.id)


Refused = dict[str, str]
Predicted = tuple[float, float]


def load_points(file: str | Path, backend: str | None = None) -> tuple[list[Point], list[Refused]]:
    """Read a file of operating points.

    Args:
        file: CSV in the catalogue's format.
        backend: serving framework whose rows are wanted; all if left out.

    Returns:
        Points, and rows refused with the reason.

    Raises:
        InputError: a file that cannot be read, a column that is missing, a backend that is not known.
    """
    if backend is not None and backend not in BACKENDS:
        raise InputError("backtest", "--backend", backend, nearest(backend, BACKENDS))
    table = read_table(file)
    for name in COLUMNS:
        if name not in table.columns:
            raise InputError(file, "column", ", ".join(table.columns), f"a column named {name}")
    points: list[Point] = []
    refused: list[Refused] = []
    for number, row in enumerate(table.iter_rows(named=True), 2):
        if backend is not None and row["backend"] != backend:
            continue
        try:
            points.append(_point(row))
        except (TypeError, ValueError) as error:
            refused.append({"id": str(row["id"] or f"line {number}"), "reason": str(error)})
    if not points and not refused:
        raise InputError(file, "backend", backend, "rows of it; the file has none")
    return points, refused


def _point(row: Mapping[str, Any]) -> Point:
    """Raises ValueError with the reason for which a row cannot be simulated."""
    if row["mode"] != "agg":
        raise ValueError("prefill and decoding on separate servers are not simulated")
    if (row["pp_size"] or 1) > 1:
        raise ValueError("pipeline parallelism is not simulated")
    whole = {}
    for name in ("isl", "osl", "tp_size", "batch_size"):
        value = row[name]
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is {value!r} where a whole number of at least 1 was expected")
        if name in ("isl", "osl") and value > MOST_TOKENS:
            raise ValueError(f"{name} is {value} where at most {MOST_TOKENS:,} tokens were expected")
        whole[name] = value
    if whole["osl"] == 1:
        raise ValueError("an answer of one token has no time per further token")
    measured = {}
    for name in ("silicon_ttft_ms", "silicon_tpot_ms"):
        value = row[name]
        if not isinstance(value, (int, float)) or not np.isfinite(value) or value <= 0:
            raise ValueError(f"{name} is {value!r} where milliseconds above 0 were expected")
        measured[name] = float(value)
    served = served_by(row)
    source = str(row["silicon_data_source"])
    found = re.search(r"silicon_concurrency=(\d+)", source)
    return Point(
        id=str(row["id"]),
        model=str(row["model_path"]),
        served=served,
        prompt_tokens=whole["isl"],
        output_tokens=whole["osl"],
        concurrency=int(found.group(1)) if found else whole["batch_size"] * served.data_parallel,
        shortest=SHORTEST_NOMINAL if "gap-analysis" in source else SHORTEST,
        ttft_ms=measured["silicon_ttft_ms"],
        tpot_ms=measured["silicon_tpot_ms"],
        # InferenceMAX asks at temperature 0; the other benchmark's client says nothing, and servers then sample by default.
        sampled="gap-analysis" in source,
    )


def served_by(row: Mapping[str, Any]) -> Served:
    """What a row's columns say about the server.

    With data-parallel attention the benchmark names GPUs once as ``tp_size`` and once as ``attention_dp_size``, and the file
    multiplies them (``tp_size`` 4, ``attention_dp_size`` 4 and ``moe_ep_size`` 16 are four GPUs). Where it is empty, it follows
    from the experts' GPUs over ``tp_size``.
    """
    model, precision = str(row["model_path"]), row["precision"]
    tp, dp = int(row["tp_size"]), row["attention_dp_size"]
    experts_tp, experts_ep = row["moe_tp_size"] or 1, row["moe_ep_size"] or 1
    name = base_name(model)
    if not has_experts(name):
        dp, ep = 1, 1
    elif dp is None:
        dp, ep = max(experts_tp * experts_ep // tp, 1), experts_ep
    elif dp > 1:
        tp, ep = 1, experts_ep // tp
    else:
        ep = experts_ep
    if has_experts(name) and not cuttable(name, tp * dp // ep, precision):
        ep = tp * dp
    return Served(
        name, str(row["system"]), str(row["backend"]), tp, ep, dp, None if precision is None else str(precision)
    )


def users_of(point: Point) -> int:
    """Of one of the point's data-parallel servers."""
    return max(point.concurrency // point.served.data_parallel, 1)


def closed_loop(point: Point) -> Work:
    """The load of one of the point's data-parallel servers: so many users, each sending when the one before is answered."""
    users = users_of(point)
    count = users * REQUESTS_PER_USER
    draws = uniforms(1, f"silicon/{point.prompt_tokens}/{point.output_tokens}/{users}", count, 2)

    def lengths(nominal: int, column: int) -> Any:
        least = max(int(nominal * point.shortest), 1)
        return (least + np.floor(draws[:, column] * (nominal + 1 - least))).astype(np.int64)

    work = single_stage(np.zeros(count), lengths(point.prompt_tokens, 0), lengths(point.output_tokens, 1))
    after = np.arange(count, dtype=np.int64) - users
    return replace(work, after=np.maximum(after, -1), think_s=np.zeros(count))


@lru_cache(maxsize=16)
def _pool(kv_tokens: int) -> GpuPool:
    return GpuPool(
        kind="gpu_pool",
        replicas=1,
        usd_per_replica_hour=0.0,
        step_time=ANY_STEP,
        max_num_seqs=MAX_NUM_SEQS,
        max_num_batched_tokens=MAX_NUM_BATCHED_TOKENS,
        kv_cache_tokens=kv_tokens,
        prefix_caching=False,
    )


def _room(point: Point, times: OperatorTimes) -> int:
    """KV tokens that the states of all users' sequences leave."""
    return kv_tokens(times, MEMORY_SHARE) - users_of(point) * state_tokens(times)


def simulate_point(point: Point, times: OperatorTimes, table: StepTable, known: Corrections) -> Predicted:
    """Mean milliseconds to the first token and per further token of the point's load.

    Args:
        point: to simulate.
        times: of the server's operators, for its memory.
        table: its step times.
        known: corrections that the table was made with, for what a first token takes outside of the server's loop.
    """
    work = closed_loop(point)
    got = compiled.run([work], ["server"], [_pool(_room(point, times))], tables=[table])
    several = work.visible_tokens > 1
    tpot_ms = 1e3 * np.mean((got.finished_s - got.first_token_s)[several] / (work.visible_tokens[several] - 1))
    ttft_ms = 1e3 * np.mean(got.first_token_s - got.arrival_s)
    outside_ms = known.first_token_ms + 1e-3 * known.prompt_token_us * np.mean(work.prompt_tokens)
    return float(ttft_ms + outside_ms + known.pipeline_steps * tpot_ms), float(tpot_ms)


def predict(
    points: Sequence[Point],
    known: Mapping[str, Corrections],
    progress: Progress = silent,
    workers: int = 2,
) -> list[Predicted | str]:
    """Predictions for points in their order, or the reason why there is none.

    Args:
        points: to predict.
        known: corrections by kind, as :func:`ttc_sim.serving.corrections.fitted` gives them.
        progress: told what is being done.
        workers: threads; what comes out does not depend on them.
    """

    def at(served: Served, times: OperatorTimes, _: list[int]) -> Callable[[int], Predicted | str]:
        mine = of_kind(known, times, served)
        tables = [
            operator_table(times, mine, MAX_NUM_BATCHED_TOKENS, MAX_NUM_SEQS, sampled=one) for one in (False, True)
        ]

        def one(i: int) -> Predicted | str:
            longest = points[i].prompt_tokens + points[i].output_tokens
            held = _room(points[i], times)
            if held < longest:
                return no_room(held, longest)
            return simulate_point(points[i], times, tables[points[i].sampled], mine)

        return one

    return by_server([point.served for point in points], at, progress, workers)


@one_thread()
def backtest_operating_points(
    file: str | Path, backend: str | None = None, progress: Progress = silent
) -> dict[str, Any]:
    """Predicted beside measured times of every operating point of a file.

    Returns:
        ``rows``, ``by_model_gpu``, ``median_absolute_error_percent`` (``None`` without rows) and ``refused``; ``held_out``: the
        median absolute errors of the rows that no correction was fitted to, corrected and uncorrected, dense models and mixtures
        of experts apart.

    Raises:
        InputError: the catalogue is not installed, or the file cannot be read.
    """
    need("backtest", "--silicon", str(file))
    points, refused = load_points(file, backend)
    corrected = predict(points, fitted(), within(progress, "corrected"))
    plain = predict(points, {"dense": NONE, "experts": NONE}, within(progress, "without corrections"))
    rows, kept, uncorrected = [], [], []
    for point, found, without in zip(points, corrected, plain, strict=True):
        if isinstance(found, str) or isinstance(without, str):
            refused.append({"id": point.id, "reason": str(found)})
            continue
        rows.append(
            {
                "id": point.id,
                "model": point.model,
                "gpu": point.served.gpu,
                "ttft_ms": pair(point.ttft_ms, found[0]),
                "tpot_ms": pair(point.tpot_ms, found[1]),
            }
        )
        kept.append(point)
        uncorrected.append(without)
    predictions = [one for one in corrected if not isinstance(one, str)]
    return {
        "rows": rows,
        "by_model_gpu": by_model_gpu(kept, predictions),
        "median_absolute_error_percent": _medians(kept, predictions) if kept else None,
        "held_out": {
            kind: {
                "rows": len(here),
                "corrected": _medians([kept[i] for i in here], [predictions[i] for i in here]),
                "uncorrected": _medians([kept[i] for i in here], [uncorrected[i] for i in here]),
            }
            for kind, moe in (("dense", False), ("experts", True))
            if (here := [i for i, p in enumerate(kept) if not p.fitted_to and has_experts(p.served.model) == moe])
        },
        "refused": refused,
    }


def by_model_gpu(points: Sequence[Point], predictions: Sequence[Predicted]) -> list[dict[str, Any]]:
    """Median absolute errors by model and GPU, and which of them are doubtful."""
    groups: dict[tuple[str, str], list[int]] = {}
    for i, point in enumerate(points):
        groups.setdefault((point.model, point.served.gpu), []).append(i)
    out = []
    for (model, gpu), here in sorted(groups.items()):
        medians = _medians([points[i] for i in here], [predictions[i] for i in here])
        out.append(
            {
                "model": model,
                "gpu": gpu,
                "rows": len(here),
                "median_absolute_error_percent": medians,
                "doubtful": medians["tpot"] > DOUBTFUL_PERCENT,
            }
        )
    return out


def _medians(points: Sequence[Point], predictions: Sequence[Predicted]) -> dict[str, float]:
    ttft = [abs(found[0] / point.ttft_ms - 1) for point, found in zip(points, predictions, strict=True)]
    tpot = [abs(found[1] / point.tpot_ms - 1) for point, found in zip(points, predictions, strict=True)]
    return {"ttft": 100 * float(np.median(ttft)), "tpot": 100 * float(np.median(tpot))}
