"""A measured mixture of clients (ServeGen): each with its own rate, burstiness and lengths over the day.

Source of the model: "ServeGen: Workload Characterization and Generation of Large Language Model Serving in Production"
(arXiv 2505.09999): production traffic is a sum of clients, each a renewal process whose law changes from window to window.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl

from ttc_sim.base.draws import F64, I64, uniforms
from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import MOST_REQUESTS
from ttc_sim.measured.traffic import TrafficProfile, load_traffic
from ttc_sim.scenario import Clients
from ttc_sim.workload.arrivals import Family, gap_met, gaps
from ttc_sim.workload.clock import Clock
from ttc_sim.workload.traffic import Traffic

_MOST_WINDOWS = 100_000  # that a run may take: each is drawn, whether a request falls into it or not

Lengths = Mapping[tuple[int, int], tuple[F64, F64]]  # (client, window) -> values, cumulative probability


def mixture(arrivals: Clients, requests: int, seed: int, run: str, *, folder: Path) -> Traffic:
    """Generate the clients' requests in order of arrival, from ``start_s`` of the measured day on, day after day.

    A total rate scales every client's time alike: gaps keep their law's shape, and so their coefficient of variation.

    Raises:
        InputError: unknown traffic, or a start that is not in the measured day.
    """
    profile = load_traffic(arrivals.traffic, folder)
    table = profile.arrivals.filter(pl.col("rate_per_s") > 0)
    windows, window_s = _windows(arrivals, profile)
    day_s = windows * window_s
    measured = float(table["rate_per_s"].sum()) / windows
    scale = 1.0 if arrivals.rate_per_s is None else arrivals.rate_per_s / measured
    most = float(table.group_by("t_start_s").agg(pl.col("rate_per_s").sum())["rate_per_s"].max()) * scale * window_s  # type: ignore[arg-type]
    if most > MOST_REQUESTS:  # whole windows are generated
        expected = f"at most {MOST_REQUESTS:,} requests in a window of {window_s:g} s"
        raise InputError(arrivals.traffic, "workload.arrivals: requests of the busiest window", f"{most:.4g}", expected)
    if requests / (measured * scale * window_s) > _MOST_WINDOWS:
        expected = f"at least {requests / window_s / _MOST_WINDOWS:.4g} a second for {requests:,} requests"
        raise InputError(
            arrivals.traffic, "workload.arrivals: rate of all clients", f"{measured * scale:.4g}", expected
        )
    first = int(arrivals.start_s // window_s)
    time_s, client = _merge(table, requests, seed, run, first, windows, window_s, scale)
    # Whole windows were generated; what lies before the start or beyond the last request is dropped.
    keep = time_s >= arrivals.start_s
    order = np.argsort(time_s[keep], kind="stable")[:requests]
    time_s, client = time_s[keep][order], client[keep][order]
    u = uniforms(seed, f"lengths/{run}", requests, 3)
    prompt, output, share = (
        _draw_lengths(profile, field, client, time_s % day_s, u[:, k])
        for k, field in enumerate(("input_tokens", "output_tokens", "reason_ratio"))
    )
    total = np.maximum(np.round(output), 1).astype(np.int64)
    reasoning = np.minimum(np.round(output * share).astype(np.int64), total - 1)
    return Traffic(
        arrival_s=time_s - arrivals.start_s,
        client=client,
        prompt_tokens=np.maximum(np.round(prompt), 1).astype(np.int64),
        reasoning_tokens=reasoning,
        visible_tokens=total - reasoning,
        prefix_id=None,
        rate_per_s=measured * scale,
    )


def _windows(arrivals: Clients, profile: TrafficProfile) -> tuple[int, float]:
    """How many the measured day has, and how long each is, seconds."""
    window_s = float(profile.arrivals["t_start_s"].unique().sort().diff().drop_nulls()[0])
    windows = int(profile.arrivals["t_start_s"].n_unique())
    if arrivals.start_s >= windows * window_s:
        raise InputError(
            arrivals.traffic, "workload.arrivals.start_s", arrivals.start_s, f"less than {windows * window_s:g}"
        )
    return windows, window_s


def clock_of(arrivals: Clients, folder: Path) -> Clock:
    """The rate of all clients together, from the start of the run on.

    Raises:
        InputError: as :func:`mixture`.
    """
    profile = load_traffic(arrivals.traffic, folder)
    windows, window_s = _windows(arrivals, profile)
    at = (profile.arrivals["t_start_s"].to_numpy() / window_s).astype(np.int64)
    rate: F64 = np.bincount(at, profile.arrivals["rate_per_s"].to_numpy(), windows).astype(np.float64)
    if arrivals.rate_per_s is not None:
        rate = rate * (arrivals.rate_per_s / rate.mean())
    first, into_s = divmod(arrivals.start_s, window_s)
    rate, lasts_s = np.roll(rate, -int(first)), np.full(windows, window_s)
    if into_s:
        rate, lasts_s = np.append(rate, rate[0]), np.append(lasts_s, into_s)
        lasts_s[0] -= into_s
    return Clock(lasts_s, rate)


def _merge(
    table: pl.DataFrame, requests: int, seed: int, run: str, first: int, windows: int, window_s: float, scale: float
) -> tuple[F64, I64]:
    """Arrival times and clients of enough whole windows, window after window of each client.

    Within a window a client's requests are a renewal process of its law; the time left to its next request when the window
    ends, counted in mean gaps, is carried into the next window in which it is active, so that a client slower than one
    request a window keeps its rate.
    """
    rate = np.zeros((int(table["client"].max()) + 1, windows))  # type: ignore[arg-type]
    slot = (table["t_start_s"].to_numpy() / window_s).astype(np.int64)
    clients = table["client"].to_numpy().astype(np.int64)
    rate[clients, slot] = table["rate_per_s"].to_numpy() * scale
    law = {
        (int(c), int(w)): (cast(Family, str(family).lower()), float(shape))
        for c, w, family, shape in zip(clients, slot, table["iat_family"], table["iat_shape"], strict=True)
    }
    # Enough windows for the requests asked for, with room for chance; more are added if it was not enough.
    expected, span = 0.0, 0
    while expected < requests + 6 * np.sqrt(requests) * 4 + 50 or span < 2:
        expected += float(rate[:, (first + span) % windows].sum()) * window_s
        span += 1
    while True:
        times: list[F64] = []
        owners: list[I64] = []
        for c in range(len(rate)):
            mine = _client(
                rate[c], {w: law[c, w] for w in range(windows) if (c, w) in law}, c, seed, run, first, span, window_s
            )
            times.append(mine)
            owners.append(np.full(len(mine), c, dtype=np.int64))
        time_s, client = np.concatenate(times), np.concatenate(owners)
        if (time_s >= (first + 1) * window_s).sum() >= requests:
            return time_s, client
        span *= 2


def _client(
    rate: F64,
    law: Mapping[int, tuple[Family, float]],
    client: int,
    seed: int,
    run: str,
    first: int,
    span: int,
    window_s: float,
) -> F64:
    """One client's arrival times over ``span`` windows."""
    windows = len(rate)
    out: list[F64] = []
    carried = 0.0
    fresh = True
    for step in range(span):
        w = (first + step) % windows
        if rate[w] <= 0:
            continue
        room = rate[w] * window_s  # the window's length in mean gaps
        family, shape = law[w]
        stream = f"client/{run}/{client}/{first + step}"
        if fresh:
            start = uniforms(seed, stream + "/phase", 1, 2)[0]
            carried = float(gap_met(family, shape, start[:1])[0] * start[1])  # a uniform share of it is left
            fresh = False
        if carried >= room:
            carried -= room
            continue
        drawn = np.array([carried])
        size = max(int(room + 8 * np.sqrt(room) + 16), 16)
        position = 0
        while drawn[-1] < room:
            more = gaps(family, shape, uniforms(seed, stream, size, start=position)[:, 0])
            drawn = np.concatenate([drawn, drawn[-1] + np.cumsum(more)])
            position += size
        inside = drawn[drawn < room]
        carried = float(drawn[len(inside)] - room)
        out.append((first + step) * window_s + inside / rate[w])
    return np.concatenate(out) if out else np.empty(0)


