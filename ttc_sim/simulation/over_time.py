"""A result in intervals of the clock: a row each, of all requests, of every deployment, of every source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ttc_sim.base.display import Displayed
from ttc_sim.base.draws import F64, I64
from ttc_sim.engine.kv_cache import BLOCK
from ttc_sim.engine.spending import DEGRADE, NANOS, QUEUE, REFUSE
from ttc_sim.engine.work import BUSY, FAILED, KV_BLOCKS, QUEUED, REJECTED, RUNNING, TIMED_OUT
from ttc_sim.scenario import Api, GpuPool
from ttc_sim.simulation.billing import Run
from ttc_sim.simulation.model import Model
from ttc_sim.simulation.offering import offer, run_offers
from ttc_sim.simulation.pooling import Pooled
from ttc_sim.simulation.taken import what_was_taken
from ttc_sim.simulation.timeline import Timeline, timeline

By = Literal["all", "deployment", "source"]
PERCENTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True)
class OverTime(Displayed):
    """A result in intervals, as tables.

    Attributes:
        interval_s: how long each is.
        all: a row for each interval; deployments, sources: a row for each interval and deployment or source.
    """

    interval_s: float
    all: pl.DataFrame
    deployments: pl.DataFrame
    sources: pl.DataFrame

    def __repr__(self) -> str:
        return f"<OverTime: {len(self.all)} intervals of {self.interval_s:g} s>"

    def as_json(self) -> dict[str, object]:
        """Plain mapping: the rows of each table."""
        tables = {"all": self.all, "deployments": self.deployments, "sources": self.sources}
        return {"interval_s": self.interval_s, **{name: table.to_dicts() for name, table in tables.items()}}

    @property
    def changing_pools(self) -> frozenset[str]:
        """Pools whose number of replicas is not the same in all intervals."""
        spread = self.deployments.group_by("deployment").agg(
            (pl.col("replicas").max() - pl.col("replicas").min()).alias("by"), pl.col("replicas").max().alias("most")
        )
        return frozenset(spread.filter(pl.col("by") > 1e-9 * pl.col("most"))["deployment"].to_list())


def run_again(model: Model, run: Run, interval_s: float) -> Timeline:
    """A run in intervals, from running the same requests on the same arms again, which gives the same times."""
    offers = offer(model, run.draws, run.arm)
    result = run_offers(model, run.draws, offers.works, offers.following, offers.budgets, interval_s=interval_s)
    taken = what_was_taken(model, offers, result)
    return timeline(
        model, taken, result, interval_s, run.replicas, run.fees_usd_per_hour, (run.paid_from_s, run.paid_s)
    )


class Intervals:
    """Requests of all runs by the interval that they arrived in.

    Args:
        timelines: of each run.
    """

    def __init__(self, model: Model, runs: Sequence[Run], timelines: Sequence[Timeline]) -> None:
        self.model, self.runs, self.timelines = model, runs, timelines
        self.interval_s = timelines[0].interval_s
        self.pooled = Pooled(model, runs)
        arrival_s = np.concatenate([run.result.arrival_s for run in runs])
        self.interval = _intervals_of(arrival_s, self.interval_s)
        self.count = max(max(one.intervals for one in timelines), int(self.interval.max()) + 1)
        self.lasts_s = np.sum([_long(one.lasts_s, self.count) for one in timelines], axis=0)
        self.levels_s = np.sum([_long(one.levels_s, self.count) for one in timelines], axis=0)
        self.replica_s = np.sum([_long(one.replica_s, self.count) for one in timelines], axis=0)

    def over_time(self, by: By) -> pl.DataFrame:
        """See :meth:`ttc_sim.simulation.result.Result.over_time`."""
        model, parts = self.model, []
        if by == "all":
            everyone = np.ones(self.pooled.count, dtype=np.bool_)
            levels = {
                name: self.levels_s[:, :, level].sum(axis=1)
                for name, level in (("running", RUNNING), ("waiting", QUEUED))
            }
            parts.append({**self._requests(everyone), **{n: self._mean(v) for n, v in levels.items()}})
            parts[0] |= {**self._sums(everyone), "usd": self._usd(range(len(model.deployments))), **self._counted(None)}
        elif by == "source":
            for k, name in enumerate(self.runs[0].requests.sources):
                members = self.pooled.source == k
                usd = self._per_run(self.pooled.cost, members)
                of_source = {**self._requests(members), **self._sums(members), "usd": usd}
                parts.append({"source": name, **of_source, **self._counted(name)})
        else:
            for d, name in enumerate(model.deployment_names):
                members = np.concatenate([one.sent[d] for one in self.timelines])
                parts.append({"deployment": name, **self._requests(members), **self._servers(d), "usd": self._usd([d])})
        table = pl.concat([pl.DataFrame({**self._clock(), **part}) for part in parts])
        return table.fill_nan(None).sort("interval", maintain_order=True)

    def _clock(self) -> dict[str, Any]:
        begins = np.arange(self.count) * self.interval_s
        last_s = max(one.end_s for one in self.timelines)
        ends = np.minimum(begins + self.interval_s, max(last_s, float(begins[-1])))
        return {
            "interval": np.arange(self.count),
            "begins_s": begins,
            "ends_s": ends,
            "partial": ends < begins + self.interval_s,
        }

    @cached_property
    def _of_all(self) -> dict[str, Any]:
        return self._of_some(np.ones(self.pooled.count, dtype=np.bool_))

    @cached_property
    def _attempts(self) -> dict[str, F64]:
        """Of each request what became of attempts that were not answered; nothing where none was to be written down."""
        kept = [run.result.attempts for run in self.runs]
        if any(one is None for one in kept):
            return {}
        columns: dict[str, F64] = {"failed": (self.pooled.status == FAILED).astype(np.float64)}
        for name in ("errors", "outage_errors", "error_retries", "timeout_retries", "fallbacks"):
            columns[name] = np.concatenate([getattr(one, name) for one in kept]).astype(np.float64)
        refused = np.concatenate([run.result.retries for run in self.runs])
        columns["retries"] = refused + columns["error_retries"] + columns["timeout_retries"]
        columns["lost_tokens"] = np.concatenate([run.lost_tokens for run in self.runs]).astype(np.float64)
        columns["lost_usd"] = np.concatenate([run.lost_usd for run in self.runs])
        return columns

    @cached_property
    def _budgets(self) -> dict[str, F64]:
        """Of each request what a budget did to it; nothing without any."""
        kept = [run.result.spending for run in self.runs]
        done = [one.done for one in kept if one is not None]
        bits = {"degraded": DEGRADE, "queued": QUEUE, "refused": REFUSE}
        return {name: (np.concatenate(done) & bit > 0).astype(np.float64) for name, bit in bits.items()} if done else {}

    def _counted(self, source: str | None) -> dict[str, F64]:
        """US dollars that the budget of all, or of a source, counted in each interval; nothing where none does."""
        budget = self.model.scenario.budget
        spent = [one.spent_over for one in self.timelines if one.spent_over is not None]
        if budget is None or not budget.of_all or not spent:
            return {}
        if source not in budget.of_all:
            return {"spent_usd": np.full(self.count, np.nan)} if source is not None and budget.sources else {}
        k = list(budget.of_all).index(source)
        total = np.sum([_long(one[:, k].astype(np.float64), self.count) for one in spent], axis=0)
        return {"spent_usd": total / NANOS / len(self.runs)}

    def _requests(self, members: NDArray[np.bool_]) -> dict[str, Any]:
        """Of the requests that arrived in each interval, in the mean of the runs."""
        return self._of_all if members.all() else self._of_some(members)

    def _of_some(self, members: NDArray[np.bool_]) -> dict[str, Any]:
        pooled, good = self.pooled, self.pooled.good
        came = self._per_run(np.ones(pooled.count), members)
        found: dict[str, Any] = {"arrivals": came}
        for name, what in (("timed_out", TIMED_OUT), ("rejected", REJECTED)):
            found[name] = self._per_run((pooled.status == what).astype(np.float64), members)
        found |= {name: self._per_run(values, members) for name, values in self._attempts.items()}
        found["goodput"] = self._share(None if good is None else good.astype(np.float64), members)
        for name, values in self._budgets.items():
            found[name] = self._per_run(values, members)
        for name in ("ttft", "tpot", "latency"):
            times = pooled.of_name(name)  # type: ignore[arg-type]
            keep = members & times.known
            found |= {
                f"{name}_{q}_s": v for q, v in _quantiles(times.values[keep], self.interval[keep], self.count).items()
            }
        return found

    def _sums(self, members: NDArray[np.bool_]) -> dict[str, Any]:
        prompt, reasoning, visible = self.pooled.tokens
        return {
            "accuracy": self._share(None if np.isnan(self.pooled.correct).any() else self.pooled.correct, members),
            "prompt_tokens": self._per_run(prompt, members),
            "output_tokens": self._per_run(reasoning + visible, members),
        }

    def _servers(self, d: int) -> dict[str, Any]:
        item, levels_s = self.model.deployments[d], self.levels_s[:, d]
        nothing = np.full(self.count, np.nan)
        running, blocks = self._mean(levels_s[:, RUNNING]), self._mean(levels_s[:, KV_BLOCKS])
        found = {"running": running, "waiting": self._mean(levels_s[:, QUEUED])}
        found |= {"kv_tokens": nothing, "kv_share": nothing, "utilisation": nothing}
        found |= {"replicas": nothing, "provisioned_gpu_hours": nothing}
        if isinstance(item, GpuPool):
            there = self._mean(self.replica_s[:, d])
            provided = np.maximum(there, 1e-300) if item.changes else item.servers
            found["kv_tokens"], found["utilisation"] = BLOCK * blocks, self._mean(levels_s[:, BUSY]) / provided
            apart = item.prefill_pool
            if item.kv_cache_tokens is not None and (apart is None or apart.kv_cache_tokens is not None):
                each = item.data_parallel * (item.kv_cache_tokens // BLOCK)
                held = (provided if apart is None else item.replicas) * each
                held += 0 if apart is None else apart.replicas * (apart.kv_cache_tokens or 0) // BLOCK
                found["kv_share"] = blocks / np.maximum(held, 1)
            # Each replica stands for its share of those that take prompts in.
            hours = item.gpus_in(1.0, item.servers / item.replicas - 1.0) / 3600.0 / len(self.runs)
            paid_s = np.sum([_long(one.paid_replica_s[:, d], self.count) for one in self.timelines], axis=0)
            found |= {"replicas": there, "provisioned_gpu_hours": hours * paid_s}
        elif isinstance(item, Api) and item.concurrency is not None:
            found["utilisation"] = running / item.concurrency
        return {**found, "busy_s": levels_s[:, BUSY] / len(self.runs)}

    def _usd(self, deployments: Sequence[int]) -> F64:
        """Pools by the time that they are paid for, calls by the interval that their request arrived in."""
        total = np.zeros(self.count)
        everyone = np.ones(self.pooled.count, dtype=np.bool_)
        for d in deployments:
            total += np.sum([_long(one.usd[:, d], self.count) for one in self.timelines], axis=0) / len(self.runs)
            total += self._per_run(np.concatenate([one.api_usd[d] for one in self.timelines]), everyone)
        return total

    def _mean(self, level_s: F64) -> F64:
        """Of a level over the time that the runs lasted."""
        return np.asarray(np.divide(level_s, self.lasts_s, out=np.full(self.count, np.nan), where=self.lasts_s > 0))

    def _per_run(self, values: F64, members: NDArray[np.bool_]) -> F64:
        return np.bincount(self.interval[members], values[members], self.count) / len(self.runs)

    def _share(self, values: F64 | None, members: NDArray[np.bool_]) -> F64:
        none = np.full(self.count, np.nan)
        if values is None:
            return none
        total, came = (np.bincount(self.interval[members], some, self.count) for some in (values[members], None))
        return np.asarray(np.divide(total, came, out=none, where=came > 0))


def _intervals_of(at_s: F64, interval_s: float) -> I64:
    """As :func:`ttc_sim.engine.work.interval_of`."""
    k = (at_s / interval_s).astype(np.int64)
    k -= k * interval_s > at_s
    k += (k + 1) * interval_s <= at_s
    return np.asarray(k)


def _long(values: F64, count: int) -> F64:
    """With zeros for intervals that a shorter run does not have."""
    out = np.zeros((count, *values.shape[1:]))
    out[: len(values)] = values[:count]
    return out


def _quantiles(values: F64, interval: I64, count: int) -> Mapping[str, F64]:
    """Of each interval the least of its values that at least such a part of them does not exceed; NaN where there are none."""
    order = np.lexsort((values, interval))
    size = np.bincount(interval, minlength=count)
    first = np.cumsum(size) - size
    found = {}
    for name, part in PERCENTILES.items():
        # As :func:`ttc_sim.base.intervals.place`.
        at = np.clip(np.ceil(part * size - 1e-9).astype(np.int64) - 1, 0, np.maximum(size - 1, 0))
        out = np.full(count, np.nan)
        some = size > 0
        out[some] = values[order[(first + at)[some]]]
        found[name] = out
    return found
