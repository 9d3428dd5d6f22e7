"""Measured traffic of production clients."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ttc_sim.base.tables import read_table
from ttc_sim.measured.cards import TrafficCard, read_card
from ttc_sim.measured.folders import find_folder


@dataclass(frozen=True)
class TrafficProfile:
    """Clients' arrivals per window (``client``, ``t_start_s``, ``rate_per_s``, ``iat_cv``, ``iat_family``, ``iat_shape``,
    ``iat_scale``) and lengths (``client``, ``window_start_s``, ``field``, ``value``, ``probability``)."""

    name: str
    card: TrafficCard
    arrivals: pl.DataFrame
    lengths: pl.DataFrame


def load_traffic(name: str, folder: Path | None = None) -> TrafficProfile:
    """Load measured traffic."""
    place = find_folder(name, "traffic.yaml", folder)
    return TrafficProfile(
        name,
        read_card(place / "traffic.yaml", TrafficCard),
        read_table(place / "arrivals.parquet"),
        read_table(place / "lengths.parquet"),
    )