def _draw_lengths(profile: TrafficProfile, field: str, client: I64, time_s: F64, u: F64) -> F64:
    """Lengths by inverse distribution function, from the client's window, else its nearest one, else all clients."""
    table = profile.lengths.filter(pl.col("field") == field).sort("client", "window_start_s", "value")
    starts = np.sort(table["window_start_s"].unique().to_numpy())
    known: dict[tuple[int, int], tuple[F64, F64]] = {}
    for key, part in table.partition_by("client", "window_start_s", as_dict=True, maintain_order=True).items():
        known[int(key[0]), int(key[1])] = _law(part)
    pooled = _law(table.group_by("value").agg(pl.col("probability").sum()).sort("value"))
    window = starts[np.maximum(np.searchsorted(starts, time_s, side="right") - 1, 0)].astype(np.int64)
    out = np.empty(len(client))
    order = np.lexsort((window, client))
    keys = np.stack([client[order], window[order]], axis=1)
    cuts = np.flatnonzero(np.any(np.diff(keys, axis=0) != 0, axis=1)) + 1
    for members in np.split(order, cuts):
        if not len(members):
            continue
        c, w = int(client[members[0]]), int(window[members[0]])
        able = [start for start in starts.tolist() if (c, int(start)) in known]
        values, upto = known[c, int(min(able, key=lambda start: abs(start - w)))] if able else pooled
        out[members] = values[np.minimum(np.searchsorted(upto, u[members]), len(values) - 1)]
    return out


def _law(part: pl.DataFrame) -> tuple[F64, F64]:
    upto = np.cumsum(part["probability"].to_numpy().astype(np.float64))
    return part["value"].to_numpy().astype(np.float64), upto / upto[-1]
