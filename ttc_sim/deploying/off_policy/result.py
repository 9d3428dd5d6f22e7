"""What is found of another plan on the logs of one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from ttc_sim.base.estimates import Estimate
from ttc_sim.deploying.off_policy.estimators import METHODS, Compared
from ttc_sim.optimizer.promises import as_mapping


@dataclass(frozen=True)
class Bounds:
    """Between which two values a figure of all requests lies, whatever became of those that the logs cannot tell of.

    Both ends are those of 95%; an end that nothing bounds is infinite.
    """

    low: float
    high: float

    def as_json(self) -> dict[str, float | None]:
        """An end that nothing bounds is null."""
        return {name: end if math.isfinite(end) else None for name, end in vars(self).items()}


@dataclass(frozen=True)
class Figure:
    """One figure of both plans.

    Attributes:
        told: share of the requests of which the logs can tell it: both plans want them on arms that they might have been sent to.
        by_method: by the names of ``METHODS``, of the requests that are told of; empty if none are.
        instead, difference: of all requests, where not all are told of; else ``None``.
        elsewhere: requests that are told of, and that the other plan wants on another arm; matched: those of them that were sent
            there, and of which the figure is known; effective: requests, all alike, that would say as much; largest: for how many
            a single one counts.
    """

    told: float
    by_method: Mapping[str, Compared]
    instead: Bounds | None
    difference: Bounds | None
    elsewhere: int
    matched: int
    effective: float
    largest: float

    @property
    def best(self) -> Compared | None:
        """The doubly robust estimates; ``None`` where nothing is told."""
        return self.by_method.get(METHODS[0])

    def as_json(self) -> dict[str, object]:
        """Plain mapping."""
        return {
            "told": self.told,
            **{method.replace(" ", "_").replace("-", "_"): one.as_json() for method, one in self.by_method.items()},
            "bounds": None if self.instead is None else self.instead.as_json(),
            "difference_bounds": None if self.difference is None else self.difference.as_json(),
            "elsewhere": self.elsewhere,
            "matched": self.matched,
            "effective_requests": self.effective,
            "largest_weight": self.largest,
        }


@dataclass(frozen=True)
class WantedArm:
    """One arm of the other plan.

    Attributes:
        name: there; same_as: arm of the plan that was carried out that does the same, ``None`` if none does.
        share: of the requests that it is wanted for; told: share of those that had a chance to be sent there.
        matched: requests that were.
    """

    name: str
    same_as: str | None
    share: float
    told: float
    matched: int


@dataclass(frozen=True)
class OffPolicy:
    """What another plan would have come to on the requests that a plan's runtime logged.

    Attributes:
        plan: that was carried out; instead: the other one.
        requests: that are looked at.
        same: share of them that both plans want on the same arm.
        explored: share of them that might have been sent elsewhere than the plan wanted.
        arms: that the other plan wants requests on.
        figures: by name: ``accuracy`` (share of requests answered rightly), ``api_usd_per_request`` (bills of API calls; GPU pools
            are paid by the hour), ``latency_mean_s`` (to the end of each request, however it ended),
            ``output_tokens_per_request``.
        notes: what it rests on.
    """

    plan: str
    instead: str
    requests: int
    same: float
    explored: float
    arms: tuple[WantedArm, ...]
    figures: Mapping[str, Figure]
    notes: tuple[str, ...] = field(repr=False)

    @property
    def table(self) -> pl.DataFrame:
        """A row per figure, method and plan (``logged``, ``instead``, ``difference``), of the requests told of."""
        rows = [
            {"figure": name, "method": method, "of": of, **as_mapping(estimate), "told": figure.told}
            for name, figure in self.figures.items()
            for method, compared in figure.by_method.items()
            for of, estimate in vars(compared).items()
        ]
        kinds = dict.fromkeys(("figure", "method", "of"), pl.String()) | dict.fromkeys(
            ("value", "low", "high", "told"), pl.Float64()
        )
        return pl.DataFrame(rows, schema=kinds)

    def as_json(self) -> dict[str, object]:
        """Plain mapping."""
        return {
            "plan": self.plan,
            "instead": self.instead,
            "requests": self.requests,
            "same": self.same,
            "explored": self.explored,
            "arms": [vars(one) for one in self.arms],
            "figures": {name: figure.as_json() for name, figure in self.figures.items()},
            "notes": list(self.notes),
        }

    def __repr__(self) -> str:
        found = []
        for name, figure in self.figures.items():
            if figure.best is not None and figure.told == 1:
                found.append(f"{name} {_signed(figure.best.difference)}")
        said = ", ".join(found) or "nothing is told of all requests"
        return f"<OffPolicy: {self.instead} instead of {self.plan} on {self.requests:,} requests: {said}>"


def _signed(one: Estimate) -> str:
    return f"{one.value:+.3g} ({one.low:+.3g} to {one.high:+.3g})"


__all__ = ["Bounds", "Figure", "OffPolicy", "WantedArm"]
