"""In words, what off-policy estimates rest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ttc_sim.base.figures import percent
from ttc_sim.deploying.logs import STATUSES, Logs
from ttc_sim.deploying.off_policy.result import Figure, WantedArm

FEW = 50
"""Effective requests, below which it is said."""


def notes_of(
    logs: Logs,
    name: str,
    arms: Sequence[WantedArm],
    figures: Mapping[str, Figure],
    *,
    pooled: tuple[float, float],
    function: bool,
) -> tuple[str, ...]:
    """All that there is to say.

    Args:
        name: of the other plan; function: whether a user's own function chooses there.
        pooled: share of the requests that the plan that was carried out sends to GPU pools, and that the other one does.
    """
    found = list(logs.counts.notes)
    if logs.counts.fell_back:
        found.append("requests that no policy was asked for are left out: the other plan's would not have been either")
    for arm in arms:
        if arm.told == 1:
            continue
        why = (
            "no arm of the logs does the same (deployment, model, strategy, cap, fallbacks, timeouts)"
            if arm.same_as is None
            else f"{percent(1 - arm.told)} of those had no chance to be sent there"
        )
        found.append(f"{name} wants {percent(arm.share)} of the requests on {arm.name}: {why}")
    found += [*_not_told(name, figures), *_graded(logs), *_few(figures)]
    if logs.counts.without_outcome:
        found.append("requests without an outcome are taken to be like others on the same arm")
    if (logs.session >= 0).any():
        found.append(
            "turns of a session vary together; what another arm would have made of its later turns is not in the logs"
        )
    if any(pooled):
        ours, theirs = (percent(one) for one in pooled)
        found.append(
            f"GPU pools are paid by the hour and are not in the bills: {name} sends {theirs} of the requests to some, the "
            f"logged plan {ours}"
        )
    if any(figure.elsewhere for figure in figures.values()):
        found.append(
            "times, and what times out, are as under the load that the logged plan brought: the other one would bring another"
        )
    if function:
        found.append(f"{name} chooses by a function, called once for each request in the order of the logs")
    return tuple(found)


def _not_told(name: str, figures: Mapping[str, Figure]) -> list[str]:
    """Figures that less is told of than of the others, and why."""
    most = max(figure.told for figure in figures.values())
    why = {
        "accuracy": "nobody graded an answer of the other arms",
        "api_usd_per_request": f"the other arms have another price in {name}",
        "latency_mean_s": f"the deployments of the other arms are not what they are in {name} (replicas, hardware, limits)",
    }
    return [
        f"{figure} is told of {percent(one.told)} of the requests, as {why[figure]}"
        for figure, one in figures.items()
        if one.told < most and figure in why
    ]


def _graded(logs: Logs) -> list[str]:
    answered = logs.has_outcome & (logs.status == STATUSES.index("answered"))
    graded = ~np.isnan(logs.correct[answered])
    if graded.all():
        return []
    return [
        f"{percent(float(graded.mean()))} of the answers are graded: taken to be chosen at random among those of an arm "
        "and of like difficulty"
    ]


def _few(figures: Mapping[str, Figure]) -> list[str]:
    alike: dict[str, list[str]] = {}
    for name, one in figures.items():
        if one.elsewhere and one.effective < FEW:
            said = (
                f"{one.matched:,} of the {one.elsewhere:,} that would have gone elsewhere were tried there, worth "
                f"{one.effective:.0f} alike; the largest counts for {one.largest:,.0f} (weights are not clipped)"
            )
            alike.setdefault(said, []).append(name)
    return [f"few requests tell of {', '.join(names)}: {said}" for said, names in alike.items()]


__all__ = ["FEW", "notes_of"]
