"""Other problems that might have been measured."""

from __future__ import annotations

import numpy as np

from ttc_sim.base.draws import uniforms
from ttc_sim.workload.population import Population

WORLDS = 256
"""Resamples that are told apart: they show the variance of a figure to a part in a hundred."""


def resampled(population: Population, world: int, seed: int) -> Population:
    """As many problems (or task types, where these are what is resampled for intervals), drawn with replacement.

    A source of which none is drawn keeps its own: it sends requests all the same.

    Args:
        world: number of the resample, from 1; seed: of the scenario.
    """
    clusters = int(population.cluster.max()) + 1
    picked = (uniforms(seed, f"sensitivity/problems/{world}", clusters)[:, 0] * clusters).astype(np.int64)
    times = np.bincount(picked, minlength=clusters)[population.cluster]
    for source in range(len(population.sources)):
        here = population.source == source
        if not times[here].any():
            times[here] = 1
    return population.taken(np.repeat(np.arange(len(population)), times))


__all__ = ["WORLDS", "resampled"]
