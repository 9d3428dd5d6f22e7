"""Measured traffic of production clients."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import MOST_RATE, MOST_REQUESTS, MOST_TOKENS, MOST_VARIATION
from ttc_sim.files.tables import read_table
from ttc_sim.measured.cards import TrafficCard, read_card
from ttc_sim.measured.columns import as_numbers, as_text, as_whole
from ttc_sim.measured.folders import find_folder


@dataclass(frozen=True)
class TrafficProfile:
    """Clients' arrivals per window (``client``, ``t_start_s``, ``rate_per_s``, ``iat_cv``, ``iat_family``, ``iat_shape``,
    ``iat_scale``) and lengths (``client``, ``window_start_s``, ``field``, ``value``, ``probability``)."""

    name: str
    card: TrafficCard
    arrivals: pl.DataFrame
    lengths: pl.DataFrame


FIELDS = ("input_tokens", "output_tokens", "reason_ratio")
"""What lengths are of: tokens of the prompt, of the answer with its reasoning, and the reasoning's share of that."""

LEAST_SHAPE = {"gamma": 1 / MOST_VARIATION**2, "weibull": 0.1479}
"""Shape of a law of gaps whose coefficient of variation is the most that there may be."""


def load_traffic(name: str, folder: Path | None = None) -> TrafficProfile:
    """Load measured traffic.

    Raises:
        InputError: no such traffic, a column is missing, or a number that cannot be.
    """
    place = find_folder(name, "traffic.yaml", folder)
    return TrafficProfile(
        name,
        read_card(place / "traffic.yaml", TrafficCard),
        _arrivals(place / "arrivals.parquet"),
        _lengths(place / "lengths.parquet"),
    )


def _arrivals(file: Path) -> pl.DataFrame:
    table = read_table(file)
    _has(table, file, ("client", "t_start_s", "rate_per_s", "iat_family", "iat_shape"))
    table = table.with_columns(
        as_whole(table, file, "client", 0, MOST_REQUESTS),
        as_numbers(table, file, "t_start_s", 0, math.inf),
        as_numbers(table, file, "rate_per_s", 0, MOST_RATE),
    )
    starts = table["t_start_s"].unique().sort()
    if len(starts) < 2 or starts.diff().drop_nulls().n_unique() > 1:
        raise InputError(file, "column t_start_s", starts.to_list()[:4], "windows of one length, at least two")
    active = table.filter(pl.col("rate_per_s") > 0)
    if active.is_empty():
        raise InputError(file, "column rate_per_s", 0, "a rate above 0 in some window")
    as_numbers(active, file, "iat_shape", 0, math.inf, above=True)
    shape = as_numbers(table, file, "iat_shape", -math.inf, math.inf, gaps=True)
    families = as_text(active, file, "iat_family").fill_null("").str.to_lowercase()
    if not families.is_in(["gamma", "weibull"]).all():
        other = families.filter(~families.is_in(["gamma", "weibull"]))[0]
        raise InputError(file, "column iat_family", other, "Gamma or Weibull where there are arrivals")
    for family, least in LEAST_SHAPE.items():
        wild = active.filter((families == family) & (pl.col("iat_shape") < least))
        if len(wild):
            expected = f"at least {least:.4g} of {family.capitalize()}: gaps that vary by at most {MOST_VARIATION} times their mean"
            raise InputError(file, "column iat_shape", wild["iat_shape"][0], expected)
    return table.with_columns(shape, as_text(table, file, "iat_family"))


def _lengths(file: Path) -> pl.DataFrame:
    table = read_table(file)
    _has(table, file, ("client", "window_start_s", "field", "value", "probability"))
    named = as_text(table, file, "field")
    table = table.with_columns(
        named,
        as_whole(table, file, "client", 0, MOST_REQUESTS),
        as_numbers(table, file, "window_start_s", 0, math.inf),
        as_numbers(table, file, "probability", 0, math.inf),
    )
    read = table.filter(named.is_in(FIELDS))
    for field in FIELDS:
        mine = table.filter(named == field)
        if mine["probability"].sum() <= 0:
            raise InputError(file, "column field", field, "rows of it, with a probability above 0")
        as_numbers(mine, file, "value", 0, 1 if field == "reason_ratio" else MOST_TOKENS)
    return read.with_columns(as_numbers(read, file, "value", 0, MOST_TOKENS))


def _has(table: pl.DataFrame, file: Path, columns: tuple[str, ...]) -> None:
    for column in columns:
        if column not in table.columns:
            raise InputError(file, "columns", ", ".join(table.columns), f"a column {column}")
