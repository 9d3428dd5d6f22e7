"""Problems dealt out into parts, whole clusters together, to choose on some and look at the others."""

from __future__ import annotations

import numpy as np

from ttc_sim.base.draws import F64, I64
from ttc_sim.workload.population import Population


def deal_out(population: Population, folds: int, lots: F64) -> I64:
    """(P,) part of each problem, 0 to ``folds`` - 1, parts alike in the number of their clusters.

    Args:
        lots: (clusters,) different numbers that say in which order clusters are dealt out.
    """
    return (np.argsort(np.argsort(lots)) % folds)[population.cluster]


def deal_out_by_source(population: Population, folds: int, lots: F64) -> I64:
    """The same, such that parts are alike in the number of clusters of every source too, as far as that can be.

    A cluster goes to the part that has the fewest of its sources' clusters, of its rarest source first. Clusters of many sources
    are dealt out before those of few, which make up for what is then uneven.
    """
    member = clusters_by_source(population)
    rarest_first = np.argsort(member.sum(axis=0), kind="stable")
    held = np.zeros((folds, member.shape[1] + 1), dtype=np.int64)  # by source, then all
    part = np.zeros(len(member), dtype=np.int64)
    for cluster in np.lexsort((lots, -member.sum(axis=1))):
        counted = [*(s for s in rarest_first if member[cluster, s]), -1]
        part[cluster] = min(range(folds), key=held[:, counted].tolist().__getitem__)
        held[part[cluster], counted] += 1
    return part[population.cluster]


def clusters_by_source(population: Population) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """(clusters, sources) whether the source has problems of the cluster."""
    member = np.zeros((int(population.cluster.max()) + 1, len(population.sources)), dtype=np.bool_)
    member[population.cluster, population.source] = True
    return member


def short_of_clusters(
    population: Population, part: I64, folds: int, *, inside: int, outside: int
) -> list[tuple[str, int]]:
    """Sources, and how many clusters they have, that some part leaves with too few of them.

    Args:
        part: (P,) of each problem, 0 to ``folds`` - 1.
        inside: least clusters of every source in every part; outside: in all the others together.
    """
    member = clusters_by_source(population)
    of_cluster = np.zeros(len(member), dtype=np.int64)
    of_cluster[population.cluster] = part
    here = np.array([member[of_cluster == k].sum(axis=0) for k in range(folds)])
    total = member.sum(axis=0)
    short = ((here < inside) | (total - here < outside)).any(axis=0)
    return [(name, int(total[s])) for s, name in enumerate(population.sources) if short[s]]
