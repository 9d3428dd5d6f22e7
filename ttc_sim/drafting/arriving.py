"""What arrives: when, from where, and in what shares."""

from __future__ import annotations

import math

import numpy as np
import polars as pl

from ttc_sim.base.draws import F64
from ttc_sim.base.figures import number
from ttc_sim.drafting.document import Arrivals, Source
from ttc_sim.drafting.imported import Imported
from ttc_sim.drafting.measured import Measured
from ttc_sim.measured.naming import folder_names

LEAST_REQUESTS, MOST_TRACED = 500, 20_000
"""Requests of a run at least, and of a trace at most."""
LEAST_PROBLEMS = 2
"""Of a source, so that a plan can be made."""
_MOST_SOURCES, _SHOWN = 12, 5
_ASSUMED_RATE = 1.0
_HOUR_S = 3600
_MUCH = 2.0  # times as long: what no difference between one week and another explains


def sources_of(imported: Imported, measured: Measured | None, said: list[str]) -> list[Source]:
    """A stream for each subset of the problems that the log's requests name as their source; otherwise one for all."""
    if measured is None:
        return []
    subsets = measured.problems["subset"].unique(maintain_order=True).to_list()
    traffic = imported.traffic
    if traffic is None or "source" not in traffic.columns:
        return [Source("all")]
    counts = {
        str(source): int(count)
        for source, count in traffic["source"].fill_null("").value_counts(sort=True).iter_rows()
        if source
    }
    # Of one problem nothing could be kept from the choice, to judge it by.
    sizes = dict(measured.problems["subset"].value_counts().iter_rows())
    known = [subset for subset in subsets if subset in counts and sizes[subset] >= LEAST_PROBLEMS]
    if not known or len(known) > _MOST_SOURCES:
        if counts and not known:
            named = ", ".join(subsets[:_SHOWN])
            said.append(
                f"no source of the log's requests is a subset of several problems ({named}): one stream for all"
            )
        return [Source("all")]
    others = sum(count for source, count in counts.items() if source not in known)
    if others:
        said.append(f"{others:,} of the log's requests are of sources without problems: of them the times count alone")
    if absent := [subset for subset in subsets if subset not in known]:
        said.append(f"no stream is of {', '.join(absent[:_SHOWN])}: too few problems, or no request in the log")
    keys = folder_names(known, otherwise="source")
    return [Source(keys[subset], subset, counts[subset]) for subset in known]


def arrivals_of(imported: Imported, graded: bool, said: list[str]) -> Arrivals:
    """The log's own times, or Poisson arrivals at an assumed rate where they say nothing."""
    traffic = imported.traffic
    if traffic is None or not imported.timed:
        return Arrivals(
            False, _ASSUMED_RATE, "assumed: the import holds no times", 1000, 0 if traffic is None else len(traffic)
        )
    times = traffic["arrival_s"].cast(pl.Float64).to_numpy()
    rows, span_s = len(times), float(times[-1] - times[0]) if len(times) else 0.0
    answered = bool((traffic["reasoning_tokens"] + traffic["visible_tokens"] > 0).any())
    if not math.isfinite(span_s) or span_s <= 0 or (graded and not answered):
        why = (
            "assumed: the log's requests have one time"
            if span_s == 0
            else "assumed: none of the log's requests was answered"
        )
        return Arrivals(False, _ASSUMED_RATE, why, 1000, rows)
    requests = min(rows, MOST_TRACED) if rows >= LEAST_REQUESTS else rows * math.ceil(LEAST_REQUESTS / rows)
    if requests < rows:
        said.append(_first_of(times, requests))
    return Arrivals(True, (rows - 1) / span_s, "", requests, rows)


def _first_of(times: F64, requests: int) -> str:
    """That the first requests of a log are not all of them, nor its busiest."""
    first, whole = times[requests - 1] - times[0], times[-1] - times[0]
    rates = [f"{number((requests - 1) / first, 1)} a second" if first > 0 else "all at one time"]
    rates.append(f"all are {number((len(times) - 1) / whole, 1)}")
    if whole >= 2 * _HOUR_S:
        busiest = np.bincount(((times - times[0]) // _HOUR_S).astype(np.int64)).max() / _HOUR_S
        rates.append(f"its busiest hour {number(busiest, 1)}")
    return f"of the log's {len(times):,} requests the first {requests:,} are planned for, {', '.join(rates)}: `requests` takes more"


def unlike_lengths(imported: Imported, measured: Measured) -> list[str]:
    """What is said where the log's requests are much longer, or shorter, than the problems that stand in for them.

    Compared is what the same model made of both, so that another mix of models is no difference.
    """
    traffic = imported.traffic
    if traffic is None:
        return []
    output = pl.col("reasoning_tokens").cast(pl.Float64) + pl.col("visible_tokens")
    named = pl.col("model") if "model" in traffic.columns else pl.lit("")
    log = traffic.filter((output > 0) & (pl.col("prompt_tokens") > 0)).select(
        pl.col("prompt_tokens").cast(pl.Float64), output=output, model=named
    )
    tries = pl.concat(
        profile.attempts.select(pl.col("prompt_tokens").cast(pl.Float64), output=output, model=pl.lit(model))
        for model, profile in measured.profiles.items()
    )
    both = log.join(tries.group_by("model").mean(), on="model", suffix=" tried")
    if both.is_empty():
        both = log.join(tries.select(pl.col("prompt_tokens", "output").mean().name.suffix(" tried")), how="cross")
    if both.is_empty():
        return []
    means = both.drop("model").mean().row(0, named=True)
    pairs = [(means[name], means[f"{name} tried"]) for name in ("prompt_tokens", "output")]
    if all(max(pair) < _MUCH * max(min(pair), 1.0) for pair in pairs):
        return []
    here, there = (" and ".join(number(mean) for mean in side) for side in zip(*pairs, strict=True))
    return [
        f"the log's requests have {here} tokens of prompt and output in the mean, attempts at the graded problems {there}: "
        "bills and seconds are those of the problems, not of the log"
    ]


def cached_prompts(imported: Imported) -> list[str]:
    """What is said of prompts that were read from a provider's cache."""
    traffic = imported.traffic
    if traffic is None or "cached_tokens" not in traffic.columns or "hash_ids" in traffic.columns:
        return []
    cached, prompt = (float(traffic[f"{kind}_tokens"].cast(pl.Float64).sum()) for kind in ("cached", "prompt"))
    if not cached or not prompt:
        return []
    share = f"{cached / prompt:.0%} of the log's prompt tokens were read from a cache"
    return [f"{share}: nothing says what prompts had in common, and here all tokens are paid in full"]
